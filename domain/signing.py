"""Signatures of model versions: Ed25519 over which artifact a version of a model is.

Keys are lower-case hex of 32 bytes, as RFC 8032 has them. Only training has the private one; everybody who loads a
model has the public one.
"""

from domain.base import Sha256
from domain.canonical import canonical_json


class SigningError(ValueError):
    """A key is no Ed25519 key; the message does not show it."""


def is_key(text: str) -> bool:
    """Whether this could be a key: 64 hexadecimal digits."""
    try:
        _bytes(text)
    except SigningError:
        return False
    return True


def draw_key() -> str:
    """A new private key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate().private_bytes_raw().hex()


def public_key(private_key: str) -> str:
    """The public key of a private one.

    Raises:
        SigningError: it is no key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(_bytes(private_key)).public_key().public_bytes_raw().hex()


def sign(private_key: str, model: str, version: int, sha256: Sha256) -> bytes:
    """The 64 bytes of the signature that says: `version` of `model` is the artifact with this hash.

    Raises:
        SigningError: the key is no key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(_bytes(private_key)).sign(_signed(model, version, sha256))


def verify(public_key: str, signature: bytes, model: str, version: int, sha256: Sha256) -> bool:
    """Whether the signature was made by the private key for exactly this.

    Raises:
        SigningError: the key is no key.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = Ed25519PublicKey.from_public_bytes(_bytes(public_key))
    try:
        key.verify(signature, _signed(model, version, sha256))
    except InvalidSignature:
        return False
    return True


def _signed(model: str, version: int, sha256: Sha256) -> bytes:
    """What is signed; the first field keeps it apart from anything else that a key may sign."""
    return canonical_json({"what": "clotho model", "model": model, "version": version, "sha256": sha256})


def _bytes(key: str) -> bytes:
    try:
        raw = bytes.fromhex(key)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise SigningError("the key is not 64 hexadecimal digits")
    return raw
