"""Steps whose retries are used up: the market waits for an operator, visibly, and loses nothing."""

import asyncio
from datetime import timedelta
from typing import Literal

from db import audit
from domain import steps
from domain.market import Note, Proposal, Unpark
from domain.review import LookAgain, Resolve, ReviewKind
from domain.status import MarketStatus
from tests.support import eventually
from tests.workflows.world import REVIEWER, Market, Question, World

TO_EXPIRY = timedelta(days=30, hours=1)


def decision(what: Literal["retry", "skip", "abort"]) -> Unpark:
    return Unpark(decision=what, by="operator", reason="a test says so")


async def trading(world: World, question: Question) -> Market:
    market = await world.start(question.draft(), dispute_window=366 * 86_400)
    await market.becomes(MarketStatus.ACTIVE)
    await question.publish()
    return market


async def parked_at_resolution(world: World, question: Question) -> Market:
    """The source has moved at expiry, which no retry mends."""
    market = await trading(world, question)
    async with world.failing_source(status=404):
        await market.skip(TO_EXPIRY)
        await market.parks(steps.COLLECT_EVIDENCE.name)
    return market


async def test_a_source_that_is_down_parks_the_market_until_somebody_retries(world: World, question: Question) -> None:
    market = await trading(world, question)
    async with world.failing_source(down=True):
        await market.skip(TO_EXPIRY)
        state = await market.parks(steps.COLLECT_EVIDENCE.name)
    assert state.parked is not None
    assert (state.parked.kind, state.parked.may_skip) == ("SourceUnreachable", False)
    assert (state.status, state.outcome) == (MarketStatus.ACTIVE, None)
    (look,) = await market.steps(steps.COLLECT_EVIDENCE.name)
    assert look.attempts == steps.COLLECT_EVIDENCE.timing.retry.maximum_attempts
    assert (await market.attributes())["Parked"] is True
    assert steps.COLLECT_EVIDENCE.name in await market.details()
    assert state.parked.message in await market.details()
    await eventually(lambda: market.is_listed("Parked = true"), "the market in the list of the parked")

    await market.tell("unpark", decision("retry"))
    state = await market.becomes(MarketStatus.RESOLVED)
    assert (state.outcome, state.parked) == (question.truth, None)
    assert (await market.attributes())["Parked"] is False


async def test_a_reviewer_may_decide_instead_of_a_source_that_is_gone(world: World, question: Question) -> None:
    market = await parked_at_resolution(world, question)
    review = await market.review(ReviewKind.RESOLUTION)
    state = await review.state()
    assert state.request.why.startswith("unavailable: ")
    by_hand = Resolve(by=REVIEWER, reason="the agency's printed bulletin", outcome="NO", at_once=True)
    await review.decide("resolve", by_hand)
    market_state = await market.becomes(MarketStatus.RESOLVED)
    assert (market_state.outcome, market_state.parked) == ("NO", None)
    assert (await market.attributes())["Parked"] is False


async def test_what_an_operator_retries_no_reviewer_is_asked_about_any_more(world: World, question: Question) -> None:
    market = await parked_at_resolution(world, question)
    review = await market.review(ReviewKind.RESOLUTION)
    await market.tell("unpark", decision("retry"))
    assert (await market.becomes(MarketStatus.RESOLVED)).outcome == question.truth
    assert (await review.result()).decision == "withdrawn"


async def test_a_reviewer_may_have_the_source_asked_again(world: World, question: Question) -> None:
    market = await parked_at_resolution(world, question)
    again = LookAgain(by=REVIEWER, reason="it answers again", at_once=True)
    await (await market.review(ReviewKind.RESOLUTION)).decide("look_again", again)
    state = await market.becomes(MarketStatus.RESOLVED)
    assert (state.outcome, state.parked) == (question.truth, None)


async def test_an_aborted_step_cancels_the_market(world: World, question: Question) -> None:
    market = await parked_at_resolution(world, question)
    await market.tell("unpark", decision("abort"))
    end = await market.result()
    assert (end.status, end.outcome) == (MarketStatus.CANCELED, "VOID")
    assert (await market.attributes())["Parked"] is False


async def test_a_parked_market_can_be_canceled(world: World, question: Question) -> None:
    market = await parked_at_resolution(world, question)
    await market.tell("cancel", Note(by="operator", reason="a test says so"))
    end = await market.result()
    assert (end.status, end.outcome) == (MarketStatus.CANCELED, "VOID")
    assert (await market.attributes())["Parked"] is False


async def test_evidence_cannot_be_skipped(world: World, question: Question) -> None:
    market = await parked_at_resolution(world, question)
    before = await market.state()
    assert "collect_evidence cannot be skipped" in await market.refuses("unpark", decision("skip"))
    await market.signal("unpark", decision("skip"))
    state = await market.until(lambda state: state.refused, "the refused signal")
    assert state.refused[0].startswith("unpark: ")
    assert state.model_copy(update={"refused": ()}) == before

    await market.signal("unpark", decision("retry"))
    assert (await market.becomes(MarketStatus.RESOLVED)).outcome == question.truth


async def test_of_many_decisions_at_once_one_is_taken(world: World, question: Question) -> None:
    async with world.failing_model():
        market = await world.start(question.draft())
        await market.parks(steps.VALIDATE_MARKET.name)
    answers = await asyncio.gather(
        *(market.tell("unpark", decision("retry")) for _ in range(4)), return_exceptions=True
    )
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 1
    await market.becomes(MarketStatus.ACTIVE)
    assert len(await market.steps(steps.VALIDATE_MARKET.name)) == 2


async def test_without_the_models_validation_a_person_decides(world: World, question: Question) -> None:
    async with world.failing_model():
        market = await world.start(question.draft())
        state = await market.parks(steps.VALIDATE_MARKET.name)
    assert state.parked is not None
    assert (state.parked.kind, state.parked.may_skip) == ("LlmUnauthorized", True)
    await market.tell("unpark", decision("skip"))
    state = await market.becomes(MarketStatus.PENDING_REVIEW)
    assert state.validation is not None
    assert state.validation.decision == "needs_human"
    assert "skipped" in state.validation.reason
    trail = await audit.entries(world.pool, "market", str(market.id))
    (skipped,) = [entry for entry in trail if entry.action == "step_skipped"]
    assert (skipped.actor, skipped.why) == (decision("skip").by, f"validate_market: {decision('skip').reason}")


async def test_an_outcome_on_its_way_to_the_chain_is_only_retried(world: World, question: Question) -> None:
    market = await trading(world, question)
    async with world.failing_chain():
        await market.skip(TO_EXPIRY)
        await market.parks(steps.SETTLE_MARKET.name)
    assert "can no longer be canceled" in await market.refuses("cancel", Note(by="operator", reason="too late"))
    assert "cannot be aborted" in await market.refuses("unpark", decision("abort"))
    await market.tell("unpark", decision("retry"))
    assert (await market.becomes(MarketStatus.RESOLVED)).outcome == question.truth


async def test_what_is_not_parked_cannot_be_retried(world: World, question: Question) -> None:
    market = await trading(world, question)
    assert "no step is parked" in await market.refuses("unpark", decision("retry"))


async def test_a_draft_that_cannot_be_made_can_be_given_up(world: World) -> None:
    asked = Proposal(text="Will it rain in Reykjavik on 2027-07-01?", proposer="somebody")
    async with world.failing_model():
        market = await world.start(asked)
        await market.parks(steps.DRAFT_MARKET.name)
    await market.tell("unpark", decision("abort"))
    end = await market.result()
    assert (end.status, end.outcome) == (MarketStatus.CANCELED, None)
