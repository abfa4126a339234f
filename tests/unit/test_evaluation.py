"""What is measured of models on held-out rows: by the definitions, written out the slow way."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.evaluation import compare, compare_classes, control_runs, evaluate, evaluate_classes

ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8), st.integers(0, 8)), min_size=4, max_size=60).filter(
    lambda rows: 2 <= sum(row[0] for row in rows) <= len(rows) - 2
)
"""Labels and two models' probabilities, in eighths: with many ties."""


def above(one: float, zero: float) -> float:
    return 1.0 if one > zero else 0.5 if one == zero else 0.0


def pairs(labels: Sequence[int], said: Sequence[float]) -> list[list[float]]:
    ones = [p for label, p in zip(labels, said, strict=True) if label]
    zeros = [p for label, p in zip(labels, said, strict=True) if not label]
    return [[above(one, zero) for zero in zeros] for one in ones]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def spread(values: Sequence[float]) -> float:
    return sum((value - mean(values)) ** 2 for value in values) / (len(values) - 1) / len(values)


@settings(max_examples=30)
@given(ROWS)
def test_auc_and_the_error_of_its_difference_are_those_of_the_definition(rows: list[tuple[int, int, int]]) -> None:
    labels, ours, theirs = [r[0] for r in rows], [r[1] / 8 for r in rows], [r[2] / 8 for r in rows]
    won, lost = pairs(labels, ours), pairs(labels, theirs)
    gains = [[a - b for a, b in zip(x, y, strict=True)] for x, y in zip(won, lost, strict=True)]
    by_one, by_zero = [mean(line) for line in gains], [mean(column) for column in zip(*gains, strict=True)]

    found = compare(labels, ours, theirs).quality

    assert evaluate(labels, ours, {}, seed=0, resamples=2).quality.value == pytest.approx(mean([mean(x) for x in won]))
    assert found.difference == pytest.approx(mean(by_one), abs=1e-12)
    assert found.standard_error == pytest.approx(math.sqrt(spread(by_one) + spread(by_zero)), abs=1e-12)


def test_losses_and_rates_are_those_worked_out_by_hand() -> None:
    found = evaluate([1, 1, 0, 0], [0.8, 0.4, 0.6, 0.2], {}, seed=0)
    assert found.log_loss == pytest.approx(-math.log(0.8 * 0.4 * 0.4 * 0.8) / 4)
    assert found.brier == pytest.approx((0.04 + 0.36 + 0.36 + 0.04) / 4)
    assert (found.precision, found.recall, found.f1) == (0.5, 0.5, 0.5)
    assert found.quality.value == 0.75
    assert found.roc == ((0, 0), (0, 0.5), (0.5, 0.5), (0.5, 1), (1, 1))


def test_a_probability_of_one_that_is_wrong_costs_much_and_not_everything() -> None:
    assert 1 < evaluate([1, 1, 0, 0], [0.9, 0.9, 1.0, 0.1], {}, seed=0).log_loss < 100


def test_the_interval_of_the_auc_holds_the_true_one_nineteen_times_in_twenty() -> None:
    generator = np.random.default_rng(1)
    held = 0
    for seed in range(200):
        hits = generator.random(300) < 0.4
        said = generator.standard_normal(300) + hits  # true AUC: normal distribution function of 1 / sqrt(2)
        found = evaluate(hits.astype(int).tolist(), said.tolist(), {}, seed=seed, resamples=200).quality
        held += found.low <= 0.76025 <= found.high
    assert 182 <= held <= 198


def test_probabilities_that_are_all_the_same_have_no_interval_to_speak_of() -> None:
    found = evaluate([1, 0] * 10, [0.3] * 20, {}, seed=0).quality
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)


def test_the_same_seed_gives_the_same_figures() -> None:
    generator = np.random.default_rng(1)
    labels, said = generator.integers(2, size=400).tolist(), generator.random(400).tolist()
    assert evaluate(labels, said, {}, seed=3) == evaluate(labels, said, {}, seed=3)


def test_calibration_tells_what_was_said_from_what_came_true() -> None:
    honest = evaluate([1, 0] * 20, [0.5] * 40, {}, seed=0).calibration
    boasting = evaluate([1, 0] * 20, [0.9] * 40, {}, seed=0).calibration
    assert (len(honest.bins), honest.bins[0].count, honest.error) == (1, 40, 0)
    assert boasting.error == pytest.approx(0.4)


