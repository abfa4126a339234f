"""Classification of expenses: what people's corrections have taught, the trained model, and when a person is asked.

Confidence of a pattern, order and thresholds: the specification's "Feedback learning". They are heuristics.
"""

import math
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID, uuid5

from pydantic import Field, StringConstraints

from domain.artifact import Classified
from domain.base import Model
from domain.canonical import canonical_json

PATTERN_WINS = 0.80
"""A pattern above it decides alone."""
PATTERN_COUNTS = 0.50
"""A pattern above it is compared with the model, and may stand for a similar description."""
AGREEMENT_ADDS, AGREEMENT_CAP = 0.20, 0.99
SIMILAR = 0.40
"""Trigram similarity above which another description counts as the same thing."""
ASK_ABOVE = Decimal(500_000)
"""Naira; above it a person decides, however sure the answer is."""

_FEEDBACK_NAMESPACE = UUID("0d2b5c0e-8a2f-5d7e-9c41-6f1f3b8e2a77")
"""Fixed for ever: changing it would take every feedback in a second time."""


class EntityType(StrEnum):
    """What a person corrected or confirmed."""

    INVOICE_ITEM = "invoice_item"
    EXPENSE_CATEGORY = "expense_category"
    SUPPLIER = "supplier"
    TRANSACTION_CLASSIFICATION = "transaction_classification"


CLASSIFIED = (EntityType.EXPENSE_CATEGORY, EntityType.TRANSACTION_CLASSIFICATION)
"""Feedback about a category, of which patterns and the transactions model learn."""


class CorrectionType(StrEnum):
    """How far the person changed what the model said."""

    CONFIRMATION = "confirmation"
    PARTIAL_EDIT = "partial_edit"
    FULL_OVERRIDE = "full_override"


Category = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Amount = Annotated[Decimal, Field(max_digits=18, decimal_places=2)]
"""Naira and kobo."""


class Feedback(Model):
    """What a person said about one prediction."""

    user_id: UUID
    business_id: UUID | None = None
    entity_type: EntityType
    entity_id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    ai_prediction: Category
    user_correction: Category
    item_description: Annotated[str, StringConstraints(strip_whitespace=True, max_length=2_000)] = ""
    amount: Amount | None = None
    correction_type: CorrectionType
    ai_model_version: Annotated[str, StringConstraints(max_length=100)] | None = None

    def fault(self) -> str | None:
        """What does not fit together; None when all does."""
        if (self.correction_type is CorrectionType.CONFIRMATION) != (self.ai_prediction == self.user_correction):
            return "correction_type is confirmation exactly when user_correction repeats ai_prediction"
        if self.entity_type in CLASSIFIED and not pattern_of(self.item_description):
            return f"item_description is missing, of which {self.entity_type} feedback is learned"
        return None


class StoredFeedback(Feedback):
    """One row of ai_feedback."""

    id: UUID
    used_in_training: bool
    training_batch_id: str | None
    trained_at: datetime | None
    created_at: datetime
    """When it was taken in, so that a cut-off divides what a training saw from what it did not."""


class Pattern(Model):
    """What one business calls a thing, and how sure that is."""

    item_pattern: str
    category: str
    occurrence_count: Annotated[int, Field(ge=1)]
    """Feedback on this description."""
    correct_predictions: Annotated[int, Field(ge=0)]
    """Of it, those that named this category."""
    total_amount: Decimal
    confidence: Annotated[float, Field(ge=0, le=1)]


class Similar(Model):
    """A pattern of another description, and how similar that is, by trigrams from 0 to 1."""

    pattern: Pattern
    similarity: float


Source = Literal["pattern", "pattern_and_model", "similar_pattern", "model", "none"]


class Classification(Model):
    """What an expense is taken for."""

    category: str | None
    """None: nothing is known of it."""
    confidence: float
    source: Source
    ask: bool
    """Whether a person decides; `category` is a suggestion then."""
    reason: str
    """Why so, in a sentence."""


