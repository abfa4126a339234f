"""How a model stands: the shape that dashboards read, and its health. Pure, as the time is passed in."""

from datetime import UTC, datetime
from enum import StrEnum

from domain.base import Model

CRITICAL_AUC = 0.55
LOW_AUC = 0.65
HIGH_DRIFT = 3.0
"""Standard deviations of the training data."""
STALE_HOURS = 48


class Health(StrEnum):
    """The first that applies, in this order."""

    ERROR = "error"
    """A version is active and cannot be loaded somewhere: its hash or signature is wrong, or it cannot be read."""
    NO_MODEL = "no_model"
    CRITICAL_LOW_AUC = "critical_low_auc"
    WARNING_LOW_AUC = "warning_low_auc"
    WARNING_HIGH_DRIFT = "warning_high_drift"
    WARNING_STALE = "warning_stale"
    OK = "ok"


class ModelStatus(Model):
    """What `clotho model status --json` prints: exactly these fields, in this order."""

    loaded: bool
    version: int | None = None
    version_date: datetime | None = None
    """The version as a date, to the second: versions are epoch seconds."""
    auc: float | None = None
    """On the held-out rows; None for a model that is measured by accuracy."""
    n_train: int | None = None
    load_time: float | None = None
    """Epoch seconds: when it was loaded last."""
    age_hours: float | None = None
    """Since the version was made."""
    drift_score: float = 0
    """Standard deviations, 0 without data."""
    health: Health


def no_model(*, error: bool) -> ModelStatus:
    """The status where none is loaded, because none is active or because the active one cannot be (`error`)."""
    return ModelStatus(loaded=False, health=Health.ERROR if error else Health.NO_MODEL)


def status_of(
    version: int,
    *,
    auc: float | None,
    n_train: int,
    load_time: datetime,
    drift_score: float,
    now: datetime,
    error: bool = False,
) -> ModelStatus:
    """The status of a loaded version.

    Args:
        version: in epoch seconds.
        auc: of the held-out rows, where the model has one.
        n_train: rows that it was trained on.
        load_time: when it was loaded.
        drift_score: standard deviations.
        now: the time.
        error: whether a newer one should be loaded, and cannot be.
    """
    version_date = datetime.fromtimestamp(version, UTC)
    age_hours = (now - version_date).total_seconds() / 3600
    return ModelStatus(
        loaded=True,
        version=version,
        version_date=version_date,
        auc=auc,
        n_train=n_train,
        load_time=load_time.timestamp(),
        age_hours=round(age_hours, 2),
        drift_score=round(drift_score, 4),
        health=Health.ERROR if error else health(auc, drift_score, age_hours),
    )


def health(auc: float | None, drift_score: float, age_hours: float) -> Health:
    """The health of a version that is loaded without an error. A limit that is just reached is kept."""
    if auc is not None and auc < CRITICAL_AUC:
        return Health.CRITICAL_LOW_AUC
    if auc is not None and auc < LOW_AUC:
        return Health.WARNING_LOW_AUC
    if drift_score > HIGH_DRIFT:
        return Health.WARNING_HIGH_DRIFT
    if age_hours > STALE_HOURS:
        return Health.WARNING_STALE
    return Health.OK
