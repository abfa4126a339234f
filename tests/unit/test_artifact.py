"""Artifacts: scores by hand, rows with gaps, the same bytes for the same model, and what is refused."""

import json
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from domain.artifact import (
    ArtifactError,
    LeadArtifact,
    TransactionsArtifact,
    artifact_bytes,
    artifact_sha256,
    classify,
    piece_terms,
    probabilities,
    read_artifact,
    score,
    word_terms,
)
from domain.canonical import sha256_hex
from domain.leads import LeadRow

STATS = {"mean": 0.6, "std": 0.1, "min": 0.5, "max": 0.8}
HISTOGRAM = {"edges": [0.6], "counts": [5, 5]}
LEAD: dict[str, Any] = {
    "model": "lead",
    "version": 1_730_483_820,
    "features": ["score", "details_len", "hour_of_day", "tenant_hash", "intent_enc", "sentiment_enc", "urgency_enc"],
    "coefficients": [2.0, 0.01, -0.1, 0.0001, 0.5, 0.25, 1.0],
    "intercept": -2.0,
    "encoders": {
        "intent": {"info": 0, "support": 1, "lead_capture": 2},
        "sentiment": {"negative": 0, "neutral": 1, "positive": 2},
        "urgency": {"normal": 0, "high": 1},
    },
    "fills": [0.6, 100, 12, 5_000, 1.5, 0.75, 0.25],
    "tenants": [17, 1_000, 9_000],
    "feature_stats": {"score": STATS, "details_len": STATS, "hour": STATS},
    "reference": {"score": HISTOGRAM, "details_len": HISTOGRAM, "hour": HISTOGRAM},
    "metrics": {"auc": 0.78, "n_train": 418, "n_test": 105, "baseline_rate": 0.3},
}
ROW = {
    "lead_id": "l-1", "tenant_hash": 1_000, "intent": "lead_capture", "sentiment": "positive", "urgency": "high",
    "score": 0.8, "details_len": 40, "hour_of_day": 10,
}  # fmt: skip
GAPS = {
    "score": 0.6, "details_len": 100, "hour_of_day": 12, "tenant_hash": 5_000,
    "intent": 1.5, "sentiment": 0.75, "urgency": 0.25,
}  # fmt: skip

TRANSACTIONS: dict[str, Any] = {
    "model": "transactions",
    "version": 3,
    "categories": ["fuel", "rent"],
    "words": {"diesel": {"idf": 2.0, "weights": [3.0, 0.0]}, "office rent": {"idf": 1.0, "weights": [0.0, 2.0]}},
    "pieces": {},
    "amount_weights": [0.0, 0.5],
    "amount_fill": 8.0,
    "intercepts": [1.0, 0.0],
    "metrics": {"accuracy": 0.9, "n_train": 80, "n_test": 20, "baseline_rate": 0.5},
}


def lead(**changed: Any) -> LeadArtifact:
    return LeadArtifact.model_validate_json(json.dumps(LEAD | changed))


def classifier(**changed: Any) -> TransactionsArtifact:
    return TransactionsArtifact.model_validate_json(json.dumps(TRANSACTIONS | changed))


def test_a_row_is_scored_as_one_would_by_hand() -> None:
    """-2 + 2·0.8 + 0.01·40 - 0.1·10 + 0.0001·1000 + 0.5·2 + 0.25·2 + 1·1 = 1.6."""
    assert score(lead(), LeadRow.model_validate(ROW)) == pytest.approx(1 / (1 + math.exp(-1.6)), abs=1e-12)


@pytest.mark.parametrize("column", GAPS)
def test_a_missing_value_and_an_unseen_category_count_as_the_trainings_mean(column: str) -> None:
    weights = dict(zip(GAPS, (2.0, 0.01, -0.1, 0.0001, 0.5, 0.25, 1.0), strict=True))
    known = dict(zip(GAPS, (0.8, 40, 10, 1_000, 2, 2, 1), strict=True))
    expected = 1 / (1 + math.exp(-(1.6 + weights[column] * (GAPS[column] - known[column]))))
    for gap in (None, "telepathy") if isinstance(ROW[column], str) else (None,):
        assert score(lead(), LeadRow.model_validate(ROW | {column: gap})) == pytest.approx(expected, abs=1e-12)


