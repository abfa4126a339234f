"""Drift by simulation: false alarms where nothing has changed, and how often a shift is seen.

`python -m bench.drift --json`: days of 100 to 100,000 scored rows against trainings of 80 to 20,000. Each repetition
draws a training and a day from the same leads (scores in steps, lengths log-normal, hours of a working day), or of a
normal feature a day that is shifted by a part of its standard deviation.
"""

import argparse
import json
import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.artifact import FeatureStats, Histogram, Stats
from domain.drift import DAILY_ALPHA, FeatureDrift, drift_score, feature_drift

DAYS = (100, 1_000, 10_000, 100_000)
TRAININGS = (80, 500, 20_000)
SHIFTS = (0.1, 0.25, 0.5, 1.0)
FEATURES = ("score", "details_len", "hour")
HOURS = np.array([1, 1, 1, 1, 1, 2, 3, 5, 8, 9, 9, 9, 8, 8, 8, 7, 6, 5, 4, 3, 2, 2, 1, 1]) / 105
"""Of a working day."""

Values = NDArray[np.float64]


def leads(generator: np.random.Generator, feature: str, rows: int) -> Values:
    """One feature of leads, or a standard normal one."""
    if feature == "score":
        return np.round(0.5 + 0.05 * generator.integers(0, 7, rows) * (generator.random(rows) < 0.6), 2)
    if feature == "details_len":
        return np.floor(np.exp(generator.normal(4, 0.8, rows)))
    if feature == "normal":
        return generator.standard_normal(rows)
    return generator.choice(24, rows, p=HOURS).astype(np.float64)


def histogram(values: Values) -> Histogram:
    """By tenths, as the trainer keeps it."""
    edges = np.unique(np.quantile(values, np.arange(1, 10) / 10, method="inverted_cdf"))
    return Histogram(edges=tuple(edges.tolist()), counts=tuple(places(edges, values)))


def places(edges: Values, values: Values) -> list[int]:
    """Rows in each cell: `domain.drift.counted` for a hundred thousand rows at once."""
    found: list[int] = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1).tolist()
    return found


def compared(
    generator: np.random.Generator, feature: str, training: int, rows: int, shift: float = 0.0
) -> FeatureDrift:
    """What a day's report says of one feature."""
    known = histogram(leads(generator, feature, training))
    counts = places(np.array(known.edges), leads(generator, feature, rows) + shift)
    return feature_drift(feature, 0.0, known, counts, DAILY_ALPHA / (2 * len(FEATURES)))


def alarms(generator: np.random.Generator, repetitions: int, training: int, rows: int) -> float:
    """Share of days with an alarm where nothing has changed."""
    found = (any(compared(generator, one, training, rows).alarm for one in FEATURES) for _ in range(repetitions))
    return sum(found) / repetitions


def seen(generator: np.random.Generator, repetitions: int, rows: int, shift: float) -> float:
    """Share of days with an alarm where a normal feature has shifted by so many standard deviations."""
    found = (compared(generator, "normal", TRAININGS[-1], rows, shift).alarm for _ in range(repetitions))
    return sum(found) / repetitions


def injected(generator: np.random.Generator, sigmas: float) -> float:
    """The drift score of 1,000 rows whose details are `sigmas` longer."""
    before = {name: leads(generator, name, 20_000) for name in FEATURES}
    stats = FeatureStats(
        **{
            name: Stats(mean=float(one.mean()), std=float(one.std()), min=float(one.min()), max=float(one.max()))
            for name, one in before.items()
        }
    )
    now = {name: leads(generator, name, 1_000).tolist() for name in FEATURES}
    now["details_len"] = [value + sigmas * stats.details_len.std for value in now["details_len"]]
    return drift_score(stats, now)


def measure(repetitions: int, seed: int) -> dict[str, Any]:
    """All measurements; the largest days are repeated a fifth as often."""
    started = time.monotonic()
    generator = np.random.default_rng(seed)
    false, power = {}, {}
    for training in TRAININGS:
        for rows in DAYS:
            times = repetitions if rows < DAYS[-1] else repetitions // 5
            false[f"training {training}, day {rows}"] = round(alarms(generator, times, training, rows), 5)
    for shift in SHIFTS:
        for rows in DAYS[:-1]:
            power[f"shift {shift}, day {rows}"] = round(seen(generator, repetitions // 10, rows, shift), 3)
    return {
        "stated": DAILY_ALPHA,
        "repetitions": repetitions,
        "chance_error": round(math.sqrt(DAILY_ALPHA * (1 - DAILY_ALPHA) / repetitions), 5),
        "false_alarms": false,
        "false_alarms_mean": round(sum(false.values()) / len(false), 5),
        "false_alarms_worst": max(false.values()),
        "power": power,
        "score_at_0_sigma": round(injected(generator, 0.0), 3),
        "score_at_4_sigma": round(injected(generator, 4.0), 3),
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.drift", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5_000, help="days of each case (default 5000)")
    parser.add_argument("--seed", type=int, default=1, help="of all chance (default 1)")
    parser.add_argument("--json", action="store_true", help="one JSON line (it is the only form)")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.repetitions, arguments.seed)))


if __name__ == "__main__":
    main()
