"""Drift: how far the rows that are scored now are from those of the training.

The score is the documented one: a distance in standard deviations, an alarm on size. The daily report asks another
question, whether the rows can come from the same distribution at all: population stability index and rank test for each
feature, with false alarms held at `DAILY_ALPHA` for all of them together at every sample size (docs/decisions/0011).
Rows of whole days go into a report: the hours of half a day never look like those of the training.

Pure and light: standard library and pydantic alone. A sample is a number of rows by feature, as `columns` makes it.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from statistics import NormalDist, fmean

from domain.artifact import FeatureStats, Histogram, LeadArtifact, Stats
from domain.base import Model
from domain.chi_square import chi_square_quantile, chi_square_tail
from domain.leads import LeadRow

WINDOW = 1_000
"""The drift score looks at so many of the newest scored rows."""

DAILY_ALPHA = 0.01
"""Chance that a report of one day raises an alarm where nothing has changed."""

MIN_ROWS = 80
"""Fewer rows, of the training or now, are not tested; the smallest training set leaves as many to fit."""

_EXPECTED = 10.0
"""Neighbouring cells are joined until the smaller sample can expect so many rows in each: the chi-square needs it."""


class FeatureDrift(Model):
    """One feature of a report."""

    feature: str
    distance: float
    """Of the means, in standard deviations of the training."""
    psi: float | None
    """Population stability index over the joined cells; None: not tested."""
    psi_threshold: float | None
    """Above it the index is an alarm; it falls as the samples grow."""
    psi_p: float | None
    rank_p: float | None
    """Of the two-sided Wilcoxon-Mann-Whitney test with ties."""
    alarm: bool


class DriftReport(Model):
    """One day."""

    rows: int
    score: float
    """Largest distance of the means, over all rows of the report."""
    features: tuple[FeatureDrift, ...]
    alarm: bool
    sentence: str


def columns(rows: Iterable[LeadRow]) -> dict[str, list[float]]:
    """A sample of rows by feature; a missing value does not count."""
    found: dict[str, list[float]] = {"score": [], "details_len": [], "hour": []}
    for row in rows:
        for name, value in (("score", row.score), ("details_len", row.details_len), ("hour", row.hour_of_day)):
            if value is not None:
                found[name].append(value)
    return found


def drift_score(stats: FeatureStats, sample: Mapping[str, Sequence[float]]) -> float:
    """The documented drift score: the largest |mean now - mean of the training| / std of the training.

    Args:
        stats: of the training.
        sample: the newest `WINDOW` scored rows, by feature, as `columns` gives them.

    Returns:
        Standard deviations; a feature with std 0 is skipped, without data it is 0.
    """
    return max(_distance(known, sample[name]) for name, known in stats)


def _distance(stats: Stats, values: Sequence[float]) -> float:
    return abs(fmean(values) - stats.mean) / stats.std if values and stats.std > 0 else 0.0


def drift_report(artifact: LeadArtifact, sample: Mapping[str, Sequence[float]]) -> DriftReport:
    """Compare a day's rows with the training of the version that scored them.

    Args:
        artifact: the active version.
        sample: scored rows of whole days, by feature, as `columns` gives them.
    """
    stats, histograms = dict(artifact.feature_stats), dict(artifact.reference)
    level = DAILY_ALPHA / (2 * len(histograms))
    found = tuple(
        feature_drift(name, _distance(stats[name], sample[name]), known, counted(known, sample[name]), level)
        for name, known in histograms.items()
    )
    rows = max(len(values) for values in sample.values())
    alarms = [one.feature for one in found if one.alarm]
    if rows < MIN_ROWS:
        sentence = f"{rows} rows are too few to test for drift: {MIN_ROWS} are needed."
    elif alarms:
        sentence = f"The rows do not come from the distribution of the training: {', '.join(alarms)}."
    else:
        sentence = "The rows may well come from the distribution of the training."
    return DriftReport(
        rows=rows, score=max(one.distance for one in found), features=found, alarm=bool(alarms), sentence=sentence
    )


def counted(known: Histogram, values: Iterable[float]) -> list[int]:
    """How many values fall into each cell of a histogram."""
    places = Counter(bisect_left(known.edges, value) for value in values)
    return [places[place] for place in range(len(known.counts))]


def feature_drift(name: str, distance: float, known: Histogram, now: Sequence[int], level: float) -> FeatureDrift:
    """Test one feature.

    Args:
        name: of the feature.
        distance: of the means, in standard deviations of the training.
        known: the training.
        now: rows in each cell of `known`.
        level: chance of an alarm by either test where nothing has changed.
    """
    before, after = joined(known.counts, now)
    if min(sum(before), sum(after)) < MIN_ROWS or len(before) < 2:
        return FeatureDrift(
            feature=name, distance=distance, psi=None, psi_threshold=None, psi_p=None, rank_p=None, alarm=False
        )
    index, scale = psi(before, after), 1 / sum(before) + 1 / sum(after)
    psi_p, rank_p = chi_square_tail(index / scale, len(before) - 1), rank_test(known.counts, now)
    return FeatureDrift(
        feature=name,
        distance=distance,
        psi=index,
        psi_threshold=chi_square_quantile(level, len(before) - 1) * scale,
        psi_p=psi_p,
        rank_p=rank_p,
        alarm=min(psi_p, rank_p) < level,
    )


def joined(before: Sequence[int], after: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Both samples over fewer cells: neighbours are joined until each can expect enough rows.

    What is joined depends on the sum of both samples alone, so it favours neither.
    """
    rows = [one + other for one, other in zip(before, after, strict=True)]
    smaller = min(sum(before), sum(after)) / max(sum(rows), 1)
    least = _EXPECTED / smaller if smaller else math.inf
    cells: list[tuple[int, int]] = []
    open_before = open_after = 0
    for one, other in zip(before, after, strict=True):
        open_before, open_after = open_before + one, open_after + other
        if open_before + open_after >= least:
            cells.append((open_before, open_after))
            open_before = open_after = 0
    if open_before + open_after:
        last = cells.pop() if cells else (0, 0)
        cells.append((last[0] + open_before, last[1] + open_after))
    return tuple(cell[0] for cell in cells), tuple(cell[1] for cell in cells)


