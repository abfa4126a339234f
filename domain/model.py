"""Retraining of a model: what its workflow is told, what its steps take and give, and how it may end.

Numbers of metrics are shares from 0 to 1 unless said otherwise. Rows, artifacts and evaluations stay in Postgres: a
history holds hashes, counts and short reasons.
"""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field

from domain.base import Actor, Model, Sha256

WORKFLOW = "Retrain"
"""Name of the workflow type; its workflows are `retrain-<model>-<date>`."""

START_WORKFLOW = "StartRetrain"
"""Name of the workflow type that a schedule runs: it looks whether a retraining is due, and starts it."""

ModelName = Literal["lead", "transactions"]
MODELS: tuple[ModelName, ...] = ("lead", "transactions")

Share = Annotated[float, Field(ge=0, le=1)]

QUALITY: dict[ModelName, str] = {"lead": "auc", "transactions": "accuracy"}
"""The metric that the gate demands a minimum of."""

MIN_QUALITY: dict[ModelName, float] = {"lead": 0.65, "transactions": 0.85}

SEED = 20240601
"""Of the split, the control run and the bootstrap: the same rows give the same model and the same numbers."""

VERIFY_WITHIN = 60.0
"""Seconds in which every scoring process has to report a version that was activated; else it is switched back."""

DRIFT_LIMIT = 3.0
"""Training standard deviations; the runbook's `warning_high_drift`."""

SUSTAINED = timedelta(hours=1)
"""A drift that is still above the limit after this is no passing one; the runbook's alert waits as long."""

Cause = Literal["schedule", "drift", "feedback", "operator"]
"""Why a model is retrained."""


class RetrainRequest(Model):
    """Starts a retraining; the workflow's start is the cut-off of its data."""

    model: ModelName
    cause: Cause = "schedule"
    by: Actor = "clotho"
    minimum: Share | None = None
    """AUC (transactions: accuracy) that the gate demands; None: the model's own."""
    verify_seconds: Annotated[float, Field(gt=0, le=600)] = VERIFY_WITHIN


class StartRequest(Model):
    """What a schedule asks: `schedule` starts the day's retraining; `drift` looks whether a drift is sustained, and
    then has `drifted` start one, of which a day has one, after the schedule's too.
    """

    model: ModelName
    cause: Literal["schedule", "drift", "drifted"] = "schedule"


class Started(Model):
    """Whether a retraining was started, and why or why not, in a sentence."""

    started: bool
    reason: str


class CollectRequest(Model):
    """One retraining: what all its steps are keyed by. A repeated run of a day has another cut-off."""

    model: ModelName
    cutoff: AwareDatetime
    """Rows that came later do not count."""

    @property
    def key(self) -> str:
        """The business key."""
        return f"{self.model}:{self.cutoff.isoformat()}"


class Run(CollectRequest):
    """A retraining of rows that are fit."""

    version: Annotated[int, Field(ge=1)]
    """That it makes."""


class Collected(Model):
    """The rows as of the cut-off, looked at before anything is trained."""

    ok: bool
    rows: Annotated[int, Field(ge=0)]
    data_sha256: Sha256
    version: Annotated[int, Field(ge=1)]
    """Of what is trained on them: the cut-off in epoch seconds, or one more than the newest, whichever is larger."""
    reason: str
    """Why nothing is trained, in a sentence; else empty."""
    numbers: dict[str, float]
    """What was counted, by name."""


class TrainRequest(Model):
    """Which rows to train on."""

    run: Run
    data_sha256: Sha256


class Trained(Model):
    """A candidate: its artifact, stored under its hash."""

    artifact_sha256: Sha256
    n_train: Annotated[int, Field(ge=1)]
    n_test: Annotated[int, Field(ge=1)]


class EvaluateRequest(Model):
    """Which candidate to evaluate, and what the gate demands."""

    run: Run
    data_sha256: Sha256
    trained: Trained
    minimum: Share | None


class Evaluated(Model):
    """What the gate said; a candidate that passed is registered."""

    passed: bool
    quality: float
    """AUC, or accuracy, on the held-out rows."""
    reason: str
    """Why it was rejected, or what was registered, in a sentence."""
    rejection: dict[str, Any] | None = None
    """As existing scripts read it, when rejected: `{"ok": false, "error": …, "rejected": true, …}`."""
    champion: int | None = None
    """The version that was active, with which it was compared."""
    needs_approval: bool = False
    """Whether a person decides before it becomes active (ai_config `model_approval`)."""


class ActivateRequest(Model):
    """A registered version to make active, if the champion is still the one that it was compared with."""

    run: Run
    champion: int | None
    approved_by: Actor | None
    reason: Annotated[str, Field(min_length=1, max_length=500)]


class Activated(Model):
    """Whether it was made active; if not, why."""

    active: bool
    reason: str


class VerifyRequest(Model):
    """An activation to verify: every process that scores has to report the version."""

    run: Run
    within: Annotated[float, Field(gt=0, le=600)]
    """Seconds since the activation."""


class Verified(Model):
    """`active`: all processes follow. `switched_back`: not all did in time. `registered`: another is active by now."""

    status: Literal["active", "switched_back", "registered"]
    processes: Annotated[int, Field(ge=0)]
    reason: str


class DriftRequest(Model):
    """When to look how far the scored rows are from those of the training."""

    model: ModelName
    at: AwareDatetime


class Drifted(Model):
    """How far they are; the whole report of the day is in Postgres."""

    version: int | None
    """None: no version is active, so nothing drifts."""
    score: Annotated[float, Field(ge=0)]
    """Training standard deviations."""
    rows: Annotated[int, Field(ge=0)]


Status = Literal["skipped", "rejected", "registered", "active", "switched_back"]


class RetrainEnd(Model):
    """How a retraining ended.

    `skipped`: the data are not fit for training. `rejected`: the gate, the old version stays. `registered`: inactive,
    as a reviewer rejected it or another version became active meanwhile. `active`: every process scores with it.
    `switched_back`: a process could not follow in time.
    """

    status: Status
    model: ModelName
    version: int | None = None
    """The version that was registered."""
    reason: str
    numbers: dict[str, float] = Field(default={})
    """Of the data that were skipped."""
    rejection: dict[str, Any] | None = None
    """Of the gate, as existing scripts read it."""


class RetrainState(Model):
    """A look at a retraining."""

    stage: str
    cutoff: AwareDatetime
    collected: Collected | None = None
    trained: Trained | None = None
    evaluated: Evaluated | None = None
    end: RetrainEnd | None = None
