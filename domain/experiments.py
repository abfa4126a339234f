"""A/B tests of prompts: who gets the variant, and when it has won.

The test is exact at every look, whatever the base rate: false winners stay at or below ALPHA even for somebody who
looks after every sample and stops when the figures please.
"""

import hashlib
import math
from collections import Counter, deque
from collections.abc import Sequence
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from domain.ai import PromptVersion
from domain.base import Actor, Model, Sha256
from domain.canonical import canonical_json

ALPHA = 0.05
"""Chance of ever naming a winner where there is none."""

_LARGEST_BLOCK = 20
"""Outcomes of one block: its composition says the share, in twentieths at the finest."""

_START = 0.5
"""What the estimate of each arm starts from: half a success and half a failure (Krichevsky and Trofimov)."""

_HALVINGS = 40
"""Of an interval within [-1, 1]: to the last digits of a float that matter here."""

_WITHIN = 0.999
"""The greatest difference that is tested: rates stay above 0 and below 1."""

_BOUND_HALVINGS = 12
"""Of a confidence bound: to less than a tenth of a point."""


class Arm(StrEnum):
    """Which prompt a subject gets."""

    CONTROL = "control"
    VARIANT = "variant"


class Metric(StrEnum):
    """The outcome that matters, of a market; known once and for all from its audit entries."""

    APPROVED_WITHOUT_PERSON = "approved_without_person"
    """The first validation of its draft approved it; not so when it was refused, rejected or flagged for a person."""
    UNDISPUTED = "undisputed"
    """Finalised without a dispute."""


METRICS_OF: dict[str, frozenset[Metric]] = {
    "market_generation": frozenset(Metric),
    "validation": frozenset(Metric),
    "safety_check": frozenset({Metric.APPROVED_WITHOUT_PERSON}),
    "duplicate_detection": frozenset({Metric.APPROVED_WITHOUT_PERSON}),
    "resolution": frozenset({Metric.UNDISPUTED}),
}
"""The prompt types that can be tested: those that are asked on behalf of a market, before the outcome is known."""

Share = Annotated[float, Field(ge=0.05, le=0.5)]
ExperimentId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,59}$")]


class Experiment(Model):
    """One test. It concerns the markets that are bound to `ai_version`, whose prompt of this type is the control."""

    id: ExperimentId
    prompt_type: str
    ai_version: str
    control: PromptVersion
    variant: PromptVersion
    variant_sha256: Sha256
    """Of its file: another text would be another test."""
    share: Share = 0.1
    """Of the subjects that get the variant."""
    metric: Metric
    minimum: Annotated[int, Field(ge=10)] = 100
    """Outcomes that each arm must have before a winner is promoted."""
    start: AwareDatetime
    status: Literal["running", "promoted", "stopped"] = "running"
    created_by: Actor


class Outcome(Model):
    """What became of one subject."""

    arm: Arm
    success: bool


def arm_of(experiment: Experiment, subject: str) -> Arm:
    """The arm of a subject, by SHA-256 of test and subject: never random, so that a replay gives the same."""
    digest = hashlib.sha256(canonical_json([experiment.id, subject])).digest()
    return Arm.VARIANT if int.from_bytes(digest[:8]) < experiment.share * 2**64 else Arm.CONTROL


class SafeTest:
    """Evidence against "the variant's rate exceeds the control's by exactly `difference`", outcome by outcome.

    Outcomes form blocks: with a share of 10 % the next nine of the control and the next one of the variant, however
    they come in. A block multiplies the evidence by p(its outcomes | rates as estimated from earlier blocks) / p(its
    outcomes | the rates nearest to these, in Kullback-Leibler divergence, that differ by `difference`). Under the null
    each factor has an expectation of at most 1, so the product is a test martingale, and by Ville's inequality it ever
    reaches 1 / ALPHA with a chance of at most ALPHA. The differences that it has never refuted so form a confidence
    sequence.

    Sources: R. Turner, A. Ly, P. Grünwald, "Generic E-variables for exact sequential k-sample tests that allow for
    optional stopping", Journal of Statistical Planning and Inference 230 (2024); R. Turner, P. Grünwald, "Exact
    anytime-valid confidence intervals for contingency tables and beyond", Statistics & Probability Letters 198 (2023).

    Args:
        share: of the subjects that get the variant.
        difference: between -1 and 1, both excluded; 0 is the null of a test.
    """

    def __init__(self, share: float, difference: float = 0.0) -> None:
        ratio = Fraction(share).limit_denominator(_LARGEST_BLOCK)
        self._block = {Arm.CONTROL: ratio.denominator - ratio.numerator, Arm.VARIANT: ratio.numerator}
        self._difference = difference
        self._waiting: dict[Arm, deque[bool]] = {arm: deque() for arm in Arm}
        self._successes, self._count = dict.fromkeys(Arm, 0), dict.fromkeys(Arm, 0)
        self._log = 0.0
        self.highest = 0.0
        """Natural logarithm of the highest evidence so far, which no later outcome takes back."""

    @property
    def refuted(self) -> bool:
        """Whether the null is out of the question."""
        return self.highest >= -math.log(ALPHA)

    def add(self, arm: Arm, success: bool) -> None:
        """Count an outcome, in the order in which they become known."""
        self._waiting[arm].append(success)
        if all(len(self._waiting[one]) >= size for one, size in self._block.items()):
            self._weigh({one: sum(self._waiting[one].popleft() for _ in range(n)) for one, n in self._block.items()})

    def _weigh(self, successes: dict[Arm, int]) -> None:
        rates = {arm: (self._successes[arm] + _START) / (self._count[arm] + 2 * _START) for arm in Arm}
        null = self._nearest_null(rates[Arm.CONTROL], rates[Arm.VARIANT])
        for arm, size in self._block.items():
            self._log += successes[arm] * math.log(rates[arm] / null[arm])
            self._log += (size - successes[arm]) * math.log((1 - rates[arm]) / (1 - null[arm]))
            self._successes[arm] += successes[arm]
            self._count[arm] += size
        self.highest = max(self.highest, self._log)

    def _nearest_null(self, control: float, variant: float) -> dict[Arm, float]:
        m, n, apart = self._block[Arm.CONTROL], self._block[Arm.VARIANT], self._difference
        if not apart:
            both = (m * control + n * variant) / (m + n)
            return dict.fromkeys(Arm, both)
        low, high = max(0.0, -apart), min(1.0, 1.0 - apart)
        for _ in range(_HALVINGS):  # the divergence is convex: where its slope changes its sign it is least
            rate = (low + high) / 2
            other = rate + apart
            if m * (control - rate) / (rate * (1 - rate)) + n * (variant - other) / (other * (1 - other)) > 0:
                low = rate
            else:
                high = rate
        rate = (low + high) / 2
        return {Arm.CONTROL: rate, Arm.VARIANT: rate + apart}


