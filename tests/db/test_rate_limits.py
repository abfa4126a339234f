"""Limits: exact when many come at once, in every minute and not only in those of the clock."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from db.pool import Pool, connect
from db.rate_limits import LimitReached, use
from domain.config import Period

LIMITS: dict[Period, int] = {"minute": 3, "hour": 20, "day": 100}


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[Pool]:
    async with await connect(postgres_url, max_size=12) as opened:
        yield opened


@pytest.fixture
def subject() -> str:
    return secrets.token_hex(8)


async def once(pool: Pool, subject: str) -> LimitReached | None:
    async with pool.acquire() as connection:
        try:
            async with connection.transaction():
                await use(connection, "propose", subject, LIMITS)
        except LimitReached as reached:
            return reached
    return None


async def used(pool: Pool, subject: str, *moments: datetime) -> None:
    """Uses in the past."""
    await pool.executemany(
        "INSERT INTO rate_limits (action, subject, used_at) VALUES ('propose', $1, $2)",
        [(subject, moment) for moment in moments],
    )


async def test_of_many_at_once_as_many_pass_as_the_limit_allows(pool: Pool, subject: str) -> None:
    other = secrets.token_hex(8)
    answers = await asyncio.gather(*(once(pool, subject) for _ in range(30)), once(pool, other))
    assert answers[:30].count(None) == 3
    assert answers[30] is None, "another's uses are counted apart"


async def test_a_use_that_was_rolled_back_does_not_count(pool: Pool, subject: str) -> None:
    for _ in range(5):
        async with pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await use(connection, "propose", subject, LIMITS)
            await transaction.rollback()
    assert await once(pool, subject) is None


@pytest.mark.parametrize(("period", "length", "count"), [("minute", 60, 3), ("hour", 3_600, 20), ("day", 86_400, 100)])
async def test_each_period_slides_and_says_when_it_is_free(
    pool: Pool, subject: str, period: Period, length: int, count: int
) -> None:
    # All but one at the end of the period before now, spread so that no shorter period is full.
    oldest = datetime.now(UTC) - timedelta(seconds=length - 30)
    await used(pool, subject, *(oldest + timedelta(seconds=(length - 60) * n / count) for n in range(count)))
    reached = await once(pool, subject)
    assert reached is not None
    assert (reached.period, reached.limit, reached.again) == (period, count, oldest + timedelta(seconds=length))
    assert reached.now < reached.again
    await pool.execute("UPDATE rate_limits SET used_at = used_at - interval '31 s' WHERE subject = $1", subject)
    assert await once(pool, subject) is None


async def test_rows_older_than_a_day_are_removed(pool: Pool, subject: str) -> None:
    gone = secrets.token_hex(8)
    now = datetime.now(UTC)
    await used(pool, gone, now - timedelta(days=1, seconds=1), now - timedelta(hours=23))
    assert await once(pool, subject) is None
    assert await pool.fetchval("SELECT count(*) FROM rate_limits WHERE subject = $1", gone) == 1
