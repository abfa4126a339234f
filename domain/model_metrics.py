"""How good a model is, in numbers: what the evaluation measures and what the gate decides on.

Light: pydantic alone. `domain/evaluation.py` makes these with numpy. Rates and probabilities are shares from 0 to 1.
"""

from typing import Annotated, Literal

from pydantic import Field

from domain.base import Model

LEVEL = 0.01
"""One-sided level of every bound that the gate uses; docs/decisions/0011 says why."""

SLICE_ROWS = 20
"""The accuracy of a slice is judged only on so many rows."""

MINORITY = 10
"""An AUC of a slice, or a difference of AUCs, is judged only on so many rows of either label."""

Count = Annotated[int, Field(ge=0)]


class Interval(Model):
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float


class Bin(Model):
    """Rows of similar probability: what was said of them on average, and how often it came true."""

    count: Count
    said: float
    came_true: float


class Calibration(Model):
    """Whether 0.7 means seven in ten: ten bins of equal count, by rising probability."""

    bins: tuple[Bin, ...]
    error: float
    """Mean distance between what was said and what came true, weighted by count (expected calibration error)."""


class Slice(Model):
    """The quality of the rows of one group."""

    kind: str
    """What groups them: `tenant`, `category` …"""
    group: str
    rows: Count
    positives: Count
    """Rows of label 1; of `accuracy`: those classified rightly."""
    quality: float | None
    """AUC or accuracy; None: too small to say."""
    standard_error: float | None
    """Of the quality."""

    @property
    def name(self) -> str:
        """As people read it."""
        return f"{self.kind} {self.group}"


class Evaluation(Model):
    """A model of two labels on rows that it was not trained on."""

    metric: Literal["auc"] = "auc"
    rows: Count
    positives: Count
    quality: Interval
    """AUC: chance that a row of label 1 is ranked above one of label 0, ties half; bootstrap interval."""
    log_loss: float
    """Nats for each row."""
    brier: float
    calibration: Calibration
    threshold: float
    """A probability at or above counts as 1 in the three that follow."""
    precision: float
    recall: float
    f1: float
    slices: tuple[Slice, ...]
    roc: tuple[tuple[float, float], ...]
    """False and true positive rate, rising from (0, 0) to (1, 1), thinned out to about a hundred points."""


class ClassScore(Model):
    """One class of a model of many classes."""

    name: str
    rows: Count
    """That have it as their label."""
    precision: float
    recall: float
    f1: float


class ClassEvaluation(Model):
    """A model of many classes on rows that it was not trained on."""

    metric: Literal["accuracy"] = "accuracy"
    rows: Count
    quality: Interval
    """Accuracy, Wilson interval."""
    macro_f1: float
    """Mean F1 of the classes that occur among labels or answers."""
    classes: tuple[ClassScore, ...]
    calibration: Calibration
    """Of the confidence in the class that was named."""
    slices: tuple[Slice, ...]


AnyEvaluation = Annotated[Evaluation | ClassEvaluation, Field(discriminator="metric")]


class Paired(Model):
    """A difference on the same rows, challenger minus champion; each end of the interval is one-sided at `LEVEL`."""

    difference: float
    standard_error: float
    low: float
    high: float


class Comparison(Model):
    """Challenger against champion on the same held-out rows."""

    quality: Paired
    """AUC or accuracy: below zero the challenger is worse."""
    calibration: Paired
    """Mean squared calibration error: above zero the challenger is worse."""
    champion: float
    """Its AUC or accuracy on these rows."""


class Control(Model):
    """The same training on shuffled labels, which must not pass."""

    runs: Annotated[int, Field(ge=1)]
    """With other shuffles each; see `domain.evaluation.control_runs`."""
    quality: float
    """Mean AUC or accuracy on held-out rows, whose labels are shuffled as well."""
