"""The resolver: predicates, several sources, absence, and that no rules and no documents break it."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.canonical import evidence_root
from domain.extraction import Document
from domain.resolver import evaluate, resolve
from domain.rules import ResolutionRules
from domain.verdict import Abstention, ConditionResult, Result
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

MET, NOT_MET, UNKNOWN = Result.MET, Result.NOT_MET, Result.UNKNOWN


def result(condition: dict[str, Any], *documents: Document, **changes: Any) -> ConditionResult:
    """The condition over documents of fred, ecb and site, in this order."""
    names = ("fred", "ecb", "site")[: max(1, len(documents))]
    made = rules(condition, **{"sources": [source(name) for name in names]} | changes)
    return evaluate(made.resolver_program[0], made, dict(zip(names, documents, strict=False)))


def holds(op: str, operand: str | None, content: object, kind: str = "number", **changes: Any) -> Result:
    condition = machine(op=op, operand=operand, checks=[{"value": reading(type=kind)}], **changes)
    return result(condition, document({"value": content})).result


@pytest.mark.parametrize(
    ("op", "operand", "met", "not_met"),
    [
        ("==", "5.25", [5.25, "5.250", "+5.25"], [5.2500001, "-5.25"]),
        ("!=", "5.25", [5.2500001], [5.25]),
        ("<", "5.25", [5.24, -9], [5.25, 6]),
        ("<=", "5.25", [5.25], ["5.2500000000000000000000000000000000001"]),
        (">", "5.25", ["5.2500000000000000000000000000000000001"], [5.25]),
        (">=", "5.25", [5.25, "1,000"], [5.24]),
    ],
)
def test_comparisons_of_numbers(op: str, operand: str, met: list[object], not_met: list[object]) -> None:
    assert {holds(op, operand, content) for content in met} == {MET}
    assert {holds(op, operand, content) for content in not_met} == {NOT_MET}


def test_between_has_both_bounds_in_it() -> None:
    answers = [holds("between", "1", content, upper="2") for content in (0.99, 1, 1.5, 2, "2.01")]
    assert answers == [NOT_MET, MET, MET, MET, NOT_MET]


@pytest.mark.parametrize(
    ("op", "operand", "content", "expected"),
    [
        ("contains", "ready for", "Is  Ready\nready for pickup", MET),
        ("contains", "READY", "ready", NOT_MET),
        ("contains", " ready ", "ready", MET),
        ("matches", "^v5\\.[0-9]+$", "v5.12", MET),
        ("matches", "v5", "is v5 out", MET),
        ("matches", "v6", "v5", NOT_MET),
        ("matches", "(", "v5", UNKNOWN),
        ("==", "Approved", "approved", NOT_MET),
        ("==", "Caf\u00e9", "Cafe\u0301", MET),
        ("!=", "Approved", "Rejected", MET),
    ],
)
def test_comparisons_of_texts(op: str, operand: str, content: str, expected: Result) -> None:
    assert holds(op, operand, content, "text") is expected


@pytest.mark.parametrize(
    ("op", "operand", "content", "expected"),
    [
        ("date_before", "2026-01-15", "2026-01-14", MET),
        ("date_before", "2026-01-15", "2026-01-15", NOT_MET),
        ("date_before", "2026-01-15", "2026-01-14T23:59:59Z", MET),
        ("date_after", "2026-01-15", "2026-01-15", NOT_MET),
        ("date_after", "2026-01-15", "2026-01-16", MET),
        ("==", "2026-01-15", "2026-01-15T09:00:00", MET),
        ("!=", "2026-01-15", "2026-01-15", NOT_MET),
    ],
)
def test_comparisons_of_dates(op: str, operand: str, content: str, expected: Result) -> None:
    assert holds(op, operand, content, "date") is expected


def test_comparisons_of_booleans() -> None:
    assert holds("==", "true", "Yes", "boolean") is MET
    assert holds("==", "true", False, "boolean") is NOT_MET
    assert holds("!=", "true", False, "boolean") is MET


def changed(value: object, baseline: object, least: str, *, percent: bool) -> Result:
    check = {"value": reading(), "baseline": reading(json_path="$.baseline")}
    condition = machine(op="changed_by", operand=least, percent=percent, checks=[check])
    return result(condition, document({"value": value, "baseline": baseline})).result


@pytest.mark.parametrize(
    ("value", "baseline", "least", "percent", "expected"),
    [
        (103, 100, "3", False, MET),
        (102.99, 100, "3", False, NOT_MET),
        (90, 100, "3", False, NOT_MET),
        (97, 100, "-3", False, MET),
        (97.01, 100, "-3", False, NOT_MET),
        (110, 100, "-3", False, NOT_MET),
        (100, 100, "0", False, MET),
        (99.99, 100, "0", False, NOT_MET),
        (110, 100, "10", True, MET),
        (109.99, 100, "10", True, NOT_MET),
        (-90, -100, "10", True, MET),
        (-110, -100, "10", True, NOT_MET),
        (-110, -100, "-10", True, MET),
        ("0.4", "0.3", "0.1", False, MET),
        # A third more, exactly: a rounded quotient would say 33.33…33 or 33.33…34.
        (4, 3, "33." + "3" * 60, True, MET),
        (4, 3, "33." + "3" * 59 + "4", True, NOT_MET),
        ("1e99", "1e-99", "1", True, MET),
        ("1" * 40 + ".1", 0, "1" * 40 + ".1", False, MET),
        (5, 0, "10", True, UNKNOWN),
        (5, 0, "5", False, MET),
    ],
)
def test_changed_by(value: object, baseline: object, least: str, percent: bool, expected: Result) -> None:
    assert changed(value, baseline, least, percent=percent) is expected


def test_an_undefined_change_makes_the_question_invalid() -> None:
    check = {"value": reading(), "baseline": reading(json_path="$.baseline")}
    condition = machine(op="changed_by", operand="1", percent=True, checks=[check])
    got = result(condition, document({"value": 1, "baseline": 0}))
    assert (got.why_unknown, got.excerpt) == (Abstention.INVALID_QUESTION, "")
    assert "zero" in got.detail


def test_a_value_is_compared_with_the_value_of_another_day() -> None:
    check = {"value": dated(on="2026-01-15", unit="%"), "baseline": dated(on="2026-01-05", unit="%")}
    of = observations(("2026-01-05", "3.63"), ("2026-01-15", "3.64"))
    got = result(machine(op=">", operand=None, checks=[check]), of)
    assert got == ConditionResult(
        condition="above",
        result=MET,
        detail="3.64 % on 2026-01-15 > 3.63 % on 2026-01-05?",
        source="fred",
        evidence_sha256=of.sha256,
        excerpt="3.64",
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"value": None}, Abstention.TOO_EARLY),
        ({}, Abstention.INVALID_QUESTION),
        ({"value": "5 %"}, Abstention.INVALID_QUESTION),
        (b"<h1>Bad gateway</h1>", Abstention.UNAVAILABLE),
    ],
)
def test_the_reason_for_not_knowing_says_who_can_mend_it(content: object, why: Abstention) -> None:
    got = result(machine(), document(content))
    assert (got.result, got.why_unknown, got.source) == (UNKNOWN, why, "fred")
    assert got.detail


def test_a_source_that_gave_nothing_is_unavailable() -> None:
    got = result(machine())
    assert (got.why_unknown, got.evidence_sha256) == (Abstention.UNAVAILABLE, None)


# Several sources.


def several(quorum: int, *contents: object, **changes: Any) -> ConditionResult:
    checks = [{"value": reading(name)} for name in ("fred", "ecb", "site")[: len(contents)]]
    return result(machine(checks=checks), *map(document, contents), quorum=quorum, **changes)


YES, NO, LATER, BROKEN = {"value": 6}, {"value": 5}, {"value": None}, b"{"


@pytest.mark.parametrize(
    ("quorum", "contents", "expected"),
    [
        (1, (YES, YES), MET),
        (1, (NO, NO, NO), NOT_MET),
        (1, (LATER, YES), MET),
        (2, (YES, YES, LATER), MET),
        (2, (YES, LATER, BROKEN), Abstention.UNAVAILABLE),
        (2, (YES, LATER), Abstention.TOO_EARLY),
        (3, (NO, NO, BROKEN), Abstention.UNAVAILABLE),
        (1, (YES, NO), Abstention.CONFLICT),
        (1, (YES, YES, NO), Abstention.CONFLICT),
        (2, (YES, NO, LATER), Abstention.CONFLICT),
    ],
)
def test_quorum_and_conflict(quorum: int, contents: tuple[object, ...], expected: Result | Abstention) -> None:
    got = several(quorum, *contents)
    assert (got.why_unknown or got.result) is expected


def test_a_conflict_names_both_sides() -> None:
    got = several(1, YES, NO)
    assert "fred: 6 >= 5.25" in got.detail
    assert "ecb: 5 >= 5.25" in got.detail


def test_two_readings_of_one_source_are_one_voice() -> None:
    condition = machine(checks=[{"value": reading()}, {"value": reading()}, {"value": reading("ecb")}])
    assert result(condition, document(YES), document(LATER), quorum=2).result is UNKNOWN
    assert result(condition, document(YES), document(YES), quorum=2).result is MET


def test_the_source_named_first_is_quoted() -> None:
    assert several(1, YES, YES).source == "fred"
    assert several(1, YES, YES, source_order=["ecb", "fred"]).source == "ecb"
    assert several(1, LATER, YES).source == "ecb"


# Absence.

RELEASES = machine(
    op="exists",
    operand=None,
    checks=[{"value": reading(json_path=None, selector="li", pattern=r"v5\.[0-9]+", type="text")}],
)


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<ul><li>v4.9</li><li>v5.0</li><li>v5.1</li></ul>", MET),
        ("<ul><li>v4.9</li></ul>", NOT_MET),
        ("<ul></ul>", Abstention.INVALID_QUESTION),
        ("<h1>Please log in</h1>", Abstention.INVALID_QUESTION),
    ],
)
def test_what_is_absent_is_told_from_a_page_that_is_another(html: str, expected: Result | Abstention) -> None:
    got = result(RELEASES, page(html), sources=[source(method="html_scrape")])
    assert (got.why_unknown or got.result) is expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"event": {"winner": "B. Bee"}}, MET),
        ({"event": {"winner": None}}, NOT_MET),
        ({"event": {}}, NOT_MET),
        ({"error": "rate limited"}, Abstention.INVALID_QUESTION),
        ({"event": {"winner": {"name": "B. Bee"}}}, Abstention.INVALID_QUESTION),
        (b"{", Abstention.UNAVAILABLE),
    ],
)
def test_existence_in_an_api_rests_on_the_part_of_its_source(content: object, expected: Result | Abstention) -> None:
    condition = machine(op="exists", operand=None, checks=[{"value": reading(json_path="$.event.winner", type="text")}])
    got = result(condition, document(content), sources=[source(json_path="$.event")])
    assert (got.why_unknown or got.result) is expected


def test_the_existence_of_a_days_value_waits_for_the_day() -> None:
    condition = machine(op="exists", operand=None, checks=[{"value": dated()}])
    sources = [source(json_path="$.observations")]
    assert result(condition, observations(("2026-01-14", 1)), sources=sources).why_unknown is Abstention.TOO_EARLY
    assert result(condition, observations(("2026-01-15", 1)), sources=sources).result is MET


# Whole rules.


def test_then_needs_every_condition_and_no_exclusion() -> None:
    made = rules(machine("a"), machine("b", ">", "1"), not_count=[machine("c", "<", "0")])
    got = resolve(made, {"fred": document({"value": 6})})
    assert (got.outcome, [r.condition for r in got.results]) == ("YES", ["a", "b", "c"])
    got = resolve(made, {"fred": document({"value": 3})})
    assert (got.outcome, got.deciding_detail) == ("NO", "3 >= 5.25?")
    got = resolve(made, {"fred": document({"value": None})})
    assert (got.outcome, got.abstention) == (None, Abstention.TOO_EARLY)
    assert "still empty" in got.deciding_detail


def test_an_exclusion_decides_and_is_named() -> None:
    made = rules(machine("a"), not_count=[machine("c", ">", "100")])
    got = resolve(made, {"fred": document({"value": 101})})
    assert (got.outcome, got.deciding_detail) == ("NO", "101 > 100?")


def test_text_conditions_rest_on_what_was_judged() -> None:
    made = rules(machine(), text_condition())
    evidence = {"fred": document(YES)}
    assert resolve(made, evidence).abstention is Abstention.UNSURE
    judged = {"announced": ConditionResult(condition="announced", result=MET)}
    assert resolve(made, evidence, judged).outcome == "YES"
    assert resolve(made, {"fred": document(NO)}).outcome == "NO", "one condition that fails is enough"
    forged = judged | {"above": ConditionResult(condition="above", result=MET)}
    assert resolve(made, {"fred": document(NO)}, forged).outcome == "NO", "machine conditions are never judged"


@settings(max_examples=400)
@given(any_rules(), any_evidence())
def test_no_rules_and_no_documents_break_the_resolver(made: ResolutionRules, evidence: dict[str, Document]) -> None:
    verdict = resolve(made, evidence)
    reasons = {r.why_unknown for r in verdict.results if r.result is UNKNOWN}
    assert verdict.abstention in reasons if verdict.outcome is None else verdict.deciding_detail
    assert [r.condition for r in verdict.results] == [c.id for c in made.criteria.conditions]
    assert type(verdict).model_validate_json(verdict.model_dump_json()) == verdict
    assert all(len(r.detail) <= 500 and len(r.excerpt) <= 300 for r in verdict.results)


@settings(max_examples=150)
@given(any_rules(), any_evidence(), st.randoms())
def test_the_order_of_conditions_sources_and_documents_does_not_matter(
    made: ResolutionRules, evidence: dict[str, Document], random: Any
) -> None:
    def shuffled(parts: Any) -> tuple[Any, ...]:
        return tuple(random.sample(list(parts), len(parts)))

    criteria = made.criteria.model_copy(
        update={
            name: shuffled(getattr(made.criteria, name))
            for name in ("must_meet_all", "must_not_count", "allowed_sources")
        }
    )
    other = made.model_copy(update={"criteria": criteria})
    documents = dict(shuffled(evidence.items()))
    one, two = resolve(made, evidence), resolve(other, documents)
    assert (one.outcome, one.abstention) == (two.outcome, two.abstention)
    assert {r.condition: r for r in one.results} == {r.condition: r for r in two.results}
    assert evidence_root(d.sha256 for d in evidence.values()) == evidence_root(d.sha256 for d in documents.values())


@settings(max_examples=100)
@given(
    st.permutations([YES, NO, LATER, BROKEN]).flatmap(lambda all: st.integers(1, 3).map(lambda n: all[:n])),
    st.permutations(["fred", "ecb", "site"]),
)
def test_the_order_of_sources_changes_only_who_is_quoted(contents: list[object], order: list[str]) -> None:
    order = [name for name in order if name in ("fred", "ecb", "site")[: len(contents)]]
    one, two = several(1, *contents), several(1, *contents, source_order=order)
    assert (one.result, one.why_unknown) == (two.result, two.why_unknown)


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.dates(date(2026, 1, 1), date(2026, 1, 9)), st.decimals(-9, 9, places=3)), min_size=2, max_size=9
    ),
    st.decimals(-9, 9, places=3),
)
def test_a_market_on_a_series_comes_out_as_the_series_did(rows: list[tuple[date, Decimal]], least: Decimal) -> None:
    series = dict(rows)
    first, last = min(series), max(series)
    check = {"value": dated(on=str(last)), "baseline": dated(on=str(first))}
    made = rules(machine(op="changed_by", operand=str(least), checks=[check]))
    verdict = resolve(made, {"fred": observations(*((str(day), str(number)) for day, number in series.items()))})
    change = series[last] - series[first]
    assert verdict.outcome == ("YES" if (change >= least if least >= 0 else change <= least) else "NO")
