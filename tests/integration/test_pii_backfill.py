"""PII runs from the command line, against a real Valkey with all that may lie in it."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from bench.chat_lists import Writer, faults, fill, key_of, messages
from bench.histories import payloads, readable
from domain.pii import WORKFLOW
from domain.redaction import Redactor
from tests.conftest import EmbeddedStack, WorkerProcess
from tests.operator import Operator
from tests.support import eventually
from workers.settings import redactor_of

PLANTED = (
    "ada.lovelace@example.com", "+1 415 555 0136", "4111 1111 1111 1111", "078-05-1120", "GB82 WEST 1234 5698 7654 32",
    "203.0.113.77", "2001:db8::8a2e:370:7334",
)  # fmt: skip
TEXT = "mail {} or call {}, card {}, SSN {}, {}, {} {}".format(*PLANTED)
MALFORMED = (f"{PLANTED[0]} and no JSON", f'["{PLANTED[1]}"]', f'{{"text": "{PLANTED[2]}')


@pytest.fixture(scope="module")
async def worker(stack: EmbeddedStack) -> AsyncIterator[WorkerProcess]:
    """One worker of the two roles that a run needs."""
    await stack.end_workflows()
    started = await stack.start_worker("orchestrator", "privacy", environment={"LOG_LEVEL": "debug"})
    yield started
    await started.stop()


@pytest.fixture
async def redis(stack: EmbeddedStack) -> AsyncIterator[Any]:
    async with Redis.from_url(stack.environment["REDIS_URL"]) as opened:
        await opened.flushdb()
        yield opened
        await opened.flushdb()


@pytest.fixture
def redactor(stack: EmbeddedStack) -> Redactor:
    return redactor_of(stack.environment["PII_HASH_KEY"], "[]")


async def run(operator: Operator, *arguments: str) -> Any:
    """A run to its end."""
    answer = await operator.clotho("pii", "backfill", "--wait", "--json", *arguments)
    assert answer.code == 0, answer.err
    return answer.data


async def watched(operator: Operator, running: Coroutine[Any, Any, Any]) -> tuple[Any, set[str]]:
    """What a run gives, and what the heartbeats of its steps told meanwhile."""
    task, seen = asyncio.create_task(running), set[str]()
    while not task.done():
        async for run in operator.temporal.list_workflows(
            f"WorkflowType = '{WORKFLOW}' AND ExecutionStatus = 'Running'"
        ):
            described = await operator.temporal.get_workflow_handle(run.id).describe()
            seen |= {beat.data.decode() for beat in payloads(described.raw_description.pending_activities)}
        await asyncio.wait([task], timeout=0.1)
    return task.result(), seen


async def dump(redis: Any) -> dict[bytes, bytes]:
    """Everything in the server, as it would be moved to another."""
    return {key: await redis.dump(key) async for key in redis.scan_iter()}


async def plant(redis: Any) -> None:
    """Lists with all kinds of PII, and everything else that may lie under the prefix."""
    for number in range(30):
        item = json.dumps({"ts": number, "role": "user", "text": f"{number}: {TEXT}", "pii": True})
        await redis.rpush(f"mem:acme:{number}", item, json.dumps({"ts": 0, "role": "user", "text": "nothing here"}))
    await redis.rpush("mem:acme:bad", *MALFORMED, json.dumps({"text": TEXT}), '{"ts": 1, "role": "user"}')
    await redis.set("mem:acme:string", TEXT)
    await redis.hset("mem:acme:hash", "text", TEXT)
    big = json.dumps({"text": "word " * 1_000_000 + TEXT})  # 5 MB
    large = json.dumps({"text": "word " * 200_000 + TEXT})
    await redis.rpush("mem:acme:big", big, json.dumps({"text": f"small, {TEXT}"}), large)
    await redis.rpush("other:acme:1", TEXT)
    await redis.expire("mem:acme:7", 5_000)


async def test_a_dry_run_tells_item_by_item_what_the_real_run_does(
    operator: Operator, stack: EmbeddedStack, worker: WorkerProcess, redis: Any, redactor: Redactor
) -> None:
    await plant(redis)
    before = await dump(redis)
    dry, heartbeats = await watched(operator, run(operator, "--rate", "20"))
    assert dry["status"] == "reported"
    assert heartbeats
    assert await dump(redis) == before

    real = await run(operator, "--execute")
    assert real["status"] == "clean"
    assert real["first"] == dry["first"]
    first = real["first"]
    assert (first["places"], first["items"], first["changed"]) == (34, 68, 34)
    assert (first["malformed"], first["without_text"], first["large"], first["wrong_type"]) == (3, 1, 2, 2)
    compared = await operator.clotho("pii", "report", real["run"], "--against", dry["run"], "--json")
    assert compared.data["equal"] is True

    for number in range(30):
        item = json.loads((await redis.lindex(f"mem:acme:{number}", 0)).decode())
        text = redactor.redact(f"{number}: {TEXT}").text
        assert item == {"ts": number, "role": "user", "text": text, "pii": True}
    big = [json.loads(item)["text"] for item in await redis.lrange("mem:acme:big", 0, -1)]
    assert [text.endswith(redactor.redact(TEXT).text) for text in big] == [True] * 3
    assert 4_900 < await redis.ttl("mem:acme:7") <= 5_000
    # What is no item of a list is left as it is, and listed by key and index.
    assert await redis.lrange("mem:acme:bad", 0, 2) == [item.encode() for item in MALFORMED]
    assert (await redis.get("mem:acme:string"), await redis.lindex("other:acme:1", 0)) == (TEXT.encode(),) * 2
    report = (await operator.clotho("pii", "report", real["run"], "--json")).data
    assert [(left["place"], left["index"], left["why"]) for left in report["left"]] == [
        *(("mem:acme:bad", index, "malformed") for index in range(3)),
        ("mem:acme:bad", 4, "without text"),
        ("mem:acme:hash", None, "wrong type"), ("mem:acme:string", None, "wrong type"),
    ]  # fmt: skip
    assert report["tenants"] == {"acme": report["kinds"]}
    assert report["kinds"]["EMAIL"] == 34
    async with httpx.AsyncClient(trust_env=False) as client:
        metrics = (await client.get(f"{worker.health}/metrics")).text
    assert 'pii_redactions_total{kind="EMAIL"} 34.0' in metrics

    after = await dump(redis)
    again = await run(operator, "--execute")
    assert (again["status"], again["first"]["changed"]) == ("clean", 0)
    assert await dump(redis) == after

    # Nothing of it stands anywhere else.
    places = [worker.log.read_text("utf-8"), *heartbeats]
    for one in (dry, real, again):
        places.append(readable((await operator.temporal.get_workflow_handle(one["run"]).fetch_history()).events))
    tables = await operator.pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    for row in tables:
        rows = await operator.pool.fetch(f'SELECT t::text AS row FROM "{row["tablename"]}" AS t')
        places += [one["row"] for one in rows]
    assert [value for value in PLANTED if any(value in place for place in places)] == []


async def test_a_list_whose_key_is_personal_is_named_by_tokens_and_found_again(
    operator: Operator, worker: WorkerProcess, redis: Any
) -> None:
    keys = ["mem:acme:+2348031234567", "mem:acme:2348031234567", "mem:ada@example.com:1"]
    for key in keys:
        await redis.rpush(key, "no JSON")
    dry = await run(operator)
    left = [one["place"] for one in (await operator.clotho("pii", "report", dry["run"], "--json")).data["left"]]
    assert len(set(left)) == len(left) == 3
    assert [place for place in left if "2348031234567" in place or "ada@" in place] == []
    found = [(await operator.clotho("pii", "find", place)).out.strip() for place in left]
    assert sorted(found) == sorted(keys)
    unknown = await operator.clotho("pii", "find", "mem:acme:9")
    assert (unknown.code, unknown.err.startswith("Error: PLACE: no list is called 'mem:acme:9'")) == (2, True)
    away = await operator.clotho("pii", "find", left[0], settings={"REDIS_URL": "redis://127.0.0.1:1/0"})
    assert (away.code, away.err.startswith("Error: Redis cannot be reached at REDIS_URL")) == (3, True)


async def test_a_writer_loses_nothing_and_is_gone_over_while_it_writes(
    operator: Operator, worker: WorkerProcess, redis: Any, redactor: Redactor
) -> None:
    await fill(redis, 200, 8_000)
    writer, stop = Writer(redis, 200, 500), asyncio.Event()
    writing = asyncio.create_task(writer.run(stop))
    # Slow enough that most lists are written to between their reading and their turn.
    end = await run(operator, "--execute", "--rate", "400")
    stop.set()
    await writing
    assert end["status"] == "clean"
    assert end["first"]["changed"] > 1_000  # of 2,400, less what the writer has pushed out before
    assert writer.count > 200
    assert list(await faults(redis, 200, 8_000, writer.pushed, redactor)) == []


async def test_a_message_that_moved_is_found_again(
    operator: Operator, stack: EmbeddedStack, redis: Any, redactor: Redactor
) -> None:
    """The server's own script, called with the places that a reader saw before others pushed and trimmed."""
    from activities.privacy import COMPARE_AND_SET

    await redis.rpush("mem:t:c", "c", "b", "a")
    await redis.pexpire("mem:t:c", 100_000)
    await redis.lpush("mem:t:c", "d")
    await redis.ltrim("mem:t:c", 0, 2)
    script = redis.register_script(COMPARE_AND_SET)
    assert await script(["mem:t:c"], [0, "c", "C", 1, "b", "B", 2, "a", "A"]) == [1, 2]
    assert await redis.lrange("mem:t:c", 0, -1) == [b"d", b"C", b"B"]
    assert 90_000 < await redis.pttl("mem:t:c") <= 100_000
    assert await script(["mem:t:gone"], [0, "c", "C"]) == []
    assert not await redis.exists("mem:t:gone")


