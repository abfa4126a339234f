"""Classification of expenses: how sure a pattern is, which source decides, and when a person does."""

import math
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from domain.artifact import Classified
from domain.classification import (
    Classification,
    Feedback,
    Pattern,
    Similar,
    classify,
    confidence,
    feedback_id,
    pattern_of,
)

SAID = {
    "user_id": UUID(int=1),
    "business_id": UUID(int=2),
    "entity_type": "transaction_classification",
    "entity_id": "41",
    "ai_prediction": "other",
    "user_correction": "transport",
    "item_description": "Uber to client",
    "amount": "4500",
    "correction_type": "full_override",
}


def pattern(sure: float, category: str = "transport") -> Pattern:
    return Pattern(
        item_pattern="uber to client", category=category, occurrence_count=20, correct_predictions=20,
        total_amount=Decimal(1), confidence=sure,
    )  # fmt: skip


def said(
    *patterns: Pattern,
    similar: tuple[float, float] | None = None,
    model: tuple[str, float] | None = None,
    amount: str | None = "100",
) -> Classification:
    like = None if similar is None else Similar(pattern=pattern(similar[0], "fuel"), similarity=similar[1])
    says = None if model is None else Classified(category=model[0], confidence=model[1])
    return classify(patterns, like, says, None if amount is None else Decimal(amount), 0.7)


@pytest.mark.parametrize(
    ("correct", "occurrences", "expected"),
    # By hand: 1 - e^-0.1, 1 - e^-1, half of it, 1 - e^-1.7, and what never happened right.
    [(1, 1, 0.0951626), (10, 10, 0.6321206), (5, 10, 0.3160603), (17, 17, 0.8173165), (0, 3, 0.0)],
)
def test_the_confidence_of_a_pattern(correct: int, occurrences: int, expected: float) -> None:
    assert confidence(correct, occurrences) == pytest.approx(expected, abs=1e-7)


def test_a_sure_pattern_wins_over_the_model() -> None:
    found = said(pattern(0.81), model=("meals", 0.99))
    assert (found.category, found.source, found.ask) == ("transport", "pattern", False)
    assert said(pattern(0.80), model=("meals", 0.99)).source != "pattern", "0.80 itself is not above it"


@pytest.mark.parametrize(("amount", "asks"), [("500000", False), ("500000.01", True), ("-600000", True), (None, False)])
def test_a_large_amount_is_a_persons(amount: str | None, asks: bool) -> None:
    assert said(pattern(0.9), amount=amount).ask is asks


@pytest.mark.parametrize(("sure", "expected"), [(0.55, 0.75), (0.79, 0.99), (0.80, 0.99)])
def test_agreement_adds_to_the_confidence(sure: float, expected: float) -> None:
    found = said(pattern(sure), model=("transport", 0.3))
    assert (found.source, found.category, found.ask) == ("pattern_and_model", "transport", False)
    assert found.confidence == pytest.approx(expected)


def test_where_pattern_and_model_differ_a_person_decides() -> None:
    for sure, model, suggested in ((0.75, 0.71, "transport"), (0.6, 0.95, "meals")):
        found = said(pattern(sure), model=("meals", model))
        assert (found.category, found.ask) == (suggested, True)
        assert "transport" in found.reason
        assert "meals" in found.reason


def test_a_similar_description_counts_before_the_model() -> None:
    found = said(similar=(0.95, 0.9), model=("meals", 0.99))
    assert (found.category, found.source, found.ask) == ("fuel", "similar_pattern", False)
    assert found.confidence == pytest.approx(0.855)
    assert said(similar=(0.95, 0.41)).ask
    assert said(similar=(0.95, 0.40), model=("meals", 0.9)).category == "meals", "0.40 itself is not above it"


@pytest.mark.parametrize(("sure", "asks"), [(0.69, True), (0.70, False)])
def test_otherwise_the_model_and_below_its_threshold_a_person(sure: float, asks: bool) -> None:
    found = said(pattern(0.5, "meals"), model=("transport", sure))
    assert (found.category, found.source, found.ask) == ("transport", "model", asks)


def test_without_a_model_what_little_is_known_is_a_suggestion() -> None:
    assert said(pattern(0.2)).model_dump(include={"category", "ask"}) == {"category": "transport", "ask": True}
    nothing = said()
    assert (nothing.category, nothing.confidence, nothing.source, nothing.ask) == (None, 0, "none", True)


def test_every_answer_is_reasoned_in_a_sentence() -> None:
    answers = [
        said(pattern(0.9), amount="600000"), said(pattern(0.6), model=("meals", 0.7)), said(similar=(0.9, 0.5)),
        said(model=("meals", 0.2)), said(),
    ]  # fmt: skip
    for answer in answers:
        assert not answer.reason[0].islower()
        assert answer.reason.endswith(".")


@pytest.mark.parametrize("spelling", ["Uber to Client", "  uber to client\n", "UBER TO CLIENT"])
def test_a_pattern_is_lower_case_and_trimmed(spelling: str) -> None:
    assert pattern_of(spelling) == "uber to client"


def feedback(**changes: Any) -> Feedback:
    return Feedback.model_validate({**SAID, **changes})


def test_the_same_said_again_is_the_same_feedback() -> None:
    first = feedback_id(feedback())
    assert feedback_id(feedback(amount="4500.00")) == first
    others = [
        feedback(user_correction="meals"), feedback(entity_id="42"), feedback(amount="4500.01"), feedback(amount=None),
        feedback(user_id=UUID(int=3)),
    ]  # fmt: skip
    assert len({first, *map(feedback_id, others)}) == 6


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"correction_type": "confirmation"}, "correction_type"),
        ({"user_correction": "other"}, "correction_type"),
        ({"item_description": "  "}, "item_description"),
        ({"item_description": " ", "entity_type": "supplier"}, None),
    ],
)
def test_what_does_not_fit_together_is_named(changes: dict[str, Any], field: str | None) -> None:
    fault = feedback(**changes).fault()
    assert (fault is None) is (field is None)
    assert fault is None or fault.startswith(str(field))


def test_confidence_never_passes_one() -> None:
    assert math.isclose(confidence(10**6, 10**6), 1)
    assert confidence(10**6, 10**6) <= 1
