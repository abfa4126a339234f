"""Model migrations: the stored inputs that models are compared over, and each migration with its report."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from db import audit
from db.pool import Connection, Pool, insertion
from domain.base import Model
from domain.canonical import canonical_json, sha256_hex
from domain.comparison import MigrationReport
from domain.migration import MigrationRequest

Inputs = dict[str, tuple[dict[str, str], ...]]
"""Values of the prompt's variables, by prompt type."""


class StoredMigration(Model):
    """One row of model_migrations."""

    id: str
    old_version: str
    new_version: str
    status: Literal["comparing", "reported", "switched", "rejected", "stale"]
    report: MigrationReport | None
    why: str | None
    created_by: str
    created_at: datetime
    updated_at: datetime


async def add_inputs(connection: Connection | Pool, inputs: Mapping[str, Sequence[dict[str, str]]]) -> None:
    """Add to the stored inputs; one that is there already stays."""
    await connection.executemany(
        "INSERT INTO migration_inputs (prompt_type, variables_sha256, variables) VALUES ($1, $2, $3)"
        " ON CONFLICT DO NOTHING",
        [
            (prompt_type, sha256_hex(canonical_json(values)), values)
            for prompt_type, several in inputs.items()
            for values in several
        ],
    )


async def inputs(connection: Connection | Pool) -> Inputs:
    """All stored inputs, in an order that stays."""
    rows = await connection.fetch(
        "SELECT prompt_type, array_agg(variables ORDER BY variables_sha256) AS variables FROM migration_inputs"
        " GROUP BY prompt_type ORDER BY prompt_type"
    )
    return {row["prompt_type"]: tuple(row["variables"]) for row in rows}


async def begin(pool: Pool, request: MigrationRequest, reason: str) -> bool:
    """Store a migration that begins; False, and nothing is written, when its id is taken."""
    fields = {
        "id": request.id,
        "old_version": request.old_version,
        "new_version": request.new_version,
        "status": "comparing",
        "created_by": request.by,
    }
    async with pool.acquire() as connection, connection.transaction():
        statement = f"{insertion('model_migrations', fields)} ON CONFLICT DO NOTHING RETURNING true"
        begun = await connection.fetchval(statement, *fields.values())
        if begun:
            details = request.model_dump(include={"old_version", "new_version"}) | {"reason": reason}
            await audit.append(
                connection, "model_migration_started", "model_migration", request.id, request.by, details
            )
    return bool(begun)


async def get(connection: Connection | Pool, migration: str) -> StoredMigration | None:
    """A migration by its id."""
    row = await connection.fetchrow("SELECT * FROM model_migrations WHERE id = $1", migration)
    return None if row is None else StoredMigration.model_validate(dict(row))


async def every(connection: Connection | Pool) -> list[StoredMigration]:
    """All migrations, the newest first."""
    rows = await connection.fetch("SELECT * FROM model_migrations ORDER BY created_at DESC, id")
    return [StoredMigration.model_validate(dict(row)) for row in rows]


async def store_report(connection: Connection, migration: str, report: MigrationReport) -> None:
    """Keep what the comparison found."""
    await connection.execute(
        "UPDATE model_migrations SET status = 'reported', report = $2, updated_at = now() WHERE id = $1",
        migration,
        report.model_dump(mode="json"),
    )


async def end(connection: Connection, migration: str, status: str, why: str) -> None:
    """Note how a migration ended."""
    await connection.execute(
        "UPDATE model_migrations SET status = $2, why = $3, updated_at = now() WHERE id = $1", migration, status, why
    )
