"""The registry: one active version whatever happens at once, and a log that says exactly which was live when."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from db import audit, models
from db.models import Load, Promotion, Registration
from db.pool import Pool, connect
from tests.versions import register_lead

CUTOFF = datetime(2026, 11, 20, 3, 17, tzinfo=UTC)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with await connect(database_url) as opened:
        yield opened


async def registered(pool: Pool, *versions: int) -> None:
    for version in versions:
        await register_lead(pool, version)


async def activate(pool: Pool, version: int, kind: models.PromotionKind = "activated") -> Promotion | None:
    async with pool.acquire() as connection, connection.transaction():
        return await models.activate(connection, "lead", version, "anna", "a test", kind)


async def switch_back(pool: Pool, promotion: Promotion) -> Promotion | None:
    async with pool.acquire() as connection, connection.transaction():
        return await models.switch_back(connection, "lead", promotion.number, "clotho", "it was not loaded")


async def test_a_version_is_registered_once_and_kept_as_it_was(pool: Pool) -> None:
    await registered(pool, 5)
    stored = await models.get(pool, "lead", 5)
    assert stored is not None
    async with pool.acquire() as connection, connection.transaction():
        again = Registration.model_validate(stored.model_dump(include=set(Registration.model_fields)))
        assert not await models.register(connection, again, "clotho")
    for change in (
        "UPDATE ml_models SET n_train = 9",
        "UPDATE ml_models SET approved_by = 'a', approved_at = now(), sha256 = sha256, n_test = 1",
        "DELETE FROM ml_models",
        "TRUNCATE ml_models CASCADE",
    ):
        with pytest.raises(asyncpg.RaiseError):
            await pool.execute(change)
    async with pool.acquire() as connection, connection.transaction():
        assert await models.approve(connection, "lead", 5, "anna", "good figures")
        assert not await models.approve(connection, "lead", 5, "ben", "the same")
    approved = await models.get(pool, "lead", 5)
    assert approved is not None
    assert approved.approved_by == "anna"
    with pytest.raises(asyncpg.RaiseError):
        await pool.execute("UPDATE ml_models SET approved_by = 'ben'")
    assert [entry.action for entry in await audit.entries(pool, "model", "lead")] == [
        "model_registered",
        "model_approved",
    ]


async def test_the_database_allows_one_active_version_and_only_one_of_the_log(pool: Pool) -> None:
    await registered(pool, 5, 6)
    await activate(pool, 5)
    with pytest.raises(asyncpg.UniqueViolationError):
        await pool.execute("INSERT INTO active_models (model, version, number) VALUES ('lead', 5, 1)")
    with pytest.raises(asyncpg.ForeignKeyViolationError):  # 6 was registered, and never promoted
        await pool.execute("UPDATE active_models SET version = 6")
    with pytest.raises(asyncpg.ForeignKeyViolationError):  # 7 was not even registered
        await pool.execute(
            "INSERT INTO model_promotions (model, number, version, kind, at, by, why)"
            " VALUES ('lead', 2, 7, 'activated', clock_timestamp(), 'x', 'x')"
        )
    with pytest.raises(models.UnknownVersionError):
        await activate(pool, 7)
    now = await models.active(pool, "lead")
    assert now is not None
    assert now.version == 5


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE model_promotions SET version = 6",
        "DELETE FROM model_promotions",
        "TRUNCATE model_promotions CASCADE",
        # Into the past, and with a gap.
        "INSERT INTO model_promotions VALUES ('lead', 2, 6, 'activated', now() - interval '1 hour', 'x', 'x')",
        "INSERT INTO model_promotions VALUES ('lead', 3, 6, 'activated', clock_timestamp(), 'x', 'x')",
    ],
)
async def test_the_promotion_log_is_append_only(pool: Pool, statement: str) -> None:
    await registered(pool, 5, 6)
    await activate(pool, 5)
    with pytest.raises(asyncpg.RaiseError):
        await pool.execute(statement)
    assert [entry.version for entry in await models.history(pool, "lead")] == [5]


async def test_two_activations_at_once_leave_one_active_version(pool: Pool) -> None:
    versions = list(range(1, 9))
    await registered(pool, *versions)
    done = await asyncio.gather(*(activate(pool, version) for version in versions * 2))
    log = await models.history(pool, "lead")
    assert [entry.number for entry in log] == list(range(1, len(log) + 1))
    assert sorted(log, key=lambda entry: entry.at) == log
    assert {entry.number for entry in done if entry} == {entry.number for entry in log}
    assert all(first.version != second.version for first, second in itertools.pairwise(log))
    rows = await pool.fetch("SELECT version, number FROM active_models WHERE model = 'lead'")
    assert [(row["version"], row["number"]) for row in rows] == [(log[-1].version, log[-1].number)]


async def test_a_promotion_behind_the_backs_of_the_code_still_makes_no_second(pool: Pool) -> None:
    """Two transactions that do not wait for each other, as somebody's SQL: one of them is refused."""
    await registered(pool, 5, 6)
    insert = "INSERT INTO model_promotions VALUES ('lead', 1, $1, 'activated', clock_timestamp(), 'x', 'x')"
    active = "INSERT INTO active_models (model, version, number) VALUES ('lead', $1, 1)"

    async def promote(version: int) -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(insert, version)
            await connection.execute(active, version)

    done = await asyncio.gather(promote(5), promote(6), return_exceptions=True)
    assert sorted(type(one).__name__ for one in done) in (
        ["NoneType", "RaiseError"],
        ["NoneType", "UniqueViolationError"],
    )
    assert await pool.fetchval("SELECT count(*) FROM active_models") == 1


