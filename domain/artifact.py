"""Trained models as plain JSON: what a version is, and how it scores. A pure function of artifact and row.

Nothing here needs the library that trained them: what scikit-learn fitted is written out as numbers, scaling folded in.
"""

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from domain.base import Model
from domain.canonical import canonical_json, sha256_hex
from domain.leads import LeadRow, TenantHash
from domain.text import cut

FEATURES = ("score", "details_len", "hour_of_day", "tenant_hash", "intent_enc", "sentiment_enc", "urgency_enc")
"""Of the lead model, in the order of its coefficients."""

Number = Annotated[float, Field(allow_inf_nan=False)]


def _features(names: tuple[str, ...]) -> tuple[str, ...]:
    if names != FEATURES:
        raise ValueError(f"the features of a lead model are {', '.join(FEATURES)}, in this order")
    return names


class Encoders(Model):
    """The number of each category."""

    intent: dict[str, Number]
    sentiment: dict[str, Number]
    urgency: dict[str, Number]


class Stats(Model):
    """One feature in the training rows; `std` with n in the denominator."""

    mean: Number
    std: Annotated[Number, Field(ge=0)]
    min: Number
    max: Number


class FeatureStats(Model):
    """What the drift score is measured against."""

    score: Stats
    details_len: Stats
    hour: Stats


class Histogram(Model):
    """One feature in the training rows, by tenths at most: `counts[i]` rows lie above `edges[i - 1]` and at or below
    `edges[i]`; the first and the last are open. So a value's place is `bisect_left(edges, value)`.
    """

    edges: tuple[Number, ...]
    counts: tuple[Annotated[int, Field(ge=0)], ...]


class Reference(Model):
    """What distributions are compared with."""

    score: Histogram
    details_len: Histogram
    hour: Histogram


class LeadMetrics(Model):
    """On the held-out rows."""

    auc: Number
    n_train: int
    n_test: int
    baseline_rate: Number
    """Share of booked leads in all rows."""


Seven = Annotated[tuple[Number, ...], Field(min_length=len(FEATURES), max_length=len(FEATURES))]


class LeadArtifact(Model):
    """A logistic regression on the seven features as they are encoded, unscaled."""

    model: Literal["lead"] = "lead"
    version: Annotated[int, Field(ge=1)]
    """Epoch seconds."""
    features: Annotated[tuple[str, ...], AfterValidator(_features)] = FEATURES
    coefficients: Seven
    intercept: Number
    encoders: Encoders
    fills: Seven
    """Means of the encoded training rows: what a missing or unknown value counts as."""
    tenants: tuple[TenantHash, ...]
    """Tenant hashes of the training rows, rising: another one is unknown, as a hash has no neighbours."""
    feature_stats: FeatureStats
    reference: Reference
    metrics: LeadMetrics


class Term(Model):
    """One n-gram: its inverse document frequency, and a weight for each category."""

    idf: Number
    weights: tuple[Number, ...]


class TransactionsMetrics(Model):
    """On the held-out rows."""

    accuracy: Number
    n_train: int
    n_test: int
    baseline_rate: Number
    """Share of the most frequent category in all rows: what always guessing it would get."""


class TransactionsArtifact(Model):
    """A logistic regression on words and pieces of words, by TF-IDF, and on the amount."""

    model: Literal["transactions"] = "transactions"
    version: Annotated[int, Field(ge=1)]
    categories: Annotated[tuple[str, ...], Field(min_length=2)]
    words: dict[str, Term]
    """Words and pairs of words."""
    pieces: dict[str, Term]
    """Three and four letters in a row, within words, a space where a word begins and ends."""
    amount_weights: tuple[Number, ...]
    """For each category, on `amount_feature`."""
    amount_fill: Number
    """Mean of `amount_feature` in the training rows: what a missing amount counts as."""
    intercepts: tuple[Number, ...]
    metrics: TransactionsMetrics

    @model_validator(mode="after")
    def _each_category_has_weights(self) -> Self:
        terms = (*self.words.values(), *self.pieces.values())
        lengths = {len(self.amount_weights), len(self.intercepts), *(len(term.weights) for term in terms)}
        if lengths != {len(self.categories)}:
            raise ValueError(f"{len(self.categories)} categories need as many weights of every term")
        return self


Artifact = Annotated[LeadArtifact | TransactionsArtifact, Field(discriminator="model")]

_ADAPTER: TypeAdapter[LeadArtifact | TransactionsArtifact] = TypeAdapter(Artifact)


class ArtifactError(ValueError):
    """Bytes are no artifact; the message is a clause that says why."""


def artifact_bytes(artifact: LeadArtifact | TransactionsArtifact) -> bytes:
    """Canonical JSON of an artifact; its SHA-256 is the artifact's hash."""
    return canonical_json(artifact.model_dump(mode="json"))


def artifact_sha256(artifact: LeadArtifact | TransactionsArtifact) -> str:
    """The artifact's hash."""
    return sha256_hex(artifact_bytes(artifact))


