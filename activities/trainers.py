"""Trainers: labelled rows to an artifact, by scikit-learn. Loads it at once, so only what trains imports this module.

Both families go the same way: split, fit on the larger part, write out as plain JSON, and let the artifact itself judge
the rows held out. The control run is the same with its labels shuffled beforehand.
"""

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from domain.artifact import (
    PIECE_LENGTHS,
    WORD_LENGTHS,
    Encoders,
    FeatureStats,
    Histogram,
    LeadArtifact,
    LeadMetrics,
    Reference,
    Stats,
    Term,
    TransactionsArtifact,
    TransactionsMetrics,
    amount_feature,
    classify,
    encoded,
    score,
)
from domain.leads import Intent, LabelledLead, Sentiment, Urgency
from domain.training_data import LabelledTransaction, split, usable

ENCODERS = Encoders(
    intent={Intent.INFO: 0, Intent.SUPPORT: 1, Intent.LEAD_CAPTURE: 2},
    sentiment={Sentiment.NEGATIVE: 0, Sentiment.NEUTRAL: 1, Sentiment.POSITIVE: 2},
    urgency={Urgency.NORMAL: 0, Urgency.HIGH: 1},
)
"""Each category's number, rising with what one would expect of it; the model decides what it is worth."""

MAX_WORDS, MAX_PIECES = 4_000, 4_000
"""N-grams at most, the most frequent: an artifact of 20 categories stays below 5 MB."""

STRENGTH = 10.0
"""Of the classifier's weights, the inverse of their penalty: with less its confidence lies far below its accuracy, and
people would be asked what the model knows."""

_BINS = 10
_ITERATIONS = 5_000


@dataclass(frozen=True)
class Fitted:
    """A trained lead model, and what it says of the rows that it has not seen."""

    artifact: LeadArtifact
    train_ids: tuple[str, ...]
    held_out: tuple[LabelledLead, ...]
    probabilities: tuple[float, ...]
    """Of booking, for each row held out."""

    @property
    def labels(self) -> tuple[int, ...]:
        """Of the rows held out."""
        return tuple(row.label for row in self.held_out)


@dataclass(frozen=True)
class FittedTransactions:
    """A trained classifier, and what it says of the rows that it has not seen."""

    artifact: TransactionsArtifact
    train_ids: tuple[str, ...]
    held_out: tuple[LabelledTransaction, ...]
    predicted: tuple[str, ...]
    """The likeliest category of each row held out."""
    confidences: tuple[float, ...]
    set_aside: tuple[str, ...]
    """Ids of the rows of categories too rare to learn."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the rows held out."""
        return tuple(row.category for row in self.held_out)


def train_lead(rows: Sequence[LabelledLead], *, version: int, seed: int, control: bool = False) -> Fitted:
    """A logistic regression with balanced classes on the seven features.

    Args:
        rows: fit to train on (`check_data`).
        version: of the artifact.
        seed: of the split and of the control's shuffle.
        control: shuffle the labels of all rows first: what is learnt then is nothing, and the gate must see it.
    """
    rows = _shuffled(rows, "outcome", seed) if control else rows
    train, held_out = _parts(rows, [row.lead_id for row in rows], [row.label for row in rows], seed)
    features = np.array([_numbers(row) for row in train], dtype=np.float64)
    scaler = StandardScaler().fit(features)
    labels = [row.label for row in train]
    fitted = LogisticRegression(class_weight="balanced", max_iter=_ITERATIONS).fit(scaler.transform(features), labels)
    coefficients = fitted.coef_[0] / scaler.scale_
    artifact = LeadArtifact(
        version=version,
        coefficients=tuple(coefficients.tolist()),
        intercept=float(fitted.intercept_[0] - coefficients @ scaler.mean_),
        encoders=ENCODERS,
        fills=tuple(scaler.mean_.tolist()),
        tenants=tuple(sorted({row.tenant_hash for row in train})),
        feature_stats=FeatureStats(
            score=_stats(features[:, 0]), details_len=_stats(features[:, 1]), hour=_stats(features[:, 2])
        ),
        reference=Reference(
            score=_histogram(features[:, 0]), details_len=_histogram(features[:, 1]), hour=_histogram(features[:, 2])
        ),
        metrics=LeadMetrics(
            auc=0.0, n_train=len(train), n_test=len(held_out), baseline_rate=sum(row.label for row in rows) / len(rows)
        ),
    )
    probabilities = tuple(score(artifact, row) for row in held_out)
    auc = float(roc_auc_score([row.label for row in held_out], probabilities))
    measured = artifact.model_copy(update={"metrics": artifact.metrics.model_copy(update={"auc": auc})})
    return Fitted(measured, tuple(row.lead_id for row in train), tuple(held_out), probabilities)


