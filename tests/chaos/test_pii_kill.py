"""A worker is killed without warning in the middle of a PII run: nothing is missed, nothing counted twice."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from bench.chat_lists import Writer, faults, fill
from db import audit, pii
from tests.conftest import EmbeddedStack
from tests.operator import Operator
from tests.support import eventually
from workers.settings import redactor_of

LISTS, ITEMS = 400, 20_000
ROLES = ("orchestrator", "privacy")


@pytest.fixture
async def redis(stack: EmbeddedStack) -> AsyncIterator[Any]:
    async with Redis.from_url(stack.environment["REDIS_URL"]) as opened:
        await opened.flushdb()
        yield opened
        await opened.flushdb()
    await stack.kill_workers()


@pytest.mark.long
@pytest.mark.timeout(300)  # each kill costs the 20 s until the heartbeat is missed
@pytest.mark.parametrize("writing", [False, True])
async def test_a_killed_worker_goes_on_where_it_was(
    operator: Operator, stack: EmbeddedStack, redis: Any, writing: bool
) -> None:
    await fill(redis, LISTS, ITEMS)
    worker = await stack.start_worker(*ROLES)
    dry = (await operator.clotho("pii", "backfill", "--wait", "--json")).data
    started = await operator.clotho("pii", "backfill", "--execute", "--rate", "100", "--json")
    name = started.data["run"]
    writer, stop = Writer(redis, LISTS, 500), asyncio.Event()
    task = asyncio.create_task(writer.run(stop)) if writing else None

    for places in (LISTS // 4, LISTS // 2):

        async def far(places: int = places) -> bool:
            return (await pii.tally(operator.pool, name, 1)).places >= places

        await eventually(far, f"{places} lists")
        await worker.kill()
        worker = await stack.start_worker(*ROLES)
    end = await operator.temporal.get_workflow_handle(name).result()
    stop.set()
    if task is not None:
        await task

    assert end["status"] == "clean"
    redactor = redactor_of(stack.environment["PII_HASH_KEY"], "[]")
    assert list(await faults(redis, LISTS, ITEMS, writer.pushed, redactor)) == []
    if not writing:
        assert end["first"] == dry["first"]
        assert await pii.differences(operator.pool, dry["run"], name) == []
    actions = [entry.action for entry in await audit.entries(operator.pool, "pii_run", name)]
    assert actions == ["pii_run_begun", "pii_run_clean"]
