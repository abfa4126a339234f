"""A/B tests of prompts: their definitions, the calls made for them, and the outcomes, read from the audit log."""

from collections.abc import Mapping
from typing import Literal

import asyncpg

from db import ai_config, ai_versions, audit
from db.pool import Connection, Pool, insertion
from domain.ai import VersionError
from domain.base import Model, Sha256
from domain.experiments import Arm, Experiment, Metric, Outcome


class ExperimentCall(Model):
    """One call made for a subject of a test; `confidence` as the model says it, where its answer has one."""

    experiment: str
    subject: str
    arm: Arm
    input_sha256: Sha256
    confidence: float | None


async def define(pool: Pool, experiment: Experiment, reason: str) -> bool:
    """Store a test; False, and nothing is written, when its id is taken or its prompt type is under test already."""
    fields = experiment.model_dump()
    try:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(insertion("experiments", fields), *fields.values())
            details = experiment.model_dump(mode="json", exclude={"id", "created_by", "status"}) | {"reason": reason}
            await audit.append(
                connection, "experiment_defined", "experiment", experiment.id, experiment.created_by, details
            )
    except asyncpg.UniqueViolationError:
        return False
    return True


async def get(connection: Connection | Pool, experiment: str) -> Experiment | None:
    """A test by its id."""
    row = await connection.fetchrow("SELECT * FROM experiments WHERE id = $1", experiment)
    return None if row is None else Experiment.model_validate(dict(row))


async def every(connection: Connection | Pool) -> list[Experiment]:
    """All tests, the newest first."""
    rows = await connection.fetch("SELECT * FROM experiments ORDER BY start DESC, id")
    return [Experiment.model_validate(dict(row)) for row in rows]


async def running(connection: Connection | Pool, prompt_type: str) -> Experiment | None:
    """The test of a prompt type that has started and not ended; there is at most one."""
    row = await connection.fetchrow(
        "SELECT * FROM experiments WHERE prompt_type = $1 AND status = 'running' AND start <= now()",
        prompt_type,
    )
    return None if row is None else Experiment.model_validate(dict(row))


async def log(connection: Connection | Pool, call: ExperimentCall) -> None:
    """Note a call for a subject; a repeated one changes nothing."""
    fields = call.model_dump()
    await connection.execute(f"{insertion('experiment_calls', fields)} ON CONFLICT DO NOTHING", *fields.values())


async def stop(pool: Pool, experiment: str, by: str, reason: str) -> bool:
    """End a running test without a winner; False, and nothing is written, when it runs no more."""
    async with pool.acquire() as connection, connection.transaction():
        stopped = await _end(connection, experiment, "stopped")
        if stopped:
            await audit.append(connection, "experiment_stopped", "experiment", experiment, by, {"reason": reason})
    return stopped


async def promote(
    pool: Pool, experiment: Experiment, version: str, hashes: Mapping[str, str], by: str, reason: str
) -> bool:
    """End a test and make its variant part of a new ai_version, which becomes the current one; in one transaction.

    Args:
        pool: where.
        experiment: the test; the caller has seen that its variant won.
        version: name of the new ai_version.
        hashes: SHA-256 of every prompt file, by `<type>/<version>`.
        by: who.
        reason: why.

    Returns:
        False, and nothing is written, when it runs no more.

    Raises:
        VersionError: the version cannot be made, the variant's file is another than was tested, or another version than
            the tested one is current; nothing is changed.
    """
    async with pool.acquire() as connection, connection.transaction():
        current = (await ai_config.locked(connection))["ai_version"]
        if current != experiment.ai_version:
            raise VersionError(f"the test compared with {experiment.ai_version}, and {current} is current now")
        if hashes.get(f"{experiment.prompt_type}/{experiment.variant}") != experiment.variant_sha256:
            raise VersionError(
                f"prompts/{experiment.prompt_type}/{experiment.variant}.md is not the text that was tested"
            )
        promoted = await _end(connection, experiment.id, "promoted")
        if promoted:
            changes = {experiment.prompt_type: experiment.variant}
            await ai_versions.create_in(connection, version, changes, hashes, by, reason)
            await ai_versions.switch(connection, version, by, reason)
            details = {"ai_version": version, "reason": reason}
            await audit.append(connection, "experiment_promoted", "experiment", experiment.id, by, details)
    return promoted


async def _end(connection: Connection, experiment: str, status: Literal["promoted", "stopped"]) -> bool:
    ended = await connection.fetchval(
        "UPDATE experiments SET status = $2 WHERE id = $1 AND status = 'running' RETURNING true", experiment, status
    )
    return bool(ended)


# The first entry that matches decides about a market, and good outcomes become known at the same moment as bad ones: at
# the first validation, not at publication; a dispute counts when the market is finalised, not before.
_DECIDING = {
    Metric.APPROVED_WITHOUT_PERSON: """
        SELECT DISTINCT ON (entity_id) entity_id, id,
            action = 'validation_completed' AND details->>'decision' = 'approved' AS success
        FROM audit_logs WHERE entity_type = 'market' AND entity_id = ANY($1) AND (
            action IN ('validation_completed', 'draft_refused')
            OR action = 'review_opened' AND details->>'kind' = 'draft')
        ORDER BY entity_id, id""",
    Metric.UNDISPUTED: """
        SELECT ended.entity_id, ended.id, NOT EXISTS (
            SELECT FROM audit_logs disputed WHERE disputed.entity_type = 'market'
            AND disputed.entity_id = ended.entity_id AND disputed.action = 'dispute_submitted') AS success
        FROM audit_logs ended
        WHERE entity_type = 'market' AND entity_id = ANY($1) AND action = 'market_finalized'""",
}


async def outcomes(connection: Connection | Pool, experiment: Experiment) -> list[Outcome]:
    """What became of the subjects, in the order in which it became known, which no later entry changes."""
    arms = {
        row["subject"]: Arm(row["arm"])
        for row in await connection.fetch(
            "SELECT DISTINCT subject, arm FROM experiment_calls WHERE experiment = $1", experiment.id
        )
    }
    rows = await connection.fetch(_DECIDING[experiment.metric], list(arms))
    return [Outcome(arm=arms[r["entity_id"]], success=r["success"]) for r in sorted(rows, key=lambda r: int(r["id"]))]


async def asked(
    connection: Connection | Pool, experiment: Experiment
) -> tuple[dict[Arm, int], dict[Arm, float | None]]:
    """How many subjects were asked for, and the mean confidence of the answers; by arm."""
    rows = await connection.fetch(
        "SELECT arm, count(DISTINCT subject) AS subjects, avg(confidence) AS confidence FROM experiment_calls"
        " WHERE experiment = $1 GROUP BY arm",
        experiment.id,
    )
    return {Arm(r["arm"]): r["subjects"] for r in rows}, {Arm(r["arm"]): r["confidence"] for r in rows}
