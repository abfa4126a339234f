"""Drafts that wait for a person: decisions, their refusals, changed rules."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from db import audit, markets
from domain import steps
from domain.market import MarketEnd, RequestChanges, ReviewDecision
from domain.status import MarketStatus
from tests.workflows.world import Market, Question, World

APPROVAL = ReviewDecision(by="reviewer", reason="the question is clear")
REJECTION = ReviewDecision(by="reviewer", reason="the question is of no interest")
WRONG_PATH = "$.observations[*].price"

Send = Callable[[Market, str, ReviewDecision | RequestChanges], Awaitable[object]]


async def under_review(world: World, question: Question) -> Market:
    """A draft that its own low confidence sends to a person."""
    market = await world.start(question.draft(confidence=0.5))
    await market.becomes(MarketStatus.PENDING_REVIEW)
    return market


async def decisions(world: World, market: Market) -> list[tuple[str, str]]:
    """The reviewers' decisions in the audit log, with who took each."""
    entries = await audit.entries(world.pool, "market", str(market.id))
    return [(entry.action, entry.actor) for entry in entries if entry.action.startswith("review_")]


@pytest.fixture(params=["update", "signal"])
def send(request: pytest.FixtureRequest) -> Send:
    """Both ways in which a decision arrives."""
    return Market.tell if request.param == "update" else Market.signal


async def test_an_approved_draft_is_published(world: World, question: Question, send: Send) -> None:
    market = await under_review(world, question)
    assert await market.record() is None
    await send(market, "approve", APPROVAL)
    await market.becomes(MarketStatus.ACTIVE)
    record = await market.record()
    assert record is not None
    assert record.rules_sha256 == (await market.row()).rules_sha256
    assert await decisions(world, market) == [("review_approve", "reviewer")]


async def test_a_rejected_draft_ends(world: World, question: Question, send: Send) -> None:
    market = await under_review(world, question)
    await send(market, "reject", REJECTION)
    end = await market.result()
    assert end == MarketEnd(status=MarketStatus.REJECTED, reason=REJECTION.reason)
    assert (await market.row()).status is MarketStatus.REJECTED
    assert await market.record() is None
    assert await decisions(world, market) == [("review_reject", "reviewer")]


async def test_changed_rules_are_checked_again_and_wait_for_approval(
    world: World, question: Question, send: Send
) -> None:
    market = await under_review(world, question)
    old = (await market.row()).rules_sha256
    later = (datetime.now(UTC) + timedelta(days=60)).replace(microsecond=0)
    new = await markets.store_rules(world.pool, question.rules(expiry=later))
    changes = RequestChanges(by="reviewer", reason="trading may go on longer", rules_sha256=old, new_rules_sha256=new)
    await send(market, "request_changes", changes)

    state = await market.until(
        lambda state: state.rules_sha256 == new and state.stage == "Waiting for a reviewer", "a second review"
    )
    assert (state.status, state.expiry) == (MarketStatus.PENDING_REVIEW, later)
    assert [new in step.request for step in await market.steps(steps.REHEARSE_RULES.name)] == [False, True]
    assert [new in step.request for step in await market.steps(steps.VALIDATE_MARKET.name)] == [False, True]

    assert await market.record() is None
    assert "changed since you looked" in await market.refuses(
        "approve", APPROVAL.model_copy(update={"rules_sha256": old})
    )
    await market.tell("approve", APPROVAL.model_copy(update={"rules_sha256": new}))
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
    assert "rehearsal failed" in await market.refuses("approve", APPROVAL)
    assert await market.state() == state

    mended = await markets.store_rules(world.pool, question.rules())
    await market.tell(
        "request_changes", RequestChanges(by="reviewer", reason="the path was wrong", new_rules_sha256=mended)
    )
    await market.until(lambda state: state.validation and not state.validation.issues, "a validation without issues")
    await market.tell("approve", APPROVAL)
    await market.becomes(MarketStatus.ACTIVE)


async def test_no_approval_after_expiry(world: World, question: Question) -> None:
    market = await under_review(world, question)
    await market.skip(timedelta(days=31))
    assert "expiry has passed" in await market.refuses("approve", APPROVAL)
    await market.tell("reject", REJECTION)
    assert (await market.result()).status is MarketStatus.REJECTED


async def test_of_many_decisions_at_once_one_is_taken(world: World, question: Question) -> None:
    market = await under_review(world, question)
    crowd = [f"reviewer-{number}" for number in range(6)]
    answers = await asyncio.gather(
        *(
            market.tell("approve" if place % 2 else "reject", ReviewDecision(by=by, reason="first come, first served"))
            for place, by in enumerate(crowd)
        ),
        return_exceptions=True,
    )
    taken = [place for place, answer in enumerate(answers) if not isinstance(answer, BaseException)]
    assert len(taken) == 1
    approved = bool(taken[0] % 2)
    await market.becomes(MarketStatus.ACTIVE if approved else MarketStatus.REJECTED)
    assert await decisions(world, market) == [("review_approve" if approved else "review_reject", crowd[taken[0]])]


async def test_of_many_signals_at_once_one_is_taken_and_the_others_are_noted(world: World, question: Question) -> None:
    market = await under_review(world, question)
    await asyncio.gather(*(market.signal("approve", APPROVAL) for _ in range(4)))
    state = await market.until(lambda state: len(state.refused) == 3, "three refused signals")
    assert all(sentence.startswith("approve: ") for sentence in state.refused)
    await market.becomes(MarketStatus.ACTIVE)
    assert await decisions(world, market) == [("review_approve", "reviewer")]


async def test_a_decision_about_nothing_is_refused(world: World, question: Question) -> None:
    market = await world.start(question.draft())
    before = await market.becomes(MarketStatus.ACTIVE)
    for update in ("approve", "reject"):
        assert "waits for no decision" in await market.refuses(update, APPROVAL)
    changes = RequestChanges(by="reviewer", reason="too late", new_rules_sha256=before.rules_sha256 or "")
    assert "waits for no decision" in await market.refuses("request_changes", changes)
    assert await market.state() == before
    assert await market.updates() == []


async def test_a_refused_signal_changes_nothing_and_is_kept_for_people_to_see(world: World, question: Question) -> None:
    market = await world.start(question.draft())
    before = await market.becomes(MarketStatus.ACTIVE)
    for _ in range(7):
        await market.signal("approve", APPROVAL)
    state = await market.until(lambda state: len(state.refused) == 5, "five refusals, the last ones")
    assert state.model_copy(update={"refused": ()}) == before
    assert all(sentence.startswith("approve: ") for sentence in state.refused)
    assert state.refused[-1] in await market.details()