def train_transactions(
    rows: Sequence[LabelledTransaction], *, version: int, seed: int, control: bool = False
) -> FittedTransactions:
    """TF-IDF of words, pairs of words and pieces of words, the amount's logarithm, and a logistic regression.

    Args:
        rows: fit to train on (`check_data`); those of categories too rare are set aside.
        version: of the artifact.
        seed: of the split and of the control's shuffle.
        control: shuffle the labels of all rows first.
    """
    kept = usable(rows)
    set_aside = {row.id for row in rows} - {row.id for row in kept}
    kept = _shuffled(kept, "category", seed) if control else kept
    train, held_out = _parts(kept, [row.id for row in kept], [row.category for row in kept], seed)
    texts = [row.text or "" for row in train]
    words = TfidfVectorizer(analyzer="word", ngram_range=WORD_LENGTHS, sublinear_tf=True, max_features=MAX_WORDS)
    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=PIECE_LENGTHS, sublinear_tf=True, max_features=MAX_PIECES)
    amounts = np.array([[amount_feature(row.amount or 0.0)] for row in train])
    scaler = StandardScaler().fit(amounts)
    matrix = sparse.hstack([words.fit_transform(texts), pieces.fit_transform(texts), scaler.transform(amounts)]).tocsr()
    fitted = LogisticRegression(class_weight="balanced", C=STRENGTH, max_iter=_ITERATIONS)
    fitted.fit(matrix, [row.category for row in train])
    weights, intercepts = _each_category(fitted)
    on_amount = weights[:, -1] / scaler.scale_[0]
    counts = Counter(row.category for row in kept)
    artifact = TransactionsArtifact(
        version=version,
        categories=tuple(str(category) for category in fitted.classes_),
        words=_terms(words, weights[:, : len(words.idf_)]),
        pieces=_terms(pieces, weights[:, len(words.idf_) : -1]),
        amount_weights=tuple(on_amount.tolist()),
        amount_fill=float(scaler.mean_[0]),
        intercepts=tuple((intercepts - on_amount * scaler.mean_[0]).tolist()),
        metrics=TransactionsMetrics(
            accuracy=0.0,
            n_train=len(train),
            n_test=len(held_out),
            baseline_rate=max(counts.values()) / len(kept),
        ),
    )
    said = [classify(artifact, row.text or "", row.amount) for row in held_out]
    predicted = tuple(one.category for one in said)
    accuracy = float(accuracy_score([row.category for row in held_out], predicted))
    measured = artifact.model_copy(update={"metrics": artifact.metrics.model_copy(update={"accuracy": accuracy})})
    return FittedTransactions(
        artifact=measured,
        train_ids=tuple(row.id for row in train),
        held_out=tuple(held_out),
        predicted=predicted,
        confidences=tuple(one.confidence for one in said),
        set_aside=tuple(sorted(set_aside)),
    )


def _parts(
    rows: Sequence[Any], ids: Sequence[str], labels: Sequence[int | str], seed: int
) -> tuple[list[Any], list[Any]]:
    held_out = set(split(ids, labels, seed).held_out)
    pairs = list(zip(rows, ids, strict=True))
    return [row for row, one in pairs if one not in held_out], [row for row, one in pairs if one in held_out]


def _shuffled(rows: Sequence[Any], label: str, seed: int) -> tuple[Any, ...]:
    labels = [getattr(row, label) for row in rows]
    random.Random(seed).shuffle(labels)  # noqa: S311 - repeatable on purpose
    return tuple(row.model_copy(update={label: one}) for row, one in zip(rows, labels, strict=True))


def _numbers(row: LabelledLead) -> list[float]:
    values = encoded(ENCODERS, row)
    assert all(value is not None for value in values), "check_data has refused rows with nulls"
    return [float(value) for value in values if value is not None]


def _stats(values: Any) -> Stats:
    return Stats(mean=float(values.mean()), std=float(values.std()), min=float(values.min()), max=float(values.max()))


def _histogram(values: Any) -> Histogram:
    edges = np.unique(np.quantile(values, np.arange(1, _BINS) / _BINS, method="inverted_cdf")).tolist()
    places = Counter(bisect_left(edges, value) for value in values.tolist())
    return Histogram(edges=tuple(edges), counts=tuple(places[place] for place in range(len(edges) + 1)))


def _each_category(fitted: LogisticRegression) -> tuple[Any, Any]:
    """Weights and intercepts with one line for each category; of two, scikit-learn keeps the second's alone."""
    if len(fitted.classes_) > 2:
        return fitted.coef_, fitted.intercept_
    return np.vstack([np.zeros_like(fitted.coef_), fitted.coef_]), np.array([0.0, fitted.intercept_[0]])


def _terms(vectorizer: TfidfVectorizer, weights: Any) -> dict[str, Term]:
    return {
        term: Term(idf=float(vectorizer.idf_[place]), weights=tuple(weights[:, place].tolist()))
        for term, place in vectorizer.vocabulary_.items()
    }
