"""Trainers on a real data set and on made transactions: as good as scikit-learn itself, and the same numbers."""

import random
from collections import Counter
from statistics import quantiles

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from activities.trainers import Fitted, FittedTransactions, train_lead, train_transactions
from bench.made_transactions import made_transactions
from bench.public_leads import public_leads, public_rows
from bench.scoring import any_rows, direct_lead, direct_transactions, lead_matrix, timed, transaction_matrix
from domain.artifact import artifact_bytes, classify, probabilities, read_artifact, score
from domain.outcomes_csv import read_outcomes, write_outcomes
from domain.training_data import LabelledTransaction, check_data

SEED = 7
LEADS = public_leads()
MADE = made_transactions(160, 1)


@pytest.fixture(scope="module")
def lead() -> Fitted:
    return train_lead(LEADS, version=1_730_483_820, seed=SEED)


@pytest.fixture(scope="module")
def transactions() -> FittedTransactions:
    return train_transactions(MADE, version=1, seed=SEED)


def test_the_public_data_set_goes_from_csv_to_an_artifact_as_good_as_scikit_learns() -> None:
    rows = read_outcomes(write_outcomes(LEADS))
    assert check_data(rows, 100).ok
    fitted = train_lead(rows, version=1_730_483_820, seed=SEED)
    artifact = read_artifact(artifact_bytes(fitted.artifact))
    assert artifact == fitted.artifact
    direct = direct_lead(rows, SEED).predict_proba(lead_matrix(fitted.held_out))[:, 1]
    assert fitted.artifact.metrics.auc == pytest.approx(roc_auc_score(fitted.labels, direct), abs=0.005)
    assert roc_auc_score(fitted.labels, fitted.probabilities) == pytest.approx(fitted.artifact.metrics.auc, abs=1e-12)


def test_the_mapping_to_lead_features_loses_nothing_that_the_raw_columns_tell(lead: Fitted) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    raw = public_rows()
    names = [name for name in raw[0] if name not in ("respond", "gift")]
    matrix = np.array([[row[name] for name in names] for row in raw])
    out = {row.lead_id for row in lead.held_out}
    held_out = np.array([row.lead_id in out for row in LEADS])
    labels = np.array([row["respond"] for row in raw])
    direct = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    direct.fit(matrix[~held_out], labels[~held_out])
    auc = roc_auc_score(labels[held_out], direct.predict_proba(matrix[held_out])[:, 1])
    assert lead.artifact.metrics.auc == pytest.approx(auc, abs=0.005)


def test_ten_thousand_rows_score_as_scikit_learn_says_and_each_in_less_than_a_millisecond(lead: Fitted) -> None:
    rows = any_rows(10_000, 2)
    given, times = timed(lambda row: score(lead.artifact, row), rows)
    expected = direct_lead(LEADS, SEED).predict_proba(lead_matrix(rows))[:, 1]
    assert np.abs(np.array(given) - expected).max() < 1e-9
    assert times["p95_ms"] < 1


def test_the_split_is_stratified_and_its_parts_are_apart(lead: Fitted) -> None:
    out = {row.lead_id for row in lead.held_out}
    assert not out & set(lead.train_ids)
    assert len(out) + len(lead.train_ids) == len(LEADS) == 4_268
    metrics = lead.artifact.metrics
    assert (metrics.n_train, metrics.n_test) == (len(lead.train_ids), len(out)) == (3_415, 853)
    assert np.mean(lead.labels) == pytest.approx(metrics.baseline_rate, abs=0.001)


def test_the_order_of_the_rows_changes_nothing(lead: Fitted) -> None:
    mixed = list(LEADS)
    random.Random(1).shuffle(mixed)
    again = train_lead(mixed, version=1_730_483_820, seed=SEED)
    assert set(again.train_ids) == set(lead.train_ids)
    assert again.artifact.coefficients == pytest.approx(lead.artifact.coefficients, rel=1e-3)


def test_shuffled_labels_teach_nothing(lead: Fitted) -> None:
    control = train_lead(LEADS, version=1, seed=SEED, control=True)
    assert control.artifact.metrics.auc < 0.6 < 0.7 < lead.artifact.metrics.auc
    assert control.artifact.metrics.baseline_rate == lead.artifact.metrics.baseline_rate


def test_what_drift_is_measured_against_describes_the_training_rows(lead: Fitted) -> None:
    trained = set(lead.train_ids)
    hours = [row.hour_of_day or 0 for row in LEADS if row.lead_id in trained]
    stats, histogram = lead.artifact.feature_stats.hour, lead.artifact.reference.hour
    assert (stats.min, stats.max) == (min(hours), max(hours))
    assert stats.mean == pytest.approx(np.mean(hours))
    assert stats.std == pytest.approx(np.std(hours))
    assert sum(histogram.counts) == len(hours)
    assert set(histogram.edges) <= {round(cut) for cut in quantiles(hours, n=10)}
    assert histogram.counts[0] == sum(hour <= histogram.edges[0] for hour in hours)
    assert histogram.counts[-1] == sum(hour > histogram.edges[-1] for hour in hours)


def test_transactions_are_classified_with_scikit_learns_probabilities(transactions: FittedTransactions) -> None:
    others = [*made_transactions(300, 2), *_odd()]
    expected = direct_transactions(MADE, SEED).predict_proba(transaction_matrix(others))
    given = [list(probabilities(transactions.artifact, row.text or "", row.amount).values()) for row in others]
    assert np.abs(np.array(given) - expected).max() < 1e-9
    right = [classify(transactions.artifact, row.text or "", row.amount).category == row.category for row in others]
    assert np.mean(right) > 0.85


def _odd() -> list[LabelledTransaction]:
    texts = (
        "",
        "Diesel\u00a0DIESEL\tdiesel",
        "\u0130stanbul stra\u00dfe na\u00efve caf\u00e9",
        "a b c I",
        "\U0001f6e2 oil_rig's 50",
    )
    return [LabelledTransaction(id=text or "none", text=text, amount=-12.5, category="fuel") for text in texts]


def test_a_classifier_of_two_categories_agrees_with_scikit_learn_too() -> None:
    two = [row for row in made_transactions(200, 3) if row.category in ("fuel", "rent")]
    fitted = train_transactions(two, version=1, seed=SEED)
    expected = direct_transactions(two, SEED).predict_proba(transaction_matrix(fitted.held_out))
    given = [list(probabilities(fitted.artifact, row.text or "", row.amount).values()) for row in fitted.held_out]
    assert np.abs(np.array(given) - expected).max() < 1e-9


def test_transactions_of_rare_categories_are_neither_learnt_nor_judged(transactions: FittedTransactions) -> None:
    odd = LabelledTransaction(id="odd", text="a goat", amount=30_000.0, category="livestock")
    fitted = train_transactions((*MADE, odd), version=1, seed=SEED)
    assert fitted.set_aside == ("odd",)
    assert fitted.artifact == transactions.artifact
    assert "odd" not in {*fitted.train_ids, *(row.id for row in fitted.held_out)}


def test_what_the_classifier_says_of_the_rows_held_out_is_its_accuracy(transactions: FittedTransactions) -> None:
    hits = [said == label for said, label in zip(transactions.predicted, transactions.labels, strict=True)]
    assert transactions.artifact.metrics.accuracy == pytest.approx(np.mean(hits))
    control = train_transactions(MADE[:80], version=1, seed=SEED, control=True)
    assert control.artifact.metrics.accuracy < 0.5 < transactions.artifact.metrics.accuracy
    assert Counter(len(one) for one in (control.predicted, control.labels)) == {len(control.held_out): 2}
