"""Processes are killed without warning while markets are under way: no market is lost, and nothing is done twice."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from temporalio.api.enums.v1 import PendingActivityState

from deploy.local.source_site.control import Fault, Release
from deploy.local.state import PartState, PartStatus, read_state
from tests.conftest import EmbeddedStack, WorkerProcess
from tests.operator import Operator, Question, soon
from tests.support import eventually

SLOW_HOST = "query1.finance.yahoo.com"
ROLES = (("orchestrator", "sources"), ("llm", "chain"))
"""Of the workers' processes."""


@pytest.fixture(autouse=True)
async def _no_faults_stay(operator: Operator, stack: EmbeddedStack) -> AsyncIterator[None]:
    yield
    await operator.node_faults()
    await operator.clear_llm_faults()
    await operator.site.release(Release(host=SLOW_HOST))
    await stack.kill_workers()


async def started(stack: EmbeddedStack) -> list[WorkerProcess]:
    return await asyncio.gather(*(stack.start_worker(*roles) for roles in ROLES))


async def proposed(operator: Operator, questions: Sequence[Question]) -> list[UUID]:
    return [await operator.propose(question) for question in questions]


async def in_step(operator: Operator, market_id: UUID, step: str) -> bool:
    """Whether a worker is busy with a step of the market."""
    description = await operator.lifecycle(market_id).describe()
    return any(
        activity.activity_type.name == step and activity.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
        for activity in description.raw_description.pending_activities
    )


async def all_in_step(operator: Operator, market_ids: Sequence[UUID], step: str) -> None:
    async def so() -> bool:
        return all([await in_step(operator, market_id, step) for market_id in market_ids])

    await eventually(so, f"{len(market_ids)} markets in the step {step}")


async def all_sent(operator: Operator, market_ids: Sequence[UUID], purpose: str) -> None:
    """Wait until a transaction of each market is signed and sent; none has landed."""

    async def so() -> bool:
        return all([(purpose, "sent") in await operator.purposes(market_id) for market_id in market_ids])

    await eventually(so, f"{len(market_ids)} transactions to {purpose}")


async def check_whole(operator: Operator, market_ids: Sequence[UUID], questions: Sequence[Question]) -> None:
    """Every market is finalised with the true outcome, once, and verified."""
    ends = await operator.ends(market_ids, seconds=180)
    assert [(end.status, end.outcome) for end in ends] == [("finalized", question.truth) for question in questions]
    for market_id, end in zip(market_ids, ends, strict=True):
        assert await operator.records(market_id) == [end.address]
        landed = [purpose for purpose, state in await operator.purposes(market_id) if state == "landed"]
        assert landed[0::2] == ["publish", "finalize"]
        assert len(landed) == 3
        signatures = await operator.pool.fetch(
            "SELECT signature FROM chain_transactions WHERE market_id = $1 AND state = 'landed' ORDER BY id", market_id
        )
        assert await operator.written(str(end.address)) == [row["signature"] for row in signatures]
        actions = await operator.pool.fetch("SELECT action FROM audit_logs WHERE entity_id = $1", str(market_id))
        counts = Counter(row["action"] for row in actions)
        once = ("draft_generated", "market_published", "resolution_completed", "market_finalized")
        assert [counts[action] for action in once] == [1] * len(once), counts
        assert await operator.runs(market_id) == 1
    answers = await asyncio.gather(*(operator.clotho("market", "verify", str(market_id)) for market_id in market_ids))
    assert [answer.code for answer in answers] == [0] * len(answers), [answer.err for answer in answers]


