"""Training: how long it takes, how good its models are beside scikit-learn itself, and what shuffled labels give.

`python -m bench.training --json`: the public data set from its CSV export to an artifact, on several splits; made
transactions in three sizes. `auc_difference` and `accuracy_difference` are to a pipeline fitted without the trainers on
the same split; `control` is what a model of shuffled labels reaches.
"""

import argparse
import json
import time
from typing import Any

from sklearn.metrics import accuracy_score, roc_auc_score

from activities.trainers import train_lead, train_transactions
from bench.made_transactions import made_transactions
from bench.public_leads import public_leads
from bench.scoring import direct_lead, direct_transactions, lead_matrix, transaction_matrix
from domain.artifact import artifact_bytes
from domain.outcomes_csv import read_outcomes, write_outcomes
from domain.training_data import check_data


def leads(splits: int) -> dict[str, Any]:
    """The lead model."""
    text = write_outcomes(public_leads())
    started = time.monotonic()
    rows = read_outcomes(text)
    check = check_data(rows, 100)
    checked = time.monotonic()
    fits = [train_lead(rows, version=1, seed=seed) for seed in range(splits)]
    seconds = (time.monotonic() - checked) / splits
    differences = []
    for seed, fit in enumerate(fits):
        direct = direct_lead(rows, seed).predict_proba(lead_matrix(fit.held_out))[:, 1]
        differences.append(abs(fit.artifact.metrics.auc - roc_auc_score(fit.labels, direct)))
    controls = [train_lead(rows, version=1, seed=seed, control=True).artifact.metrics.auc for seed in range(splits)]
    return {
        "rows": len(rows),
        "fit_to_train_on": check.ok,
        "read_and_check_seconds": round(checked - started, 3),
        "train_seconds": round(seconds, 3),
        "auc": [round(fit.artifact.metrics.auc, 4) for fit in fits],
        "auc_difference": max(differences),
        "control_auc": {"lowest": round(min(controls), 4), "highest": round(max(controls), 4)},
        "artifact_bytes": len(artifact_bytes(fits[0].artifact)),
    }


def transactions(count: int) -> dict[str, Any]:
    """The classifier."""
    rows = made_transactions(count, 1)
    started = time.monotonic()
    fit = train_transactions(rows, version=1, seed=1)
    seconds = time.monotonic() - started
    direct = accuracy_score(fit.labels, direct_transactions(rows, 1).predict(transaction_matrix(fit.held_out)))
    control = train_transactions(rows, version=1, seed=1, control=True).artifact.metrics
    return {
        "rows": count,
        "train_seconds": round(seconds, 3),
        "accuracy": round(fit.artifact.metrics.accuracy, 4),
        "accuracy_difference": abs(fit.artifact.metrics.accuracy - float(direct)),
        "control_accuracy": round(control.accuracy, 4),
        "baseline_rate": round(control.baseline_rate, 4),
        "artifact_bytes": len(artifact_bytes(fit.artifact)),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.training", description=__doc__)
    parser.add_argument("--splits", type=int, default=20, help="of the public data set (default 20)")
    parser.add_argument("--json", action="store_true", help="one JSON line (it is the only form)")
    arguments = parser.parse_args()
    sizes = [transactions(count) for count in (200, 1_000, 5_000)]
    print(json.dumps({"lead": leads(arguments.splits), "transactions": sizes}))


if __name__ == "__main__":
    main()
