"""The active version of a model in memory, as processes that score have it: checked, and replaced when it changes."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING
from uuid import uuid4

from prometheus_client import REGISTRY, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from activities.loading import LoadedModel, ModelRefusedError, drift_score, load
from db import leads, models
from db.following import LOST, Follower
from db.models import Load
from db.pool import Connection, connect_one
from domain import artifact, signing
from domain.base import Model
from domain.leads import LeadRow, Outcome
from domain.model import ModelName

if TYPE_CHECKING:
    from prometheus_client import Metric

POLL = 1.0
"""Seconds after which the database is asked although nothing was notified, and after which a process reports itself."""

FIGURES = 15.0
"""Seconds between two readings of what the gauges show of outcomes and drift."""

_FORGET = 5.0
"""Seconds that taking the process off the list may take."""

_AUC = Gauge("lead_model_auc", "AUC of the loaded lead model on its held-out rows, 0 to 1.")
_VERSION = Gauge("lead_model_version", "Version of the loaded lead model in epoch seconds; 0: none is loaded.")
_N_TRAIN = Gauge("lead_model_n_train", "Rows that the loaded lead model was trained on.")
_DRIFT = Gauge("lead_model_drift_score", "Drift of the last scored leads, in standard deviations of the training data.")
_RELOADED = Gauge("lead_model_last_reload_ts", "When this process loaded a lead model last, in epoch seconds.")
_CONVERSION = Gauge("lead_conversion_rate", "Share of the leads with an outcome whose newest is booked, 0 to 1.")
_LATENCY = Histogram(
    "lead_pred_latency_seconds",
    "Seconds that one lead takes to score.",
    buckets=(0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.05),
)

log = logging.getLogger(__name__)


class _Outcomes(Collector):
    """`lead_outcome_total{outcome}`, counted in the database: it goes on when a process begins anew."""

    counts: Mapping[Outcome, int] = {}

    def collect(self) -> "Iterable[Metric]":
        family = CounterMetricFamily("lead_outcome", "Outcomes of leads that were recorded.", labels=["outcome"])
        for outcome in Outcome:
            family.add_metric([outcome], self.counts.get(outcome, 0))
        return [family]


_OUTCOMES = _Outcomes()
REGISTRY.register(_OUTCOMES)


class NoModelError(LookupError):
    """No version of the model is loaded."""


class Scored(Model):
    """What a version says about a lead."""

    version: int
    probability: float
    """That the lead is booked, 0 to 1."""


class LiveModel(Follower):
    """The active version of a model, kept current over a connection of its own.

    A version that must not be loaded is reported and logged, and the one before stays; so it does while the database
    cannot be reached. The process is listed among those that score for as long as the block runs.

    Args:
        url: of the database.
        model: which model.
        verify_key: the public key of the signatures.

    Raises:
        signing.SigningError: the key is no key.
    """

    def __init__(self, url: str, model: ModelName, verify_key: str) -> None:
        if not signing.is_key(verify_key):
            raise signing.SigningError("MODEL_VERIFY_KEY is not 64 hexadecimal digits")
        super().__init__(url, models.CHANNEL, poll=POLL)
        self._model, self._verify_key = model, verify_key
        self._process = uuid4()
        self._loaded: LoadedModel | None = None
        self._error: str | None = None

    @property
    def loaded(self) -> LoadedModel | None:
        """What is loaded now. Keep it in a variable for one piece of work: the next look may give another."""
        return self._loaded

    @property
    def error(self) -> str | None:
        """Why the active version is not the one that is loaded; None when it is."""
        return self._error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        with contextlib.suppress(*LOST):
            async with asyncio.timeout(_FORGET):
                connection = await connect_one(self._url)
                try:
                    await models.forget_load(connection, self._process)
                finally:
                    connection.terminate()

    async def _read(self, connection: Connection) -> None:
        """Load what is active, if it is another, and say what is loaded."""
        active = await models.active(connection, self._model)
        wanted = active.version if active else None
        if wanted is None:
            self._take(None)
        elif self._loaded is None or self._loaded.version != wanted:
            try:
                self._take(await load(connection, self._verify_key, self._model, wanted))
            except ModelRefusedError as error:
                if str(error) != self._error:
                    log.error("a model is not loaded", extra={"model": self._model, "error": str(error)})  # noqa: TRY400 - a sentence
                self._error = str(error)
        else:
            self._error = None  # the one that was refused is active no more
        loaded = self._loaded
        said = Load(
            process=self._process,
            model=self._model,
            version=loaded.version if loaded else None,
            error=self._error,
            loaded_at=loaded.loaded_at if loaded else None,
        )
        await models.report_load(connection, said)

    def _take(self, loaded: LoadedModel | None) -> None:
        if loaded is not self._loaded:
            log.info("model loaded", extra={"model": self._model, "version": loaded.version if loaded else None})
        self._loaded, self._error = loaded, None


class Scorer(LiveModel):
    """Scores leads with the active version, without any I/O in the call; and shows it in the gauges."""

    def __init__(self, url: str, verify_key: str) -> None:
        super().__init__(url, "lead", verify_key)
        self._figures_at = 0.0
        self._newest: int | None = None
        self._settled = False

    def score(self, row: LeadRow) -> Scored:
        """Score a lead.

        Raises:
            NoModelError: no version is loaded.
        """
        loaded = self._loaded  # one object: version and probability belong together, whatever is activated meanwhile
        if loaded is None:
            why = self._error or "no version is active"
            raise NoModelError(f"no lead model is loaded, as {why}: see `clotho model status`")
        assert isinstance(loaded.artifact, artifact.LeadArtifact), "loading has checked it"
        started = time.perf_counter()
        probability = artifact.score(loaded.artifact, row)
        _LATENCY.observe(time.perf_counter() - started)
        return Scored(version=loaded.version, probability=probability)

    def _take(self, loaded: LoadedModel | None) -> None:
        super()._take(loaded)
        _VERSION.set(loaded.version if loaded else 0)
        _AUC.set((loaded.registered.auc or 0) if loaded else 0)
        _N_TRAIN.set(loaded.registered.n_train if loaded else 0)
        if loaded:
            _RELOADED.set(loaded.loaded_at.timestamp())

    async def _read(self, connection: Connection) -> None:
        before = self._loaded
        await super()._read(connection)
        now = time.monotonic()
        if self._loaded is not before or now - self._figures_at > FIGURES:
            self._figures_at = now
            await self._show_figures(connection)
            _DRIFT.set(await drift_score(connection, self._loaded) if self._loaded else 0)

    async def _show_figures(self, connection: Connection) -> None:
        """Count the outcomes while new ones come in, and once more: one may have been on its way at the last count."""
        newest = await leads.last_outcome(connection)
        if newest == self._newest and self._settled:
            return
        self._newest, self._settled = newest, newest == self._newest
        counts = await leads.count_outcomes(connection)
        _OUTCOMES.counts = counts.recorded
        _CONVERSION.set(counts.conversion_rate)
