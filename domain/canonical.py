"""Canonical JSON (RFC 8785) and the hashes that are made of it: what is hashed here is hashed the same everywhere."""

import hashlib
from collections.abc import Iterable
from typing import Any

import rfc8785

from domain.base import Model


def canonical_json(value: Any) -> bytes:
    """UTF-8 bytes of `value` as RFC 8785 canonical JSON.

    Raises:
        ValueError: `value` holds what JSON cannot say the same way everywhere (NaN, an integer beyond 2**53, half a
            surrogate pair), or is nested too deep.
    """
    try:
        return rfc8785.dumps(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"cannot be written as canonical JSON: {error}") from error


def sha256_hex(data: bytes) -> str:
    """Lower-case hex of the SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def model_sha256(model: Model) -> str:
    """The hash of a model: SHA-256 of the canonical JSON of its fields, by alias, nothing left out."""
    return sha256_hex(canonical_json(model.model_dump(mode="json", by_alias=True)))


def evidence_root(hashes: Iterable[str]) -> str:
    """The root over a market's evidence: SHA-256 of the canonical JSON list of its distinct hashes, sorted."""
    return sha256_hex(canonical_json(sorted(set(hashes))))
