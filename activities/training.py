"""Steps of a retraining up to a registered version: rows, a candidate, its evaluation and the gate."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version as version_of
from statistics import fmean
from typing import Any, TypeVar

from activities import loading
from activities.base import heartbeating, implements
from activities.families import Data, Family, LeadFamily, TransactionsFamily
from activities.loading import LoadedModel, ModelRefusedError
from db import ai_config, audit, models, step_results
from db.models import Registration
from db.pool import Connection, Pool
from domain import artifact, errors, gate, signing, steps
from domain.artifact import Artifact
from domain.gate import GateInput
from domain.model import (
    MIN_QUALITY,
    SEED,
    Collected,
    CollectRequest,
    Evaluated,
    EvaluateRequest,
    ModelName,
    Run,
    Trained,
    TrainRequest,
)
from domain.model_metrics import Control
from domain.text import cut

R = TypeVar("R")

ACTOR = "clotho"

REASON_LIMIT = 300
"""Characters of a reason: it goes on into reviews and logs."""


class TrainingSteps:
    """Steps of the role training. What costs CPU runs in a thread of its own, where it does not stop the heartbeats.

    Args:
        pool: where rows and versions are.
        signing_key: the private key of the signatures.
        verify_key: its public key.
        threshold: unused feedback that a retraining of transactions is worth.
        batch: feedback that is marked as used under one batch id.
    """

    def __init__(self, pool: Pool, signing_key: str, verify_key: str, *, threshold: int, batch: int) -> None:
        self._pool, self._signing_key, self._verify_key = pool, signing_key, verify_key
        self._families: dict[ModelName, Family] = {
            "lead": LeadFamily(),
            "transactions": TransactionsFamily(threshold, batch),
        }
        self._thread = ThreadPoolExecutor(1, "training")

    def close(self) -> None:
        """Start no more work; what runs in the thread ends by itself, and nobody waits for it."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    @implements(steps.COLLECT_TRAINING_DATA)
    async def collect_training_data(self, request: CollectRequest) -> Collected:
        """Read the rows as of the cut-off, and check whether they are fit to train on.

        Idempotent because: keyed by model and cut-off, committed once with its result.
        """
        family = self._families[request.model]
        async with heartbeating():
            data = await family.data(self._pool, request.cutoff)
            data_sha256, check = await self._in_thread(lambda: (data.sha256, family.check(data)))
        reason = cut(check.reason, REASON_LIMIT)
        newest = await models.newest_version(self._pool, request.model) or 0
        collected = Collected(
            ok=check.ok,
            rows=len(data.rows),
            data_sha256=data_sha256,
            version=max(int(request.cutoff.timestamp()), newest + 1),
            reason=reason,
            numbers=check.numbers,
        )

        async def effect(connection: Connection) -> None:
            if not check.ok:
                details = {"cutoff": request.cutoff.isoformat(), "reason": reason, "numbers": check.numbers}
                await audit.append(connection, "model_retraining_skipped", "model", request.model, ACTOR, details)

        return await step_results.commit_once(self._pool, steps.COLLECT_TRAINING_DATA, request.key, collected, effect)

    @implements(steps.TRAIN_MODEL)
    async def train_model(self, request: TrainRequest) -> Trained:
        """Train on four fifths of the rows and store the artifact.

        Idempotent because: rows, split and seed are fixed, and the artifact is stored under its hash; keyed by model
        and cut-off, committed once with its result.

        Raises:
            ApplicationError: TrainingDataChanged when the rows are not those that were checked.
        """
        run = request.run
        done = await step_results.stored(self._pool, steps.TRAIN_MODEL, run.key)
        if done is not None:
            return done
        async with heartbeating():
            data = await self._same_data(run, request.data_sha256)
            fitted = await self._in_thread(lambda: self._families[run.model].fit(data, run.version))
            body, sha256 = await self._in_thread(
                lambda: (artifact.artifact_bytes(fitted), artifact.artifact_sha256(fitted))
            )
        trained = Trained(
            artifact_sha256=sha256,
            n_train=fitted.metrics.n_train,
            n_test=fitted.metrics.n_test,
        )

        async def effect(connection: Connection) -> None:
            await models.put_artifact(connection, body)

        return await step_results.commit_once(self._pool, steps.TRAIN_MODEL, run.key, trained, effect)

    @implements(steps.EVALUATE_MODEL)
    async def evaluate_model(self, request: EvaluateRequest) -> Evaluated:
        """Evaluate a candidate beside the active version, and register it, signed, when it passes the gate.

        What feedback it was trained on is marked as used in the same transaction.

        Idempotent because: keyed by model and cut-off, committed once with its result; ml_models has a version once.

        Raises:
            ApplicationError: TrainingDataChanged, or ModelUnusable when an artifact is not what was stored.
        """
        run, family, trained = request.run, self._families[request.run.model], request.trained
        done = await step_results.stored(self._pool, steps.EVALUATE_MODEL, run.key)
        if done is not None:
            return done
        async with heartbeating():
            data = await self._same_data(run, request.data_sha256)
            candidate = await self._candidate(trained.artifact_sha256)
            champion = await self._champion(run.model)
            measured = await self._measure(family, data, candidate, champion, request.minimum)
        decision = gate.decide(measured)
        evaluated = Evaluated(
            passed=decision.ok,
            quality=decision.quality,
            reason=cut(_told(measured) if decision.ok else decision.reason, REASON_LIMIT),
            rejection=decision.rejection,
            champion=champion.version if champion else None,
            needs_approval=run.model in await ai_config.get(self._pool, "model_approval"),
        )
        registration = Registration(
            model=run.model,
            version=run.version,
            sha256=trained.artifact_sha256,
            signature=signing.sign(self._signing_key, run.model, run.version, trained.artifact_sha256).hex(),
            n_train=trained.n_train,
            n_test=trained.n_test,
            trained_from=data.since,
            cutoff=run.cutoff,
            data_sha256=request.data_sha256,
            code_version=version_of("clotho"),
            evaluation=measured.evaluation,
            gate=decision,
        )

        async def effect(connection: Connection) -> None:
            if not decision.ok:
                details = {"version": run.version, "sha256": registration.sha256, "reason": evaluated.reason}
                await audit.append(connection, "model_rejected", "model", run.model, ACTOR, details)
                return
            await family.registered(connection, data, run.version)
            if not await models.register(connection, registration, ACTOR):
                what = f"version {run.version} of {run.model} is that of another retraining by now"
                raise errors.failure(errors.TRAINING_DATA_CHANGED, what)

        return await step_results.commit_once(self._pool, steps.EVALUATE_MODEL, run.key, evaluated, effect)

    async def _in_thread(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _same_data(self, run: Run, data_sha256: str) -> Data[Any]:
        """The rows of the cut-off, once more.

        Raises:
            ApplicationError: TrainingDataChanged.
        """
        data = await self._families[run.model].data(self._pool, run.cutoff)
        if await self._in_thread(lambda: data.sha256) != data_sha256:
            what = f"the rows of {run.model} up to {run.cutoff:%Y-%m-%d %H:%M:%S} UTC are not those that were checked"
            raise errors.failure(errors.TRAINING_DATA_CHANGED, what)
        return data

    async def _candidate(self, sha256: str) -> Artifact:
        body = await models.artifact(self._pool, sha256)
        if body is None or not loading.digest_is(sha256, body):
            raise errors.failure(errors.MODEL_UNUSABLE, f"the artifact {sha256[:12]} is not what was trained")
        return await self._in_thread(lambda: artifact.read_artifact(body))

    async def _champion(self, model: ModelName) -> LoadedModel | None:
        try:
            return await loading.load_active(self._pool, self._verify_key, model)
        except ModelRefusedError as error:
            raise errors.failure(
                errors.MODEL_UNUSABLE, f"the active {model} model cannot be compared: {error}"
            ) from error

    async def _measure(
        self,
        family: Family,
        data: Data[Any],
        candidate: Artifact,
        champion: LoadedModel | None,
        minimum: float | None,
    ) -> GateInput:
        from domain import evaluation

        demanded = MIN_QUALITY[candidate.model] if minimum is None else minimum
        found = await self._in_thread(lambda: family.measure(data, candidate, champion.artifact if champion else None))
        runs = evaluation.control_runs(found.evaluation, demanded)
        # One piece of work each, between which a cancellation takes effect.
        controls = [await self._control(family, data, SEED + number) for number in range(1, runs + 1)]
        return GateInput(
            evaluation=found.evaluation,
            minimum=demanded,
            champion=found.comparison,
            overlap=found.overlap,
            control=Control(runs=runs, quality=fmean(controls)),
        )

    async def _control(self, family: Family, data: Data[Any], seed: int) -> float:
        return await self._in_thread(lambda: family.control(data, seed))


def _told(measured: GateInput) -> str:
    """What was registered, in a sentence."""
    found = measured.evaluation
    name = "AUC" if found.metric == "auc" else "accuracy"
    told = f"{name} {found.quality.value:.4f} ({found.quality.low:.4f} to {found.quality.high:.4f})"
    if measured.champion is None:
        return f"{told}, the first version."
    return f"{told}, {measured.champion.quality.difference:+.4f} against the champion."
