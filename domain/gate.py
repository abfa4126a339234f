"""The gate: whether a challenger may be registered. All checks are made, and reported with their numbers.

Pure and light. `domain/evaluation.py` measures what it decides on; docs/decisions/0011 gives the levels their reasons.
"""

import math
from statistics import NormalDist
from typing import Annotated, Any, Literal

from pydantic import Field

from domain.base import Model
from domain.model_metrics import (
    LEVEL,
    MINORITY,
    AnyEvaluation,
    ClassEvaluation,
    Comparison,
    Control,
    Count,
    Evaluation,
    Slice,
)

MARGIN = 0.02
"""So much AUC or accuracy below the champion is no loss worth a veto."""

SLICE_FLOOR = {"auc": 0.55, "accuracy": 0.70}
"""No slice may be surely below: the runbook's `critical_low_auc`, and as far below the minimum of accuracy."""

Metric = Literal["auc", "accuracy"]

_NAMES: dict[Metric, str] = {"auc": "AUC", "accuracy": "accuracy"}

CheckName = Literal["quality", "champion", "calibration", "slices", "overlap", "control"]


class GateInput(Model):
    """What was measured of a challenger."""

    evaluation: AnyEvaluation
    """On the held-out rows."""
    minimum: Annotated[float, Field(ge=0, le=1)]
    """AUC or accuracy that is demanded (`min_auc`)."""
    champion: Comparison | None
    """With the active version on the same rows; None: there is none."""
    overlap: Count
    """Ids that are both among the training and the held-out rows."""
    control: Control


class Check(Model):
    """One check: whether it passed, in a sentence and in numbers."""

    name: CheckName
    ok: bool
    sentence: str
    numbers: dict[str, float]


class GateDecision(Model):
    """Whether the challenger passes: only when every check does."""

    ok: bool
    metric: Metric
    quality: float
    minimum: float
    checks: tuple[Check, ...]

    @property
    def reason(self) -> str:
        """What failed, a sentence for each check; or that it passed."""
        failed = [check.sentence for check in self.checks if not check.ok]
        return " ".join(failed) or f"All {len(self.checks)} checks passed."

    @property
    def rejection(self) -> dict[str, Any] | None:
        """As existing scripts read it (runbook 003), None when it passed."""
        if self.ok:
            return None
        first = next(check for check in self.checks if not check.ok)
        why = None if first.name == "quality" else first.sentence
        return rejection(self.metric, self.quality, self.minimum, why)


def rejection(metric: Metric, quality: float, minimum: float, why: str | None = None) -> dict[str, Any]:
    """What existing scripts read of a rejected model (runbook 003); without `why` its quality is too low."""
    return {
        "ok": False,
        "error": why or f"Model {_NAMES[metric]} below threshold",
        metric: quality,
        f"min_{metric}": minimum,
        "rejected": True,
    }


def decide(measured: GateInput) -> GateDecision:
    """Make all checks."""
    checks = (
        _quality(measured),
        _champion(measured),
        _calibration(measured),
        _slices(measured),
        _overlap(measured),
        _control(measured),
    )
    return GateDecision(
        ok=all(check.ok for check in checks),
        metric=measured.evaluation.metric,
        quality=measured.evaluation.quality.value,
        minimum=measured.minimum,
        checks=checks,
    )


def _quality(measured: GateInput) -> Check:
    name, found = _NAMES[measured.evaluation.metric], measured.evaluation.quality
    ok = found.value >= measured.minimum
    return Check(
        name="quality",
        ok=ok,
        sentence=f"The {name} of {found.value:.4f} is {'at or above' if ok else 'below'} {measured.minimum:g}.",
        numbers={"value": found.value, "low": found.low, "high": found.high, "minimum": measured.minimum},
    )


def _champion(measured: GateInput) -> Check:
    if measured.champion is None:
        return Check(name="champion", ok=True, sentence="There is no champion to be worse than.", numbers={})
    name, found = _NAMES[measured.evaluation.metric], measured.champion.quality
    few, ok = _too_few(measured.evaluation), found.low > -MARGIN
    return Check(
        name="champion",
        ok=ok and not few,
        sentence=few
        or (
            f"The {name} may be {max(-found.low, 0):.4f} below the champion's, within the margin of {MARGIN:g}."
            if ok
            else f"The {name} may be {-found.low:.4f} below the champion's, beyond the margin of {MARGIN:g}."
        ),
        numbers={
            "difference": found.difference,
            "standard_error": found.standard_error,
            "low": found.low,
            "margin": MARGIN,
            "champion": measured.champion.champion,
        },
    )


