"""PII runs as people steer them, on a real Temporal server, Valkey and Postgres; the workers run in this process."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.contrib.pydantic import pydantic_data_converter

from activities.configuration import StoredConfiguration
from db import ai_config, audit, pii, reviewers
from db.pool import Pool, connect
from domain.base import Model
from domain.ids import pii_workflow_id, review_workflow_id
from domain.market import Accepted, Note, ParkedState, Unpark
from domain.pii import WORKFLOW, BackfillEnd, BackfillRequest, BackfillState, Beat, SetRate
from domain.redaction import Redactor
from domain.review import Approve, Claim, Claimed, Reject, RejectCode, Release, ReviewKind, ReviewState, ReviewTaken
from domain.steps import Role
from tests.conftest import EmbeddedStack
from tests.support import eventually
from tests.workflows.world import working
from workers.retries import RetryLimit
from workers.settings import WorkerSettings, redactor_of

REVIEWER = "reviewer"
REASON = "a test says so"
EMAIL = "grace.hopper@example.com"


@dataclass(frozen=True)
class Privacy:
    """The stack with workers of two roles."""

    stack: EmbeddedStack
    client: Client
    pool: Pool
    redis: Any
    redactor: Redactor

    async def start(self, **request: Any) -> "Run":
        """Start a run."""
        handle = await self.client.start_workflow(
            WORKFLOW,
            BackfillRequest(by="tests", **request),
            id=pii_workflow_id(uuid4().hex),
            task_queue=Role.ORCHESTRATOR.value,
            result_type=BackfillEnd,
        )
        return Run(self, handle)

    async def push(self, lists: int, length: int = 2) -> None:
        """Store lists whose every message holds an address."""
        for number in range(lists):
            items = [json.dumps({"ts": place, "role": "user", "text": f"{place}: {EMAIL}"}) for place in range(length)]
            await self.redis.rpush(f"mem:t:{number}", *items)

    async def holding(self) -> int:
        """Lists that hold the address."""
        lists = [await self.redis.lrange(key, 0, -1) async for key in self.redis.scan_iter("mem:*")]
        return sum(any(EMAIL.encode() in item for item in one) for one in lists)


@dataclass(frozen=True)
class Run:
    """One run."""

    privacy: Privacy
    handle: WorkflowHandle[Any, BackfillEnd]

    @property
    def review(self) -> WorkflowHandle[Any, Any]:
        """The review that it asks for."""
        name = review_workflow_id(ReviewKind.PII_RUN, self.handle.id)
        return self.privacy.client.get_workflow_handle(name)

    async def state(self) -> BackfillState:
        state: BackfillState = await self.handle.query("state", result_type=BackfillState)
        return state

    async def tell(self, name: str, message: Model) -> None:
        await self.handle.execute_update(name, message, result_type=Accepted)

    async def places(self) -> int:
        progress = await pii.progress(self.privacy.pool, self.handle.id)
        return progress.tally.places if progress is not None else 0

    async def comes_to(self, places: int) -> None:
        async def so() -> bool:
            return await self.places() >= places

        await eventually(so, f"{places} places")

    async def rests(self) -> None:
        async def so() -> bool:
            return not (await self.handle.describe()).raw_description.pending_activities

        await eventually(so, "no step under way")

    async def parks(self) -> ParkedState:
        async def so() -> bool:
            return (await self.handle.query("parked", result_type=ParkedState)).parked is not None

        await eventually(so, "a parked run")
        parked: ParkedState = await self.handle.query("parked", result_type=ParkedState)
        return parked

    async def decide(self, name: str, decision: type[Approve] | type[Reject], by: str = REVIEWER, **more: Any) -> None:
        async def open_now() -> bool:
            try:
                return bool((await self.review.query("state", result_type=ReviewState)).ready)
            except Exception:
                return False

        await eventually(open_now, "an open review")
        claimed = await self.review.execute_update("claim", Claim(by=by), result_type=Claimed)
        message = decision(by=by, reason=REASON, lease=claimed.lease, at_once=True, **more)
        try:
            await self.review.execute_update(name, message, result_type=ReviewTaken)
        except WorkflowUpdateFailedError:
            await self.review.execute_update("release", Release(by=by, lease=claimed.lease), result_type=ReviewTaken)
            raise


@pytest.fixture(scope="module")
async def privacy(stack: EmbeddedStack) -> AsyncIterator[Privacy]:
    settings = WorkerSettings.model_validate({name.lower(): value for name, value in stack.environment.items()})
    client = await Client.connect(stack.environment["TEMPORAL_ADDRESS"], data_converter=pydantic_data_converter)
    async with AsyncExitStack() as resources:
        pool = await resources.enter_async_context(await connect(stack.environment["DATABASE_URL"]))
        redis = await resources.enter_async_context(Redis.from_url(stack.environment["REDIS_URL"]))
        await reviewers.add(pool, REVIEWER, "tests")
        await ai_config.put(pool, "max_retries", 0, "tests", REASON)
        limit = RetryLimit(StoredConfiguration(pool))
        await resources.enter_async_context(working(client, settings, pool, (Role.ORCHESTRATOR, Role.PRIVACY), [limit]))
        redactor = redactor_of(stack.environment["PII_HASH_KEY"], "[]")
        yield Privacy(stack, client, pool, redis, redactor)
        await ai_config.put(pool, "max_retries", 3, "tests", REASON)


@pytest.fixture(autouse=True)
async def _clean(privacy: Privacy) -> AsyncIterator[None]:
    await privacy.redis.flushdb()
    yield
    await privacy.redis.flushdb()
    for key, value in (("pii_approval", False), ("pii_columns", [])):
        await ai_config.put(privacy.pool, key, value, "tests", REASON)


async def test_a_run_is_paused_slowed_and_resumed_while_it_goes(privacy: Privacy) -> None:
    await privacy.push(240)
    run = await privacy.start(execute=True, rate=40)
    await run.comes_to(10)
    described = (await run.handle.describe()).raw_description
    beats = [payload for one in described.pending_activities for payload in one.heartbeat_details.payloads]
    assert {activity.activity_type.name for activity in described.pending_activities} == {"scrub_memory"}
    for payload in beats:
        Beat.model_validate_json(payload.data)
    await run.tell("pause", Note(by="tests", reason=REASON))

    await run.rests()  # nobody holds a worker while it is paused
    done = await run.places()
    assert 10 <= done < 240
    left = await privacy.holding()
    assert left == 240 - done
    assert (await run.state()).paused
    with pytest.raises(WorkflowUpdateFailedError):
        await run.tell("pause", Note(by="tests", reason=REASON))

    await run.tell("set_rate", SetRate(by="tests", rate=None))
    await run.tell("resume", Note(by="tests", reason=REASON))
    end = await run.handle.result()
    assert (end.status, end.first.places, end.first.changed, end.last.changed) == ("clean", 240, 480, 0)
    assert await privacy.holding() == 0
    entries = await audit.entries(privacy.pool, "pii_run", run.handle.id)
    assert [(entry.action, entry.actor) for entry in entries] == [
        ("pii_run_begun", "tests"),
        ("pii_run_clean", "tests"),
    ]
    assert entries[1].details["first"]["changed"] == 480
    assert entries[1].details["pattern_set"] == privacy.redactor.version


async def test_where_the_configuration_asks_a_person_approves_on_a_dry_pass(privacy: Privacy) -> None:
    await ai_config.put(privacy.pool, "pii_approval", True, "tests", REASON)
    await reviewers.add(privacy.pool, "tests", "tests")
    await privacy.push(3)
    refused, run = await privacy.start(execute=True), await privacy.start(execute=True)
    await refused.decide("reject", Reject, code=RejectCode.OTHER)
    end = await refused.handle.result()
    assert (end.status, end.reason) == ("rejected", REASON)
    assert await privacy.holding() == 3
    # Not by who asked for it.
    with pytest.raises(WorkflowUpdateFailedError):
        await run.decide("approve", Approve, by="tests")
    asked = (await run.review.query("state", result_type=ReviewState)).request
    assert asked.why.startswith("6 of 6 items in 3 places held PII")
    await run.decide("approve", Approve)
    assert (await run.handle.result()).status == "clean"
    assert await privacy.holding() == 0


async def test_a_canceled_run_stops_and_keeps_what_it_did(privacy: Privacy) -> None:
    await privacy.push(100)
    run = await privacy.start(execute=True, rate=20)
    await run.comes_to(5)
    await run.tell("cancel", Note(by="tests", reason="enough"))
    end = await run.handle.result()
    assert (end.status, end.reason) == ("stopped", "enough")
    assert await privacy.holding() == 100 - end.first.places


async def test_text_columns_are_redacted_by_the_same_engine(privacy: Privacy) -> None:
    texts = {n: f"{n}: {EMAIL}" if n % 3 == 0 else f"{n}: nothing" for n in range(500)}
    await privacy.pool.execute("CREATE TABLE pii_probe (id integer, note varchar(2000))")
    try:
        await privacy.pool.executemany("INSERT INTO pii_probe VALUES ($1, $2)", list(texts.items()))
        await ai_config.put(privacy.pool, "pii_columns", ["pii_probe.note"], "tests", REASON)
        dry = await privacy.start()
        assert (await dry.handle.result()).first.changed == 167
        real = await privacy.start(execute=True)
        assert (await real.handle.result()).status == "clean"
        assert await pii.differences(privacy.pool, dry.handle.id, real.handle.id) == []
        rows = await privacy.pool.fetch("SELECT id, note FROM pii_probe")
        assert {row["id"]: row["note"] for row in rows} == {
            n: privacy.redactor.redact(text).text for n, text in texts.items()
        }
    finally:
        await privacy.pool.execute("DROP TABLE pii_probe")


async def test_what_cannot_be_redacted_goes_to_a_person_after_some_passes(privacy: Privacy) -> None:
    await privacy.pool.execute("CREATE TABLE pii_probe (note text CHECK (length(note) < 12))")
    try:
        await privacy.pool.execute("INSERT INTO pii_probe VALUES ('192.0.2.71')")
        await ai_config.put(privacy.pool, "pii_columns", ["pii_probe.note"], "tests", REASON)
        run = await privacy.start(execute=True)
        await run.decide("reject", Reject, code=RejectCode.OTHER)
        end = await run.handle.result()
        assert (end.status, end.last.changed, end.last.gone) == ("leftovers", 1, 1)
    finally:
        await privacy.pool.execute("DROP TABLE pii_probe")


async def test_a_column_that_is_none_is_named(privacy: Privacy) -> None:
    await ai_config.put(privacy.pool, "pii_columns", ["markets.confidence"], "tests", REASON)
    run = await privacy.start()
    parked = (await run.parks()).parked
    assert parked is not None
    assert parked.kind == "PiiColumnUnusable"
    assert parked.message.startswith("markets.confidence is no text column of a table: ")
    await run.tell("unpark", Unpark(decision="abort", by="tests", reason=REASON))
    assert (await run.handle.result()).status == "stopped"


async def test_a_run_parks_while_redis_is_away_and_goes_over_a_restarted_one_from_the_start(
    privacy: Privacy, caplog: pytest.LogCaptureFixture
) -> None:
    """The new server's cursors are others; what was counted before counts once."""
    caplog.set_level(logging.CRITICAL, "temporalio")
    await privacy.push(200)
    run = await privacy.start(execute=True, rate=100)
    await run.comes_to(20)
    await privacy.stack.stop("valkey")
    try:
        parked = (await run.parks()).parked
        assert parked is not None
        assert parked.kind == "RedisUnavailable"
        await run.rests()
        # As if the old server's cursors had come far: on the new one nearly nothing lies behind this one.
        await privacy.pool.execute("UPDATE pii_parts SET cursor = '255' WHERE run = $1", run.handle.id)
    finally:
        await privacy.stack.start("valkey")
        await privacy.redis.connection_pool.disconnect()
    await run.tell("set_rate", SetRate(by="tests", rate=None))
    await run.tell("unpark", Unpark(decision="retry", by="tests", reason=REASON))
    end = await run.handle.result()
    assert (end.status, end.first.places, end.first.changed) == ("clean", 200, 400)
    assert await privacy.holding() == 0