@pytest.mark.parametrize("seed", range(4))
async def test_the_history_says_exactly_which_version_was_live_when(pool: Pool, seed: int) -> None:
    """Against a list that the test keeps of what it did, over a random series."""
    chance = random.Random(seed)
    versions = [10, 20, 30, 40]
    await registered(pool, *versions)
    expected: list[tuple[datetime, int | None]] = []
    last: Promotion | None = None
    for _ in range(40):
        live = expected[-1][1] if expected else None
        what = chance.choice(["activated", "rolled_back", "switched_back"])
        if what == "switched_back":
            if last is None:
                continue
            done = await switch_back(pool, last)
            wanted = expected[-2][1] if len(expected) > 1 else None
        else:
            wanted = chance.choice(versions)
            done = await activate(pool, wanted, "activated" if what == "activated" else "rolled_back")
            if wanted == live:
                assert done is None
                continue
        assert done is not None
        expected.append((done.at, wanted))
        last = done
        now = await models.active(pool, "lead")
        assert (now.version if now else None) == wanted
    assert len(expected) > 15

    def live_at(moment: datetime) -> int | None:
        return next((version for at, version in reversed(expected) if at <= moment), None)

    tick = timedelta(microseconds=1)
    moments = [at + step for at, _ in expected for step in (-tick, 0 * tick, tick)]
    span = (expected[-1][0] - expected[0][0]).total_seconds()
    moments += [expected[0][0] + timedelta(seconds=chance.uniform(-0.1, span + 0.1)) for _ in range(60)]
    for moment in moments:
        entry = await models.live_at(pool, "lead", moment)
        assert (entry.version if entry else None) == live_at(moment), moment
    assert [entry.version for entry in await models.history(pool, "lead")] == [version for _, version in expected]


async def test_a_promotion_is_switched_back_once_and_only_while_it_is_the_last(pool: Pool) -> None:
    await registered(pool, 5, 6)
    first = await activate(pool, 5)
    second = await activate(pool, 6)
    assert first is not None
    assert second is not None
    assert await switch_back(pool, first) is None  # 6 was activated since
    back = await switch_back(pool, second)
    assert back is not None
    assert back.version == 5
    assert await switch_back(pool, second) is None  # a repeated attempt
    assert [entry.version for entry in await models.history(pool, "lead")] == [5, 6, 5]


async def test_the_first_version_is_switched_back_to_none(pool: Pool) -> None:
    await registered(pool, 5)
    first = await activate(pool, 5)
    assert first is not None
    back = await switch_back(pool, first)
    assert back is not None
    assert back.version is None
    assert await models.active(pool, "lead") is None
    assert await models.live_before(pool, "lead") is None


async def test_each_roll_back_goes_one_further_back(pool: Pool) -> None:
    await registered(pool, 5, 6, 7)
    for version in (5, 6, 7):
        await activate(pool, version)
    assert await models.live_before(pool, "lead") == 6
    await activate(pool, 6, "rolled_back")
    assert await models.live_before(pool, "lead") == 5
    await activate(pool, 5, "rolled_back")
    assert await models.live_before(pool, "lead") is None
    await activate(pool, 7)  # activated after 5
    assert await models.live_before(pool, "lead") == 5


async def test_an_activation_is_verified_by_what_the_scoring_processes_say(pool: Pool) -> None:
    first, second = Load(process=uuid4(), model="lead", version=6), Load(process=uuid4(), model="lead", version=5)
    gone = Load(process=uuid4(), model="lead", version=5)
    for load in (first, second, gone):
        await models.report_load(pool, load)
    await pool.execute("UPDATE model_loads SET seen_at = now() - interval '1 minute' WHERE process = $1", gone.process)

    async def follow() -> None:
        behind = await models.verify_activation(pool, "lead", 6, 0)
        assert (behind.ok, behind.processes, behind.behind) == (False, 2, 1)
        await models.report_load(pool, second.model_copy(update={"error": "its hash is another one"}))
        refused = await models.verify_activation(pool, "lead", 6, 0)
        assert refused.reason is not None
        assert "its hash is another one" in refused.reason
        await models.report_load(pool, second.model_copy(update={"version": 6}))

    waiting = asyncio.create_task(models.verify_activation(pool, "lead", 6, 20))
    await follow()
    assert (await waiting).ok
    await models.forget_load(pool, first.process)
    assert [load.process for load in await models.loads(pool, "lead")] == [second.process]
