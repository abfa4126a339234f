"""Values that are not published when they should be: wait, never guess."""

from datetime import timedelta
from typing import Literal

import pytest

from db import audit
from domain import steps
from domain.market import MarketEnd, Note
from domain.review import LookAgain, Priority, Resolve, ReviewKind
from domain.rules import NotYetPublished
from domain.status import MarketStatus
from tests.workflows.world import REVIEWER, Market, Question, World

HOUR = timedelta(hours=1)
LOOK_AGAIN = LookAgain(by=REVIEWER, reason="it is out now", at_once=True)


async def trading(world: World, question: Question, then: Literal["void", "review"]) -> Market:
    """A market that looks every hour, gives up after three, and whose window nobody leaves by accident."""
    waiting = NotYetPublished(settle_after=0, check_every=3_600, give_up_after=3 * 3_600, then=then)
    market = await world.start(
        question.draft(rules=question.rules(not_yet_published=waiting)), dispute_window=366 * 86_400
    )
    await market.becomes(MarketStatus.ACTIVE)
    return market


async def looks(market: Market) -> list[timedelta]:
    """When the sources were looked at, counted from expiry."""
    expiry = (await market.state()).expiry
    assert expiry is not None
    return [step.scheduled - expiry for step in await market.steps(steps.COLLECT_EVIDENCE.name)]


async def test_it_looks_again_until_the_value_is_published(world: World, question: Question) -> None:
    market = await trading(world, question, "void")
    await market.skip(timedelta(days=30, hours=1, minutes=30))
    assert len(await looks(market)) == 2
    state = await market.state()
    assert (state.status, state.outcome) == (MarketStatus.RESOLVING, None)
    assert (await market.attributes())["MarketStatus"] == "resolving"

    await question.publish()
    await market.skip(HOUR)
    state = await market.becomes(MarketStatus.RESOLVED)
    assert state.outcome == question.truth
    first, second, third = await looks(market)
    assert first >= timedelta(0)
    assert second - first >= HOUR
    assert third - second >= HOUR


async def test_it_gives_up_in_time_and_the_market_is_void(world: World, question: Question) -> None:
    market = await trading(world, question, "void")
    end = await market.end()
    assert (end.status, end.outcome) == (MarketStatus.CANCELED, "VOID")
    assert "not published" in end.reason
    record = await market.record()
    assert record is not None
    assert record.outcome == "VOID"
    # The last look is at the very end of the term: what comes out in its last hour still counts.
    seen = await looks(market)
    assert len(seen) == 4
    assert 3 * HOUR <= seen[-1] < 3 * HOUR + timedelta(minutes=1)


async def test_it_gives_up_and_a_person_has_it_looked_at_again(world: World, question: Question) -> None:
    market = await trading(world, question, "review")
    await market.skip(timedelta(days=31))
    review = await market.review(ReviewKind.RESOLUTION)
    state = await review.state()
    assert state.request.why.startswith("too_early: ")
    assert (state.priority, state.request.title) == (Priority.HIGH, (await market.state()).title)
    market_state = await market.state()
    assert (market_state.status, market_state.outcome, market_state.parked) == (MarketStatus.RESOLVING, None, None)

    # Another look that finds nothing leads back to the person.
    await review.decide("look_again", LOOK_AGAIN)
    await market.children(2)
    await question.publish()
    await (await market.review(ReviewKind.RESOLUTION)).decide("look_again", LOOK_AGAIN)
    assert (await market.becomes(MarketStatus.RESOLVED)).outcome == question.truth
    trail = await audit.entries(world.pool, "market", str(market.id))
    again = [(entry.actor, entry.why) for entry in trail if entry.action == "resolution_look_again"]
    assert again == [(REVIEWER, LOOK_AGAIN.reason)] * 2


@pytest.mark.parametrize("outcome", ["YES", "NO"])
async def test_it_gives_up_and_a_person_names_the_outcome(
    world: World, question: Question, outcome: Literal["YES", "NO"]
) -> None:
    market = await trading(world, question, "review")
    await market.skip(timedelta(days=31))
    by_hand = Resolve(by=REVIEWER, reason="the agency told us by telephone", outcome=outcome, at_once=True)
    await (await market.review(ReviewKind.RESOLUTION)).decide("resolve", by_hand)
    state = await market.becomes(MarketStatus.RESOLVED)
    record, row = await market.record(), await market.row()
    assert record is not None
    assert state.outcome == record.outcome == row.outcome == outcome
    (entry,) = [
        entry
        for entry in await audit.entries(world.pool, "market", str(market.id))
        if entry.action == "resolution_by_hand"
    ]
    assert (entry.actor, entry.why, entry.details["outcome"]) == (REVIEWER, by_hand.reason, outcome)
    assert record.evidence_sha256 == entry.details["evidence_root"]


async def test_a_person_gives_up(world: World, question: Question) -> None:
    market = await trading(world, question, "review")
    await market.skip(timedelta(days=31))
    void = Resolve(by=REVIEWER, reason="it will never be out", outcome="VOID", at_once=True)
    await (await market.review(ReviewKind.RESOLUTION)).decide("resolve", void)
    end: MarketEnd = await market.result()
    assert (end.status, end.outcome) == (MarketStatus.CANCELED, "VOID")
    assert "it will never be out" in end.reason


async def test_waiting_can_be_canceled(world: World, question: Question) -> None:
    market = await trading(world, question, "void")
    await market.skip(timedelta(days=30, minutes=30))
    await market.tell("cancel", Note(by="operator", reason="the source is no more"))
    end = await market.result()
    assert (end.status, end.outcome) == (MarketStatus.CANCELED, "VOID")
    assert len(await looks(market)) == 1
