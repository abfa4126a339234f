"""Steps that make a registered version the active one, and watch that every process follows."""

import math
from datetime import UTC, datetime

from activities.base import heartbeating, implements
from db import models, step_results
from db.pool import Connection, Pool
from domain import steps
from domain.model import Activated, ActivateRequest, Verified, VerifyRequest
from domain.text import cut

ACTOR = "clotho"

_LIMIT = 400
"""Characters of a reason for the promotion log."""


class _OvertakenError(Exception):
    """Another version became active in this very moment."""


class ActivationSteps:
    """Steps of the role training that need no training."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @implements(steps.ACTIVATE_MODEL)
    async def activate_model(self, request: ActivateRequest) -> Activated:
        """Make a version active, in place of the one that it was compared with, and note who approved it.

        Idempotent because: keyed by model and cut-off, committed once with its result.
        """
        run = request.run
        done = await step_results.stored(self._pool, steps.ACTIVATE_MODEL, run.key)
        if done is not None:
            return done

        async def effect(connection: Connection) -> None:
            await models.lock(connection, run.model)
            now = await models.active(connection, run.model)
            if (now.version if now else None) != request.champion:
                raise _OvertakenError
            by = request.approved_by or ACTOR
            if request.approved_by:
                await models.approve(connection, run.model, run.version, by, request.reason)
            await models.activate(connection, run.model, run.version, by, request.reason)

        activated = Activated(active=True, reason=request.reason)
        try:
            return await step_results.commit_once(self._pool, steps.ACTIVATE_MODEL, run.key, activated, effect)
        except _OvertakenError:
            why = "another version became active meanwhile, with which it was not compared"
            stays = Activated(active=False, reason=f"It stays inactive, as {why}.")
            return await step_results.commit_once(self._pool, steps.ACTIVATE_MODEL, run.key, stays, _nothing)

    @implements(steps.VERIFY_ACTIVATION)
    async def verify_activation(self, request: VerifyRequest) -> Verified:
        """Wait until every process that scores reports the version; when one does not in time, switch back.

        The time is counted from the activation, so that a repeated attempt gives no more of it.

        Idempotent because: keyed by model and cut-off, committed once with its result; an activation that is no longer
        the last one is not undone.
        """
        run = request.run
        done = await step_results.stored(self._pool, steps.VERIFY_ACTIVATION, run.key)
        if done is not None:
            return done
        promotion = await models.active(self._pool, run.model)
        overtaken = Verified(
            status="registered", processes=0, reason="Another version was made active before all processes followed."
        )
        if promotion is None or promotion.version != run.version:
            return await self._verified(overtaken, run.key)
        left = math.ceil(request.within - (datetime.now(UTC) - promotion.at).total_seconds())
        async with heartbeating():
            found = await models.verify_activation(self._pool, run.model, run.version, max(left, 0))
        if found.ok:
            told = f"all scoring processes follow ({found.processes})" if found.processes else "no process scores"
            return await self._verified(
                Verified(status="active", processes=found.processes, reason=f"Active: {told}."), run.key
            )
        why = cut(found.reason or "not every scoring process followed", _LIMIT)

        async def switch_back(connection: Connection) -> None:
            if await models.switch_back(connection, run.model, promotion.number, ACTOR, why) is None:
                raise _OvertakenError

        back = Verified(status="switched_back", processes=found.processes, reason=f"Switched back: {why}.")
        try:
            return await step_results.commit_once(self._pool, steps.VERIFY_ACTIVATION, run.key, back, switch_back)
        except _OvertakenError:
            return await self._verified(overtaken, run.key)

    async def _verified(self, verified: Verified, key: str) -> Verified:
        return await step_results.commit_once(self._pool, steps.VERIFY_ACTIVATION, key, verified, _nothing)


async def _nothing(connection: Connection) -> None:
    """Only the result is stored."""
