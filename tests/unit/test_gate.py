"""The gate: what it refuses, what it says of it, and how often it errs."""

from typing import Any

import pytest

from bench.gate import case
from domain.gate import GateDecision, GateInput, decide
from domain.model_metrics import (
    Calibration,
    ClassEvaluation,
    Comparison,
    Control,
    Evaluation,
    Interval,
    Paired,
    Slice,
)

NO_CALIBRATION = Calibration(bins=(), error=0.01)


def paired(low: float, high: float) -> Paired:
    return Paired(difference=(low + high) / 2, standard_error=(high - low) / 4.65, low=low, high=high)


def north(**fields: Any) -> Slice:
    known = {
        "kind": "tenant",
        "group": "north",
        "rows": 200,
        "positives": 60,
        "quality": 0.7,
        "standard_error": 0.03,
    }
    return Slice.model_validate(known | fields)


def evaluation(auc: float = 0.78, rows: int = 2_000, positives: int = 600, *slices: Slice) -> Evaluation:
    return Evaluation(
        rows=rows,
        positives=positives,
        quality=Interval(value=auc, low=auc - 0.02, high=auc + 0.02),
        log_loss=0.5,
        brier=0.2,
        calibration=NO_CALIBRATION,
        threshold=0.5,
        precision=0.5,
        recall=0.5,
        f1=0.5,
        slices=slices,
        roc=((0, 0), (1, 1)),
    )


def gate(**fields: Any) -> GateDecision:
    known = {
        "evaluation": evaluation(),
        "minimum": 0.65,
        "champion": Comparison(quality=paired(-0.01, 0.02), calibration=paired(-0.001, 0.001), champion=0.77),
        "overlap": 0,
        "control": Control(runs=1, quality=0.503),
    }
    return decide(GateInput.model_validate(known | fields))


def test_a_good_challenger_passes_every_check_and_all_have_numbers() -> None:
    decision = gate()
    assert decision.ok
    assert decision.rejection is None
    assert decision.reason == "All 6 checks passed."
    assert [check.name for check in decision.checks] == [
        "quality",
        "champion",
        "calibration",
        "slices",
        "overlap",
        "control",
    ]
    assert all(check.numbers for check in decision.checks)


def test_a_low_auc_is_rejected_as_the_runbook_documents() -> None:
    assert gate(evaluation=evaluation(0.68), minimum=0.70).rejection == {
        "ok": False,
        "error": "Model AUC below threshold",
        "auc": 0.68,
        "min_auc": 0.70,
        "rejected": True,
    }


@pytest.mark.parametrize(
    ("fields", "failed", "said"),
    [
        (
            {"champion": Comparison(quality=paired(-0.021, 0), calibration=paired(-1, 1), champion=0.78)},
            "champion",
            "The AUC may be 0.0210 below the champion's, beyond the margin of 0.02.",
        ),
        (
            {"evaluation": evaluation(0.9, 60, 9)},
            "champion",
            "Of 60 held-out rows 9 have one label, and 10 are needed to compare AUCs.",
        ),
        (
            {"champion": Comparison(quality=paired(0, 0.1), calibration=paired(0.003, 0.01), champion=0.7)},
            "calibration",
            "surely worse calibrated",
        ),
        (
            {"evaluation": evaluation(0.78, 2_000, 600, north(quality=0.3), north(group="west"))},
            "slices",
            "The AUC of tenant north is surely below 0.55",
        ),
        ({"overlap": 3}, "overlap", "3 held-out rows were trained on too"),
        ({"control": Control(runs=2, quality=0.66)}, "control", "Trained on shuffled labels the AUC is still 0.66"),
    ],
)
def test_each_fault_alone_is_rejected_in_a_sentence(fields: dict[str, Any], failed: str, said: str) -> None:
    decision = gate(**fields)
    assert [check.name for check in decision.checks if not check.ok] == [failed]
    assert decision.rejection is not None
    assert said in decision.rejection["error"] == decision.reason
    assert decision.rejection["rejected"] is True
    assert decision.rejection["auc"] == decision.quality


def test_all_that_failed_is_said_and_the_auc_comes_first() -> None:
    decision = gate(evaluation=evaluation(0.6), overlap=1)
    assert [check.name for check in decision.checks if not check.ok] == ["quality", "overlap"]
    assert decision.rejection is not None
    assert decision.rejection["error"] == "Model AUC below threshold"
    assert "trained on too" in decision.reason


def test_the_first_version_has_no_champion_to_beat() -> None:
    assert gate(champion=None).ok
    assert gate(champion=None, evaluation=evaluation(0.78, 20, 5)).ok


@pytest.mark.parametrize(
    "slice_",
    [
        north(quality=0.5, standard_error=0.04),  # poor, but so few rows that it may well be 0.55
        north(quality=0.4, standard_error=0.001, rows=20, positives=10),  # DeLong's error deceives on so few rows
        north(quality=None, standard_error=None, rows=19),
    ],
)
def test_a_slice_that_may_be_good_enough_is_no_veto(slice_: Slice) -> None:
    assert gate(evaluation=evaluation(0.78, 2_000, 600, slice_)).ok


def test_many_slices_make_one_poor_look_likelier_and_the_bound_wider() -> None:
    poor = north(quality=0.43, standard_error=0.045)
    many = [north(group=str(number)) for number in range(200)]
    assert not gate(evaluation=evaluation(0.78, 2_000, 600, poor)).ok
    assert gate(evaluation=evaluation(0.78, 2_000, 600, poor, *many)).ok


def test_transactions_are_judged_by_accuracy() -> None:
    judged = ClassEvaluation(
        rows=400,
        quality=Interval(value=0.8, low=0.75, high=0.85),
        macro_f1=0.7,
        classes=(),
        calibration=NO_CALIBRATION,
        slices=(north(kind="category", group="fuel", rows=40, positives=10, quality=0.25),),
    )
    decision = gate(evaluation=judged, minimum=0.85)
    assert decision.rejection == {
        "ok": False,
        "error": "Model accuracy below threshold",
        "accuracy": 0.8,
        "min_accuracy": 0.85,
        "rejected": True,
    }
    assert "accuracy of category fuel is surely below 0.7" in decision.reason


def test_by_simulation_equal_challengers_pass_and_worse_or_meaningless_ones_do_not() -> None:
    """A small `python -m bench.gate`, at a paired standard error just below 0.006."""
    equal = case(80, 2_000, 1, challenger=0.78, shared=0.9)
    worse = case(80, 2_000, 2, challenger=0.75, shared=0.9)
    shuffled = case(40, 2_000, 3, challenger=0.5, shared=0.9, shuffled=True, champion=False)
    assert equal["paired_standard_error"] <= 0.006
    assert equal["promoted"] >= 0.8
    assert worse["promoted"] == 0
    assert shuffled["promoted"] == 0
