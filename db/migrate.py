"""Migrations: plain SQL, up and down, in order, checked by hash, one at a time.

Files are `migrations/NNNN_name.up.sql` and `.down.sql`. Each runs in a transaction of its own, together with its row
in `schema_migrations`; an advisory lock keeps two runs apart.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import asyncpg

from db.pool import Pool
from domain.canonical import sha256_hex

_LOCK = 0x436C6F74686F  # "Clotho"


class MigrationError(RuntimeError):
    """The database and the migrations do not fit together."""


@dataclass(frozen=True)
class Migration:
    """One step of the schema. `sha256` is of the up file: an applied file must never change."""

    number: int
    name: str
    up: str
    down: str

    @property
    def sha256(self) -> str:
        """Hash of the up file."""
        return sha256_hex(self.up.encode())


def migrations() -> list[Migration]:
    """All migrations, in order, numbered from 1 without a gap."""
    folder = files("db") / "migrations"
    found = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".up.sql"):
            stem = file.name.removesuffix(".up.sql")
            down = (folder / f"{stem}.down.sql").read_text("utf-8")
            found.append(Migration(int(stem[:4]), stem[5:], file.read_text("utf-8"), down))
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError("the migration files are not numbered 0001, 0002, … without a gap: rename them")
    return found


async def upgrade(url: str, to: int | None = None) -> list[Migration]:
    """Apply what is missing, up to and with number `to` (None: all); returns what was applied."""
    async with _locked(url) as connection:
        applied = await _applied(connection)
        pending = [m for m in migrations() if m.number > len(applied) and (to is None or m.number <= to)]
        for migration in pending:
            async with connection.transaction():
                await connection.execute(migration.up)
                await connection.execute(
                    "INSERT INTO schema_migrations (number, name, sha256) VALUES ($1, $2, $3)",
                    migration.number,
                    migration.name,
                    migration.sha256,
                )
        return pending


async def downgrade(url: str, to: int) -> list[Migration]:
    """Undo, newest first, what is above number `to`; returns what was undone."""
    async with _locked(url) as connection:
        applied = await _applied(connection)
        undone = [m for m in reversed(migrations()) if to < m.number <= len(applied)]
        for migration in undone:
            async with connection.transaction():
                await connection.execute(migration.down)
                await connection.execute("DELETE FROM schema_migrations WHERE number = $1", migration.number)
        return undone


async def pending(pool: Pool) -> int:
    """How many migrations are not applied yet; negative when the database knows more than this code."""
    applied = 0
    if await pool.fetchval("SELECT to_regclass('schema_migrations')") is not None:
        applied = await pool.fetchval("SELECT count(*) FROM schema_migrations")
    return len(migrations()) - applied


async def _applied(connection: Any) -> list[str]:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations (number integer PRIMARY KEY, name text NOT NULL,"
        " sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    rows = await connection.fetch("SELECT number, sha256 FROM schema_migrations ORDER BY number")
    known = migrations()
    if len(rows) > len(known):
        raise MigrationError(
            f"the database is at migration {len(rows)}, this code knows {len(known)}: deploy the newer code"
        )
    for row, migration in zip(rows, known, strict=False):
        if row["number"] != migration.number or row["sha256"] != migration.sha256:
            raise MigrationError(
                f"migration {migration.number:04} was changed after it was applied: restore the file, and write a new"
                " migration for the change"
            )
    return [row["sha256"] for row in rows]


@asynccontextmanager
async def _locked(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        yield connection
    finally:
        await connection.close()
