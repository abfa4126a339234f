"""Leads: what the rules read out of them, and what counts as a booking."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.leads import LabelledLead, Lead, LeadRow, Outcome, enrich, tenant_hash

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def row(details: str, at: datetime = NOON) -> LeadRow:
    return enrich(Lead(lead_id="l-1", tenant="acme", details=details, created_at=at))


@pytest.mark.parametrize(
    ("details", "intent", "sentiment", "urgency", "score"),
    [
        ("Hello there", "info", "neutral", "normal", 0.5),
        ("I'd like a quote for a kitchen", "lead_capture", "positive", "normal", 0.7),
        ("Please book me in ASAP, I am so excited!", "lead_capture", "positive", "high", 0.8),
        ("Need an appointment today", "lead_capture", "neutral", "high", 0.75),
        ("The invoice has an error, this is terrible", "support", "negative", "normal", 0.5),
        ("URGENT: login problem", "support", "neutral", "high", 0.6),
        ("Help, an error. Can I still book?", "support", "neutral", "normal", 0.5),
        ("A refund, or another booking?", "lead_capture", "neutral", "normal", 0.65),
    ],
)
def test_rules_read_intent_sentiment_urgency_and_score(
    details: str, intent: str, sentiment: str, urgency: str, score: float
) -> None:
    found = row(details)
    assert (found.intent, found.sentiment, found.urgency, found.score) == (intent, sentiment, urgency, score)


@pytest.mark.parametrize(
    "details", ["I know it is snowing", "on facebook, the notebook", "the helpdesk terrors", "goodness"]
)
def test_words_inside_other_words_count_for_nothing(details: str) -> None:
    assert row(details) == row("x" * len(details))


@pytest.mark.parametrize("details", ["I don't love it", "I don\u2019t love it", "not GREAT", "no good"])
def test_a_negated_word_counts_for_the_opposite(details: str) -> None:
    assert row(details).sentiment == "negative"


def test_the_hour_is_that_of_utc() -> None:
    lagos = timezone(timedelta(hours=1))
    assert row("hello", datetime(2026, 3, 2, 0, 30, tzinfo=lagos)).hour_of_day == 23


def test_a_tenants_number_never_changes() -> None:
    """The first 16 digits that `sha256sum` prints for the name, modulo 10,000."""
    assert tenant_hash("acme") == 0x822B33AD87C148A0 % 10_000 == 9_872
    assert tenant_hash("Ada Foods") == 0x4FE8082A5CAA76C7 % 10_000


@given(st.text(max_size=300))
def test_any_text_gives_a_whole_row_with_a_score_from_one_half_to_four_fifths(details: str) -> None:
    found = row(details)
    assert None not in found.model_dump().values()
    assert found.score is not None
    assert 0.5 <= found.score <= 0.8
    assert found.details_len == len(details)


@pytest.mark.parametrize("tenant", ["", "a\nb", "\ud800", "x" * 201])
def test_a_tenant_has_a_name_that_can_be_written_down(tenant: str) -> None:
    with pytest.raises(ValidationError):
        Lead(lead_id="l-1", tenant=tenant, details="", created_at=NOON)


def test_only_a_booking_is_a_success() -> None:
    labels = {outcome: LabelledLead(lead_id="l-1", outcome=outcome).label for outcome in Outcome}
    assert [outcome for outcome, label in labels.items() if label == 1] == [Outcome.BOOKED]
    assert set(labels.values()) == {0, 1}
