"""What each prompt type must answer; the model's JSON is parsed into these and nothing else is believed."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from domain.base import Model
from domain.market import Category, Confidence, Issue, MarketDraft
from domain.news import Entity, EventType
from domain.verdict import Result


class MarketGenerationAnswer(Model):
    """`market_generation`: a draft, or why no market can be made of the text."""

    draft: MarketDraft | None
    refusal: Annotated[str, StringConstraints(max_length=300)] = ""


class EntityExtractionAnswer(Model):
    """`entity_extraction`: what a news item is about, and the question to make a market of where it is worth one."""

    entities: Annotated[tuple[Entity, ...], Field(max_length=10)]
    event_type: EventType
    category: Category
    deadline: date | None
    """The last day on which the event can still happen; None where the item gives none."""
    worth_a_market: bool
    question: Annotated[str, StringConstraints(max_length=500)]
    """Empty unless it is worth a market."""
    reason: Annotated[str, StringConstraints(max_length=300)]
    """Why it is not worth a market; empty when it is."""


class ValidationAnswer(Model):
    """`validation`: the faults found (ambiguity, determinism, fairness, forbidden content) and how sure that is."""

    decision: Literal["approved", "rejected", "needs_human"]
    issues: Annotated[tuple[Issue, ...], Field(max_length=20)]
    confidence: Confidence
    sensitive: bool
    """Touches a sensitive topic, so a person decides."""
    summary: Annotated[str, StringConstraints(min_length=1, max_length=300)]


class ResolutionAnswer(Model):
    """`resolution`: one independent judgement of one text condition."""

    result: Result
    quotation: Annotated[str, StringConstraints(max_length=500)]
    """Copied from the evidence word for word; empty only when unknown."""
    source: Annotated[str, StringConstraints(max_length=80)]
    """Name of the source quoted; empty only when unknown."""
    confidence: Confidence
    reasoning: Annotated[str, StringConstraints(max_length=500)]


class DisputeReviewAnswer(Model):
    """`dispute_review`: whether a disputed outcome stands, or a person must look."""

    verdict: Literal["upheld", "overturned", "escalate"]
    quotation: Annotated[str, StringConstraints(max_length=500)]
    """Copied from the evidence word for word; empty only when a person must look."""
    source: Annotated[str, StringConstraints(max_length=120)]
    """The document quoted, by the name under which it was shown; empty only when a person must look."""
    confidence: Confidence
    reasoning: Annotated[str, StringConstraints(min_length=1, max_length=500)]


class SafetyCheckAnswer(Model):
    """`safety_check`: whether a proposal may become a market at all."""

    safe: bool
    concern: Literal["none", "violence", "illegal", "harassment", "hate", "personal_data", "instructions"]
    reason: Annotated[str, StringConstraints(max_length=300)]
    """For the person who asked."""


class DuplicateDetectionAnswer(Model):
    """`duplicate_detection`: how a proposal stands to an open market's question."""

    relation: Literal["same", "opposite", "different"]
    confidence: Confidence
    reasoning: Annotated[str, StringConstraints(min_length=1, max_length=500)]


def confidence_of(answer: Mapping[str, Any]) -> float | None:
    """How sure the model says it is: of the answer, or of the draft in it."""
    value = answer.get("confidence", (answer.get("draft") or {}).get("confidence"))
    return None if value is None else float(value)
