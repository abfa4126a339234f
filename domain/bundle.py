"""The verification bundle: one file with all that a market's outcome rests on, checked without database or server.

The file is canonical JSON (RFC 8785) of the bundle and its SHA-256, so that it has one spelling only and every changed
byte is found; the checks then recompute the market as `clotho market verify` does.
"""

import json
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict

from domain.audit import AuditEntry
from domain.base import Model
from domain.canonical import canonical_json, sha256_hex
from domain.verify import (
    Check,
    RecordedMarket,
    RecordedResolution,
    StoredEvidence,
    VerifiedRecord,
    WorkflowFacts,
    verify,
)

FORMAT = "clotho-bundle-1"


class BundleError(ValueError):
    """The file is no bundle, or was changed; one sentence."""


class BundledEvidence(StoredEvidence):
    """One document with where and when it was fetched; in the file `body` is base64 (RFC 4648, section 5)."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    url: str
    fetched_at: AwareDatetime


class BundledTransaction(Model):
    """One transaction that landed."""

    purpose: str
    signature: str
    slot: int | None


class Bundle(Model):
    """Rules, evidence, decisions, signatures of one market, as they were when it was exported."""

    format: str = FORMAT
    market_id: UUID
    title: str
    ai_version: str
    exported_at: AwareDatetime
    rules: dict[str, Any]
    market: RecordedMarket
    evidence: tuple[BundledEvidence, ...]
    resolution: RecordedResolution | None
    record: VerifiedRecord | None
    workflow: WorkflowFacts | None
    transactions: tuple[BundledTransaction, ...]
    audit: tuple[AuditEntry, ...]

    def checks(self) -> tuple[Check, ...]:
        """Recompute the market from what the bundle holds; each audit entry must carry its own hash."""
        recomputed = verify(self.rules, self.market, self.evidence, self.resolution, self.record, self.workflow)
        return (*recomputed, *(_audit_check(entry) for entry in self.audit))


def _audit_check(entry: AuditEntry) -> Check:
    computed = entry.computed_sha256()
    ok = computed == entry.sha256
    return Check(
        name=f"audit entry {entry.id}",
        ok=ok,
        expected=entry.sha256,
        found=computed,
        detail=f"{entry.action} by {entry.actor} {'is as it was written' if ok else 'was changed'}.",
    )


def write_bundle(bundle: Bundle) -> bytes:
    """The bytes of the file."""
    content = bundle.model_dump(mode="json", by_alias=True)
    return canonical_json({"bundle": content, "sha256": sha256_hex(canonical_json(content))})


def read_bundle(data: bytes) -> Bundle:
    """The bundle in the bytes of a file.

    Raises:
        BundleError: it is none, or a byte of it was changed.
    """
    try:
        file = json.loads(data)
        content, recorded = file["bundle"], file["sha256"]
        intact = canonical_json(file) == data and sha256_hex(canonical_json(content)) == recorded
        bundle = Bundle.model_validate_json(canonical_json(content)) if intact else None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"the file is no bundle ({type(error).__name__})") from error
    if bundle is None:
        raise BundleError("the bundle was changed after it was exported")
    return bundle
