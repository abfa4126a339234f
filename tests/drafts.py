"""Drafts of markets for tests, made the way an operator would write them."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from domain.market import Category, MarketDraft
from domain.rules import (
    Check,
    Criteria,
    MachineCondition,
    Method,
    NotYetPublished,
    Observation,
    Op,
    Postponed,
    Reading,
    ResolutionRules,
    Source,
    ValueType,
)


def fred_rules(
    series: str = "DFF", due: date = date(2025, 11, 13), resolution: date = date(2025, 12, 11), **changes: Any
) -> ResolutionRules:
    """Rules that ask whether a FRED series rose between two dates.

    `changes` replace fields of the rules; `value_path` replaces the JSONPath of the values.
    """
    path = changes.pop("value_path", "$.observations[*].value")
    reading = Reading(
        source="fred",
        json_path=path,
        date_path="$.observations[*].date",
        on=resolution,
        type=ValueType.NUMBER,
        unit="per cent",
    )
    fields: dict[str, Any] = {
        "exact_question": f"Will {series} be higher on {resolution} than on {due}?",
        "criteria": Criteria(
            must_meet_all=(
                MachineCondition(
                    id="higher",
                    text=f"The value of {series} on {resolution} is higher than on {due}.",
                    op=Op.GT,
                    checks=(Check(value=reading, baseline=reading.model_copy(update={"on": due})),),
                ),
            ),
            allowed_sources=(
                Source(
                    name="fred",
                    url=f"https://api.stlouisfed.org/fred/series/observations?series_id={series}&file_type=json",
                    method=Method.API_CHECK,
                    condition=f"The official observations of {series}.",
                    json_path="$.observations",
                ),
            ),
        ),
        "expiry": (datetime.now(UTC) + timedelta(days=30)).replace(microsecond=0),
        "timezone": "America/New_York",
        "deadline_inclusive": True,
        "observation": Observation(counts="first_published"),
        "not_yet_published": NotYetPublished(settle_after=0, check_every=3_600, give_up_after=7 * 86_400, then="void"),
        "postponed_or_cancelled": Postponed(outcome="VOID"),
        "source_order": ("fred",),
        "quorum": 1,
    }
    return ResolutionRules.model_validate(fields | changes)


def draft(title: str = "Federal funds rate higher on 2025-12-11?", **changes: Any) -> MarketDraft:
    """A full draft around `fred_rules`."""
    rules = changes.pop("rules", None) or fred_rules()
    fields = {
        "title": title,
        "description": "The effective federal funds rate of two days, as FRED publishes it.",
        "category": Category.FINANCE,
        "rules": rules,
        "initial_yes_prob": 5_000,
        "confidence": 0.95,
    }
    return MarketDraft.model_validate(fields | changes)