def feedback_id(said: Feedback) -> UUID:
    """Its id: the same said about the same thing by the same person is one feedback, whenever it is brought in."""
    fields = said.model_dump(mode="json", include=Feedback.model_fields.keys() - {"amount"})
    fields["amount"] = None if said.amount is None else f"{said.amount:.2f}"
    return uuid5(_FEEDBACK_NAMESPACE, canonical_json(fields).decode())


def pattern_of(description: str) -> str:
    """The description as patterns are kept: lower case, trimmed, at most 500 characters."""
    return description.strip().lower()[:500].rstrip()


def confidence(correct: int, occurrences: int) -> float:
    """min(1, correct / occurrences * (1 - exp(-occurrences / 10))), so that a share counts by what is behind it."""
    return min(1.0, correct / occurrences * (1 - math.exp(-occurrences / 10)))


def classify(
    patterns: Sequence[Pattern],
    similar: Similar | None,
    model: Classified | None,
    amount: Decimal | None,
    threshold: float,
) -> Classification:
    """Decide what an expense is.

    A pattern above 0.80 wins. One above 0.50 is compared with the model: agreement adds 0.20 (at most 0.99), and where
    they differ the surer one is suggested and a person decides. Then a pattern of a similar description counts, its
    confidence lessened by the similarity; otherwise the model. Whatever said it: below `threshold`, above 500,000
    naira, or when nothing is known, a person is asked.

    Args:
        patterns: of the same description.
        similar: the best of another description.
        model: what the active model says; None when there is none.
        amount: naira; None when it is not known.
        threshold: MODEL_CONFIDENCE_THRESHOLD.
    """
    best = max(patterns, key=lambda pattern: (pattern.confidence, pattern.category), default=None)
    if best is not None and best.confidence > PATTERN_WINS:
        why = f"{best.correct_predictions} of {best.occurrence_count} corrections say so"
        return _asked(best.category, best.confidence, "pattern", why, amount, threshold)
    if best is not None and best.confidence > PATTERN_COUNTS and model is not None:
        if model.category == best.category:
            sure = min(AGREEMENT_CAP, best.confidence + AGREEMENT_ADDS)
            why = "corrections and the model agree"
            return _asked(best.category, sure, "pattern_and_model", why, amount, threshold)
        by_pattern = best.confidence >= model.confidence
        return Classification(
            category=best.category if by_pattern else model.category,
            confidence=max(best.confidence, model.confidence),
            source="pattern" if by_pattern else "model",
            ask=True,
            reason=f"Corrections say {best.category} and the model says {model.category}.",
        )
    if similar is not None and similar.similarity > SIMILAR:
        sure = similar.similarity * similar.pattern.confidence
        why = f"it is like {similar.pattern.item_pattern[:80]!r}"
        return _asked(similar.pattern.category, sure, "similar_pattern", why, amount, threshold)
    if model is not None:
        return _asked(model.category, model.confidence, "model", "the model says so", amount, threshold)
    if best is not None:
        return _asked(best.category, best.confidence, "pattern", "a few corrections say so", amount, threshold)
    return Classification(
        category=None, confidence=0, source="none", ask=True, reason="Nothing like it is known, and no model is active."
    )


def _asked(
    category: str, sure: float, source: Source, why: str, amount: Decimal | None, threshold: float
) -> Classification:
    doubts = []
    if amount is not None and abs(amount) > ASK_ABOVE:
        doubts.append(f"the amount is above {ASK_ABOVE:,} naira")
    if sure < threshold:
        doubts.append(f"{sure:.2f} is below {threshold:g}")
    reason = f"{why}; a person decides, as {' and '.join(doubts)}" if doubts else why
    return Classification(
        category=category, confidence=sure, source=source, ask=bool(doubts), reason=f"{reason[:1].upper()}{reason[1:]}."
    )