def _too_few(evaluation: Evaluation | ClassEvaluation) -> str:
    """Why AUCs cannot be compared; empty when they can. The error of an accuracy is right on few rows too."""
    if isinstance(evaluation, ClassEvaluation):
        return ""
    fewest = min(evaluation.positives, evaluation.rows - evaluation.positives)
    if fewest >= MINORITY:
        return ""
    return f"Of {evaluation.rows} held-out rows {fewest} have one label, and {MINORITY} are needed to compare AUCs."


def _calibration(measured: GateInput) -> Check:
    if measured.champion is None:
        return Check(
            name="calibration", ok=True, sentence="There is no champion to be worse calibrated than.", numbers={}
        )
    found = measured.champion.calibration
    ok = found.low <= 0
    return Check(
        name="calibration",
        ok=ok,
        sentence=(
            "The probabilities are not surely worse calibrated than the champion's."
            if ok
            else f"The probabilities are surely worse calibrated than the champion's: their squared error is at least "
            f"{found.low:.5f} higher."
        ),
        numbers={
            "difference": found.difference,
            "standard_error": found.standard_error,
            "low": found.low,
            "error": measured.evaluation.calibration.error,
        },
    )


def _slices(measured: GateInput) -> Check:
    metric = measured.evaluation.metric
    name, floor = _NAMES[metric], SLICE_FLOOR[metric]
    judged = [one for one in measured.evaluation.slices if one.quality is not None]
    z = NormalDist().inv_cdf(1 - LEVEL / max(len(judged), 1))
    bounds = {one.name: _upper(metric, one, floor, z) for one in judged}
    below = [slice_name for slice_name, bound in bounds.items() if bound < floor]
    numbers = {"judged": len(judged), "too_small": len(measured.evaluation.slices) - len(judged), "floor": floor}
    if bounds:
        numbers["lowest_bound"] = min(bounds.values())
    if not below:
        return Check(
            name="slices",
            ok=True,
            sentence=f"None of {len(judged)} slices has an {name} that is surely below {floor:g}.",
            numbers=numbers,
        )
    worst = min(below, key=lambda slice_name: bounds[slice_name])
    others = f" (and {len(below) - 1} more)" if len(below) > 1 else ""
    return Check(
        name="slices",
        ok=False,
        sentence=f"The {name} of {worst}{others} is surely below {floor:g}: at most {bounds[worst]:.4f}.",
        numbers=numbers | {"below": len(below)},
    )


def _upper(metric: str, one: Slice, floor: float, z: float) -> float:
    """Upper bound of a slice's quality: DeLong's or, where that is narrower, Hanley and McNeil's for AUC, Wilson's for
    accuracy.

    On ten rows of either label DeLong's error is often far too small; one that is worked out at the floor is not.

    Source: J. Hanley, B. McNeil, "The meaning and use of the area under a ROC curve", Radiology 143 (1982).
    """
    if one.quality is None or one.standard_error is None:
        raise ValueError(f"{one.name} was not judged")
    if metric == "accuracy":
        return wilson(one.quality, one.rows, z)[1]
    ones, zeros = one.positives, one.rows - one.positives
    both_ones, both_zeros = floor / (2 - floor) - floor**2, 2 * floor**2 / (1 + floor) - floor**2
    at_floor = (floor * (1 - floor) + (ones - 1) * both_ones + (zeros - 1) * both_zeros) / (ones * zeros)
    return one.quality + z * max(one.standard_error, math.sqrt(at_floor))


def wilson(share: float, rows: int, z: float) -> tuple[float, float]:
    """Bounds of a share among `rows`, `z` standard errors wide.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    wide = 1 + z * z / rows
    centre = (share + z * z / (2 * rows)) / wide
    reach = z / wide * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return max(0.0, centre - reach), min(1.0, centre + reach)


def _overlap(measured: GateInput) -> Check:
    return Check(
        name="overlap",
        ok=measured.overlap == 0,
        sentence=(
            "No held-out row was trained on."
            if measured.overlap == 0
            else f"{measured.overlap} held-out rows were trained on too, so that the figures mean nothing."
        ),
        numbers={"rows": measured.overlap},
    )


def _control(measured: GateInput) -> Check:
    name, control = _NAMES[measured.evaluation.metric], measured.control
    ok = control.quality < measured.minimum
    return Check(
        name="control",
        ok=ok,
        sentence=(
            f"Trained on shuffled labels the {name} is {control.quality:.4f}, which fails as it must."
            if ok
            else f"Trained on shuffled labels the {name} is still {control.quality:.4f}, so the minimum of "
            f"{measured.minimum:g} proves nothing."
        ),
        numbers={"value": control.quality, "runs": control.runs, "minimum": measured.minimum},
    )