class ArmReport(Model):
    """One arm in figures."""

    subjects: int
    """Asked on behalf of so far."""
    decided: int
    """Whose outcome is known."""
    successes: int
    mean: float | None
    confidence: float | None
    """Mean of what the model says of its answers."""


class ExperimentReport(Model):
    """A look at a test; `lower` and `upper` bound the variant's gain in the metric at every look together."""

    control: ArmReport
    variant: ArmReport
    difference: float | None
    lower: float
    upper: float
    evidence: float
    """Against "no difference": the highest so far; 1 / ALPHA refutes it."""
    winner: Arm | None
    sentence: str


def report(
    experiment: Experiment,
    outcomes: Sequence[Outcome],
    subjects: dict[Arm, int],
    confidence: dict[Arm, float | None],
) -> ExperimentReport:
    """How a test stands.

    Args:
        experiment: the test.
        outcomes: in the order in which they became known.
        subjects: how many were asked for, by arm.
        confidence: mean confidence of the answers, by arm.
    """
    decided = Counter(outcome.arm for outcome in outcomes)
    successes = Counter(outcome.arm for outcome in outcomes if outcome.success)
    arms = {
        arm: ArmReport(
            subjects=subjects.get(arm, 0),
            decided=decided[arm],
            successes=successes[arm],
            mean=successes[arm] / decided[arm] if decided[arm] else None,
            confidence=confidence.get(arm),
        )
        for arm in Arm
    }
    control, variant = arms[Arm.CONTROL], arms[Arm.VARIANT]
    difference = None if control.mean is None or variant.mean is None else variant.mean - control.mean
    test = _tested(experiment.share, outcomes, 0.0)
    lower, upper = (-1.0, 1.0) if difference is None else _bounds(experiment.share, outcomes, difference)
    if difference and test.refuted:  # rounded outwards, a bound may lie a hair beyond zero, which was tested exactly
        lower, upper = (max(lower, 0.0), upper) if difference > 0 else (lower, min(upper, 0.0))
    winner = None
    if difference and test.refuted and all(arm.decided >= experiment.minimum for arm in arms.values()):
        winner = Arm.VARIANT if difference > 0 else Arm.CONTROL
    return ExperimentReport(
        control=control,
        variant=variant,
        difference=difference,
        lower=lower,
        upper=upper,
        evidence=math.exp(min(test.highest, 700.0)),
        winner=winner,
        sentence=_sentence(experiment, arms, winner, lower, upper),
    )


def _tested(share: float, outcomes: Sequence[Outcome], difference: float) -> SafeTest:
    test = SafeTest(share, difference)
    for outcome in outcomes:
        test.add(outcome.arm, outcome.success)
    return test


def _bounds(share: float, outcomes: Sequence[Outcome], difference: float) -> tuple[float, float]:
    """The least and the greatest difference that the outcomes have never refuted, rounded outwards."""
    found = []
    for end in (-1.0, 1.0):
        out, within = end, max(-_WITHIN, min(_WITHIN, difference))
        for _ in range(_BOUND_HALVINGS):
            middle = (out + within) / 2
            if _tested(share, outcomes, middle).refuted:
                out = middle
            else:
                within = middle
        found.append(out)
    return found[0], found[1]


def _sentence(
    experiment: Experiment, arms: dict[Arm, ArmReport], winner: Arm | None, lower: float, upper: float
) -> str:
    gain = f"{experiment.metric} differs by {100 * lower:+.1f} to {100 * upper:+.1f} points"
    if winner is Arm.VARIANT:
        return f"{experiment.variant} has won: {gain}."
    if winner is Arm.CONTROL:
        return f"{experiment.variant} has lost to {experiment.control}: {gain}."
    if short := [f"{arm} has {one.decided}" for arm, one in arms.items() if one.decided < experiment.minimum]:
        return f"No winner yet: every arm needs {experiment.minimum} outcomes, {' and '.join(short)}."
    return f"No winner yet: {gain}, so there may be no difference."
