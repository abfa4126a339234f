"""Any review: claims and their tokens, terms, reminders, breaches, decisions taken back; in skipped time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from db import ai_config, audit
from domain.review import (
    CLAIM_LASTS,
    TERM,
    Approve,
    Claim,
    Claimed,
    Postpone,
    Priority,
    Reject,
    RejectCode,
    Release,
    Resolve,
    ReviewEnd,
    ReviewKind,
    ReviewTaken,
    Undo,
)
from tests.workflows.world import REVIEWER, Review, World

OTHER = "second-reviewer"
WEEK = TERM[Priority.LOW]
SECOND = timedelta(seconds=1)


def approval(by: str = REVIEWER, **fields: Any) -> Approve:
    return Approve(by=by, reason="it is complete", **fields)


@pytest.fixture(autouse=True)
async def _second_reviewer(world: World) -> None:
    await world.add_reviewer(OTHER)


async def moments(world: World, review: Review) -> list[str]:
    """What the audit log says happened to it."""
    subject = (await review.state()).request.subject
    return [entry.action for entry in await audit.entries(world.pool, "tax_profile", subject)]


async def test_without_a_claim_nothing_is_decided(world: World) -> None:
    review = await world.review()
    for lease in ("", "0" * 32):
        assert "token of a claim" in await review.refuses("approve", approval(lease=lease))
    await review.signal("approve", approval())
    state = await review.until(lambda state: state.refused, "the refused signal")
    assert "token of a claim" in state.refused[0]
    assert (state.decision, state.ready) == (None, True)
    claimed = await review.claim()
    wrong = "0" * 32
    assert claimed.lease != wrong
    assert "token of a claim" in await review.refuses("approve", approval(lease=wrong))


async def test_a_claim_keeps_others_out_until_it_lapses(world: World) -> None:
    review = await world.review()
    mine = await review.claim()
    assert REVIEWER in await review.refuses("claim", Claim(by=OTHER))
    assert await review.claim() == mine.model_copy(update={"until": (await review.state()).claimed_until})

    await review.skip(CLAIM_LASTS + SECOND)
    theirs = await review.claim(OTHER)
    assert theirs.lease != mine.lease
    # What was decided on the lapsed claim does not count.
    assert OTHER in await review.refuses("approve", approval(lease=mine.lease))
    assert OTHER in await review.refuses("approve", approval(lease=theirs.lease))
    await review.tell("approve", approval(OTHER, lease=theirs.lease, at_once=True), ReviewTaken)
    assert await review.result() == ReviewEnd(decision="approve", by=OTHER, reason="it is complete")


async def test_a_claim_can_be_given_back(world: World) -> None:
    review = await world.review()
    mine = await review.claim()
    assert "token" in await review.refuses("release", Release(by=OTHER, lease=mine.lease))
    await review.tell("release", Release(by=REVIEWER, lease=mine.lease), ReviewTaken)
    await review.claim(OTHER)


async def test_only_reviewers_claim(world: World) -> None:
    review = await world.review()
    assert "has no nobody-known" in await review.refuses("claim", Claim(by="nobody-known"))
    assert (await review.state()).claimed_by is None


async def test_of_many_claims_at_once_one_is_given(world: World) -> None:
    review = await world.review()
    crowd = [f"crowd-{place}" for place in range(8)]
    for name in crowd:
        await world.add_reviewer(name)
    answers = await asyncio.gather(
        *(review.tell("claim", Claim(by=name), Claimed) for name in crowd), return_exceptions=True
    )
    given = [name for name, answer in zip(crowd, answers, strict=True) if isinstance(answer, Claimed)]
    assert given == [(await review.state()).claimed_by]


@pytest.fixture
async def an_hour_to_undo(world: World) -> AsyncIterator[timedelta]:
    """As long as nobody's machine takes to decide and undo; it is skipped where nobody does."""
    before = await ai_config.get(world.pool, "review_undo_seconds")
    await ai_config.put(world.pool, "review_undo_seconds", 3_600, "tests", "a test undoes")
    yield timedelta(hours=1)
    await ai_config.put(world.pool, "review_undo_seconds", before, "tests", "as before")


