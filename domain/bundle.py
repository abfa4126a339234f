"""The verification bundle: one file with all that a market's outcome rests on, checked without database or server.

The file is canonical JSON (RFC 8785) of the bundle and its SHA-256, so that it has one spelling only and every changed
byte is found; the checks then recompute the market as `clotho market verify` does.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict

from domain.audit import AuditEntry
from domain.base import Model
from domain.canonical import canonical_json, sha256_hex
from domain.text import cut
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
        """Recompute the market from what the bundle holds.

        Each audit entry must carry its own hash, and an outcome that somebody decided must be what the audit says.
        """
        recomputed = verify(self.rules, self.market, self.evidence, self.resolution, self.record, self.workflow)
        return (*recomputed, *self._decision_checks(), *(_audit_check(entry) for entry in self.audit))

    def _decision_checks(self) -> Iterator[Check]:
        """Whether who decided, what and why is the same in the resolution and in the audit."""
        resolution = self.resolution
        if resolution is None:
            return
        audited = [
            decision
            for entry in self.audit
            if (entry.entity_type, entry.entity_id) == ("market", str(self.market_id))
            and (decision := _decision(entry)) is not None
            and decision.look == resolution.look
        ]
        recorded = None
        if resolution.decided_by is not None:
            dispute = resolution.dispute_id
            recorded = _Decision(
                look=resolution.look,
                outcome=resolution.outcome,
                by=resolution.decided_by,
                reason=resolution.reason,
                dispute_id=None if dispute is None else str(dispute),
            )
        if recorded is None and not audited:
            return
        # A later dispute of the outcome that this one overturned closes with it, and decides nothing.
        first = audited[0] if audited else None
        by_dispute = any(one is not None and one.dispute_id is not None for one in (recorded, first))
        expected, found = (_told(one) if one else "nobody decided" for one in (first, recorded))
        told = (
            f"as the audit says, {expected}"
            if first == recorded
            else f"the audit says that {expected}, the resolution that {found}"
        )
        yield Check(
            name="outcome: dispute" if by_dispute else "outcome: by hand",
            ok=first == recorded,
            expected=expected,
            found=found,
            detail=f"{cut(f'{told[:1].upper()}{told[1:]}'.rstrip(' .'), 500)}.",
        )


class _Decision(NamedTuple):
    """Who decided what, and why."""

    look: Any
    outcome: Any
    by: Any
    reason: Any
    dispute_id: Any


def _decision(entry: AuditEntry) -> _Decision | None:
    """What an audit entry says of a decision; None when it is about something else."""
    by_hand = entry.action == "resolution_by_hand"
    if not by_hand and (entry.action, entry.details.get("status")) != ("dispute_resolved", "overturned"):
        return None
    return _Decision(
        look=entry.details.get("look"),
        outcome=entry.details.get("outcome"),
        by=entry.actor,
        reason=entry.details.get("reason"),
        dispute_id=None if by_hand else entry.details.get("dispute_id"),
    )


def _told(decision: _Decision) -> str:
    in_dispute = f" in dispute {decision.dispute_id}" if decision.dispute_id else ""
    return f"{decision.by} decided {decision.outcome}{in_dispute}: {decision.reason}"


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
