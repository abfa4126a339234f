"""A bundle is checked with nothing but its bytes, and every changed byte is found."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.audit import AuditEntry, AuditHead, entry_after
from domain.bundle import Bundle, BundledEvidence, BundledTransaction, BundleError, read_bundle, write_bundle
from domain.canonical import canonical_json, evidence_root, model_sha256, sha256_hex
from domain.extraction import Document
from domain.resolver import resolve
from domain.verify import RecordedMarket, RecordedResolution, VerifiedRecord, WorkflowFacts
from tests.drafts import fred_rules

MARKET = UUID("3f1e9f0a-58f9-5c3e-9d0e-0d6f5a3b1c2d")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BODY = json.dumps(
    {"observations": [{"date": "2025-11-13", "value": "3.87"}, {"date": "2025-12-11", "value": "3.89"}]}
).encode()


def bundle(body: bytes = BODY) -> Bundle:
    """A finalised market, recorded before `body` could be exchanged: hashes are those of BODY."""
    rules = fred_rules(expiry=datetime(2026, 1, 1, tzinfo=UTC))
    document = Document(sha256=sha256_hex(BODY), content_type="application/json", body=BODY)
    verdict = resolve(rules, {"fred": document})
    root, rules_sha256 = evidence_root([document.sha256]), model_sha256(rules)
    entry = entry_after(
        AuditHead(),
        action="market_finalized",
        entity_type="market",
        entity_id=str(MARKET),
        actor="chain",
        details={"outcome": "YES"},
        created_at=NOW,
    )
    return Bundle(
        market_id=MARKET,
        title="Federal funds rate",
        ai_version="ai_v1.0.0_gpt35_20240601",
        exported_at=NOW,
        rules=rules.model_dump(mode="json", by_alias=True),
        market=RecordedMarket(status="finalized", rules_sha256=rules_sha256, outcome="YES"),
        evidence=(
            BundledEvidence(
                source="fred",
                url=rules.source("fred").url,
                sha256=document.sha256,
                content_type=document.content_type,
                fetched_at=NOW,
                body=body,
            ),
        ),
        resolution=RecordedResolution(
            rules_sha256=rules_sha256,
            outcome=verdict.outcome,
            abstention=None,
            evidence_root=root,
            results=tuple(result.model_dump(mode="json") for result in verdict.results),
        ),
        record=VerifiedRecord(
            rules_sha256=rules_sha256,
            status="finalized",
            outcome="YES",
            evidence_sha256=root,
            expiry=rules.expiry,
            immutable=True,
        ),
        workflow=WorkflowFacts(rules_sha256=rules_sha256, outcome="YES", evidence_root=root),
        transactions=(BundledTransaction(purpose="publish", signature="5h3…", slot=7),),
        audit=(entry,),
    )


FILE = write_bundle(bundle())


def test_a_bundle_comes_back_as_it_was_written_and_every_check_passes() -> None:
    read = read_bundle(FILE)
    assert read == bundle()
    checks = read.checks()
    assert [check.name for check in checks if not check.ok] == []
    assert {"outcome: recomputed", "audit entry 1"} <= {check.name for check in checks}


@given(place=st.integers(0, len(FILE) - 1), other=st.integers(1, 255))
def test_any_changed_byte_is_found(place: int, other: int) -> None:
    changed = bytearray(FILE)
    changed[place] ^= other
    with pytest.raises(BundleError):
        read_bundle(bytes(changed))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"not json", FILE[:-1], FILE + b"\n", b"[" * 100_000])
def test_what_is_no_bundle_is_one_sentence(data: bytes) -> None:
    with pytest.raises(BundleError):
        read_bundle(data)


def test_a_forger_who_mends_the_file_hash_still_fails_the_checks() -> None:
    forged = read_bundle(write_bundle(bundle(BODY.replace(b"3.89", b"3.79"))))
    assert "evidence: fred" in {check.name for check in forged.checks() if not check.ok}


def test_a_forged_audit_entry_is_named() -> None:
    honest = bundle()
    forged = honest.model_copy(update={"audit": (honest.audit[0].model_copy(update={"actor": "somebody"}),)})
    assert failed(forged) == {"audit entry 1"}


DISPUTE = UUID("0b8f6c1e-0000-5000-8000-00000000d15b")
DECIDED: dict[str, Any] = {"look": 2, "decided_by": "ana", "reason": "the bank says so", "dispute_id": None}
"""What a resolution says of somebody's decision."""


