"""Values that are not published when they should be: wait, never guess."""

from datetime import timedelta
from typing import Literal

from domain import steps
from domain.market import MarketEnd, Note, Unpark
from domain.rules import NotYetPublished
from domain.status import MarketStatus
from tests.workflows.world import Market, Question, World

HOUR = timedelta(hours=1)
RETRY = Unpark(decision="retry", by="operator", reason="it is out now")


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


async def test_it_gives_up_and_a_person_decides(world: World, question: Question) -> None:
    market = await trading(world, question, "review")
    await market.skip(timedelta(days=31))
    state = await market.parks("resolution")
    assert state.parked is not None
    assert (state.parked.kind, state.parked.may_skip) == ("too_early", False)
    assert (state.status, state.outcome) == (MarketStatus.RESOLVING, None)

    # Another look that finds nothing leads back to the person.
    since = state.parked.since
    await market.tell("unpark", RETRY)
    await market.until(lambda state: state.parked and state.parked.since > since, "another parking")
    await question.publish()
    await market.tell("unpark", RETRY)
    assert (await market.becomes(MarketStatus.RESOLVED)).outcome == question.truth


async def test_a_person_gives_up(world: World, question: Question) -> None:
    market = await trading(world, question, "review")
    await market.skip(timedelta(days=31))
    await market.parks("resolution")
    await market.tell("unpark", Unpark(decision="abort", by="operator", reason="it will never be out"))
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
