"""The gate by simulation: how often it lets challengers through whose true quality is known.

`python -m bench.gate --json`: 2,000 held-out rows, 1,000 repetitions of each case. Rows of label 1 have a normal score
around a higher mean than the others, so that the true AUC is known; champion and challenger share a part of their
noise, which sets the paired standard error; probabilities are those that the score implies, hence calibrated. Held-out
rows fall into ten tenants and three categories at random. And 100 real trainings on shuffled labels of public leads.
"""

import argparse
import json
import math
import time
from collections import Counter
from statistics import NormalDist, fmean
from typing import Any, Literal, TypeAlias

import numpy as np

from bench.public_leads import public_leads
from domain.evaluation import Flags, Floats, auc, compare, control_runs, evaluate
from domain.gate import GateDecision, GateInput, decide
from domain.model_metrics import Control

MINIMUM = 0.65
CHAMPION = 0.78
BASE_RATE = 0.3
SHARED = (0.99, 0.95, 0.9, 0.875, 0.7, 0.0)
"""Correlation of the two models' noise: from nearly the same model to another family."""

Fault: TypeAlias = Literal["none", "overconfident", "inverted_tenant", "overlap"]


def score(hits: Flags, area: float, noise: Floats) -> Floats:
    """Scores whose true AUC is `area`, given standard normal noise."""
    return noise + hits * math.sqrt(2) * NormalDist().inv_cdf(area)


def probability(scores: Floats, area: float, sharpness: float = 1.0) -> Floats:
    """What such a score says of its row; a sharpness above 1 is overconfident."""
    apart = math.sqrt(2) * NormalDist().inv_cdf(area)
    odds = apart * scores - apart**2 / 2 + math.log(BASE_RATE / (1 - BASE_RATE))
    found: Floats = 1 / (1 + np.exp(-sharpness * odds))
    return found


def judged(
    generator: np.random.Generator,
    rows: int,
    *,
    challenger: float,
    shared: float,
    fault: Fault = "none",
    champion: bool = True,
    shuffled: bool = False,
) -> tuple[GateDecision, float]:
    """One repetition: what the gate says, and the paired standard error (0 without a champion)."""
    hits = generator.random(rows) < BASE_RATE
    common, ours, theirs = generator.standard_normal((3, rows))
    tenants = generator.integers(10, size=rows)
    before = score(hits, CHAMPION, math.sqrt(shared) * common + math.sqrt(1 - shared) * theirs)
    after = score(hits, challenger, math.sqrt(shared) * common + math.sqrt(1 - shared) * ours)
    if fault == "inverted_tenant":
        after[tenants == 0] *= -1
    said = probability(after, challenger, 2.0 if fault == "overconfident" else 1.0)
    labels = generator.permutation(hits) if shuffled else hits
    evaluation = evaluate(
        labels.astype(int).tolist(),
        said.tolist(),
        {"tenant": tenants.astype(str).tolist(), "category": generator.integers(3, size=rows).astype(str).tolist()},
        seed=0,
        resamples=10,
    )
    paired = compare(labels.astype(int).tolist(), said.tolist(), probability(before, CHAMPION).tolist())
    runs = control_runs(evaluation, MINIMUM)
    control = fmean(auc(generator.permutation(hits), after) for _ in range(runs))
    decision = decide(
        GateInput(
            evaluation=evaluation,
            minimum=MINIMUM,
            champion=paired if champion else None,
            overlap=int(fault == "overlap"),
            control=Control(runs=runs, quality=control),
        )
    )
    return decision, paired.quality.standard_error if champion else 0.0


def case(repetitions: int, rows: int, seed: int, **setting: Any) -> dict[str, Any]:
    """One case in numbers: share promoted, mean paired standard error, and how often each check failed."""
    generator = np.random.default_rng(seed)
    found = [judged(generator, rows, **setting) for _ in range(repetitions)]
    failed = Counter(check.name for decision, _ in found for check in decision.checks if not check.ok)
    return {
        "promoted": sum(decision.ok for decision, _ in found) / repetitions,
        "paired_standard_error": round(fmean(error for _, error in found), 5),
        "failed": {name: count / repetitions for name, count in failed.items()},
    }


def trained_on_shuffled(seeds: int) -> dict[str, Any]:
    """The trainer itself on shuffled labels of real rows, with no champion in the way."""
    from activities.trainers import train_lead  # scikit-learn takes seconds to load, and the small version needs none

    rows, passed, areas = public_leads(), 0, []
    for seed in range(seeds):
        fitted = train_lead(rows, version=1, seed=seed, control=True)
        slices = {"tenant": [str(row.tenant_hash) for row in fitted.held_out]}
        evaluation = evaluate(fitted.labels, fitted.probabilities, slices, seed=seed, resamples=10)
        control = Control(runs=1, quality=evaluation.quality.value)
        measured = GateInput(evaluation=evaluation, minimum=MINIMUM, champion=None, overlap=0, control=control)
        passed += decide(measured).ok
        areas.append(evaluation.quality.value)
    return {"trainings": seeds, "promoted": passed / seeds, "highest_auc": round(max(areas), 4)}


def measure(repetitions: int, rows: int, seed: int) -> dict[str, Any]:
    """All cases."""
    started = time.monotonic()
    by_error: list[dict[str, Any]] = []
    for shared in SHARED:
        equal, worse, better = (
            case(repetitions, rows, seed, challenger=CHAMPION + change, shared=shared) for change in (0.0, -0.03, 0.02)
        )
        by_error.append({"shared": shared, "equal": equal, "worse_by_0.03": worse, "better_by_0.02": better})
    others: dict[str, dict[str, Any]] = {
        "shuffled": {"challenger": 0.5, "shared": 0.95, "shuffled": True},
        "shuffled_without_champion": {"challenger": 0.5, "shared": 0.95, "shuffled": True, "champion": False},
        "overconfident": {"challenger": CHAMPION, "shared": 0.99, "fault": "overconfident"},
        "inverted_tenant": {"challenger": CHAMPION + 0.03, "shared": 0.95, "fault": "inverted_tenant"},
        "overlap": {"challenger": CHAMPION + 0.05, "shared": 0.95, "fault": "overlap"},
        "below_minimum": {"challenger": MINIMUM - 0.05, "shared": 0.95, "champion": False},
    }
    return {
        "rows": rows,
        "repetitions": repetitions,
        "by_paired_error": by_error,
        "worse_promoted_at_most": max(one["worse_by_0.03"]["promoted"] for one in by_error),
        "equal_promoted_at_least_up_to_0.006": min(
            one["equal"]["promoted"] for one in by_error if one["equal"]["paired_standard_error"] <= 0.006
        ),
        **{name: case(repetitions, rows, seed, **setting) for name, setting in others.items()},
        "trained_on_shuffled_labels": trained_on_shuffled(repetitions // 10),
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=1_000, help="of each case (default 1000)")
    parser.add_argument("--rows", type=int, default=2_000, help="held out (default 2000)")
    parser.add_argument("--seed", type=int, default=1, help="of all chance (default 1)")
    parser.add_argument("--json", action="store_true", help="one JSON line (it is the only form)")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.repetitions, arguments.rows, arguments.seed)))


if __name__ == "__main__":
    main()
