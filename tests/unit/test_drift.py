"""Drift: the documented score, and a daily report that neither cries wolf nor sleeps."""

import numpy as np
import pytest

from bench.drift import FEATURES, alarms, injected, seen
from domain.artifact import FeatureStats, Histogram, LeadArtifact, Reference, Stats
from domain.chi_square import chi_square_quantile, chi_square_tail
from domain.drift import columns, counted, drift_report, drift_score, feature_drift, joined, psi, rank_test
from domain.leads import LeadRow
from tests.versions import lead_artifact

STATS = FeatureStats(
    score=Stats(mean=0.65, std=0.1, min=0.5, max=0.8),
    details_len=Stats(mean=100, std=50, min=1, max=900),
    hour=Stats(mean=12, std=0, min=12, max=12),
)


def sample(score: float, details_len: int, hour: int, rows: int = 10) -> dict[str, list[float]]:
    row = LeadRow(lead_id="1", score=score, details_len=details_len, hour_of_day=hour)
    return columns([row] * rows)


def trained_on(values: dict[str, list[float]]) -> LeadArtifact:
    """A version whose training had these values, counted in tenths."""
    stats, histograms = {}, {}
    for name, column in values.items():
        edges = sorted(set(np.quantile(column, np.arange(1, 10) / 10, method="inverted_cdf").tolist()))
        empty = Histogram(edges=tuple(edges), counts=(0,) * (len(edges) + 1))
        histograms[name] = Histogram(edges=tuple(edges), counts=tuple(counted(empty, column)))
        stats[name] = Stats(mean=float(np.mean(column)), std=float(np.std(column)), min=min(column), max=max(column))
    return lead_artifact(1).model_copy(
        update={"feature_stats": FeatureStats(**stats), "reference": Reference(**histograms)}
    )


def test_the_score_is_the_largest_distance_of_a_mean_in_standard_deviations() -> None:
    assert drift_score(STATS, sample(0.65, 100, 12)) == 0
    assert drift_score(STATS, sample(0.75, 120, 12)) == pytest.approx(1.0)
    assert drift_score(STATS, sample(0.75, 300, 12)) == pytest.approx(4.0)


def test_a_constant_feature_is_skipped_and_without_data_the_score_is_zero() -> None:
    assert drift_score(STATS, sample(0.65, 100, 3)) == 0
    assert drift_score(STATS, columns([])) == 0
    assert drift_score(STATS, columns([LeadRow(lead_id="1", details_len=150)])) == pytest.approx(1.0)


def test_four_sigma_raise_the_score_above_three() -> None:
    generator = np.random.default_rng(1)
    assert injected(generator, 4.0) > 3
    assert injected(generator, 0.0) < 0.5


@pytest.mark.parametrize(
    ("value", "freedom", "level"), [(3.841, 1, 0.05), (5.991, 2, 0.05), (16.919, 9, 0.05), (27.877, 9, 0.001)]
)
def test_chi_square_agrees_with_the_printed_tables(value: float, freedom: int, level: float) -> None:
    assert chi_square_tail(value, freedom) == pytest.approx(level, rel=2e-3)
    assert chi_square_quantile(level, freedom) == pytest.approx(value, abs=1e-3)
    assert chi_square_tail(0, freedom) == 1


def test_the_rank_test_gives_the_share_of_shuffles_that_look_as_far_apart() -> None:
    """On few values with many ties, where ranks spread much less than without."""
    before, after = np.array([0] * 110 + [1] * 6 + [2] * 4), np.array([0] * 85 + [1] * 8 + [2] * 7)
    both = np.concatenate([before, after])
    ranks = np.array([(both < value).sum() + (both == value).sum() / 2 for value in range(3)])[both]
    apart = abs(ranks[120:].mean() - ranks.mean())
    generator = np.random.default_rng(1)
    shuffled = [abs(generator.permutation(ranks)[120:].mean() - ranks.mean()) >= apart for _ in range(3_000)]

    assert rank_test([110, 6, 4], [85, 8, 7]) == pytest.approx(np.mean(shuffled), abs=0.02)
    assert rank_test([5, 5, 5], [5, 5, 5]) == 1


