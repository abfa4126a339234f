"""Verification: everything agrees, or exactly the checks fail whose sides were changed, and nothing ever raises."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.canonical import evidence_root, model_sha256
from domain.extraction import Document
from domain.resolver import resolve
from domain.rules import ResolutionRules
from domain.verdict import ConditionResult
from domain.verify import (
    Check,
    RecordedMarket,
    RecordedResolution,
    StoredEvidence,
    VerifiedRecord,
    WorkflowFacts,
    verify,
)
from tests.unit.examples import (
    any_evidence,
    any_rules,
    dated,
    document,
    machine,
    observations,
    page,
    reading,
    rules,
    source,
    text_condition,
)


class Market(NamedTuple):
    """All that verification is given."""

    rules: Any
    market: RecordedMarket
    evidence: tuple[StoredEvidence, ...] = ()
    resolution: RecordedResolution | None = None
    record: VerifiedRecord | None = None
    workflow: WorkflowFacts | None = None

    def failed(self) -> set[str]:
        checks = verify(*self)
        assert all(check.detail.endswith(".") and check.name for check in checks)
        return {check.name for check in checks if not check.ok}


def recorded(
    made: ResolutionRules,
    documents: dict[str, Document],
    judged: dict[str, ConditionResult] | None = None,
    status: str = "finalized",
) -> Market:
    """A market as the lifecycle records it."""
    verdict = resolve(made, documents, judged)
    sha256, root = model_sha256(made), evidence_root(d.sha256 for d in documents.values())
    settled = status in {"resolved", "disputed", "finalized"}
    outcome = verdict.outcome if settled else None
    return Market(
        rules=json.loads(made.model_dump_json(by_alias=True)),
        market=RecordedMarket(status=status, rules_sha256=sha256, outcome=outcome),
        evidence=tuple(
            StoredEvidence(source=name, sha256=of.sha256, content_type=of.content_type, body=of.body)
            for name, of in documents.items()
        ),
        resolution=RecordedResolution(
            rules_sha256=sha256,
            outcome=verdict.outcome,
            abstention=verdict.abstention,
            evidence_root=root,
            results=tuple(json.loads(result.model_dump_json()) for result in verdict.results),
        ),
        record=VerifiedRecord(
            rules_sha256=sha256,
            status={"resolving": "active", "disputed": "resolved"}.get(status, status),
            outcome=outcome,
            evidence_sha256=root if settled else None,
            expiry=made.expiry,
            immutable=status == "finalized",
        ),
        workflow=WorkflowFacts(rules_sha256=sha256, outcome=outcome, evidence_root=root),
    )


DOCUMENTS = {
    "fred": observations(("2026-01-14", "3.64"), ("2026-01-15", "5.50")),
    "site": page("<main><p>The committee raised the target range.</p></main>"),
}
RULES = rules(
    machine("above", checks=[{"value": dated()}]),
    text_condition("announced", "site"),
    not_count=[machine("absurd", ">", "100", checks=[{"value": dated()}])],
    sources=[source(), source("site", method="html_scrape", selector="main")],
)
QUOTED = ConditionResult(
    condition="announced",
    result="met",
    source="site",
    evidence_sha256=DOCUMENTS["site"].sha256,
    excerpt="raised the target range",
)
GOOD = recorded(RULES, DOCUMENTS, {"announced": QUOTED})

EXPECTED_NAMES = [
    "rules",
    "rules hash: Postgres",
    "rules hash: resolution",
    "rules hash: chain",
    "rules hash: workflow",
    "evidence: fred",
    "evidence: site",
    "evidence root: Postgres",
    "evidence root: workflow",
    "condition: above",
    "condition: announced",
    "condition: absurd",
    "outcome: recomputed",
    "outcome: Postgres",
    "outcome: chain",
    "outcome: workflow",
    "status: chain",
    "immutable: chain",
    "expiry: chain",
    "evidence root: chain",
]
HASHES = {name for name in EXPECTED_NAMES if name.startswith("rules hash")}
ROOTS = {name for name in EXPECTED_NAMES if name.startswith("evidence root")}


def test_an_untouched_market_passes_every_check_one_line_each() -> None:
    assert GOOD.market.outcome == "YES"
    checks = verify(*GOOD)
    assert [check.name for check in checks] == EXPECTED_NAMES
    assert all(check.ok for check in checks)
    assert verify(*GOOD._replace(rules=RULES)) == checks


def with_part(part: str, **changes: Any) -> Market:
    return GOOD._replace(**{part: getattr(GOOD, part).model_copy(update=changes)})


def with_evidence(name: str, **changes: Any) -> Market:
    entries = (e.model_copy(update=changes) if e.source == name else e for e in GOOD.evidence)
    return GOOD._replace(evidence=tuple(entries))


def with_result(of: str, **changes: Any) -> Market:
    assert GOOD.resolution is not None
    results = tuple(r | changes if r["condition"] == of else r for r in GOOD.resolution.results)
    return with_part("resolution", results=results)


OTHER = "0" * 64
OUT_OF_FRED = {"condition: above", "condition: absurd", "outcome: recomputed"}
"""What can no longer be recomputed without the evidence of fred."""


@pytest.mark.parametrize(
    ("changed", "failing"),
    [
        (with_part("market", rules_sha256=OTHER), {"rules hash: Postgres"}),
        (with_part("market", outcome="NO"), {"outcome: Postgres"}),
        (with_part("market", outcome=None), {"outcome: Postgres"}),
        (with_part("market", status="resolved"), {"status: chain", "immutable: chain"}),
        (with_part("resolution", rules_sha256=OTHER), {"rules hash: resolution"}),
        (with_part("resolution", evidence_root=OTHER), {"evidence root: Postgres"}),
        (
            with_part("resolution", outcome="NO"),
            {"outcome: recomputed", "outcome: Postgres", "outcome: chain", "outcome: workflow"},
        ),
        (with_part("record", rules_sha256=OTHER), {"rules hash: chain"}),
        (with_part("record", outcome="NO"), {"outcome: chain"}),
        (with_part("record", status="resolved"), {"status: chain"}),
        (with_part("record", immutable=False), {"immutable: chain"}),
        (with_part("record", evidence_sha256=OTHER), {"evidence root: chain"}),
        (with_part("record", evidence_sha256=None), {"evidence root: chain"}),
        (with_part("record", expiry=RULES.expiry + timedelta(seconds=1)), {"expiry: chain"}),
        (with_part("workflow", rules_sha256=OTHER), {"rules hash: workflow"}),
        (with_part("workflow", outcome="NO"), {"outcome: workflow"}),
        (with_part("workflow", evidence_root=None), {"evidence root: workflow"}),
        (with_evidence("fred", body=None), {"evidence: fred", *OUT_OF_FRED}),
        (with_evidence("site", body=b""), {"evidence: site", "condition: announced"}),
        (with_evidence("fred", sha256=OTHER), {"evidence: fred", *OUT_OF_FRED, *ROOTS}),
        (with_evidence("site", source="fred"), {"evidence: fred", "condition: announced", *OUT_OF_FRED}),
        (with_evidence("site", source="elsewhere"), {"evidence: elsewhere", "condition: announced"}),
        (GOOD._replace(evidence=GOOD.evidence[:1]), {"condition: announced", *ROOTS}),
        (with_result("above", result="not_met"), {"condition: above"}),
        (with_result("above", excerpt="5.5"), {"condition: above"}),
        (with_result("above", evidence_sha256=OTHER), {"condition: above"}),
        (with_result("absurd", source="site"), {"condition: absurd"}),
        (with_result("announced", excerpt="lowered the target range"), {"condition: announced"}),
        (with_result("announced", excerpt=""), {"condition: announced"}),
        (with_result("announced", source="fred"), {"condition: announced"}),
        (with_result("announced", evidence_sha256=OTHER), {"condition: announced"}),
        (with_result("announced", result="not_met"), {"outcome: recomputed"}),
        (
            with_result("announced", condition="above"),
            {"condition: above", "condition: announced", "outcome: recomputed"},
        ),
        (with_result("absurd", condition="other"), {"condition: absurd", "condition: other"}),
        (with_result("absurd", result="perhaps"), {"recorded result 3", "condition: absurd"}),
        (GOOD._replace(record=None), {"chain record"}),
        (
            GOOD._replace(resolution=None),
            {"outcome: resolution", "outcome: Postgres", "outcome: chain", "outcome: workflow"},
        ),
        (GOOD._replace(workflow=None), set()),
    ],
)  # fmt: skip
def test_a_change_fails_exactly_the_checks_of_what_was_changed(changed: Market, failing: set[str]) -> None:
    assert changed.failed() == failing


def test_the_order_of_evidence_and_results_does_not_matter() -> None:
    assert GOOD.resolution is not None
    turned = GOOD._replace(evidence=GOOD.evidence[::-1])
    assert turned.failed() == set()
    assert with_part("resolution", results=GOOD.resolution.results[::-1]).failed() == set()


@settings(max_examples=200)
@given(st.sampled_from(["fred", "site"]), st.data())
def test_any_changed_byte_of_evidence_is_found(name: str, data: st.DataObject) -> None:
    body = bytearray(DOCUMENTS[name].body)
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= data.draw(st.integers(1, 255))
    readers = {
        "fred": OUT_OF_FRED,
        # The text condition's judgement stands as recorded; that it can no longer be shown fails its own check.
        "site": {"condition: announced"},
    }
    assert with_evidence(name, body=bytes(body)).failed() == {f"evidence: {name}", *readers[name]}


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all leaves of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*path, key))
    if not isinstance(value, dict | list):
        yield path


@settings(max_examples=300)
@given(st.data())
def test_any_changed_field_of_the_rules_is_found(data: st.DataObject) -> None:
    tampered = json.loads(json.dumps(GOOD.rules))
    *way, last = data.draw(st.sampled_from(list(paths(tampered))))
    parent = tampered
    for key in way:
        parent = parent[key]
    other = st.none() | st.booleans() | st.integers(0, 3) | st.text(max_size=12) | st.just(f"{parent[last]} ")
    changed = data.draw(other.filter(lambda value: (value, type(value)) != (parent[last], type(parent[last]))))
    parent[last] = changed
    failed = GOOD._replace(rules=tampered).failed()
    # Evidence and what the places say of each other were not changed, so no check of theirs may fail.
    unrelated = {"evidence root", "outcome: Postgres", "outcome: chain", "outcome: workflow", "status", "immutable"}
    assert failed >= HASHES
    assert not any(name.startswith(prefix) for name in failed for prefix in unrelated)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"exact_question": "?"},
        {"a": float("nan")},
        {1: 2},
        {"a": "\ud800"},
        {"a": 2**60},
        None,
        [],
        "rules",
        GOOD.rules | {"criteria": None},
    ],
)
def test_rules_that_cannot_be_read_are_failed_checks(broken: Any) -> None:
    failed = GOOD._replace(rules=broken).failed()
    assert failed == {"rules", *HASHES}


def test_rules_nested_without_end_are_a_failed_check() -> None:
    deep: Any = {}
    for _ in range(50_000):
        deep = {"a": deep}
    assert GOOD._replace(rules=deep).failed() == {"rules", *HASHES}


@pytest.mark.parametrize("broken", [None, 5, "x", [], {}, {"condition": "above"}, {"condition": 1, "result": "met"}])
def test_results_that_cannot_be_read_are_failed_checks(broken: Any) -> None:
    assert with_part("resolution", results=(broken,)).failed() >= {
        "recorded result 1", "condition: above", "condition: announced", "condition: absurd",
    }  # fmt: skip


# Every status that a market can be in.


def test_before_publication_only_the_rules_are_checked() -> None:
    for status in ("draft", "pending_review", "rejected", "canceled"):
        market = RecordedMarket(status=status, rules_sha256=model_sha256(RULES), outcome=None)
        assert Market(GOOD.rules, market).failed() == set()


@pytest.mark.parametrize("status", ["active", "resolving", "resolved", "disputed", "finalized"])
def test_each_status_agrees_with_its_own_record(status: str) -> None:
    assert recorded(RULES, DOCUMENTS, {"announced": QUOTED}, status).failed() == set()
    assert recorded(RULES, DOCUMENTS, {"announced": QUOTED}, status)._replace(record=None).failed() == {"chain record"}


def test_a_market_cancelled_after_publication_is_void_everywhere() -> None:
    assert GOOD.record is not None
    void = Market(
        rules=GOOD.rules,
        market=RecordedMarket(status="canceled", rules_sha256=model_sha256(RULES), outcome="VOID"),
        record=GOOD.record.model_copy(
            update={"status": "canceled", "outcome": "VOID", "evidence_sha256": None, "immutable": False}
        ),
        workflow=WorkflowFacts(rules_sha256=model_sha256(RULES), outcome="VOID", evidence_root=None),
    )
    assert void.failed() == set()
    assert void._replace(record=None).failed() == {"chain record"}
    looked = void._replace(resolution=recorded(RULES, {}, None, "resolving").resolution)
    assert looked.failed() == set(), "given up after looks that found nothing"
    paid = void._replace(record=GOOD.record.model_copy(update={"status": "canceled", "immutable": False}))
    assert paid.failed() == {"outcome: chain", "evidence root: chain"}


def test_a_history_may_say_already_what_is_not_settled_yet_but_nothing_else() -> None:
    parked = recorded(RULES, DOCUMENTS, {"announced": QUOTED}, "resolving")
    assert parked.workflow is not None
    assert parked._replace(workflow=parked.workflow.model_copy(update={"outcome": "YES"})).failed() == set()
    unsaid = parked.workflow.model_copy(update={"evidence_root": None})
    assert parked._replace(workflow=unsaid).failed() == set()
    other = parked.workflow.model_copy(update={"outcome": "NO", "evidence_root": OTHER})
    assert parked._replace(workflow=other).failed() == {"outcome: workflow", "evidence root: workflow"}
    silent = WorkflowFacts(rules_sha256=None, outcome=None, evidence_root=None)
    draft = RecordedMarket(status="draft", rules_sha256=model_sha256(RULES), outcome=None)
    assert Market(GOOD.rules, draft, workflow=silent).failed() == set()
    assert parked._replace(workflow=silent).failed() == {"rules hash: workflow"}
    assert GOOD._replace(workflow=silent).failed() == {
        "rules hash: workflow", "evidence root: workflow", "outcome: workflow"
    }  # fmt: skip


def test_an_abstention_is_recomputed_too() -> None:
    waiting = recorded(
        rules(machine(checks=[{"value": reading()}])), {"fred": document({"value": None})}, None, "resolving"
    )
    assert waiting.resolution is not None
    assert waiting.resolution.abstention == "too_early"
    assert waiting.failed() == set()
    claimed = waiting._replace(resolution=waiting.resolution.model_copy(update={"outcome": "YES", "abstention": None}))
    assert claimed.failed() == {"outcome: recomputed"}


# Outcomes that somebody decided.

OPEN = recorded(RULES, DOCUMENTS)
"""The text condition was not judged, so the rules give no outcome."""


def decided(market: Market, outcome: str, *, dispute_id: UUID | None = None) -> Market:
    """The same market, finalised with the outcome that somebody decided."""
    assert market.resolution is not None
    assert market.record is not None
    assert market.workflow is not None
    root = market.resolution.evidence_root
    by = {"look": 2, "decided_by": "ana", "reason": "the page says so", "dispute_id": dispute_id}
    return market._replace(
        market=market.market.model_copy(update={"outcome": outcome}),
        resolution=market.resolution.model_copy(update={"outcome": outcome, "abstention": None} | by),
        record=market.record.model_copy(update={"outcome": outcome, "evidence_sha256": root}),
        workflow=market.workflow.model_copy(update={"outcome": outcome}),
    )


def recomputed(market: Market) -> Check:
    return next(check for check in verify(*market) if check.name == "outcome: recomputed")


@pytest.mark.parametrize("outcome", ["YES", "NO"])
def test_what_the_rules_leave_open_a_person_may_decide_either_way(outcome: str) -> None:
    by_hand = decided(OPEN, outcome)
    assert by_hand.failed() == set()
    assert recomputed(by_hand).detail == f"The rules alone give no outcome: unsure, {outcome} was decided."


def test_a_person_does_not_decide_against_the_rules() -> None:
    assert decided(GOOD, "YES").failed() == set()
    assert decided(GOOD, "NO").failed() == {"outcome: recomputed"}


def test_where_a_source_gave_nothing_the_rules_leave_it_open() -> None:
    low = {"fred": observations(("2026-01-14", "3.64"), ("2026-01-15", "3.64"))}
    partial = recorded(RULES, low)
    assert partial.market.outcome == "NO"
    by_hand = decided(partial, "YES")
    assert by_hand.failed() == set()
    assert "without site" in recomputed(by_hand).detail
    nothing = decided(recorded(RULES, {}), "NO")
    assert nothing.failed() == set()
    # Bytes that were exchanged later are not a source that gave nothing.
    other = decided(GOOD, "NO")._replace(evidence=with_evidence("fred", body=b"").evidence)
    assert "evidence: fred" in other.failed()


def test_a_dispute_may_overturn_what_the_rules_give_which_is_shown() -> None:
    overturned = decided(GOOD, "NO", dispute_id=UUID(int=7))
    assert overturned.failed() == set()
    assert (recomputed(overturned).expected, recomputed(overturned).found) == ("YES", "NO")


@pytest.mark.parametrize("dispute_id", [None, UUID(int=7)])
def test_another_outcome_than_the_one_that_was_decided_is_found(dispute_id: UUID | None) -> None:
    by_hand = decided(OPEN, "NO", dispute_id=dispute_id)
    assert by_hand.resolution is not None
    forged = by_hand._replace(resolution=by_hand.resolution.model_copy(update={"outcome": "YES"}))
    assert forged.failed() == {"outcome: Postgres", "outcome: chain", "outcome: workflow"}
    unsigned = by_hand.resolution.model_copy(update={"decided_by": None, "reason": None, "dispute_id": None})
    assert by_hand._replace(resolution=unsigned).failed() == {"outcome: recomputed"}


def test_a_status_that_is_none_is_a_failed_check() -> None:
    assert "status: chain" in with_part("market", status="settled").failed()


@settings(max_examples=100)
@given(any_rules(), any_evidence(), st.sampled_from(["resolving", "active"]))
def test_what_the_resolver_recorded_always_verifies(
    made: ResolutionRules, evidence: dict[str, Document], status: str
) -> None:
    allowed = {one.name for one in made.criteria.allowed_sources}
    assert recorded(made, {n: d for n, d in evidence.items() if n in allowed}, None, status).failed() == set()


ANYTHING = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["YES", "VOID", "active", OTHER])
)


@settings(max_examples=200)
@given(st.data())
def test_no_data_breaks_verification(data: st.DataObject) -> None:
    def text() -> str:
        return str(data.draw(ANYTHING))

    def maybe() -> str | None:
        return data.draw(st.none() | ANYTHING.map(str))

    def one_of(make: Callable[[], Any]) -> Any:
        return make() if data.draw(st.booleans()) else None

    market = Market(
        rules=data.draw(st.just(GOOD.rules) | st.dictionaries(st.text(max_size=5), ANYTHING, max_size=3)),
        market=RecordedMarket(status=text(), rules_sha256=text(), outcome=maybe()),
        evidence=tuple(
            StoredEvidence(source=text(), sha256=text(), content_type=text(), body=data.draw(st.none() | st.binary()))
            for _ in range(data.draw(st.integers(0, 2)))
        ),
        resolution=one_of(
            lambda: RecordedResolution(
                rules_sha256=text(),
                outcome=maybe(),
                abstention=maybe(),
                evidence_root=text(),
                results=tuple(
                    data.draw(st.lists(ANYTHING | st.dictionaries(st.text(max_size=9), ANYTHING), max_size=2))
                ),
                decided_by=maybe(),
                reason=maybe(),
                dispute_id=data.draw(st.none() | st.uuids()),
            )
        ),
        record=one_of(
            lambda: VerifiedRecord(
                rules_sha256=text(),
                status=text(),
                outcome=maybe(),
                evidence_sha256=maybe(),
                expiry=data.draw(st.datetimes(timezones=st.timezones())),
                immutable=data.draw(st.booleans()),
            )
        ),
        workflow=one_of(lambda: WorkflowFacts(rules_sha256=maybe(), outcome=maybe(), evidence_root=maybe())),
    )
    assert "rules hash: Postgres" in market.failed()


def test_a_failed_check_says_what_it_is_and_what_it_must_be() -> None:
    check = next(c for c in verify(*with_part("record", outcome="NO")) if not c.ok)
    assert check == Check(
        name="outcome: chain", ok=False, expected="YES", found="NO", detail="It is NO, and must be YES."
    )
