"""Disputes: who may, what becomes of them on chain, in Postgres and in the workflow, and what they keep from ending."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from solders.keypair import Keypair
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from db import audit, disputes
from deploy.local import data
from deploy.local.source_site.control import Release
from domain import steps
from domain.market import Note
from domain.review import Resolve, ReviewKind
from domain.status import MarketStatus
from tests.support import eventually
from tests.workflows.world import REVIEWER, Market, Question, Review, TextQuestion, World, text_question

NOTE = Note(by="operator", reason="a test says so")
WINDOW = timedelta(days=7)
TO_EXPIRY = timedelta(days=30, hours=1)


async def resolved(world: World, question: Question) -> Market:
    """A market whose rules decided it."""
    market = await world.start(question.draft(), dispute_window=round(WINDOW.total_seconds()))
    await market.becomes(MarketStatus.ACTIVE)
    await question.publish()
    await market.skip(TO_EXPIRY)
    await market.becomes(MarketStatus.RESOLVED)
    return market


async def wrongly_resolved(world: World, question: Question | TextQuestion) -> Market:
    """A market whose source published a mistake, which it has mended since."""
    asked = question.draft() if isinstance(question, Question) else question.proposal(in_a_month())
    market = await world.start(asked, dispute_window=round(WINDOW.total_seconds()))
    await market.becomes(MarketStatus.ACTIVE)
    await question.publish()
    await question.misprint()
    await market.skip(TO_EXPIRY)
    state = await market.becomes(MarketStatus.RESOLVED)
    assert state.outcome != question.truth
    await question.publish()
    return market


def in_a_month() -> datetime:
    return (datetime.now(UTC) + timedelta(days=30)).replace(microsecond=0)


async def refusal(world: World, market: Market, disputant: str, reason: str = "It is not so.") -> str:
    """The sentence with which a dispute is refused."""
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await world.dispute(market, disputant, reason)
    cause = refused.value.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == "Refused"
    return cause.message


async def closes(world: World, dispute: UUID) -> disputes.StoredDispute:
    """The dispute once it is closed."""

    async def closed() -> bool:
        return (await disputes.get(world.pool, dispute)).status in {"upheld", "overturned"}

    await eventually(closed, "the end of the dispute")
    return await disputes.get(world.pool, dispute)


async def stands(world: World, market: Market, outcome: str) -> None:
    """The workflow, Postgres and the chain all have this outcome."""
    state = await market.until(lambda state: state.status is MarketStatus.RESOLVED, "no open dispute")
    row, record = await market.row(), await market.record()
    assert record is not None
    assert (state.outcome, row.outcome, record.outcome) == (outcome, outcome, outcome)
    assert (row.status, record.status) == (MarketStatus.RESOLVED, MarketStatus.RESOLVED)


async def escalated(world: World, dispute: UUID) -> Review:
    review = Review(world, ReviewKind.DISPUTE, str(dispute))
    await review.opens()
    return review


def by_hand(outcome: str, reason: str = "I compared the source with its archive") -> Resolve:
    return Resolve(by=REVIEWER, reason=reason, outcome=outcome, at_once=True)


async def actions(world: World, market: Market) -> list[tuple[str, str]]:
    entries = await audit.entries(world.pool, "market", str(market.id))
    return [(entry.action, entry.actor) for entry in entries if entry.action.startswith("dispute_")]


async def test_before_the_window_and_after_it_nothing_is_disputed(world: World, question: Question) -> None:
    market = await world.start(question.draft(), dispute_window=round(WINDOW.total_seconds()))
    await market.becomes(MarketStatus.ACTIVE)
    holder = await world.holder(market)
    assert "only a resolved one" in await refusal(world, market, holder)
    await question.publish()
    await market.skip(TO_EXPIRY)
    await market.becomes(MarketStatus.RESOLVED)
    await market.tell("pause", NOTE)
    await market.skip(WINDOW)
    assert "window closed at" in await refusal(world, market, holder)
    assert await disputes.of_market(world.pool, market.id) == []
    await market.tell("resume", NOTE)
    assert (await market.result()).status is MarketStatus.FINALIZED


async def test_who_holds_nothing_disputes_nothing(world: World, question: Question) -> None:
    market = await resolved(world, question)
    assert "token" in await refusal(world, market, str(Keypair().pubkey()))
    state = await market.state()
    assert (state.status, state.disputes) == (MarketStatus.RESOLVED, ())
    assert (await market.end()).outcome == question.truth


async def test_an_outcome_that_the_sources_confirm_is_upheld(world: World, question: Question) -> None:
    market = await resolved(world, question)
    dispute = await world.dispute(market, await world.holder(market))
    closed = await closes(world, dispute)
    assert closed.status == "upheld"
    await stands(world, market, question.truth)
    end = await market.end()
    assert (end.status, end.outcome) == (MarketStatus.FINALIZED, question.truth)
    assert next(iter(await actions(world, market))) == ("dispute_submitted", closed.disputant)
    assert (await actions(world, market))[-1] == ("dispute_resolved", closed.closed_by)


async def test_a_mistake_that_the_page_has_mended_is_overturned_and_opens_one_fresh_window(world: World) -> None:
    question = text_question(world.site)
    await question.withhold()
    market = await wrongly_resolved(world, question)
    window = (await market.state()).window_ends
    await market.skip(WINDOW / 2)
    dispute = await world.dispute(market, await world.holder(market))
    closed = await closes(world, dispute)
    assert closed.status == "overturned"
    await stands(world, market, question.truth)
    fresh = (await market.state()).window_ends
    assert fresh is not None
    assert window is not None
    assert fresh > window
    assert (await market.record()).dispute_id == dispute  # type: ignore[union-attr]

    # The fresh window is the last one: another dispute changes nothing about its end.
    again = await world.dispute(market, await world.holder(market), "And yet it is the other way round.")
    assert (await closes(world, again)).status == "upheld"
    await market.until(lambda state: not state.disputes, "no open dispute")
    assert (await market.state()).window_ends == fresh
    end = await market.end()
    assert (end.status, end.outcome) == (MarketStatus.FINALIZED, question.truth)
    record = await market.record()
    assert record is not None
    assert (record.outcome, record.immutable) == (question.truth, True)


@pytest.mark.parametrize("overturns", [True, False])
async def test_what_code_decided_is_overturned_by_a_person_alone(
    world: World, question: Question, overturns: bool
) -> None:
    market = await wrongly_resolved(world, question)
    wrong = (await market.state()).outcome
    assert wrong is not None
    dispute = await world.dispute(market, await world.holder(market))
    review = await escalated(world, dispute)
    assert (await disputes.get(world.pool, dispute)).status == "escalated"
    assert (await market.row()).status is MarketStatus.DISPUTED
    state = await market.state()
    assert (state.status, state.disputes) == (MarketStatus.DISPUTED, (dispute,))
    # The window is over, and the market waits for the person.
    await market.skip(2 * WINDOW)
    assert (await market.state()).status is MarketStatus.DISPUTED
    assert (await market.steps(steps.FINALIZE_MARKET.name)) == []

    outcome = question.truth if overturns else wrong
    await review.decide("resolve", by_hand(outcome))
    closed = await closes(world, dispute)
    assert (closed.status, closed.closed_by) == ("overturned" if overturns else "upheld", REVIEWER)
    await market.until(lambda state: not state.disputes, "no open dispute")
    assert (await market.end()).outcome == outcome
    record = await market.record()
    assert record is not None
    assert (record.outcome, record.immutable) == (outcome, True)
    assert (await actions(world, market))[-1] == ("dispute_resolved", REVIEWER)


async def test_disputes_of_the_same_mistake_are_settled_one_after_the_other(world: World, question: Question) -> None:
    market = await wrongly_resolved(world, question)
    first, second = await asyncio.gather(
        *[world.dispute(market, await world.holder(market), f"Wrong, says number {number}.") for number in (1, 2)]
    )
    opened = (await market.state()).disputes
    assert set(opened) == {first, second}
    review = await escalated(world, opened[0])
    await review.decide("resolve", by_hand(question.truth))
    closed = [await closes(world, dispute) for dispute in opened]
    assert [one.status for one in closed] == ["overturned", "overturned"]
    assert closed[1].closed_why == "another dispute has overturned the same outcome"
    await stands(world, market, question.truth)
    assert (await market.end()).outcome == question.truth


async def test_the_same_dispute_sent_twice_is_one(world: World, question: Question) -> None:
    market = await resolved(world, question)
    holder = await world.holder(market)
    once = await asyncio.gather(*(world.dispute(market, holder) for _ in range(3)))
    assert len(set(once)) == 1
    assert len(await disputes.of_market(world.pool, market.id)) == 1
    await closes(world, once[0])
    assert (await market.end()).outcome == question.truth


async def test_a_source_that_is_gone_meanwhile_leads_to_a_person(world: World, question: Question) -> None:
    market = await resolved(world, question)
    holder = await world.holder(market)
    async with world.failing_source(status=404):
        dispute = await world.dispute(market, holder)
        review = await escalated(world, dispute)
    assert "could not be fetched" in (await review.state()).request.why
    await world.site.release(Release(id=question.series.key))
    await review.decide("resolve", by_hand(question.truth))
    assert (await closes(world, dispute)).status == "upheld"
    assert (await market.end()).outcome == question.truth


# Any order of disputes, decisions and timers.

DISPUTE, DECIDE_YES, DECIDE_NO, A_THIRD_OF_THE_WINDOW = "dispute", "YES", "NO", "skip"

MARKETS = 8


def plan_of(chance: random.Random) -> list[str]:
    moves = [DISPUTE, DISPUTE, DECIDE_YES, DECIDE_NO, A_THIRD_OF_THE_WINDOW]
    return [DISPUTE, *(chance.choice(moves) for _ in range(chance.randint(1, 6)))]


async def lives_through(world: World, series: data.Series, plan: list[str]) -> None:
    question = Question(series, world.site)
    await question.withhold()
    market = await wrongly_resolved(world, question)
    waiting: list[UUID] = []
    for number, move in enumerate(plan):
        if move == DISPUTE:
            holder = await world.holder(market)
            try:
                waiting.append(await world.dispute(market, holder, f"Wrong, for reason {number}."))
            except (WorkflowUpdateFailedError, RPCError):
                # Only because the window is closed, or the market over.
                state = await market.state()
                assert state.disputes == ()
                assert state.status in {MarketStatus.RESOLVED, MarketStatus.FINALIZED}
        elif move == A_THIRD_OF_THE_WINDOW:
            await market.skip(WINDOW / 3 + timedelta(minutes=1))
        elif waiting:
            await decide_first(world, market, waiting, move)
    while waiting:
        finalised = await market.steps(steps.FINALIZE_MARKET.name)
        assert not finalised or not await disputes.open_of_market(world.pool, market.id)
        await decide_first(world, market, waiting, DECIDE_YES)
    end = await market.end()

    told = await audit.entries(world.pool, "market", str(market.id))
    names = [entry.action for entry in told]
    assert names.count("dispute_submitted") == names.count("dispute_resolved")
    assert names[-1] == "market_finalized"
    last = [entry for entry in told if "outcome" in entry.details][-1]
    record = await market.record()
    assert record is not None
    assert end.status is MarketStatus.FINALIZED
    assert last.details["outcome"] == end.outcome == record.outcome == (await market.row()).outcome


async def decide_first(world: World, market: Market, waiting: list[UUID], outcome: str) -> None:
    """Have a person decide the dispute that is reviewed now; those that this makes pointless close with it."""
    closed: set[UUID] = set()

    async def answered() -> bool:
        for dispute in waiting:
            stored = await disputes.get(world.pool, dispute)
            if stored.status == "escalated":
                await (await escalated(world, dispute)).decide("resolve", by_hand(outcome))
                await closes(world, dispute)
                closed.add(dispute)
                return True
            if stored.status in {"upheld", "overturned"}:
                closed.add(dispute)
        return not set(waiting) - closed

    await eventually(answered, "a dispute to decide")
    waiting[:] = [dispute for dispute in waiting if dispute not in closed]
    await market.until(lambda state: not closed & set(state.disputes), "the end of the dispute in the workflow")


@pytest.mark.parametrize("seed", [1, 2])
async def test_in_no_order_is_a_market_finalised_with_an_open_dispute(world: World, seed: int) -> None:
    chance = random.Random(seed)
    fred = [one for one in data.load_series() if one.source == "fred" and len(one.observations) > 1]
    async with asyncio.TaskGroup() as group:
        for series in chance.sample(fred, MARKETS):
            group.create_task(lives_through(world, series, plan_of(chance)))