def test_a_slight_slope_over_all_cells_is_seen_by_the_ranks_where_the_index_sees_nothing() -> None:
    known = Histogram(edges=tuple(range(1, 10)), counts=(2_000,) * 10)
    found = feature_drift("hour", 0, known, range(82, 122, 4), 0.01 / 6)
    assert found.alarm
    assert found.psi is not None
    assert found.psi_threshold is not None
    assert found.psi < found.psi_threshold


def test_cells_are_joined_until_the_smaller_sample_can_fill_them() -> None:
    before, after = joined([100, 100, 100, 100, 100, 3], [30, 0, 5, 1, 30, 0])
    assert (sum(before), sum(after)) == (503, 66)
    assert len(before) == 5
    assert all((one + other) * 66 / 569 >= 10 for one, other in zip(before, after, strict=True))


def test_an_index_of_the_same_shares_is_zero_and_an_empty_cell_is_no_infinity() -> None:
    assert psi([50, 50], [500, 500]) == 0
    assert 0 < psi([50, 50], [100, 0]) < 20


def test_a_larger_sample_lowers_the_threshold_of_the_index() -> None:
    known = Histogram(edges=tuple(range(1, 10)), counts=(2_000,) * 10)
    small, large = (feature_drift("hour", 0, known, [n] * 10, 0.001).psi_threshold for n in (10, 1_000))
    assert small is not None
    assert large is not None
    assert small > 10 * large


def test_a_report_names_the_feature_that_changed_and_no_other() -> None:
    generator = np.random.default_rng(7)
    values = {
        "score": generator.choice([0.5, 0.6, 0.7, 0.8], 2_000).tolist(),
        "details_len": generator.integers(1, 400, 2_000).tolist(),
        "hour": generator.integers(0, 24, 2_000).tolist(),
    }
    artifact = trained_on(values)
    same = drift_report(artifact, {name: column[::2] for name, column in values.items()})
    longer = drift_report(artifact, values | {"details_len": [value + 60 for value in values["details_len"]]})
    assert not same.alarm
    assert [one.feature for one in longer.features if one.alarm] == ["details_len"]
    assert longer.sentence.endswith("details_len.")
    assert longer.score == pytest.approx(60 / np.std(values["details_len"]), rel=0.01)


def test_a_changed_shape_with_the_same_mean_is_seen_too() -> None:
    generator = np.random.default_rng(7)
    values = {name: generator.normal(100, 10, 1_000).tolist() for name in FEATURES}
    wider = [100 + 2 * (value - 100) for value in values["score"]]
    found = drift_report(trained_on(values), values | {"score": wider})
    (score,) = (one for one in found.features if one.feature == "score")
    assert score.alarm
    assert score.distance < 0.1


def test_few_rows_are_said_to_be_few() -> None:
    report = drift_report(lead_artifact(1), sample(0.65, 100, 12, rows=79))
    assert not report.alarm
    assert report.sentence == "79 rows are too few to test for drift: 80 are needed."
    assert all(one.psi is None for one in report.features)


@pytest.mark.parametrize(("training", "rows", "days"), [(80, 100, 300), (500, 1_000, 300), (2_000, 20_000, 100)])
def test_days_without_a_change_raise_an_alarm_as_rarely_as_stated(training: int, rows: int, days: int) -> None:
    """A small `python -m bench.drift`: one day in a hundred; twelve of 300 would happen once in 10,000 times."""
    assert alarms(np.random.default_rng(1), days, training, rows) <= 0.035


def test_a_quarter_of_a_standard_deviation_is_seen_in_a_thousand_rows() -> None:
    assert seen(np.random.default_rng(1), 100, 1_000, 0.25) >= 0.99
