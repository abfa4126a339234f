"""The step that measures how far scored rows are from those of the training."""

from datetime import UTC, datetime, time, timedelta

from activities import loading
from activities.base import heartbeating, implements
from activities.loading import LoadedModel, ModelRefusedError
from db import leads, models
from db.models import DriftReport
from db.pool import Pool
from domain import drift, errors, steps
from domain.artifact import LeadArtifact
from domain.model import Drifted, DriftRequest


class DriftSteps:
    """The step of the role training.

    Args:
        pool: where rows and versions are.
        verify_key: the public key of the signatures.
    """

    def __init__(self, pool: Pool, verify_key: str) -> None:
        self._pool, self._verify_key = pool, verify_key

    @implements(steps.MEASURE_DRIFT)
    async def measure_drift(self, request: DriftRequest) -> Drifted:
        """Measure the drift of the newest scored rows, and keep a report of the whole day before, once.

        Idempotent because: it measures anew, and a day's report of a version is one row (primary key).

        Raises:
            ApplicationError: ModelUnusable when the active version must not be loaded.
        """
        async with heartbeating():
            try:
                loaded = await loading.load_active(self._pool, self._verify_key, request.model)
            except ModelRefusedError as error:
                raise errors.failure(errors.MODEL_UNUSABLE, f"the active {request.model} model: {error}") from error
            if loaded is None or not isinstance(loaded.artifact, LeadArtifact):
                return Drifted(version=None, score=0, rows=0)
            rows = await leads.last_scored(self._pool, drift.WINDOW)
            score = drift.drift_score(loaded.artifact.feature_stats, drift.columns(rows))
            await self._keep_report(loaded, loaded.artifact, request.at)
        return Drifted(version=loaded.version, score=score, rows=len(rows))

    async def _keep_report(self, loaded: LoadedModel, artifact: LeadArtifact, at: datetime) -> None:
        end = datetime.combine(at.astimezone(UTC).date(), time(), UTC)
        start = end - timedelta(days=1)
        kept = await models.drift_reports(self._pool, "lead", loaded.version, last=1)
        if kept and kept[-1].day >= start.date():
            return
        rows = await leads.scored_between(self._pool, loaded.version, start, end)
        if not rows:
            return
        report = drift.drift_report(artifact, drift.columns(rows))
        day = DriftReport(
            model="lead",
            version=loaded.version,
            day=start.date(),
            drift_score=report.score,
            rows=report.rows,
            report=report.model_dump(mode="json"),
        )
        await models.store_drift(self._pool, day)
