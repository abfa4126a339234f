"""The rehearsal: what would make a market resolve wrongly, or never, is found before anyone trades."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from domain.canonical import sha256_hex
from domain.extraction import Document
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


def test_a_source_that_gave_nothing_is_left_to_the_caller() -> None:
    assert rehearse(rules(), {}, NOW).blocking == ()
