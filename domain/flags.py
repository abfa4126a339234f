"""Flags: one setting tried in several buckets of leads, sticky for each lead, until one bucket has won.

A lead's bucket follows from a hash of the flag and the lead, so that every process gives it the same one without
asking, now and after a restart.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from domain.base import Actor, Model
from domain.canonical import sha256_hex
from domain.chi_square import chi_square_tail

FlagId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,59}$")]


ALPHA = 0.05
"""Chance of promoting a bucket where there is no difference."""


class Setting(StrEnum):
    """What a flag tries out; at most one flag of a setting runs at a time. Clotho itself asks for the last two; who
    chats with leads asks for the first two (`clotho flag bucket`).
    """

    MEMORY = "memory"
    """Whether earlier messages of a lead are remembered: true or false."""
    ENRICHMENT = "enrichment"
    """Which rules enrich a lead: a name."""
    PREDICTION_THRESHOLD = "prediction_threshold"
    """Probability from which on a lead is followed up: 0 to 1."""
    FOLLOW_UP_TIMING = "follow_up_timing"
    """Seconds from scoring to each message: growing whole numbers."""


class Bucket(Model):
    """One value of the setting and how many leads get it, in proportion to all weights."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
    weight: Annotated[int, Field(ge=1, le=1_000)] = 1
    value: Any


class Flag(Model):
    """A flag. Its first bucket is what held before; the others have to beat it."""

    id: FlagId
    setting: Setting
    buckets: Annotated[tuple[Bucket, ...], Field(min_length=2, max_length=5)]
    minimum: Annotated[int, Field(ge=30, le=1_000_000)] = 200
    """Leads with an outcome that every bucket needs before one is promoted."""
    status: Literal["running", "promoted", "stopped"] = "running"
    winner: str | None = None
    """The promoted bucket, which every lead gets from then on."""
    created_by: Actor
    created_at: AwareDatetime

    @model_validator(mode="after")
    def _whole(self) -> "Flag":
        names = [bucket.name for bucket in self.buckets]
        if len(set(names)) < len(names):
            raise ValueError("two buckets have the same name")
        for bucket in self.buckets:
            if fault := fault_of(self.setting, bucket.value):
                raise ValueError(f"bucket {bucket.name}: {fault}")
        return self


class BucketCounts(Model):
    """Leads of one bucket: all, those with an outcome, and those that booked."""

    name: str
    leads: int = 0
    decided: int = 0
    booked: int = 0

    @property
    def conversion(self) -> float | None:
        """Share of those with an outcome that booked."""
        return self.booked / self.decided if self.decided else None


class FlagReport(Model):
    """A look at a flag. The test is made once, on the first `minimum` outcomes of each bucket: looking often, or going
    on for longer, gives no second chance."""

    buckets: tuple[BucketCounts, ...]
    chi_square: float | None = None
    """Pearson's, of booked and not over all buckets; None until each has its minimum."""
    p_value: float | None = None
    winner: str | None = None
    """The bucket to be promoted."""
    sentence: str


def report(flag: Flag, counts: Sequence[BucketCounts], outcomes: Iterable[tuple[str, bool]]) -> FlagReport:
    """How a flag stands.

    A bucket has won when the buckets differ (p below ALPHA), it booked most, and it differs from the first bucket too,
    at ALPHA over the number of its rivals.

    Args:
        flag: the flag.
        counts: of its buckets, in its order.
        outcomes: bucket and whether it booked of each lead with an outcome, in the order in which they came in.
    """
    first: dict[str, list[bool]] = {bucket.name: [] for bucket in flag.buckets}
    for bucket, booked in outcomes:
        if len(first[bucket]) < flag.minimum:
            first[bucket].append(booked)
    shown = tuple(counts)
    if short := [f"{name} has {len(all_)}" for name, all_ in first.items() if len(all_) < flag.minimum]:
        needed = f"every bucket needs {flag.minimum} outcomes, {' and '.join(short)}"
        return FlagReport(buckets=shown, sentence=f"No winner yet: {needed}.")
    booked_of = {name: sum(all_) for name, all_ in first.items()}
    chi_square = _chi_square(list(booked_of.values()), flag.minimum)
    p_value = chi_square_tail(chi_square, len(first) - 1)
    best, control = max(booked_of, key=booked_of.__getitem__), flag.buckets[0].name
    wins = p_value < ALPHA
    if wins and best != control:
        pair = _chi_square([booked_of[best], booked_of[control]], flag.minimum)
        wins = chi_square_tail(pair, 1) < ALPHA / (len(first) - 1)
    rates = ", ".join(f"{name} {booked / flag.minimum:.1%}" for name, booked in booked_of.items())
    what = f"{best} has won" if wins else "The buckets do not differ surely"
    sentence = f"{what}: of the first {flag.minimum} outcomes of each booked {rates} (p = {p_value:.3g})."
    return FlagReport(
        buckets=shown, chi_square=chi_square, p_value=p_value, winner=best if wins else None, sentence=sentence
    )


def _chi_square(booked: Sequence[int], size: int) -> float:
    """Pearson's statistic of groups of the same size."""
    expected = sum(booked) / len(booked)
    if expected in (0, size):
        return 0.0
    return sum((one - expected) ** 2 for one in booked) * (1 / expected + 1 / (size - expected))


def fault_of(setting: Setting, value: Any) -> str | None:
    """What is wrong with a value of a setting; None when it is fine."""
    match setting:
        case Setting.MEMORY:
            return None if isinstance(value, bool) else "is true or false"
        case Setting.ENRICHMENT:
            return None if isinstance(value, str) and 0 < len(value) <= 60 else "is a name of at most 60 characters"
        case Setting.PREDICTION_THRESHOLD:
            good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
            return None if good else "is a number from 0 to 1"
        case Setting.FOLLOW_UP_TIMING:
            whole = isinstance(value, list | tuple) and all(type(one) is int for one in value)
            good = whole and 1 <= len(value) <= 5 and value[0] >= 1 and value[-1] <= 30 * 86_400
            good = good and all(one < other for one, other in pairwise(value))
            return None if good else "is one to five growing numbers of seconds, at most 30 days"


def bucket_of(flag: Flag, lead_id: str) -> Bucket:
    """The bucket of a lead: by its hash while the flag runs, the winner once it is promoted, else the first."""
    if flag.status == "promoted":
        return next(bucket for bucket in flag.buckets if bucket.name == flag.winner)
    if flag.status == "stopped":
        return flag.buckets[0]
    # 64 bits over at most 5,000 are even to one part in 10**15.
    place = int(sha256_hex(f"{flag.id}\n{lead_id}".encode())[:16], 16) % sum(bucket.weight for bucket in flag.buckets)
    for bucket in flag.buckets:
        if place < bucket.weight:
            return bucket
        place -= bucket.weight
    raise AssertionError("the weights cover every place")
