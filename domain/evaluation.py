"""Evaluation of a model on held-out rows, and of two models on the same rows.

Needs numpy: only activities and benches load this module. What it gives is in `domain/model_metrics.py`, a light one.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from domain.gate import wilson
from domain.model_metrics import (
    LEVEL,
    MINORITY,
    SLICE_ROWS,
    Bin,
    Calibration,
    ClassEvaluation,
    ClassScore,
    Comparison,
    Evaluation,
    Interval,
    Paired,
    Slice,
)

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]

_BINS = 10
_ROC_POINTS = 100
_CLIP = 1e-15
"""A probability of 0 or 1 that proves wrong costs a finite log loss."""

_BLOCK = 4_000_000
"""Numbers that the bootstrap holds at a time: 32 MB."""

_CHANCE = 0.001
"""That shuffled labels pass the control by luck."""

_LEAST_GAP = 0.05
"""The control's runs are planned for a minimum this far above chance at least: nearer ones would take hundreds."""

_Z95 = NormalDist().inv_cdf(0.975)
_Z = NormalDist().inv_cdf(1 - LEVEL)


def evaluate(
    labels: Sequence[int],
    probabilities: Sequence[float],
    slices: Mapping[str, Sequence[str]],
    *,
    seed: int,
    resamples: int = 1_000,
    threshold: float = 0.5,
) -> Evaluation:
    """Measure a model of two labels.

    Args:
        labels: 1 or 0 for each held-out row.
        probabilities: that the label is 1.
        slices: for each kind (tenant, category …) the group of each row.
        seed: of the bootstrap.
        resamples: of the bootstrap.
        threshold: a probability at or above counts as 1 in precision, recall and F1.

    Raises:
        ValueError: fewer than two rows of either label, or lengths that differ.
    """
    hits, said = _hits(labels), np.asarray(probabilities, np.float64)
    _same_length(len(hits), len(said), *map(len, slices.values()))
    area = auc(hits, said)
    low, high = _bootstrapped(hits, said, seed, resamples)
    clipped = np.clip(said, _CLIP, 1 - _CLIP)
    precision, recall, f1 = _rates(hits, said >= threshold)
    return Evaluation(
        rows=len(hits),
        positives=int(hits.sum()),
        quality=Interval(value=area, low=low, high=high),
        log_loss=float(-np.where(hits, np.log(clipped), np.log1p(-clipped)).mean()),
        brier=float(np.square(said - hits).mean()),
        calibration=calibration(hits, said),
        threshold=threshold,
        precision=precision,
        recall=recall,
        f1=f1,
        slices=_slices(slices, lambda rows: _auc_slice(hits[rows], said[rows])),
        roc=_roc(hits, said),
    )


def evaluate_classes(
    labels: Sequence[str],
    answers: Sequence[str],
    confidences: Sequence[float],
    slices: Mapping[str, Sequence[str]],
) -> ClassEvaluation:
    """Measure a model of many classes.

    Args:
        labels: the class of each held-out row.
        answers: the class that the model named.
        confidences: the probability that it gave to that class.
        slices: for each kind (tenant, category …) the group of each row.

    Raises:
        ValueError: no rows, or lengths that differ.
    """
    _same_length(len(labels), len(answers), len(confidences), *map(len, slices.values()))
    if not labels:
        raise ValueError("there are no held-out rows to evaluate on")
    right = _right(labels, answers)
    classes = tuple(_class_score(name, labels, answers) for name in sorted({*labels, *answers}))
    accuracy = float(right.mean())
    low, high = wilson(accuracy, len(right), _Z95)
    return ClassEvaluation(
        rows=len(right),
        quality=Interval(value=accuracy, low=low, high=high),
        macro_f1=sum(one.f1 for one in classes) / len(classes),
        classes=classes,
        calibration=calibration(right, np.asarray(confidences, np.float64)),
        slices=_slices(slices, lambda rows: _accuracy_slice(right[rows])),
    )


