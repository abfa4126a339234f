"""Scoring in process: how long one row takes, and how far the artifact is from scikit-learn.

`python -m bench.scoring --json`: the lead model of the public data set and a classifier of made transactions, 10,000
rows each, one by one; differences are the largest between the artifact's probabilities and those of `predict_proba` of
a pipeline fitted here on the same rows, without a line of the trainers.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from statistics import quantiles
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from activities.trainers import MAX_PIECES, MAX_WORDS, train_lead, train_transactions
from bench.made_transactions import made_transactions
from bench.public_leads import public_leads
from domain import artifact
from domain.leads import TENANT_HASHES, Intent, LabelledLead, LeadRow, Sentiment, Urgency
from domain.training_data import LabelledTransaction, split

SEED = 1
_INTENTS = (Intent.INFO, Intent.SUPPORT, Intent.LEAD_CAPTURE)
_SENTIMENTS = (Sentiment.NEGATIVE, Sentiment.NEUTRAL, Sentiment.POSITIVE)
_URGENCIES = (Urgency.NORMAL, Urgency.HIGH)


def any_rows(count: int, seed: int) -> list[LeadRow]:
    """Rows from all over the ranges of the features, most of them of tenants that training did not see."""
    chance = random.Random(seed)
    return [
        LeadRow(
            lead_id=str(number),
            tenant_hash=chance.randrange(TENANT_HASHES),
            intent=chance.choice(_INTENTS),
            sentiment=chance.choice(_SENTIMENTS),
            urgency=chance.choice(_URGENCIES),
            score=round(chance.uniform(0.5, 0.8), 2),
            details_len=int(chance.expovariate(1 / 300)),
            hour_of_day=chance.randrange(24),
        )
        for number in range(count)
    ]


def lead_matrix(rows: Sequence[LeadRow]) -> Any:
    """The seven features as numbers, encoded here once more."""
    return np.array(
        [
            [
                row.score, row.details_len, row.hour_of_day, row.tenant_hash,
                [str(one) for one in _INTENTS].index(row.intent or ""),
                [str(one) for one in _SENTIMENTS].index(row.sentiment or ""),
                [str(one) for one in _URGENCIES].index(row.urgency or ""),
            ]
            for row in rows
        ],
        dtype=np.float64,
    )  # fmt: skip


def direct_lead(rows: Sequence[LabelledLead], seed: int) -> Pipeline:
    """Scikit-learn alone, fitted on the same part of the rows; a tenant that it has not seen is a missing value."""
    train = set(split([row.lead_id for row in rows], [row.label for row in rows], seed).train)
    part = lead_matrix([row for row in rows if row.lead_id in train])
    pipeline = make_pipeline(
        FunctionTransformer(_known_tenants, kw_args={"tenants": np.unique(part[:, 3])}),
        SimpleImputer(strategy="mean"),
        StandardScaler(),
        LogisticRegression(class_weight="balanced", max_iter=5_000),
    )
    return pipeline.fit(part, [row.label for row in rows if row.lead_id in train])


def _known_tenants(features: Any, tenants: Any) -> Any:
    known = features.copy()
    known[~np.isin(features[:, 3], tenants), 3] = np.nan
    return known


def direct_transactions(rows: Sequence[LabelledTransaction], seed: int) -> Pipeline:
    """Scikit-learn alone, fitted on the same part of the rows, with its own analysers."""
    train = set(split([row.id for row in rows], [row.category for row in rows], seed).train)
    part = [row for row in rows if row.id in train]
    pipeline = make_pipeline(
        ColumnTransformer(
            [
                ("words", TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=MAX_WORDS), 0),
                (
                    "pieces",
                    TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True, max_features=MAX_PIECES),
                    0,
                ),
                ("amount", make_pipeline(FunctionTransformer(_logarithm), StandardScaler()), [1]),
            ],
            sparse_threshold=1,
        ),
        LogisticRegression(class_weight="balanced", C=10.0, max_iter=5_000),
    )
    return pipeline.fit(transaction_matrix(part), [row.category for row in part])


def _logarithm(amounts: Any) -> Any:
    return np.log1p(np.abs(amounts.astype(np.float64)))


def transaction_matrix(rows: Sequence[LabelledTransaction]) -> Any:
    """Text and amount as two columns."""
    return np.array([[row.text, row.amount] for row in rows], dtype=object)


def timed(call: Callable[[Any], Any], rows: Sequence[Any]) -> tuple[list[Any], dict[str, float]]:
    """What a call gives for each row, and milliseconds of one."""
    given, took = [], []
    for row in rows:
        started = time.perf_counter()
        given.append(call(row))
        took.append(1_000 * (time.perf_counter() - started))
    cuts = quantiles(took, n=100)
    return given, {name: round(cuts[rank - 1], 4) for name, rank in (("p50_ms", 50), ("p95_ms", 95), ("p99_ms", 99))}


def measure(count: int) -> dict[str, Any]:
    """Both families."""
    leads = public_leads()
    model = train_lead(leads, version=1, seed=SEED).artifact
    rows = any_rows(count, SEED)
    given, lead_times = timed(lambda row: artifact.score(model, row), rows)
    expected = direct_lead(leads, SEED).predict_proba(lead_matrix(rows))[:, 1]
    made, others = made_transactions(2_000, SEED), made_transactions(count, SEED + 1)
    classifier = train_transactions(made, version=1, seed=SEED).artifact
    said, times = timed(lambda row: artifact.probabilities(classifier, row.text, row.amount), others)
    likely = direct_transactions(made, SEED).predict_proba(transaction_matrix(others))
    return {
        "rows": count,
        "lead": {**lead_times, "largest_difference": float(np.abs(np.array(given) - expected).max())},
        "transactions": {
            **times,
            "largest_difference": float(np.abs(np.array([list(one.values()) for one in said]) - likely).max()),
            "artifact_bytes": len(artifact.artifact_bytes(classifier)),
        },
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.scoring", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000, help="of each family (default 10,000)")
    parser.add_argument("--json", action="store_true", help="one JSON line (it is the only form)")
    print(json.dumps(measure(parser.parse_args().rows)))


if __name__ == "__main__":
    main()
