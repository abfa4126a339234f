"""What each prompt type must answer; the model's JSON is parsed into these and nothing else is believed."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from domain.base import Model
from domain.market import Confidence, Issue, MarketDraft
from domain.verdict import Result


class MarketGenerationAnswer(Model):
    """`market_generation`: a draft, or why no market can be made of the text."""

    draft: MarketDraft | None
    refusal: Annotated[str, StringConstraints(max_length=300)] = ""


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
