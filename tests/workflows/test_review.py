"""Drafts that wait for a person: decisions, their refusals, changed rules."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from db import audit, markets
from domain import steps
from domain.market import InPlaceDecision, MarketEnd, Note
from domain.review import Approve, DecisionBy, Reject, RejectCode, RequestChanges
from domain.status import MarketStatus
from tests.workflows.world import REVIEWER, Market, Question, Review, World

APPROVAL = Approve(by=REVIEWER, reason="the question is clear", at_once=True)
REJECTION = Reject(by=REVIEWER, reason="nobody asks this", code=RejectCode.NO_INTEREST, at_once=True)
WRONG_PATH = "$.observations[*].price"

Send = Callable[[Review, str, DecisionBy], Awaitable[object]]


async def under_review(world: World, question: Question) -> Market:
    """A draft that its own low confidence sends to a person."""
    market = await world.start(question.draft(confidence=0.5))
    await market.becomes(MarketStatus.PENDING_REVIEW)
    return market


async def decisions(world: World, market: Market) -> list[tuple[str, str, str]]:
    """The audit log's entries about the review: action, who, why."""
    entries = await audit.entries(world.pool, "market", str(market.id))
    return [(entry.action, entry.actor, entry.why) for entry in entries if entry.action.startswith("review_")]


async def signal(review: Review, name: str, made: DecisionBy) -> None:
    claimed = await review.claim(made.by)
    await review.signal(name, made.model_copy(update={"lease": claimed.lease}))


@pytest.fixture(params=["update", "signal"])
def send(request: pytest.FixtureRequest) -> Send:
    """Both ways in which a decision arrives."""
    return Review.decide if request.param == "update" else signal


async def test_an_approved_draft_is_published(world: World, question: Question, send: Send) -> None:
    market = await under_review(world, question)
    why = (await market.state()).validation
    assert why is not None
    assert await market.record() is None
    await send(await market.review(), "approve", APPROVAL)
    await market.becomes(MarketStatus.ACTIVE)
    record = await market.record()
    assert record is not None
    assert record.rules_sha256 == (await market.row()).rules_sha256
    assert await decisions(world, market) == [
        ("review_opened", "clotho", why.reason),
        ("review_approve", REVIEWER, APPROVAL.reason),
    ]


async def test_a_rejected_draft_ends(world: World, question: Question, send: Send) -> None:
    market = await under_review(world, question)
    await send(await market.review(), "reject", REJECTION)
    end = await market.result()
    assert end == MarketEnd(status=MarketStatus.REJECTED, reason=REJECTION.reason)
    assert (await market.row()).status is MarketStatus.REJECTED
    assert await market.record() is None
    last = (await audit.entries(world.pool, "market", str(market.id)))[-1]
    assert (last.action, last.actor, last.details["code"]) == ("review_reject", REVIEWER, "no_interest")


async def test_changed_rules_are_checked_again_and_wait_for_approval(
    world: World, question: Question, send: Send
) -> None:
    market = await under_review(world, question)
    old = (await market.row()).rules_sha256
    later = (datetime.now(UTC) + timedelta(days=60)).replace(microsecond=0)
    new = await markets.store_rules(world.pool, question.rules(expiry=later))
    review = await market.review()
    changes = RequestChanges(by=REVIEWER, reason="trading may go on longer", version=old, changed=new, at_once=True)
    await send(review, "request_changes", changes)

    await review.until(lambda state: state.ready and state.request.version == new, "a second review")
    state = await market.state()
    assert (state.status, state.expiry) == (MarketStatus.PENDING_REVIEW, later)
    assert [new in step.request for step in await market.steps(steps.REHEARSE_RULES.name)] == [False, True]
    assert [new in step.request for step in await market.steps(steps.VALIDATE_MARKET.name)] == [False, True]

    assert await market.record() is None
    stale = APPROVAL.model_copy(update={"version": old})
    assert "changed since you looked" in await review.is_refused("approve", stale)
    await review.decide("approve", APPROVAL.model_copy(update={"version": new}))
    await market.becomes(MarketStatus.ACTIVE)
    record, row = await market.record(), await market.row()
    assert record is not None
    assert (record.rules_sha256, record.expiry) == (row.rules_sha256, row.expiry) == (new, later)


async def test_a_wrong_path_is_found_before_anybody_trades(world: World, question: Question) -> None:
    market = await world.start(question.draft(rules=question.rules(value_path=WRONG_PATH)))
    state = await market.becomes(MarketStatus.PENDING_REVIEW)
    assert state.validation is not None
    assert state.validation.decision == "needs_human"
    assert "higher.checks.0.value" in {issue.field for issue in state.validation.issues}
    assert "higher.checks.0.value" in await market.details()
    review = await market.review()
    assert "rehearsal failed" in await review.is_refused("approve", APPROVAL)
    assert await market.state() == state

    mended = await markets.store_rules(world.pool, question.rules())
    await review.decide("request_changes", RequestChanges(by=REVIEWER, reason="the path", changed=mended, at_once=True))
    await market.until(lambda state: state.validation and not state.validation.issues, "a validation without issues")
    await (await market.review()).decide("approve", APPROVAL)
    await market.becomes(MarketStatus.ACTIVE)


async def test_no_approval_after_expiry(world: World, question: Question) -> None:
    market = await under_review(world, question)
    review = await market.review()
    await review.skip(timedelta(days=31))
    assert "expiry has passed" in await review.is_refused("approve", APPROVAL)
    await review.decide("reject", REJECTION)
    assert (await market.result()).status is MarketStatus.REJECTED


async def test_whoever_proposed_a_draft_does_not_approve_it(world: World, question: Question) -> None:
    market = await under_review(world, question)
    proposer = await world.pool.fetchval("SELECT proposal->>'proposer' FROM proposals WHERE market_id = $1", market.id)
    await world.add_reviewer(proposer)
    review = await market.review()
    assert "somebody else decides" in await review.is_refused("approve", APPROVAL.model_copy(update={"by": proposer}))
    assert (await review.state()).decision is None


async def test_a_canceled_market_withdraws_its_review(world: World, question: Question) -> None:
    market = await under_review(world, question)
    review = await market.review()
    await market.tell("cancel", Note(by="operator", reason="nobody wants it any more"))
    assert (await market.result()).status is MarketStatus.CANCELED
    assert (await review.result()).decision == "withdrawn"
    assert not (await review.state()).ready


async def test_a_review_that_somebody_ends_in_temporal_is_asked_for_again(world: World, question: Question) -> None:
    market = await under_review(world, question)
    review = await market.review()
    await review.terminate()
    await market.skip(steps.START_AGAIN + timedelta(seconds=1))
    await market.children(2)
    await (await market.review()).decide("approve", APPROVAL)
    await market.becomes(MarketStatus.ACTIVE)


async def test_a_decision_told_to_the_market_itself_is_refused(world: World, question: Question) -> None:
    market = await under_review(world, question)
    before = await market.state()
    decision = InPlaceDecision(by=REVIEWER, reason="as version 0.1 took it")
    assert "workflows of their own" in await market.refuses("approve", decision)
    for _ in range(7):
        await market.signal("approve", decision)
    state = await market.until(lambda state: len(state.refused) == 5, "five refusals, the last ones")
    assert state.model_copy(update={"refused": ()}) == before
    assert all(sentence.startswith("approve: ") for sentence in state.refused)
    assert state.refused[-1] in await market.details()
    assert await market.updates() == []
