"""Steps of a model migration: comparing two versions over stored inputs, and switching to the new one."""

import asyncio

from activities.base import heartbeating, implements
from activities.llm_client import LlmClient
from db import ai_config, ai_versions, audit, model_migrations, step_results
from db.pool import Connection, Pool
from domain import errors, steps
from domain.comparison import Answered, MigrationReport, compare
from domain.migration import Compared, EndRequest, MigrationEnd, MigrationRequest

AT_ONCE = 4
"""Calls that a comparison has under way, so that it leaves the provider's rate to the markets."""


class ModelComparison:
    """The step of the role llm."""

    def __init__(self, pool: Pool, llm: LlmClient) -> None:
        self._pool = pool
        self._llm = llm

    @implements(steps.COMPARE_MODELS)
    async def compare_models(self, request: MigrationRequest) -> Compared:
        """Have both versions answer all stored inputs and keep the report.

        Idempotent because: answers are cached by input hash (llm_calls), and the report is committed once with the
        step's result under the migration's id.
        """
        done = await step_results.stored(self._pool, steps.COMPARE_MODELS, request.id)
        if done is not None:
            return done
        inputs = await model_migrations.inputs(self._pool)
        gate = asyncio.Semaphore(AT_ONCE)
        async with heartbeating():
            types = [
                compare(
                    prompt_type,
                    *[
                        await asyncio.gather(*(self._answer(gate, version, prompt_type, one) for one in values))
                        for version in (request.old_version, request.new_version)
                    ],
                )
                for prompt_type, values in inputs.items()
            ]
        report = MigrationReport(types=tuple(types))

        async def store(connection: Connection) -> None:
            await model_migrations.store_report(connection, request.id, report)
            details = {"new_version": request.new_version, "reason": report.summary}
            await audit.append(connection, "model_migration_compared", "model_migration", request.id, "clotho", details)

        result = Compared(summary=report.summary)
        return await step_results.commit_once(self._pool, steps.COMPARE_MODELS, request.id, result, store)

    async def _answer(
        self, gate: asyncio.Semaphore, version: str, prompt_type: str, values: dict[str, str]
    ) -> Answered:
        async with gate:
            return await self._llm.try_out(version, prompt_type, values)


class ModelSwitch:
    """The step of the role orchestrator."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @implements(steps.END_MIGRATION)
    async def end_migration(self, request: EndRequest) -> MigrationEnd:
        """Switch ai_version and llm_model together, or record that a person would not.

        Idempotent because: keyed by the migration's id, committed once with its result.

        Raises:
            ApplicationError: IllegalMove when the current version was changed in the very moment.
        """
        migration = request.migration
        status, reason = "rejected", request.reason
        if request.approved:
            status = "switched"
            current = await ai_config.get(self._pool, "ai_version")
            if current != migration.old_version:
                status, reason = "stale", f"{current} became current meanwhile, which was not compared"
        end = MigrationEnd.model_validate({"status": status, "reason": reason})

        async def effect(connection: Connection) -> None:
            await model_migrations.end(connection, migration.id, end.status, end.reason)
            if end.status == "switched":
                old = await ai_versions.switch(connection, migration.new_version, request.by, request.reason)
                if old != migration.old_version:
                    raise errors.failure(errors.ILLEGAL_MOVE, f"{old} became current in this moment")
            details = {"old_version": migration.old_version, "new_version": migration.new_version, "reason": end.reason}
            action = f"model_migration_{end.status}"
            await audit.append(connection, action, "model_migration", migration.id, request.by, details)

        return await step_results.commit_once(self._pool, steps.END_MIGRATION, migration.id, end, effect)