async def test_a_run_is_watched_and_steered_from_the_command_line(
    operator: Operator, worker: WorkerProcess, redis: Any
) -> None:
    await fill(redis, 60, 600)
    started = await operator.clotho("pii", "backfill", "--execute", "--rate", "2", "--json")
    name = started.data["run"]
    second = await operator.clotho("pii", "backfill")
    assert (second.code, second.err.startswith(f"Error: {name} is under way")) == (1, True)
    assert (await operator.clotho("pii", "pause", "--reason", "lunch")).code == 0

    async def held() -> bool:
        return bool((await operator.clotho("pii", "status", "--json")).data["halted"])

    await eventually(held, "a held run")
    assert (await operator.clotho("pii", "rate", "0")).code == 0
    assert (await operator.clotho("pii", "resume", "--reason", "back")).code == 0
    end = await operator.temporal.get_workflow_handle(name).result()
    assert end["status"] == "clean"
    over = await operator.clotho("pii", "cancel", name, "--reason", "too late")
    assert (over.code, over.err) == (1, f"Error: The run {name} has ended: see `clotho pii report`.\n")
    assert messages(0, 1)[0]["ts"] == json.loads((await redis.lindex(key_of(0), 0)).decode())["ts"]


async def test_a_text_is_scanned_without_being_stored(operator: Operator, redactor: Redactor) -> None:
    given = await operator.clotho("pii", "scan", TEXT)
    assert (given.code, given.out) == (0, redactor.redact(TEXT).text + "\n")
    piped = await operator.clotho("pii", "scan", "--json", stdin=PLANTED[0].encode())
    assert piped.data["findings"] == [{"kind": "EMAIL", "start": 0, "end": len(PLANTED[0])}]
    without = await operator.clotho("pii", "scan", "x", settings={"PII_HASH_KEY": ""})
    assert (without.code, without.err.startswith("Error: PII_HASH_KEY is missing")) == (2, True)
