"""People stop a market, for a while or for good."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import uuid4

import pytest

from db import proposals
from domain import ids, steps
from domain.market import WORKFLOW, MarketRequest, Note, Proposal
from domain.status import MarketStatus
from domain.steps import Role
from tests.workflows.world import Market, Question, World

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


async def signalled_before_it_began(world: World, question: Question, signal: str) -> Market:
    """A market whose first signal is there when its story begins, as when no worker was up."""
    draft, key = question.draft(), uuid4().hex
    market_id = ids.market_id("manual", key)
    proposal = Proposal(text=draft.rules.exact_question, draft=draft, proposer="operator")
    await proposals.insert(world.pool, market_id, key, proposal)
    await world.client.start_workflow(
        WORKFLOW,
        MarketRequest(market_id=market_id, origin="manual"),
        id=ids.market_workflow_id(market_id),
        task_queue=Role.ORCHESTRATOR.value,
        start_signal=signal,
        start_signal_args=[NOTE],
    )
    return Market(world, market_id)


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
    market = await signalled_before_it_began(world, question, "pause")
    await market.until(lambda state: state.paused and state.title, "a paused draft")
    assert [step.name for step in await market.steps()] == [steps.DRAFT_MARKET.name]
    await market.tell("resume", NOTE)
    await market.becomes(MarketStatus.ACTIVE)


async def test_a_market_that_is_canceled_before_its_story_begins_is_never_published(
    world: World, question: Question
) -> None:
    market = await signalled_before_it_began(world, question, "cancel")
    end = await market.result()
    assert (end.status, end.outcome) == (MarketStatus.CANCELED, None)
    assert not await market.steps(steps.PUBLISH_MARKET.name)
    assert await market.record() is None