def compare(labels: Sequence[int], challenger: Sequence[float], champion: Sequence[float]) -> Comparison:
    """Two models of two labels on the same held-out rows, by their probabilities.

    Raises:
        ValueError: fewer than two rows of either label, or lengths that differ.
    """
    hits, ours, theirs = _hits(labels), np.asarray(challenger, np.float64), np.asarray(champion, np.float64)
    _same_length(len(hits), len(ours), len(theirs))
    return Comparison(
        quality=delong(hits, ours, theirs),
        calibration=_calibration_difference((hits, ours), (hits, theirs)),
        champion=auc(hits, theirs),
    )


def compare_classes(
    labels: Sequence[str],
    challenger: tuple[Sequence[str], Sequence[float]],
    champion: tuple[Sequence[str], Sequence[float]],
) -> Comparison:
    """Two models of many classes on the same held-out rows, by what they answered and how confident they were.

    Raises:
        ValueError: no rows, or lengths that differ.
    """
    _same_length(len(labels), *map(len, challenger), *map(len, champion))
    if not labels:
        raise ValueError("there are no held-out rows to compare models on")
    ours, theirs = _right(labels, challenger[0]), _right(labels, champion[0])
    return Comparison(
        quality=_accuracy_difference(int((ours & ~theirs).sum()), int((theirs & ~ours).sum()), len(labels)),
        calibration=_calibration_difference(
            (ours, np.asarray(challenger[1], np.float64)), (theirs, np.asarray(champion[1], np.float64))
        ),
        champion=float(theirs.mean()),
    )


def _accuracy_difference(won: int, lost: int, rows: int) -> Paired:
    """The difference of two accuracies on the same rows, with score bounds: where the models never differ, few rows
    still prove little.

    Source: T. Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17 (1998).

    Args:
        won: rows that the challenger alone has right.
        lost: rows that the champion alone has right.
        rows: all.
    """
    difference = (won - lost) / rows
    return Paired(
        difference=difference,
        standard_error=math.sqrt((won + lost) / rows - difference**2) / math.sqrt(rows),
        low=-_score_bound(lost, won, rows),
        high=_score_bound(won, lost, rows),
    )


def _score_bound(won: int, lost: int, rows: int) -> float:
    """The greatest difference that a score test at `LEVEL` does not refute."""
    low, high = (won - lost) / rows, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        slope = -won - lost + (2 * rows - won + lost) * middle
        lost_rate = (math.sqrt(slope**2 + 8 * rows * lost * middle * (1 - middle)) - slope) / (4 * rows)
        variance = rows * (2 * lost_rate + middle * (1 - middle))
        if (rows * middle - won + lost) ** 2 < _Z**2 * variance:
            low = middle
        else:
            high = middle
    return low


def auc(hits: Flags, said: Floats) -> float:
    """Area under the ROC curve: ties count half."""
    return float(_placements(hits, said)[0].mean())


def delong(hits: Flags, challenger: Floats, champion: Floats) -> Paired:
    """The difference of two AUCs on the same rows and its standard error, in O(n log n).

    Sources: E. DeLong, D. DeLong, D. Clarke-Pearson, Biometrics 44 (1988); X. Sun, W. Xu, "Fast implementation of
    DeLong's algorithm", IEEE Signal Processing Letters 21 (2014).
    """
    (ours, below_ours), (theirs, below_theirs) = _placements(hits, challenger), _placements(hits, champion)
    error = math.sqrt(_variance_of_mean(ours - theirs) + _variance_of_mean(below_ours - below_theirs))
    return _paired(float((ours - theirs).mean()), error)


def control_runs(evaluation: Evaluation | ClassEvaluation, minimum: float) -> int:
    """How often to train on shuffled labels, so that their mean passes `minimum` by luck once in 1,000 times.

    A single run decides nothing on few rows: on 20 held-out rows one in eight reaches an AUC of 0.65. Labels are
    shuffled before they are split, so that those of the held-out rows are shuffled too: judged by the true ones a model
    of chance points in some direction, which is right more often than not half of the time.
    """
    if isinstance(evaluation, Evaluation):
        ones, zeros = evaluation.positives, evaluation.rows - evaluation.positives
        chance, spread = 0.5, math.sqrt((evaluation.rows + 1) / (12 * ones * zeros))
    else:
        chance = max(one.rows for one in evaluation.classes) / evaluation.rows
        spread = math.sqrt(chance * (1 - chance) / evaluation.rows)
    gap = max(minimum - chance, _LEAST_GAP)
    return max(1, math.ceil((NormalDist().inv_cdf(1 - _CHANCE) * spread / gap) ** 2))


