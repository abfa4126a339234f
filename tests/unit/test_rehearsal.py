"""The rehearsal: what would make a market resolve wrongly, or never, is found before anyone trades."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from domain.canonical import sha256_hex
from domain.extraction import Document
from domain.market import Issue
from domain.rehearsal import rehearse
from domain.rules import (
    Check,
    Criteria,
    MachineCondition,
    Method,
    Op,
    Reading,
    ResolutionRules,
    Source,
    TextCondition,
    ValueType,
)
from tests.drafts import fred_rules

NOW = datetime(2025, 12, 1, tzinfo=UTC)
DUE, RESOLUTION = date(2025, 11, 13), date(2025, 12, 11)


def document(body: str, content_type: str) -> Document:
    return Document(sha256=sha256_hex(body.encode()), content_type=content_type, body=body.encode())


def fred(**values: object) -> dict[str, Document]:
    """What FRED answers with these observations, by date."""
    observations = [{"date": day.replace("_", "-").removeprefix("d"), "value": value} for day, value in values.items()]
    return {"fred": document(json.dumps({"observations": observations}), "application/json")}


TODAY = fred(d2025_11_13="3.87", d2025_11_28="3.88")


def rules(**changes: Any) -> ResolutionRules:
    return fred_rules(due=DUE, resolution=RESOLUTION, **{"expiry": NOW + timedelta(days=10)} | changes)


def test_rules_that_wait_for_a_value_still_to_come_pass() -> None:
    rehearsal = rehearse(rules(), TODAY, NOW)
    assert rehearsal.blocking == ()
    assert rehearsal.notes == ()


@pytest.mark.parametrize("written", ["3,875", "-3,875", "\u22123,875"])
def test_a_comma_that_may_be_a_decimal_one_is_told(written: str) -> None:
    (note,) = rehearse(rules(), fred(d2025_11_13="3874.5", d2025_11_28=written), NOW).notes
    assert (note.code, note.field) == ("two_readings", "higher.checks.0.value")
    assert "'3,875' is read as 3875, and would be 3.875" in note.message


@pytest.mark.parametrize("written", ["3875", "3,875.0", "1,203,875", "3.875"])
def test_a_number_with_one_reading_is_told_of_by_nobody(written: str) -> None:
    assert rehearse(rules(), fred(d2025_11_13="3874.5", d2025_11_28=written), NOW).notes == ()


@pytest.mark.parametrize(
    ("documents", "changes", "code", "field"),
    [
        (TODAY, {"value_path": "$.observation[*].value"}, "not_extracted", "higher.checks.0.value"),
        (TODAY, {"value_path": "$.observations[*"}, "bad_path", "higher.checks.0.value"),
        (TODAY, {"value_path": "$.observations[*].date"}, "wrong_type", "higher.checks.0.value"),
        (fred(d2025_11_28="soon"), {}, "wrong_type", "higher.checks.0.value"),
        ({"fred": document("<p>moved</p>", "text/html")}, {}, "not_extracted", "higher.checks.0.value"),
        (TODAY, {"expiry": NOW - timedelta(days=1)}, "expiry_past", "expiry"),
    ],
    ids=["wrong path", "no path at all", "a date for a number", "words for a number", "another page", "past expiry"],
)
def test_what_cannot_be_resolved_is_blocked_and_the_field_is_named(
    documents: dict[str, Document], changes: dict[str, Any], code: str, field: str
) -> None:
    blocking = rehearse(rules(**changes), documents, NOW).blocking
    assert (code, field) in {(issue.code, issue.field) for issue in blocking}


def test_an_outcome_that_the_sources_tell_already_is_noted() -> None:
    known = fred(d2025_11_13="3.87", d2025_12_11="3.89")
    (note,) = rehearse(rules(), known, NOW).notes
    assert note.code == "already_known"


def exists(selector: str) -> ResolutionRules:
    """Whether a press release stands on a page whose list is at #releases."""
    reading = Reading(source="press", selector=selector, type=ValueType.TEXT)
    criteria = Criteria(
        must_meet_all=(
            MachineCondition(id="there", text="The release is listed.", op=Op.EXISTS, checks=(Check(value=reading),)),
        ),
        allowed_sources=(
            Source(
                name="press",
                url="https://press.example.org/releases",
                method=Method.HTML_SCRAPE,
                condition="Lists press releases.",
                selector="#releases",
            ),
        ),
    )
    return rules(criteria=criteria, source_order=("press",))