@pytest.mark.timeout(400)  # 80 s alone; more on a busy machine
async def test_all_workers_killed_at_five_stages_at_once(operator: Operator, stack: EmbeddedStack) -> None:
    workers = await started(stack)
    # The later ones are rehearsed again by new workers, once the server misses the heartbeats of those killed: 20 s.
    # And a busy machine takes as long to start those.
    soonest, latest = soon(timedelta(seconds=12)), soon(timedelta(seconds=70))
    settling = [await operator.question(source, soonest) for source in ("fred", "dbnomics")]
    resolving = [await operator.question("yfinance", soonest) for _ in range(2)]
    early = await proposed(operator, [*settling, *resolving])
    for market_id in early:
        await operator.becomes(market_id, "active")

    # From here no transaction lands, so publishing and settling stay between signed and landed.
    await operator.node_faults(drop_transactions=100_000)
    publishing = [await operator.drafted_question(latest) for _ in range(2)]
    to_publish = await proposed(operator, publishing)
    await all_sent(operator, to_publish, "publish")

    # The model does not answer those who ask it now: drafts of one's own are validated by it, texts are drafted.
    await operator.llm_fault("delay", seconds=60, count=4)
    validating = [await operator.drafted_question(latest) for _ in range(2)]
    drafting = [await operator.question(source, latest) for source in ("fred", "wikipedia")]
    to_validate, to_draft = await proposed(operator, validating), await proposed(operator, drafting)
    # And one source is slow when it is asked for the evidence.
    await operator.site.fault(Fault(host=SLOW_HOST, delay_ms=60_000))

    await all_in_step(operator, to_validate, "validate_market")
    await all_in_step(operator, to_draft, "draft_market")
    await all_sent(operator, early[:2], "settle:1")
    await all_in_step(operator, early[2:], "collect_evidence")

    async def all_asked() -> bool:
        return await operator.llm_faults_left() == 0

    await eventually(all_asked, "four questions to the model")
    await asyncio.gather(*(worker.kill() for worker in workers))

    await operator.node_faults()
    await operator.site.release(Release(host=SLOW_HOST))
    await started(stack)
    await check_whole(
        operator,
        [*early, *to_publish, *to_validate, *to_draft],
        [*settling, *resolving, *publishing, *validating, *drafting],
    )


def part(stack: EmbeddedStack, name: str) -> PartStatus:
    state = read_state(stack.folder)
    assert state is not None
    return next(part for part in state.parts if part.name == name)


async def kill_part(stack: EmbeddedStack, name: str) -> None:
    """Kill a part with no warning; returns when the supervisor has started it again."""
    before = part(stack, name)
    process = before.process.find() if before.process else None
    assert process is not None
    process.kill()

    async def back() -> bool:
        now = part(stack, name)
        return now.restarts > before.restarts and now.state is PartState.READY

    await eventually(back, f"the return of {name}")


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_random_kills_and_faults(operator: Operator, stack: EmbeddedStack, seed: int) -> None:
    chance = random.Random(seed)
    workers = await started(stack)
    # Not of Wikipedia: its series share articles, so the latest to be published would hold the others back.
    questions = [
        await operator.question(chance.choice(["fred", "dbnomics", "yfinance"]), soon(lead))
        for lead in [timedelta(seconds=chance.uniform(60, 150)) for _ in range(12)]
    ]
    market_ids = await proposed(operator, questions)

    async def kill_workers() -> None:
        nonlocal workers
        await asyncio.gather(*(worker.kill() for worker in workers))
        workers = await started(stack)

    async def kill_one_worker() -> None:
        place = chance.randrange(len(ROLES))
        await workers[place].kill()
        workers[place] = await stack.start_worker(*ROLES[place])

    # Each at least once, then whatever comes.
    events: list[Callable[[], Awaitable[None]]] = [
        kill_workers,
        lambda: kill_part(stack, "solana"),
        lambda: kill_part(stack, "postgres"),
        kill_one_worker,
        lambda: operator.node_faults(drop_transactions=chance.randint(1, 4)),
        lambda: operator.node_faults(drop_replies=chance.randint(1, 4)),
        lambda: operator.node_faults(http_status=503, http_requests=chance.randint(1, 10)),
        lambda: operator.llm_fault(chance.choice(["wrong_schema", "truncated_json"]), count=chance.randint(1, 3)),
        lambda: operator.llm_fault("status", status=chance.choice([429, 500]), retry_after=1),
    ]
    chance.shuffle(events)
    end = asyncio.get_running_loop().time() + 150
    while events or asyncio.get_running_loop().time() < end:
        event = events.pop() if events else chance.choice([kill_workers, kill_one_worker])
        await event()
        await operator.clotho("parked", "retry", "--all")  # a draft that waits too long meets its expiry
        await asyncio.sleep(chance.uniform(1, 12))  # the pace of the chaos; nothing is waited for

    async def resumed() -> bool:
        await operator.clotho("parked", "retry", "--all")
        return [await operator.status(market_id) for market_id in market_ids] == ["finalized"] * len(market_ids)

    await eventually(resumed, "the end of all markets", 120)
    await check_whole(operator, market_ids, questions)
