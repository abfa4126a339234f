"""A bundle is checked with nothing but its bytes, and every changed byte is found."""

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.audit import AuditHead, entry_after
from domain.bundle import Bundle, BundledEvidence, BundledTransaction, BundleError, read_bundle, write_bundle
from domain.canonical import evidence_root, model_sha256, sha256_hex
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
    failed = {check.name for check in forged.checks() if not check.ok}
    assert "evidence: fred" in failed


def test_a_forged_audit_entry_is_named() -> None:
    honest = bundle()
    forged = honest.model_copy(update={"audit": (honest.audit[0].model_copy(update={"actor": "somebody"}),)})
    failed = [check.name for check in read_bundle(write_bundle(forged)).checks() if not check.ok]
    assert failed == ["audit entry 1"]