def read_artifact(data: bytes) -> LeadArtifact | TransactionsArtifact:
    """The inverse of `artifact_bytes`. Whoever loads one checks hash and signature of the bytes first.

    Raises:
        ArtifactError: they are no artifact.
    """
    try:
        return _ADAPTER.validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ArtifactError(cut(f"the artifact's {where} cannot be read ({first['msg']})", 300)) from error


def encoded(encoders: Encoders, row: LeadRow) -> tuple[float | None, ...]:
    """A row's seven features as numbers, in order; None where the value is missing or its category unknown."""
    return (
        row.score,
        row.details_len,
        row.hour_of_day,
        row.tenant_hash,
        encoders.intent.get(row.intent or ""),
        encoders.sentiment.get(row.sentiment or ""),
        encoders.urgency.get(row.urgency or ""),
    )


def score(artifact: LeadArtifact, row: LeadRow) -> float:
    """The probability that a lead books, 0 to 1.

    A missing value and a category that the encoders do not know count as the mean of the training rows (`fills`), so
    that what is not known moves the score neither way. So does a tenant that training did not see: its hash may be as
    far from all others as any number, and would outweigh everything else.
    """
    if row.tenant_hash is not None and not _among(artifact.tenants, row.tenant_hash):
        row = row.model_copy(update={"tenant_hash": None})
    total = artifact.intercept
    for value, fill, coefficient in zip(
        encoded(artifact.encoders, row), artifact.fills, artifact.coefficients, strict=True
    ):
        total += coefficient * (fill if value is None else value)
    return _sigmoid(total)


def _among(rising: tuple[int, ...], number: int) -> bool:
    place = bisect_left(rising, number)
    return place < len(rising) and rising[place] == number


class Classified(Model):
    """What the model says of a transaction."""

    category: str
    confidence: float
    """Probability of the category, 0 to 1."""


def classify(artifact: TransactionsArtifact, text: str, amount: float | None) -> Classified:
    """The likeliest category. Of equally likely ones the first in order.

    Words that training did not see count for nothing; a text of none but such is judged by its amount alone, and says
    so by a low confidence. A missing amount counts as the mean of the training rows.
    """
    likely = probabilities(artifact, text, amount)
    category = max(likely, key=likely.__getitem__)
    return Classified(category=category, confidence=likely[category])


def probabilities(artifact: TransactionsArtifact, text: str, amount: float | None) -> dict[str, float]:
    """The probability of each category."""
    lowered = text.lower()
    totals = list(artifact.intercepts)
    known = artifact.amount_fill if amount is None else amount_feature(amount)
    for index, weight in enumerate(artifact.amount_weights):
        totals[index] += weight * known
    for vocabulary, terms in ((artifact.words, word_terms(lowered)), (artifact.pieces, piece_terms(lowered))):
        for value, term in _weighed(vocabulary, terms):
            for index, weight in enumerate(term.weights):
                totals[index] += weight * value
    highest = max(totals)
    powers = [math.exp(total - highest) for total in totals]
    whole = math.fsum(powers)
    return {category: power / whole for category, power in zip(artifact.categories, powers, strict=True)}


def amount_feature(amount: float) -> float:
    """Natural logarithm of one more than the amount in naira; whether money came or went is no part of it."""
    return math.log1p(abs(amount))


_WORD = re.compile(r"\b\w\w+\b")

WORD_LENGTHS, PIECE_LENGTHS = (1, 2), (3, 4)
"""Words in a row, and letters of a piece: scikit-learn's `ngram_range` for `word` and `char_wb`."""


def word_terms(lowered: str) -> Iterator[str]:
    """Words of two characters or more, and pairs of neighbours: scikit-learn's `word` analyser."""
    words = _WORD.findall(lowered)
    yield from words
    for first, second in pairwise(words):
        yield f"{first} {second}"


def piece_terms(lowered: str) -> Iterator[str]:
    """Pieces of each word with a space around it; a word shorter than a piece is one piece: the `char_wb` analyser."""
    for word in lowered.split():
        padded = f" {word} "
        for length in range(PIECE_LENGTHS[0], PIECE_LENGTHS[1] + 1):
            yield padded[:length]
            for start in range(1, len(padded) - length + 1):
                yield padded[start : start + length]
            if len(padded) <= length:
                break  # a short word counts once


def _weighed(vocabulary: Mapping[str, Term], terms: Iterator[str]) -> list[tuple[float, Term]]:
    """Known terms with 1 + ln(count) times their idf, scaled to a length of 1."""
    counts = Counter(term for term in terms if term in vocabulary)
    found = [((1 + math.log(count)) * vocabulary[term].idf, vocabulary[term]) for term, count in counts.items()]
    length = math.sqrt(math.fsum(value * value for value, _ in found))
    return [(value / length, term) for value, term in found]


def _sigmoid(total: float) -> float:
    if total >= 0:
        return 1 / (1 + math.exp(-total))
    power = math.exp(total)
    return power / (1 + power)