def test_an_overconfident_challenger_is_surely_worse_calibrated_and_a_copy_is_not() -> None:
    generator = np.random.default_rng(2)
    honest = generator.random(2_000)
    labels = (generator.random(2_000) < honest).astype(int).tolist()
    extreme = np.where(honest < 0.5, honest / 4, 1 - (1 - honest) / 4).tolist()
    assert compare(labels, extreme, honest.tolist()).calibration.low > 0
    assert compare(labels, honest.tolist(), extreme).calibration.high < 0
    copy = compare(labels, honest.tolist(), honest.tolist())
    assert copy.calibration.low <= 0 <= copy.calibration.high
    assert copy.quality.low == 0


def test_a_slice_is_measured_on_its_own_rows_and_a_small_one_is_said_to_be_small() -> None:
    labels = [1, 0] * 50
    said = [0.9, 0.1] * 40 + [0.1, 0.9] * 10
    groups = ["north"] * 80 + ["south"] * 19 + ["west"]
    north, south, west = evaluate(labels, said, {"tenant": groups}, seed=0).slices
    assert (north.name, north.rows, north.positives, north.quality) == ("tenant north", 80, 40, 1.0)
    assert (south.rows, south.quality) == (19, None)
    assert (west.rows, west.standard_error) == (1, None)


def test_a_classifier_is_measured_by_class() -> None:
    labels = ["food", "food", "food", "rent", "rent", "fuel"]
    answers = ["food", "food", "rent", "rent", "rent", "rent"]
    found = evaluate_classes(labels, answers, [0.9] * 6, {"category": labels})
    by_name = {one.name: one for one in found.classes}
    assert found.quality.value == pytest.approx(4 / 6)
    assert found.quality.low < 4 / 6 < found.quality.high
    assert by_name["food"].precision == 1.0
    assert by_name["food"].recall == pytest.approx(2 / 3)
    assert (by_name["rent"].precision, by_name["rent"].recall) == (0.5, 1.0)
    assert by_name["fuel"].f1 == 0
    assert found.macro_f1 == pytest.approx((0.8 + 2 / 3 + 0) / 3)
    assert found.calibration.error == pytest.approx(0.9 - 4 / 6)


@pytest.mark.parametrize(("rows", "proven"), [(20, False), (200, False), (400, True)])
def test_models_that_never_differ_are_proven_alike_only_by_many_rows(rows: int, proven: bool) -> None:
    said = (["food"] * rows, [0.9] * rows)
    found = compare_classes(["food"] * rows, said, said).quality
    assert found.difference == 0
    assert (found.low > -0.02) is proven


def test_a_classifier_that_mends_many_answers_is_surely_better() -> None:
    labels, wrong = ["food"] * 40, ["rent"] * 12 + ["food"] * 28
    found = compare_classes(labels, (labels, [0.9] * 40), (wrong, [0.9] * 40))
    assert found.quality.low > 0
    assert found.quality.difference == pytest.approx(0.3)
    assert found.champion == pytest.approx(0.7)


def test_few_rows_need_many_controls_and_shuffled_labels_then_never_pass() -> None:
    generator = np.random.default_rng(4)
    few = evaluate([1] * 5 + [0] * 15, generator.random(20).tolist(), {}, seed=0, resamples=2)
    many = evaluate([1] * 600 + [0] * 1_400, generator.random(2_000).tolist(), {}, seed=0, resamples=2)
    assert control_runs(many, 0.65) == 1
    runs = control_runs(few, 0.65)
    areas = [
        evaluate([1] * 5 + [0] * 15, generator.random(20).tolist(), {}, seed=0, resamples=2).quality.value
        for _ in range(30 * runs)
    ]
    assert sum(area >= 0.65 for area in areas) > 0.05 * len(areas), "a single run often passes by luck"
    assert all(mean(areas[start : start + runs]) < 0.65 for start in range(0, len(areas), runs))


def test_what_cannot_be_measured_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="two held-out rows of each label are needed, 1 are 1 and 3 are 0"):
        evaluate([1, 0, 0, 0], [0.5] * 4, {}, seed=0)
    with pytest.raises(ValueError, match="must be of one length"):
        evaluate([1, 0, 1, 0], [0.5] * 3, {}, seed=0)
    with pytest.raises(ValueError, match="no held-out rows"):
        evaluate_classes([], [], [], {})
