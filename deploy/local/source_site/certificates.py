"""The private certificate authority and the site's certificate.

The authority is made once and kept, so that what trusts its `ca.pem` goes on trusting the site after a restart. The
site's own certificate is made anew at each start for the hosts that the data names.
"""

import os
import ssl
from collections.abc import Iterable
from pathlib import Path

import trustme

CERTIFICATE_FILE = "ca.pem"
"""What clients trust (SOURCES_CA_FILE)."""
KEY_FILE = "ca.key"
"""Readable by its owner only: it can sign for any host."""


def authority(folder: Path) -> trustme.CA:
    """The authority kept in `folder`, made there when the folder has none."""
    certificate, key = folder / CERTIFICATE_FILE, folder / KEY_FILE
    if certificate.exists() and key.exists():
        return trustme.CA.from_pem(certificate.read_bytes(), key.read_bytes())
    folder.mkdir(parents=True, exist_ok=True)
    made = trustme.CA(organization_name="Clotho", organization_unit_name="embedded source site")
    # The certificate comes last: only with it the authority counts as made.
    certificate.unlink(missing_ok=True)
    key.unlink(missing_ok=True)
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as private:
        private.write(made.private_key_pem.bytes())
    made.cert_pem.write_to_path(certificate)
    return made


def server_context(made_by: trustme.CA, hosts: Iterable[str]) -> ssl.SSLContext:
    """TLS for a server that answers as every one of `hosts`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made_by.issue_cert(*hosts).configure_cert(context)
    return context