async def test_a_decision_can_be_taken_back_until_it_takes_effect(world: World, an_hour_to_undo: timedelta) -> None:
    review = await world.review()
    taken = await review.decide("approve", approval())
    state = await review.state()
    assert (state.decision, state.decided_by, state.takes_effect) == ("approve", REVIEWER, taken.takes_effect)
    assert "decided already" in await review.refuses("claim", Claim(by=OTHER))
    assert REVIEWER in await review.refuses("undo", Undo(by=OTHER))
    await review.tell("undo", Undo(by=REVIEWER), ReviewTaken)
    assert (await review.state()).decision is None

    await review.decide("reject", Reject(by=REVIEWER, reason="no, it is not", code=RejectCode.OTHER))
    await review.skip(an_hour_to_undo + SECOND)
    end = await review.result()
    assert (end.decision, end.by, end.code) == ("reject", REVIEWER, RejectCode.OTHER)


async def test_nobody_decides_in_time(world: World) -> None:
    review = await world.review()
    started = (await review.state()).opened
    assert (await review.state()).deadline == started + WEEK
    await review.skip(WEEK / 2 + SECOND)
    state = await review.until(lambda state: state.reminded, "the reminder")
    assert not state.breached
    claimed = await review.claim()

    await review.skip(WEEK / 2)
    # The priority is raised once the breach is recorded.
    state = await review.until(lambda state: state.breached and state.priority is Priority.MEDIUM, "the breach")
    assert (state.decision, state.deadline) == (None, started + WEEK)
    assert (await review.attributes())["ReviewPriority"] == "medium"
    assert await moments(world, review) == ["review_opened", "review_reminded", "review_breached"]
    assert "breached" in await review.details()

    # It is offered to everybody, although somebody holds it, and decides nothing by itself.
    await review.claim()
    await review.skip(10 * WEEK)
    await review.claim(REVIEWER)
    await review.claim(OTHER)
    assert OTHER in await review.refuses("approve", approval(lease=claimed.lease))
    await review.decide("approve", approval(OTHER, at_once=True))
    assert (await review.result()).by == OTHER


async def test_what_is_decided_in_time_is_no_breach(world: World) -> None:
    review = await world.review()
    await review.skip(WEEK - SECOND * 60)
    await review.decide("approve", approval(at_once=True))
    await review.result()
    assert await moments(world, review) == ["review_opened", "review_reminded"]


async def test_a_review_is_postponed_to_before_its_deadline_alone(world: World) -> None:
    review = await world.review()
    claimed = await review.claim()
    state = await review.state()
    later = Postpone(by=REVIEWER, reason="the figures come tomorrow", lease=claimed.lease, until=state.deadline)
    assert "before its deadline" in await review.refuses("postpone", later)
    past = later.model_copy(update={"until": state.opened - SECOND})
    assert "before its deadline" in await review.refuses("postpone", past)
    tomorrow = later.model_copy(update={"until": state.opened + timedelta(days=1)})
    await review.tell("postpone", tomorrow, ReviewTaken)
    postponed = await review.state()
    assert (postponed.postponed_until, postponed.claimed_by) == (tomorrow.until, None)
    assert postponed.deadline == state.deadline


async def test_a_kind_takes_its_own_decisions_alone(world: World) -> None:
    profile = await world.review()
    resolve = Resolve(by=REVIEWER, reason="the evidence says so", outcome="YES")
    assert "takes approve, reject" in await profile.is_refused("resolve", resolve)
    dispute = await world.review(ReviewKind.DISPUTE)
    assert "takes resolve" in await dispute.is_refused("approve", approval())
    void = resolve.model_copy(update={"outcome": "VOID"})
    assert "resolves to YES, NO" in await dispute.is_refused("resolve", void)
    await dispute.decide("resolve", resolve.model_copy(update={"at_once": True}))
    end = await dispute.result()
    assert (end.decision, end.outcome) == ("resolve", "YES")
