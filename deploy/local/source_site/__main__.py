"""Entry point: `python -m deploy.local.source_site --port P --ca-dir DIR [--data-dir DIR]`."""

import argparse
import sys
from pathlib import Path

import uvicorn

from deploy.local import data
from deploy.local.source_site.certificates import authority, server_context
from deploy.local.source_site.faults import ClosableProtocol
from deploy.local.source_site.site import Site

EMBARGO_FILE = "embargoes.json"


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="source_site", description="Serve bundled real data as official sources.")
    parser.add_argument("--port", type=int, required=True, help="on the loopback")
    parser.add_argument("--ca-dir", type=Path, required=True, help="keeps ca.pem, its key and the embargoes")
    parser.add_argument("--data-dir", type=Path, default=data.FOLDER, help="has series.jsonl and questions.jsonl")
    arguments = parser.parse_args()
    made_by = authority(arguments.ca_dir)
    try:
        site = Site(arguments.data_dir, arguments.ca_dir / EMBARGO_FILE)
    except (OSError, ValueError) as error:
        sys.exit(f"The embedded source site cannot start: {error}")
    context = server_context(made_by, site.hosts)
    uvicorn.run(
        site.app(),
        host="127.0.0.1",
        port=arguments.port,
        ssl_context_factory=lambda _config, _default: context,
        http=ClosableProtocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        headers=[("X-Clotho-Embedded", "made by Clotho's embedded source site from bundled data, not by this host")],
        timeout_graceful_shutdown=2,
    )


if __name__ == "__main__":
    main()