def calibration(hits: Flags, said: Floats) -> Calibration:
    """Ten bins of equal count by rising probability, equal probabilities in the same bin."""
    places, counts = _binned(said)
    means = np.bincount(places, said) / counts
    rates = np.bincount(places, hits) / counts
    return Calibration(
        bins=tuple(
            Bin(count=int(count), said=float(mean), came_true=float(rate))
            for count, mean, rate in zip(counts, means, rates, strict=True)
        ),
        error=float(np.average(np.abs(means - rates), weights=counts)),
    )


def _calibration_difference(challenger: tuple[Flags, Floats], champion: tuple[Flags, Floats]) -> Paired:
    """How much higher the challenger's squared calibration error is; each model's is freed of what chance adds to it.

    The standard error has two terms: the first order (delta method, paired by row), and that of two models which are
    both well calibrated, where the first order vanishes. The second takes the models for perfectly opposed, which errs
    on the challenger's side.

    Source of the unbiased error: A. Kumar, P. Liang, T. Ma, "Verified uncertainty calibration", NeurIPS 2019.
    """
    (ours, slope, spread), (theirs, other_slope, other_spread) = map(_squared_error, (challenger, champion))
    return _paired(ours - theirs, math.sqrt(_variance_of_mean(slope - other_slope) + (spread + other_spread) ** 2))


def _squared_error(model: tuple[Flags, Floats]) -> tuple[float, Floats, float]:
    """Unbiased squared calibration error, its influence by row, and its standard error under perfect calibration."""
    hits, said = model
    places, counts = _binned(said)
    off = said - hits
    means = np.bincount(places, off) / counts
    variances = np.bincount(places, np.square(off - means[places])) / np.maximum(counts - 1, 1)
    error = float((counts * np.square(means) - variances).sum()) / len(off)
    influence = 2 * means[places] * off - np.square(means[places])
    return error, influence, math.sqrt(2 * float(np.square(variances).sum())) / len(off)


def _binned(said: Floats) -> tuple[Ints, Floats]:
    """The bin of each row, and how many rows each has."""
    edges = np.unique(np.quantile(said, np.arange(1, _BINS) / _BINS))
    _, places = np.unique(np.searchsorted(edges, said, side="right"), return_inverse=True)
    return places, np.bincount(places).astype(np.float64)


def _placements(hits: Flags, said: Floats) -> tuple[Floats, Floats]:
    """For each row of label 1 the share of zeros ranked below it; for each of label 0 the share of ones above it."""
    ranks, ones = _midranks(said), int(hits.sum())
    zeros = len(hits) - ones
    above = (ranks[hits] - _midranks(said[hits])) / zeros
    below = 1 - (ranks[~hits] - _midranks(said[~hits])) / ones
    return above, below


