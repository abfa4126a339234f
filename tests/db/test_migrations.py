"""Migrations: up, down, up; one at a time; an applied file never changes."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from db import migrate


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(database_url)
    yield opened
    await opened.close()


async def schema(connection: asyncpg.Connection) -> list[tuple[str, ...]]:
    """Every column, index and constraint, as the database describes them."""
    columns = await connection.fetch(
        "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name <> 'schema_migrations' ORDER BY 1, 2"
    )
    indexes = await connection.fetch(
        "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'"
        " AND tablename <> 'schema_migrations' ORDER BY 1, 2"
    )
    constraints = await connection.fetch(
        "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'schema_migrations' ORDER BY 1, 2"
    )
    return [tuple(row) for row in (*columns, *indexes, *constraints)]


async def test_up_down_up_gives_the_same_schema(database_url: str, connection: asyncpg.Connection) -> None:
    first = await schema(connection)
    undone = await migrate.downgrade(database_url, to=0)
    assert [m.number for m in undone] == [m.number for m in reversed(migrate.migrations())]
    assert await schema(connection) == []
    done = await migrate.upgrade(database_url)
    assert [m.number for m in done] == [m.number for m in migrate.migrations()]
    assert await schema(connection) == first
    assert first


async def test_two_upgrades_at_once_apply_each_migration_once(database_url: str) -> None:
    await migrate.downgrade(database_url, to=0)
    applied = await asyncio.gather(*(migrate.upgrade(database_url) for _ in range(5)))
    assert sum(len(one) for one in applied) == len(migrate.migrations())


async def test_a_changed_file_is_refused_and_named(database_url: str, connection: asyncpg.Connection) -> None:
    await connection.execute("UPDATE schema_migrations SET sha256 = repeat('0', 64) WHERE number = 1")
    with pytest.raises(migrate.MigrationError, match="migration 0001 was changed"):
        await migrate.upgrade(database_url)


async def test_a_database_of_newer_code_is_refused(database_url: str, connection: asyncpg.Connection) -> None:
    await connection.execute(
        "INSERT INTO schema_migrations (number, name, sha256) VALUES ($1, 'later', 'x')", len(migrate.migrations()) + 1
    )
    with pytest.raises(migrate.MigrationError, match="deploy the newer code"):
        await migrate.upgrade(database_url)


async def test_the_schema_needs_no_superuser(connection: asyncpg.Connection) -> None:
    assert await connection.fetchval("SELECT current_setting('is_superuser')") == "off"
