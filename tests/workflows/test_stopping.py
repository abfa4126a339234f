"""People stop a market, for a while or for good."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import PayloadCodec
from temporalio.worker import Worker

from db import audit, proposals
from domain import ids, steps
from domain.market import WORKFLOW, MarketDraft, MarketRequest, Note, Proposal
from domain.review import Approve
from domain.status import MarketStatus
from domain.steps import Role
from tests.support import eventually
from tests.workflows.world import REVIEWER, Market, Question, World
from workers.registry import WORKFLOWS, workflow_runner

NOTE = Note(by="operator", reason="a test says so")
LONG_WINDOW = 366 * 86_400
"""Seconds: no test that skips to expiry leaves it."""

Send = Callable[[Market, str, Note], Awaitable[object]]


@pytest.fixture(params=["update", "signal"])
def send(request: pytest.FixtureRequest) -> Send:
    """Both ways in which an order arrives."""
    return Market.tell if request.param == "update" else Market.signal


async def trading(world: World, question: Question, dispute_window: int = LONG_WINDOW) -> Market:
    market = await world.start(question.draft(), dispute_window=dispute_window)
    await market.becomes(MarketStatus.ACTIVE)
    return market


async def settled(world: World, question: Question) -> Market:
    market = await trading(world, question)
    await question.publish()
    await market.skip(timedelta(days=31))
    await market.becomes(MarketStatus.RESOLVED)
    return market


async def started(
    world: World, draft: MarketDraft, queue: str = Role.ORCHESTRATOR.value, signal: str | None = None
) -> Market:
    """A market whose workflow is told on the task queue, and whose first signal is there when its story begins."""
    key = uuid4().hex
    market_id = ids.market_id("manual", key)
    proposal = Proposal(text=draft.rules.exact_question, draft=draft, proposer="operator")
    await proposals.insert(world.pool, market_id, key, proposal)
    await world.client.start_workflow(
        WORKFLOW,
        MarketRequest(market_id=market_id, origin="manual"),
        id=ids.market_workflow_id(market_id),
        task_queue=queue,
        start_signal=signal,
        start_signal_args=[NOTE] if signal else [],
    )
    return Market(world, market_id)


class Meanwhile(PayloadCodec):
    """Changes nothing, but `does` something before a worker's answer that carries the text is sent, once."""

    def __init__(self, text: bytes, does: Callable[[], Awaitable[object]]) -> None:
        self._text, self._does, self._done = text, does, False

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        if not self._done and any(self._text in payload.data for payload in payloads):
            self._done = True
            await self._does()
        return list(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return list(payloads)


async def void(market: Market) -> bool:
    """Whether the market ended as VOID, on chain and in Postgres."""
    end, row, record = await market.result(), await market.row(), await market.record()
    assert record is not None
    return (
        (end.status, end.outcome)
        == (row.status, row.outcome)
        == (record.status, record.outcome)
        == (MarketStatus.CANCELED, "VOID")
    )


async def test_a_pause_holds_resolution_beyond_expiry(world: World, question: Question, send: Send) -> None:
    market = await trading(world, question)
    await question.publish()
    await send(market, "pause", NOTE)
    await market.until(lambda state: state.paused, "the pause")
    await market.skip(timedelta(days=40))
    assert (await market.state()).status is MarketStatus.ACTIVE
    assert not await market.steps(steps.COLLECT_EVIDENCE.name)
    assert NOTE.reason in await market.details()

    await send(market, "resume", NOTE)
    state = await market.becomes(MarketStatus.RESOLVED)
    assert (state.outcome, state.paused) == (question.truth, False)


async def test_a_pause_holds_finalisation_beyond_the_window(world: World, question: Question) -> None:
    market = await settled(world, question)
    await market.tell("pause", NOTE)
    await market.skip(timedelta(seconds=2 * LONG_WINDOW))
    assert (await market.state()).status is MarketStatus.RESOLVED
    assert not await market.steps(steps.FINALIZE_MARKET.name)
    await market.tell("resume", NOTE)
    end = await market.result()
    assert (end.status, end.outcome) == (MarketStatus.FINALIZED, question.truth)


async def test_a_draft_that_was_held_beyond_its_expiry_is_canceled(world: World, question: Question) -> None:
    market = await world.start(question.draft(confidence=0.5))
    review = await market.review()
    await market.tell("pause", NOTE)
    await review.decide("approve", Approve(by=REVIEWER, reason="it is clear", at_once=True))

    async def held() -> bool:
        return bool([step for step in await market.steps(steps.RECORD_ORDER.name) if step.completed])

    await eventually(held, "the pause that holds the approved draft")
    # The chain knows of no skipped time.
    await world.pool.execute("UPDATE markets SET expiry = now() WHERE id = $1", market.id)
    await market.tell("resume", Note(by="somebody", reason="it was held by mistake"))
    end, row = await market.result(), await market.row()
    assert (end.status, end.outcome) == (row.status, row.outcome) == (MarketStatus.CANCELED, None)
    assert "expired before it was published" in end.reason
    assert await market.record() is None
    # Who held it and who let it go on stand in the record.
    trail = await audit.entries(world.pool, "market", str(market.id))
    assert [(entry.action, entry.actor, entry.why) for entry in trail[-3:]] == [
        ("market_paused", NOTE.by, NOTE.reason),
        ("market_resumed", "somebody", "it was held by mistake"),
        ("market_canceled", "clotho", "it expired before it was published"),
    ]


async def test_what_is_paused_cannot_be_paused_nor_what_runs_be_resumed(world: World, question: Question) -> None:
    market = await trading(world, question)
    assert "not paused" in await market.refuses("resume", NOTE)
    await market.tell("pause", NOTE)
    assert "paused already" in await market.refuses("pause", NOTE)


async def test_a_draft_under_review_is_canceled_without_a_trace_on_chain(world: World, question: Question) -> None:
    market = await world.start(question.draft(confidence=0.5))
    await market.becomes(MarketStatus.PENDING_REVIEW)
    await market.tell("cancel", NOTE)
    end, row = await market.result(), await market.row()
    assert (end.status, end.outcome) == (row.status, row.outcome) == (MarketStatus.CANCELED, None)
    assert NOTE.reason in end.reason
    assert NOTE.by in end.reason
    assert await market.record() is None


async def test_a_market_that_trades_is_canceled_as_void(world: World, question: Question, send: Send) -> None:
    market = await trading(world, question)
    await send(market, "cancel", NOTE)
    assert await void(market)


async def test_canceling_in_temporal_cancels_the_market(world: World, question: Question) -> None:
    market = await trading(world, question)
    await market.cancel_in_temporal()
    assert await void(market)


async def test_canceling_in_temporal_loses_no_settled_market(world: World, question: Question) -> None:
    market = await settled(world, question)
    await market.cancel_in_temporal()
    state = await market.until(lambda state: state.refused, "the refusal")
    assert "can no longer be canceled" in state.refused[0]
    end = await market.end()
    assert (end.status, end.outcome) == (MarketStatus.FINALIZED, question.truth)


async def test_a_paused_market_can_be_canceled(world: World, question: Question) -> None:
    market = await trading(world, question)
    await market.tell("pause", NOTE)
    await market.tell("cancel", NOTE)
    assert await void(market)
    assert await market.updates() == [("pause", True), ("cancel", True)]


async def test_a_settled_market_cannot_be_canceled(world: World, question: Question) -> None:
    market = await settled(world, question)
    before, events = await market.state(), await market.steps()
    assert "resolved and can no longer be canceled" in await market.refuses("cancel", NOTE)
    await market.signal("cancel", NOTE)
    after = await market.until(lambda state: state.refused, "the refused signal")
    assert after.model_copy(update={"refused": ()}) == before
    assert await market.steps() == events
    row, record = await market.row(), await market.record()
    assert record is not None
    assert row.outcome == record.outcome == question.truth


async def test_of_many_cancellations_at_once_one_is_taken(world: World, question: Question) -> None:
    market = await trading(world, question)
    answers = await asyncio.gather(
        *(market.tell("cancel", Note(by=f"operator-{n}", reason="a test says so")) for n in range(4)),
        return_exceptions=True,
    )
    (taken,) = (n for n, answer in enumerate(answers) if not isinstance(answer, BaseException))
    assert await void(market)
    assert f"operator-{taken}" in (await market.result()).reason
    assert len(await market.steps(steps.CANCEL_MARKET.name)) == 1


async def test_a_signal_that_comes_before_the_story_begins_counts(world: World, question: Question) -> None:
    market = await started(world, question.draft(), signal="pause")
    await market.until(lambda state: state.paused and state.title, "a paused draft")
    assert not await market.steps(steps.REHEARSE_RULES.name)
    await market.tell("resume", NOTE)
    await market.becomes(MarketStatus.ACTIVE)


async def test_a_market_that_is_canceled_before_its_story_begins_is_never_published(
    world: World, question: Question
) -> None:
    market = await started(world, question.draft(), signal="cancel")
    end = await market.result()
    assert (end.status, end.outcome) == (MarketStatus.CANCELED, None)
    assert not await market.steps(steps.PUBLISH_MARKET.name)
    assert await market.record() is None


async def test_a_market_that_is_canceled_while_its_review_is_being_started_ends(
    world: World, question: Question
) -> None:
    queue = f"orchestrator-{uuid4().hex[:8]}"
    market = await started(world, question.draft(confidence=0.5), queue)
    ordered = Meanwhile(b'"decide_before"', lambda: market.signal("cancel", NOTE))
    client = Client(world.client.service_client, data_converter=replace(pydantic_data_converter, payload_codec=ordered))
    withdrawal = EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED

    async def withdrawn() -> bool:
        return any(event.event_type == withdrawal for event in await market.events())

    async with Worker(
        client, task_queue=queue, workflows=WORKFLOWS[Role.ORCHESTRATOR], workflow_runner=workflow_runner()
    ):
        await eventually(withdrawn, "the withdrawal of the review")
        came = [event.event_type for event in await market.events()]
        ordered_at = came.index(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
        started_at = came.index(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
        # Withdrawn before it has started, it may never hear of that, and the market would wait for it for good.
        assert ordered_at < started_at < came.index(withdrawal)
        end = await market.result()
    assert (end.status, end.outcome) == (MarketStatus.CANCELED, None)