def decided(*, dispute: bool = False, **changes: Any) -> Bundle:
    """A market whose outcome YES somebody decided, as the steps record it; `changes` are the resolution's."""
    honest = bundle()
    assert honest.resolution is not None
    said = DECIDED | {"dispute_id": DISPUTE if dispute else None}
    details: dict[str, Any] = {"look": 2, "outcome": "YES", "reason": "the bank says so"}
    details |= {"dispute_id": str(DISPUTE), "status": "overturned"} if dispute else {}
    entry = audited("dispute_resolved" if dispute else "resolution_by_hand", details)
    resolution = honest.resolution.model_copy(update=said | changes)
    return honest.model_copy(update={"resolution": resolution, "audit": (*honest.audit, entry)})


def audited(action: str, details: dict[str, Any], **fields: Any) -> AuditEntry:
    """The next entry of the market's audit trail."""
    given: dict[str, Any] = {"entity_type": "market", "entity_id": str(MARKET), "actor": "ana", "created_at": NOW}
    return entry_after(AuditHead(entries=1), action=action, details=details, **given | fields)


def failed(of: Bundle) -> set[str]:
    return {check.name for check in read_bundle(write_bundle(of)).checks() if not check.ok}


@pytest.mark.parametrize(("dispute", "name"), [(False, "outcome: by hand"), (True, "outcome: dispute")])
def test_who_decided_an_outcome_and_why_is_told(dispute: bool, name: str) -> None:
    checks = {check.name: check for check in decided(dispute=dispute).checks()}
    assert all(check.ok for check in checks.values())
    assert "ana decided YES" in checks[name].detail
    assert "the bank says so" in checks[name].detail
    assert not any(check.name.startswith(("outcome: by hand", "outcome: dispute")) for check in bundle().checks())


@pytest.mark.parametrize(
    "forged",
    [
        {"decided_by": "bob"},
        {"reason": "he paid me"},
        {"look": 1},
        {"dispute_id": UUID(int=1)},
        {"decided_by": None, "reason": None, "dispute_id": None},
    ],
)
@pytest.mark.parametrize("dispute", [False, True])
def test_a_decision_that_was_changed_afterwards_is_found(dispute: bool, forged: dict[str, Any]) -> None:
    (check,) = failed(decided(dispute=dispute, **forged))
    assert check in {"outcome: by hand", "outcome: dispute"}


def test_another_outcome_than_the_decided_one_is_found() -> None:
    assert failed(decided(outcome="NO")) >= {"outcome: by hand", "outcome: Postgres", "outcome: chain"}


@pytest.mark.parametrize(
    "entries",
    [
        (),
        (audited("market_finalized", {"look": 2, "outcome": "YES", "reason": "the bank says so"}),),
        (audited("resolution_by_hand", {"look": 2, "outcome": "YES", "reason": "the bank says so"}, actor="bob"),),
        (
            audited(
                "resolution_by_hand",
                {"look": 2, "outcome": "YES", "reason": "the bank says so"},
                entity_id=str(UUID(int=3)),
            ),
        ),
        (audited("dispute_resolved", {"look": 2, "outcome": "YES", "reason": "the bank says so", "status": "upheld"}),),
    ],
    ids=["nobody", "something else", "somebody else", "another market", "an upheld dispute"],
)
def test_a_decision_that_the_audit_does_not_know_is_found(entries: tuple[AuditEntry, ...]) -> None:
    assert failed(decided().model_copy(update={"audit": entries})) == {"outcome: by hand"}


def test_disputes_that_change_nothing_decide_nothing() -> None:
    upheld = audited("dispute_resolved", {"look": 1, "outcome": "YES", "reason": "it stands", "status": "upheld"})
    honest = bundle()
    assert honest.resolution is not None
    first = honest.resolution.model_copy(update={"look": 1})
    assert failed(honest.model_copy(update={"resolution": first, "audit": (upheld,)})) == set()
    # A second dispute of the outcome that the first one overturned is closed with it, under the same look.
    overturned = decided(dispute=True)
    second = {"look": 2, "outcome": "YES", "reason": "another dispute won", "status": "overturned", "dispute_id": "x"}
    later = audited("dispute_resolved", second, actor="clotho")
    assert failed(overturned.model_copy(update={"audit": (*overturned.audit, later)})) == set()


def test_a_dispute_may_overturn_what_a_person_decided() -> None:
    overturned = decided(dispute=True)
    by_hand = audited("resolution_by_hand", {"look": 1, "outcome": "NO", "reason": "I read it so"}, actor="bob")
    assert failed(overturned.model_copy(update={"audit": (by_hand, *overturned.audit)})) == set()


def test_a_bundle_of_the_version_before_can_still_be_checked() -> None:
    file = json.loads(FILE)["bundle"]
    for field in ("look", "decided_by", "reason", "dispute_id"):
        del file["resolution"][field]
    old = read_bundle(canonical_json({"bundle": file, "sha256": sha256_hex(canonical_json(file))}))
    assert all(check.ok for check in old.checks())