def _midranks(values: Floats) -> Floats:
    """Ranks from 1, ties sharing the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = np.cumsum(counts) - (counts - 1) / 2
    return ranks[places]


def _bootstrapped(hits: Flags, said: Floats, seed: int, resamples: int) -> tuple[float, float]:
    """95 % percentile interval of the AUC, ones and zeros drawn apart."""
    generator = np.random.default_rng(seed)
    values, places = np.unique(said, return_inverse=True)
    ones, zeros, width = places[hits], places[~hits], len(values)
    found: list[Floats] = []
    at_once = max(1, _BLOCK // len(hits))
    for start in range(0, resamples, at_once):
        rounds = min(at_once, resamples - start)
        drawn_ones, drawn_zeros = (
            np.bincount(
                (generator.choice(rows, (rounds, len(rows))) + width * np.arange(rounds)[:, None]).ravel(),
                minlength=rounds * width,
            ).reshape(rounds, width)
            for rows in (ones, zeros)
        )
        below = np.cumsum(drawn_zeros, axis=1) - drawn_zeros / 2
        found.append((drawn_ones * below).sum(axis=1) / (len(ones) * len(zeros)))
    low, high = np.quantile(np.concatenate(found), (0.025, 0.975))
    return float(low), float(high)


def _roc(hits: Flags, said: Floats) -> tuple[tuple[float, float], ...]:
    _, places = np.unique(-said, return_inverse=True)
    true = np.cumsum(np.bincount(places, hits)) / hits.sum()
    false = np.cumsum(np.bincount(places, ~hits)) / (~hits).sum()
    kept = np.unique(np.linspace(0, len(true) - 1, _ROC_POINTS).round().astype(np.int64))
    return ((0.0, 0.0), *((float(false[place]), float(true[place])) for place in kept))


def _rates(labels: Flags, answers: Flags) -> tuple[float, float, float]:
    """Precision, recall, F1; 0 where nothing is to be divided."""
    both, named, real = int((labels & answers).sum()), int(answers.sum()), int(labels.sum())
    return (
        both / named if named else 0.0,
        both / real if real else 0.0,
        2 * both / (named + real) if named + real else 0.0,
    )


def _class_score(name: str, labels: Sequence[str], answers: Sequence[str]) -> ClassScore:
    is_label = np.asarray([label == name for label in labels])
    precision, recall, f1 = _rates(is_label, np.asarray([answer == name for answer in answers]))
    return ClassScore(name=name, rows=int(is_label.sum()), precision=precision, recall=recall, f1=f1)


Judged: TypeAlias = tuple[int, float | None, float | None]
"""Positives, quality and its standard error."""


def _slices(kinds: Mapping[str, Sequence[str]], judge: Callable[[Ints], Judged]) -> tuple[Slice, ...]:
    found = []
    for kind, groups in kinds.items():
        rows_of: dict[str, list[int]] = defaultdict(list)
        for row, group in enumerate(groups):
            rows_of[group].append(row)
        for group, rows in sorted(rows_of.items()):
            positives, quality, error = judge(np.asarray(rows))
            found.append(
                Slice(
                    kind=kind,
                    group=group,
                    rows=len(rows),
                    positives=positives,
                    quality=quality,
                    standard_error=error,
                )
            )
    return tuple(found)


def _auc_slice(hits: Flags, said: Floats) -> Judged:
    ones = int(hits.sum())
    if min(ones, len(hits) - ones) < MINORITY:
        return ones, None, None
    above, below = _placements(hits, said)
    return ones, float(above.mean()), math.sqrt(_variance_of_mean(above) + _variance_of_mean(below))


def _accuracy_slice(right: Flags) -> Judged:
    if len(right) < SLICE_ROWS:
        return int(right.sum()), None, None
    share = float(right.mean())
    return int(right.sum()), share, math.sqrt(share * (1 - share) / len(right))


def _paired(difference: float, error: float) -> Paired:
    return Paired(
        difference=difference, standard_error=error, low=difference - _Z * error, high=difference + _Z * error
    )


def _variance_of_mean(values: Floats) -> float:
    return float(values.var(ddof=1)) / len(values)


def _right(labels: Sequence[str], answers: Sequence[str]) -> Flags:
    return np.asarray([label == answer for label, answer in zip(labels, answers, strict=True)], np.bool_)


def _hits(labels: Sequence[int]) -> Flags:
    hits: Flags = np.asarray(labels) == 1
    ones = int(hits.sum())
    if min(ones, len(hits) - ones) < 2:
        raise ValueError(f"two held-out rows of each label are needed, {ones} are 1 and {len(hits) - ones} are 0")
    return hits


def _same_length(*lengths: int) -> None:
    if len(set(lengths)) > 1:
        raise ValueError(f"labels, probabilities and slices must be of one length, not {sorted(set(lengths))}")