def test_a_tenant_that_training_did_not_see_counts_as_the_mean_however_far_its_hash_is_from_the_others() -> None:
    steep = lead(coefficients=[2.0, 0.01, -0.1, 1.0, 0.5, 0.25, 1.0])
    unseen = [score(steep, LeadRow.model_validate(ROW | {"tenant_hash": one})) for one in (0, 999, 1_001, 9_999)]
    assert unseen == [score(steep, LeadRow.model_validate(ROW | {"tenant_hash": None}))] * 4
    seen = score(steep, LeadRow.model_validate(ROW | {"tenant_hash": 9_000}))
    assert seen > score(steep, LeadRow.model_validate(ROW | {"tenant_hash": 17}))


@pytest.mark.parametrize(("intercept", "expected"), [(1e6, 1.0), (-1e6, 0.0)])
def test_what_is_sure_is_a_probability_still(intercept: float, expected: float) -> None:
    assert score(lead(intercept=intercept), LeadRow.model_validate(ROW)) == expected


@pytest.mark.parametrize("artifact", [lead(), classifier()], ids=["lead", "transactions"])
def test_bytes_read_back_as_the_same_artifact_with_the_same_hash(artifact: LeadArtifact | TransactionsArtifact) -> None:
    data = artifact_bytes(artifact)
    assert read_artifact(data) == artifact
    assert artifact_bytes(read_artifact(data)) == data
    assert artifact_sha256(artifact) == sha256_hex(data)


def test_the_bytes_are_the_documented_json() -> None:
    assert json.loads(artifact_bytes(lead())) == LEAD
    assert json.loads(artifact_bytes(classifier())) == TRANSACTIONS


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the whole"),
        ("[]", "the whole"),
        (json.dumps({**LEAD, "model": "tea leaves"}), "tea leaves"),
        (json.dumps({**LEAD, "coefficients": [1.0] * 6}), "lead.coefficients"),
        (json.dumps({**LEAD, "features": LEAD["features"][::-1]}), "lead.features"),
        (json.dumps({**LEAD, "intercept": math.nan}), "lead.intercept"),
        (json.dumps({**LEAD, "code": "import os"}), "lead.code"),
        (json.dumps({**TRANSACTIONS, "intercepts": [1.0]}), "2 categories need as many weights"),
        (json.dumps({**TRANSACTIONS, "pieces": {"abc": {"idf": 1, "weights": [1]}}}), "2 categories need as many"),
    ],
)
def test_what_is_no_artifact_is_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(ArtifactError, match=says):
        read_artifact(text.encode())


def test_a_transaction_is_classified_as_one_would_by_hand() -> None:
    """Terms found: diesel twice, (1 + ln 2)·2, and `office rent`, 1; scaled to length 1."""
    text, amount = "Diesel, DIESEL for the office (office rent)", 999.0
    diesel, rent = (1 + math.log(2)) * 2, 1.0
    length = math.hypot(diesel, rent)
    fuel = 1.0 + 3.0 * diesel / length
    other = 0.5 * math.log(1_000) + 2.0 * rent / length
    expected = 1 / (1 + math.exp(fuel - other))
    assert probabilities(classifier(), text, amount)["rent"] == pytest.approx(expected, abs=1e-12)
    assert classify(classifier(), text, amount).category == "rent"


@pytest.mark.parametrize("text", ["", "plantain", "dieselish", "\ud800\x00"])
def test_unknown_words_leave_the_amount_to_decide(text: str) -> None:
    assert classify(classifier(), text, 0.0).category == "fuel"
    assert classify(classifier(), text, 1e6).category == "rent"
    assert probabilities(classifier(), text, -1e6) == probabilities(classifier(), text, 1e6)
    assert probabilities(classifier(), text, None) == pytest.approx(
        probabilities(classifier(), text, math.expm1(8.0)), abs=1e-12
    )


_WORDS = TfidfVectorizer(ngram_range=(1, 2)).build_analyzer()
_PIECES = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4)).build_analyzer()


@given(st.text(st.characters(codec="utf-8"), max_size=60) | st.text("ab 1\t\n\u0130\u00df_'", max_size=60))
def test_any_text_has_the_terms_that_scikit_learn_finds(text: str) -> None:
    assert sorted(word_terms(text.lower())) == sorted(_WORDS(text))
    assert sorted(piece_terms(text.lower())) == sorted(_PIECES(text))


def test_scoring_needs_none_of_the_libraries_that_train() -> None:
    code = "import sys, domain.artifact; print({'numpy', 'scipy', 'sklearn'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "set()"