def test_that_nothing_is_there_yet_passes_on_the_expected_page_only() -> None:
    expected = {"press": document("<ul id=releases><li>older</li></ul>", "text/html")}
    other = {"press": document("<p>We have moved.</p>", "text/html")}
    rehearsal = rehearse(exists("#releases .launch"), expected, NOW)
    assert rehearsal.blocking == ()
    assert rehearsal.notes == ()  # what a page does not say today is no outcome yet
    (issue,) = rehearse(exists("#releases .launch"), other, NOW).blocking
    assert (issue.code, issue.field) == ("not_extracted", "there.checks.0.value")


DOWN = Issue(
    code="source_unreachable",
    field="allowed_sources.fred.url",
    message="https://api.stlouisfed.org/fred/series/observations answered 503: wait for the source to answer.",
)


def test_a_source_that_gave_nothing_blocks() -> None:
    findings = rehearse(rules(), {}, NOW, {"fred": DOWN})
    assert findings.blocking == (DOWN,)
    (state,) = findings.sources
    assert not state.ok
    assert state.found.startswith("answered 503: wait"), "the address stands in the draft already"


def found(documents: dict[str, Document], made: ResolutionRules | None = None) -> tuple[bool, str]:
    (state,) = rehearse(made or rules(), documents, NOW).sources
    return state.ok, state.found


@pytest.mark.parametrize(
    ("documents", "changes", "state"),
    [
        (TODAY, {}, (True, "so far 3.88 on 2025-11-28; 3.87 on 2025-11-13")),
        (fred(d2025_11_13="3.87", d2025_12_11="3.89"), {}, (True, "3.89 on 2025-12-11; 3.87 on 2025-11-13")),
        # Written with a decimal comma, and read as thousands: a person must see that.
        (fred(d2025_11_13="3,875"), {}, (True, "so far 3875 on 2025-11-13 from '3,875'; ")),
        # The fault, and not the value that was read beside it.
        (fred(d2025_11_13="soon", d2025_12_11="3.89"), {}, (False, "'soon' is not a number")),
        (TODAY, {"value_path": "$.observation[*].value"}, (False, "json path '$.observation[*].value' leads")),
    ],
    ids=["to come", "known", "comma", "words", "wrong path"],
)  # fmt: skip
def test_a_reviewer_sees_what_each_source_gave_as_the_resolver_reads_it(
    documents: dict[str, Document], changes: dict[str, Any], state: tuple[bool, str]
) -> None:
    ok, told = found(documents, rules(**changes))
    assert ok is state[0]
    assert told.startswith(state[1])
    assert len(told) <= 60


def test_a_source_where_nothing_is_yet_says_so() -> None:
    expected = {"press": document("<ul id=releases><li>older</li></ul>", "text/html")}
    assert found(expected, exists("#releases .launch")) == (True, "not there yet")
    there = {"press": document("<ul id=releases><li class=launch>It flies</li></ul>", "text/html")}
    assert found(there, exists("#releases .launch")) == (True, "It flies")
    assert not found({"press": document("<p>We have moved.</p>", "text/html")}, exists("#releases .launch"))[0]


def test_a_source_that_no_condition_computes_from_answers() -> None:
    made = page_to_read()
    assert found({}, made) == (True, "answers")


def page_to_read() -> ResolutionRules:
    """Rules of words alone, for the model to judge."""
    made = exists("#releases .launch")
    announced = TextCondition(id="announced", text="The launch is announced.", sources=("press",))
    return made.model_copy(update={"criteria": made.criteria.model_copy(update={"must_meet_all": (announced,)})})
