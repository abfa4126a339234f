"""How two versions that answered the same inputs compare (source: the AI configuration specification's "Models")."""

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from domain.answers import confidence_of
from domain.base import Model
from domain.migration import SUMMARY_LIMIT
from domain.text import cut


class Answered(Model):
    """What one version made of one input. `answer` is None when it broke its schema, repair included."""

    answer: dict[str, Any] | None
    latency_ms: int | None = None
    cost_usd: float = 0.0


class Figures(Model):
    """One version over all inputs of a prompt type; shares from 0 to 1, None where nothing could be measured."""

    valid: float
    confidence: float | None
    latency_ms: float | None
    """Median."""
    cost_usd: float


class TypeComparison(Model):
    """Both versions over the inputs of one prompt type."""

    prompt_type: str
    inputs: int
    old: Figures
    new: Figures
    agreement: float | None
    """Of the inputs that both answered by the schema: how many got the same decision."""

    @property
    def confidence_shift(self) -> float | None:
        """How much surer the new version says it is."""
        if self.old.confidence is None or self.new.confidence is None:
            return None
        return self.new.confidence - self.old.confidence


class MigrationReport(Model):
    """The comparison, by prompt type."""

    types: tuple[TypeComparison, ...]

    @property
    def summary(self) -> str:
        """For the reviewer, in one line."""
        parts = [
            f"{one.prompt_type}: valid {_percent(one.old.valid)} to {_percent(one.new.valid)},"
            f" agree {_percent(one.agreement)}"
            for one in self.types
        ]
        old, new = (sum(getattr(one, side).cost_usd for one in self.types) for side in ("old", "new"))
        return cut(f"cost ${old:.4f} to ${new:.4f}; {'; '.join(parts)}", SUMMARY_LIMIT)


_DECISION = {
    "market_generation": "draft",
    "entity_extraction": "worth_a_market",
    "safety_check": "safe",
    "duplicate_detection": "relation",
    "validation": "decision",
    "resolution": "result",
    "dispute_review": "verdict",
}
"""The field of an answer that decides; of a draft only whether there is one."""


def decision_of(prompt_type: str, answer: Mapping[str, Any]) -> str:
    """What an answer decides, in a word."""
    value = answer.get(_DECISION[prompt_type])
    return ("given" if value else "none") if isinstance(value, dict | None) else str(value).lower()


def compare(prompt_type: str, old: Sequence[Answered], new: Sequence[Answered]) -> TypeComparison:
    """Both versions' answers to the same inputs, in the same order."""
    both = [
        (a.answer, b.answer) for a, b in zip(old, new, strict=True) if a.answer is not None and b.answer is not None
    ]
    same = [decision_of(prompt_type, a) == decision_of(prompt_type, b) for a, b in both]
    return TypeComparison(
        prompt_type=prompt_type,
        inputs=len(old),
        old=_figures(old),
        new=_figures(new),
        agreement=fmean(same) if same else None,
    )


def _figures(answered: Sequence[Answered]) -> Figures:
    answers = [one.answer for one in answered if one.answer is not None]
    sure = [confidence for answer in answers if (confidence := confidence_of(answer)) is not None]
    latencies = [one.latency_ms for one in answered if one.latency_ms is not None]
    return Figures(
        valid=len(answers) / len(answered),
        confidence=fmean(sure) if sure else None,
        latency_ms=median(latencies) if latencies else None,
        cost_usd=sum(one.cost_usd for one in answered),
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}%"