def psi(before: Sequence[int], after: Sequence[int]) -> float:
    """Population stability index of two counted samples: sum of (p - q) ln(p / q).

    Half a row is added to every cell, so that an empty one does not make it infinite. Where both samples come from one
    distribution, the index divided by (1/n + 1/m) is about chi-square with one degree of freedom fewer than cells.

    Source: B. Yurdakul, J. Naranjo, "Statistical properties of the population stability index", Journal of Risk Model
    Validation 14 (2020).
    """
    total_before, total_after = sum(before) + len(before) / 2, sum(after) + len(after) / 2
    found = 0.0
    for one, other in zip(before, after, strict=True):
        p, q = (one + 0.5) / total_before, (other + 0.5) / total_after
        found += (q - p) * math.log(q / p)
    return found


def rank_test(before: Sequence[int], after: Sequence[int]) -> float:
    """Two-sided p-value of the Wilcoxon-Mann-Whitney test on counts in ordered cells; rows of a cell are ties.

    Source: E. L. Lehmann, "Nonparametrics: statistical methods based on ranks" (1975), 1.4 (variance with ties).
    """
    ties = [one + other for one, other in zip(before, after, strict=True)]
    n, m = sum(after), sum(before)
    total = n + m
    ends = list(accumulate(ties))
    ranks = sum(count * (end - (tie - 1) / 2) for count, end, tie in zip(after, ends, ties, strict=True))
    spread = total + 1 - sum(tie**3 - tie for tie in ties) / (total * (total - 1))
    if n == 0 or m == 0 or spread <= 0:
        return 1.0
    z = (ranks - n * (total + 1) / 2) / math.sqrt(n * m / 12 * spread)
    return 2 * NormalDist().cdf(-abs(z))
