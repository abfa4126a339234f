"""Results of conditions and the verdict that follows from them.

Results are three-valued (Kleene): an unknown condition can still become met or not met, and a verdict that is reached
without it never changes when it does. Only YES and NO are outcomes; everything else is an abstention with its reason.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Self

from pydantic import model_validator

from domain.base import Model, Sha256
from domain.rules import Answer, Logic


class Result(StrEnum):
    """What the evidence says of a condition."""

    MET = "met"
    NOT_MET = "not_met"
    UNKNOWN = "unknown"


class Abstention(StrEnum):
    """Why there is no outcome."""

    TOO_EARLY = "too_early"
    """The value is not published yet: wait."""
    UNAVAILABLE = "unavailable"
    """A source gives nothing that can be read."""
    CONFLICT = "conflict"
    """Sources contradict each other: a person decides."""
    INVALID_QUESTION = "invalid_question"
    """The rules ask what their sources cannot answer."""
    UNSURE = "unsure"
    """Judgements of a text condition disagree or lack a quotation."""


class ConditionResult(Model):
    """One condition's result, with the excerpt that supports it and where it was read."""

    condition: str
    result: Result
    why_unknown: Abstention | None = None
    detail: str = ""
    """In words: the comparison made, or what was missing."""
    source: str | None = None
    evidence_sha256: Sha256 | None = None
    excerpt: str = ""

    @model_validator(mode="after")
    def _unknown_for_a_reason(self) -> Self:
        if (self.result is Result.UNKNOWN) != (self.why_unknown is not None):
            raise ValueError("why_unknown belongs to an unknown result, which needs it")
        return self


class Verdict(Model):
    """The outcome or the abstention, and the condition results that it follows from, in order of the rules."""

    outcome: Answer | None
    abstention: Abstention | None
    results: tuple[ConditionResult, ...]
    deciding_detail: str = ""
    """The detail of the condition that decided, or that keeps the verdict open."""

    @model_validator(mode="after")
    def _outcome_or_abstention(self) -> Self:
        if (self.outcome is None) == (self.abstention is None):
            raise ValueError("a verdict is either an outcome or an abstention")
        return self


GRAVITY = (
    Abstention.CONFLICT,
    Abstention.INVALID_QUESTION,
    Abstention.UNAVAILABLE,
    Abstention.UNSURE,
    Abstention.TOO_EARLY,
)
"""Which reason is named when several conditions are unknown: the one that waiting alone mends comes last."""


def combine(
    to_meet: Iterable[ConditionResult], not_to_count: Iterable[ConditionResult], logic: Logic
) -> tuple[Answer | None, Abstention | None]:
    """The verdict over condition results: monotone and independent of their order.

    `then` iff all of `to_meet` are met and none of `not_to_count`; `else` as soon as one of them excludes `then`.
    """
    to_meet, not_to_count = tuple(to_meet), tuple(not_to_count)
    if excluding(to_meet, not_to_count):
        return logic.else_, None
    reasons = {r.why_unknown for r in (*to_meet, *not_to_count)}
    return next(((None, reason) for reason in GRAVITY if reason in reasons), (logic.then, None))


def excluding(
    to_meet: Iterable[ConditionResult], not_to_count: Iterable[ConditionResult]
) -> tuple[ConditionResult, ...]:
    """The results that exclude `then`, whatever the others become."""
    return (
        *(result for result in to_meet if result.result is Result.NOT_MET),
        *(result for result in not_to_count if result.result is Result.MET),
    )
