"""A worker that is asked to stop finishes what it does."""

import asyncio
from datetime import timedelta

from tests.conftest import EmbeddedStack
from tests.operator import Operator, soon
from tests.support import eventually
from workers.main import GRACEFUL_SHUTDOWN


async def test_a_step_in_flight_is_finished_and_its_work_kept(operator: Operator, stack: EmbeddedStack) -> None:
    worker = await stack.start_worker()
    drafts = "SELECT count(*) FROM llm_calls WHERE prompt_type = 'market_generation'"
    calls = await operator.pool.fetchval(drafts)
    await operator.llm_fault("delay", seconds=3)
    market_id = await operator.propose(await operator.question("fred", soon(timedelta(seconds=90))))

    async def asked() -> bool:
        return await operator.llm_faults_left() == 0

    await eventually(asked, "the question to the model")
    async with asyncio.timeout(GRACEFUL_SHUTDOWN.total_seconds()):
        assert await worker.stop() == 0
    # No worker runs, and the draft is there.
    assert await operator.status(market_id) == "draft"
    # It was paid for once.
    assert await operator.pool.fetchval(drafts) == calls + 1
    # Who asks now is told so.
    asked_now = (("market", "show", str(market_id)), ("market", "resume", str(market_id), "--reason", "a test"))
    for answer in await asyncio.gather(*(operator.clotho(*arguments) for arguments in asked_now)):
        assert (answer.code, answer.out) == (3, "")
        assert answer.err.startswith(f"Error: No worker answered for market {market_id}")

    next_worker = await stack.start_worker()
    await operator.becomes(market_id, "active")
    history = await operator.lifecycle(market_id).fetch_history()
    attempts = [
        event.activity_task_started_event_attributes.attempt
        for event in history.events
        if event.HasField("activity_task_started_event_attributes")
    ]
    assert set(attempts) == {1}
    await operator.cancel(market_id)
    assert await next_worker.stop() == 0
