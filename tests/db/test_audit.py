"""The audit log: append-only for everybody, and a change by whoever owns the server is found and named."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from cli.audit import check
from db import audit
from db.pool import Pool, connect
from domain.audit import Broken


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with await connect(database_url) as opened:
        yield opened


async def write(pool: Pool, count: int) -> None:
    for number in range(count):
        async with pool.acquire() as connection, connection.transaction():
            details = {"reason": f"number {number}", "confidence": 0.1 * number, "größe": None}
            await audit.append(connection, "admin_action", "market", f"market-{number}", "operator", details)


async def as_superuser(superuser_url: str, *statements: str) -> None:
    connection = await asyncpg.connect(superuser_url)
    try:
        await connection.execute("SET session_replication_role = replica")  # no trigger stands in the way
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def broken(pool: Pool) -> list[int]:
    return [found.id for found in (await check(pool)).broken]


async def test_an_untouched_log_is_intact(pool: Pool) -> None:
    assert (await check(pool)).entries == 0
    await write(pool, 20)
    report = await check(pool)
    assert (report.entries, report.broken) == (20, ())


async def test_entries_written_at_once_form_one_chain_without_gaps(pool: Pool) -> None:
    await asyncio.gather(*(write(pool, 5) for _ in range(8)))
    report = await check(pool)
    assert (report.entries, report.broken) == (40, ())


async def test_a_transaction_that_fails_leaves_no_entry_and_no_gap(pool: Pool) -> None:
    await write(pool, 2)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await audit.append(connection, "admin_action", "market", "m", "operator", {})
        await transaction.rollback()
    await write(pool, 2)
    report = await check(pool)
    assert (report.entries, report.broken) == (4, ())


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_logs SET actor = 'nobody'", "DELETE FROM audit_logs", "TRUNCATE audit_logs"],
)
async def test_no_role_changes_or_removes_entries(pool: Pool, superuser_url: str, statement: str) -> None:
    await write(pool, 2)
    with pytest.raises(asyncpg.PostgresError, match="append-only"):
        await pool.execute(statement)
    connection = await asyncpg.connect(superuser_url)
    with pytest.raises(asyncpg.PostgresError, match="append-only"):
        await connection.execute(statement)
    await connection.close()


async def test_a_deleted_an_edited_and_two_swapped_entries_are_each_named(pool: Pool, superuser_url: str) -> None:
    await write(pool, 20)
    await as_superuser(
        superuser_url,
        "DELETE FROM audit_logs WHERE id = 4",
        "UPDATE audit_logs SET details = jsonb_set(details, '{reason}', '\"another\"') WHERE id = 9",
        "UPDATE audit_logs SET id = id + 100 WHERE id IN (14, 17)",
        "UPDATE audit_logs SET id = CASE id WHEN 114 THEN 17 ELSE 14 END WHERE id IN (114, 117)",
    )
    assert await broken(pool) == [4, 9, 14, 17]


async def test_an_entry_that_is_none_any_more_is_named_and_so_is_a_lost_end(pool: Pool, superuser_url: str) -> None:
    await write(pool, 10)
    forged = enumerate(("[]", "null", '"a text"', '{"reason": 1e999}'), start=3)
    await as_superuser(
        superuser_url, *(f"UPDATE audit_logs SET details = '{details}' WHERE id = {id}" for id, details in forged)
    )
    assert await broken(pool) == [3, 4, 5, 6]
    await as_superuser(superuser_url, "DELETE FROM audit_head")
    assert await broken(pool) == [3, 4, 5, 6, 10]
    # Nor can it be begun anew.
    with pytest.raises(AssertionError):
        await write(pool, 1)


@pytest.mark.parametrize("count", [1, 3])
async def test_entries_cut_off_at_the_end_are_named(pool: Pool, superuser_url: str, count: int) -> None:
    await write(pool, 10)
    await as_superuser(superuser_url, f"DELETE FROM audit_logs WHERE id > {10 - count}")
    assert await broken(pool) == list(range(11 - count, 11))


async def test_an_edited_entry_with_a_new_hash_of_its_own_is_found(pool: Pool, superuser_url: str) -> None:
    await write(pool, 6)
    (old,) = [entry for entry in await audit.entries(pool) if entry.id == 3]
    forged = old.model_copy(update={"actor": "somebody else"})
    await as_superuser(
        superuser_url,
        f"UPDATE audit_logs SET actor = 'somebody else', sha256 = '{forged.computed_sha256()}' WHERE id = 3",
    )
    assert (await check(pool)).broken == (Broken(id=4, why="the entry does not follow entry 3, one of them is false"),)
