"""Resolution rules: what is accepted, what is refused with which sentence, and that equal rules have one hash."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from domain.canonical import model_sha256
from domain.rules import ResolutionRules, ValueType, answering, exact_number, sources_of
from tests.unit.examples import (
    EXPIRY,
    any_rules,
    dated,
    machine,
    reading,
    rules,
    rules_json,
    source,
    text_condition,
)


def refusal(*must_meet: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        rules(*must_meet, **changes)
    return str(caught.value)


@settings(max_examples=200)
@given(any_rules())
def test_rules_survive_json_with_the_same_hash(made: ResolutionRules) -> None:
    again = ResolutionRules.model_validate_json(made.model_dump_json(by_alias=True))
    assert again == made
    assert model_sha256(again) == model_sha256(made)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (rules_json(expiry="2026-01-31T12:00:00Z"), rules_json(expiry="2026-01-31T07:00:00-05:00")),
        (
            rules_json(machine(op="between", operand="1", upper="2.5")),
            rules_json(machine(op="between", operand="1", upper=Decimal("2.500"))),
        ),
        (
            rules_json(machine(op="between", operand="-1", upper="0")),
            rules_json(machine(op="between", operand="-1", upper="-0.0")),
        ),
        (
            rules_json(postponed_or_cancelled={"outcome": "extend", "extend_until": "2026-03-01T00:00:00Z"}),
            rules_json(postponed_or_cancelled={"outcome": "extend", "extend_until": "2026-03-01T01:00:00+01:00"}),
        ),
    ],
)
def test_equal_rules_have_one_hash_however_they_are_written(one: dict[str, Any], other: dict[str, Any]) -> None:
    made = [ResolutionRules.model_validate(given) for given in (one, other)]
    assert made[0] == made[1]
    assert model_sha256(made[0]) == model_sha256(made[1])


def test_a_bound_reads_as_a_plain_number_in_the_published_rules() -> None:
    made = rules(machine(op="between", operand="0", upper="100"))
    assert '"upper":"100"' in made.model_dump_json()


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (machine(op="contains", operand="x"), "contains cannot be asked of a number"),
        (machine(operand="much"), ">= needs a number as operand"),
        (machine(operand=None), ">= needs a number as operand"),
        (machine(operand="1,000"), ">= needs a number as operand"),
        (machine(operand="Infinity"), ">= needs a number as operand"),
        (machine(operand="1e101"), ">= needs a number as operand"),
        (machine(op="==", operand="  ", checks=[{"value": reading(type="text")}]), "needs a text as operand"),
        (machine(op="==", operand="yes", checks=[{"value": reading(type="boolean")}]), "needs a boolean as operand"),
        (machine(op="date_before", operand="20260101", checks=[{"value": reading(type="date")}]), "needs a date"),
        (machine(op="changed_by", operand="1"), "changed_by needs a baseline in every check"),
        (machine(op="between", operand="1"), "between needs it"),
        (machine(op="between", operand="2", upper="1"), "lower bound above its upper"),
        (machine(op="between", operand="2", upper="1e101"), "at most 100 digits"),
        (machine(upper="9"), "upper belongs to between"),
        (machine(percent=True), "percent belongs to changed_by"),
        (machine(op="exists"), "takes no operand"),
        (machine(checks=[{"value": reading(), "baseline": reading()}]), "takes no operand"),
        (machine(op="between", upper="9", checks=[{"value": reading(), "baseline": reading()}]), "takes no baseline"),
        (
            machine(operand=None, checks=[{"value": reading(), "baseline": reading()}, {"value": reading()}]),
            "either every check has a baseline or none has",
        ),
        (
            machine(op="!=", operand=None, checks=[{"value": reading(), "baseline": reading(type="text")}]),
            "differ in type or unit",
        ),
        (machine(checks=[{"value": reading(unit="USD")}, {"value": reading(unit="EUR")}]), "differ in type or unit"),
        (machine(checks=[{"value": reading(selector="p")}]), "a json_path or a selector, and not both"),
        (machine(checks=[{"value": reading(on="2026-01-01")}]), "date_path and on go together"),
        (machine(checks=[{"value": reading(source="ecb")}]), "names the unknown source 'ecb'"),
        (machine(checks=[{"value": reading(json_path=None, selector="p")}]), "by its api_check"),
        (machine(op="exists", operand=None), "looks like one where nothing is"),
        (machine(text="quiet\x00"), "control character"),
        (machine(text="moc.elpmaxe\u202e"), "control character"),
    ],
)
def test_a_condition_that_cannot_be_answered_is_refused(condition: dict[str, Any], said: str) -> None:
    assert said in refusal(condition)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"timezone": "Mars/Olympus"}, "is not an IANA time zone"),
        ({"timezone": "localtime"}, "is not an IANA time zone"),
        ({"timezone": "../UTC"}, "is not an IANA time zone"),
        ({"expiry": "2026-01-31T12:00:00"}, "timezone"),
        ({"expiry": "2026-01-31T12:00:00.5Z"}, "whole seconds"),
        ({"expiry": "0001-01-01T00:00:00+05:00"}, "outside of the calendar"),
        ({"source_order": ["fred", "fred"]}, "source_order must name every allowed source exactly once"),
        ({"sources": [source(), source()], "source_order": ["fred", "fred"]}, "two allowed sources have the same name"),
        ({"quorum": 2}, "the quorum of 2 is more than the sources of condition above"),
        ({"not_count": [machine()]}, "two conditions have the same id"),
        ({"postponed_or_cancelled": {"outcome": "extend"}}, "extend_until belongs to the outcome extend"),
        (
            {"postponed_or_cancelled": {"outcome": "extend", "extend_until": EXPIRY}},
            "extend_until must lie after expiry",
        ),
        ({"sources": [source(url="http://fred.example.org/data")]}, "url"),
        ({"sources": [source(selector="p")]}, "html_scrape goes with a selector"),
        ({"sources": [source(method="social_post", selector="p", json_path="$")]}, "and not both"),
    ],
)
def test_rules_that_contradict_themselves_are_refused(changes: dict[str, Any], said: str) -> None:
    assert said in refusal(**changes)


@pytest.mark.parametrize(
    ("counts", "inclusive", "accepted"),
    [
        ("first_published", True, True),
        ("first_published", False, True),
        ("latest_at_deadline", True, True),
        ("latest_at_deadline", False, False),
        ("last_before_deadline", True, False),
        ("last_before_deadline", False, True),
    ],
)
def test_the_value_that_counts_agrees_with_how_the_deadline_is_read(
    counts: str, inclusive: bool, accepted: bool
) -> None:
    series = machine(checks=[{"value": dated()}])
    if accepted:
        assert rules(series, counts=counts, deadline_inclusive=inclusive)
    else:
        assert f"{counts} contradicts" in refusal(series, counts=counts, deadline_inclusive=inclusive)
    assert rules(machine(), counts=counts, deadline_inclusive=inclusive), "nothing is dated, so nothing contradicts"


@pytest.mark.parametrize(("settle_after", "accepted"), [(3_599, False), (3_600, True), (3_601, True)])
def test_no_look_happens_while_revisions_still_count(settle_after: int, accepted: bool) -> None:
    changes = {
        "observation": {"counts": "first_published", "revisions": EXPIRY + timedelta(hours=1)},
        "not_yet_published": {"settle_after": settle_after, "check_every": 60, "give_up_after": 9_999, "then": "void"},
    }
    if accepted:
        assert rules(**changes)
    else:
        assert "they would be missed" in refusal(**changes)


def test_waiting_ends_after_it_begins() -> None:
    waiting = {"settle_after": 60, "check_every": 1, "give_up_after": 60, "then": "void"}
    assert "give_up_after must lie after settle_after" in refusal(not_yet_published=waiting)


def test_both_branches_with_one_answer_decide_nothing() -> None:
    given = rules_json()
    given["criteria"]["machine_resolution_logic"] = {"then": "NO", "else": "NO"}
    with pytest.raises(ValidationError, match="nothing would be decided"):
        ResolutionRules.model_validate(given)


def test_an_unknown_field_is_refused() -> None:
    assert "Extra inputs are not permitted" in refusal(quorums=1)


def test_expiry_is_held_in_utc() -> None:
    made = rules(expiry="2026-01-31T07:00:00-05:00")
    assert made.expiry == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert '"expiry":"2026-01-31T12:00:00Z"' in made.model_dump_json()


def test_machine_and_text_conditions_are_told_apart() -> None:
    made = rules(machine(), not_count=[text_condition("withdrawn")])
    assert [c.id for c in made.resolver_program] == ["above"]
    assert [c.id for c in made.text_conditions] == ["withdrawn"]
    assert [c.id for c in made.criteria.conditions] == ["above", "withdrawn"]


def test_a_source_that_gives_only_a_baseline_is_read_but_does_not_answer() -> None:
    condition = machine(op=">", operand=None, checks=[{"value": reading(), "baseline": reading("ecb")}])
    made = rules(condition, sources=[source(), source("ecb")]).resolver_program[0]
    assert sources_of(made) == ("fred", "ecb")
    assert answering(made) == {"fred"}
    assert "the quorum of 2" in refusal(condition, sources=[source(), source("ecb")], quorum=2)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("13.475", "13.475"),
        ("-.5", "-0.5"),
        ("+7", "7"),
        ("1.5e3", "1500"),
        ("1" * 100, "1" * 100),
        ("1" * 101, None),
        ("1e-101", None),
        ("1e9999999999", None),
        ("5.", None),
        ("1_000", None),
        ("1,000", None),
        ("\u0661", None),
        (" 1", None),
        ("NaN", None),
        ("", None),
    ],
)
def test_numbers_are_exact_or_none(text: str, number: str | None) -> None:
    assert exact_number(text) == (None if number is None else Decimal(number))


def test_constants_have_the_type_asked_for() -> None:
    made = rules(machine(operand="5.250")).resolver_program[0]
    assert made.constant(ValueType.NUMBER) == Decimal("5.25")
    assert made.constant(ValueType.TEXT) == "5.250"
    assert made.constant(ValueType.DATE) is None
    assert made.constant(ValueType.BOOLEAN) is None
