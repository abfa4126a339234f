"""Ids are functions of the source's own key, with inverses, so the same cause never makes two things."""

from datetime import date
from typing import Literal
from uuid import UUID, uuid5

MARKET_NAMESPACE = UUID("6b1f0c52-6f0c-5f0e-9a3b-2a4d7c1e9d10")
"""Fixed for ever: changing it would give every known cause a second market."""

Origin = Literal["news", "proposal", "manual"]
"""Where a market comes from; part of its id, so keys of different origins never meet."""

_MARKET_PREFIX = "market-"
_REVIEW_PREFIX = "review-"
_DISPUTE_PREFIX = "dispute-"
_INTAKE_PREFIX = "intake-"


def market_id(origin: Origin, key: str) -> UUID:
    """The id of the market caused by `key`: a news item's hash, a proposal's idempotency key, a draft's hash."""
    if not key:
        raise ValueError("a market id needs the key of its cause, which is empty: pass the source's own key")
    return uuid5(MARKET_NAMESPACE, f"{origin}:{key}")


def market_workflow_id(market: UUID) -> str:
    """`market-<uuid>`, the Temporal workflow id of a market's lifecycle."""
    return f"{_MARKET_PREFIX}{market}"


def market_of_workflow(workflow_id: str) -> UUID:
    """The inverse of `market_workflow_id`.

    Raises:
        ValueError: the id is not one that `market_workflow_id` makes.
    """
    try:
        market = UUID(workflow_id.removeprefix(_MARKET_PREFIX))
    except ValueError:
        market = None
    if market is None or market_workflow_id(market) != workflow_id:
        raise ValueError(f"{workflow_id!r} is not the workflow id of a market, which reads market-<uuid>")
    return market


def review_workflow_id(kind: str, subject: str) -> str:
    """`review-<kind>-<subject>`, the workflow id of a review; a kind holds no hyphen."""
    return f"{_REVIEW_PREFIX}{kind}-{subject}"


def review_of_workflow(workflow_id: str) -> tuple[str, str]:
    """The inverse of `review_workflow_id`: kind and subject.

    Raises:
        ValueError: the id is not one that `review_workflow_id` makes.
    """
    kind, _, subject = workflow_id.removeprefix(_REVIEW_PREFIX).partition("-")
    if not kind or not subject or review_workflow_id(kind, subject) != workflow_id:
        raise ValueError(f"{workflow_id!r} is not the workflow id of a review, which reads review-<kind>-<subject>")
    return kind, subject


def intake_workflow_id(feed: str, time: str = "") -> str:
    """`intake-<feed>-<time>`, the workflow id of an intake; without time the one to which a schedule adds its own."""
    return f"{_INTAKE_PREFIX}{feed}-{time}".rstrip("-")


def dispute_id(market: UUID, disputant: str, reason: str, evidence_urls: tuple[str, ...]) -> UUID:
    """The id of a dispute: the same words by the same address about the same market are one dispute."""
    return uuid5(market, "\n".join((disputant, reason, *evidence_urls)))


def dispute_workflow_id(dispute: UUID) -> str:
    """`dispute-<uuid>`, the workflow id of a dispute's review."""
    return f"{_DISPUTE_PREFIX}{dispute}"


def pii_workflow_id(time: str = "") -> str:
    """`pii-backfill-<time>`, the workflow id of a PII run; without time the one to which a schedule adds its own."""
    return f"pii-backfill-{time}".rstrip("-")


def migration_workflow_id(migration: str) -> str:
    """`migrate-model-<id>`, the workflow id of a model migration."""
    return f"migrate-model-{migration}"


def retrain_workflow_id(model: str, day: date) -> str:
    """`retrain-<model>-<date>`, the workflow id of a retraining: one at a time, and by the schedule one a day."""
    return f"retrain-{model}-{day.isoformat()}"


def drifted_workflow_id(model: str, day: date) -> str:
    """`drifted-<model>-<date>`, the workflow id of what a lasting drift starts, once a day."""
    return f"drifted-{model}-{day.isoformat()}"


def follow_up_workflow_id(lead_id: str) -> str:
    """`followup-<lead>`, the workflow id of a lead's follow-ups."""
    return f"followup-{lead_id}"
