"""A reviewer's day: thirty flagged drafts from the list to their ends; and two reviewers who decide at one moment."""

import asyncio
import functools
import json
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import WorkflowUpdateFailedError

from cli.context import as_command_error, gather_bounded
from cli.output import CommandError
from cli.reviewing import decide
from db import audit
from deploy.local.data import load_series
from domain import steps
from domain.audit import AuditEntry
from domain.review import TERM, Approve, DecisionBy, Priority, Reject, RejectCode, ReviewKind, ReviewTaken
from domain.status import MarketStatus
from tests.desk import Office, is_listed
from tests.workflows.world import Market, Question, Review

RHEA, OLAF = "rhea", "olaf"
APPROVED, REJECTED, BREACHED = 20, 5, 5
BREACHES = "clotho_review_breaches_total"
RACES = 200
SECOND = timedelta(seconds=1)


async def flagged(office: Office, question: Question) -> Market:
    """A draft that its own low confidence sends to a person."""
    await question.withhold()
    market = await office.world.start(question.draft(confidence=0.5))
    await is_listed(await market.review(), "ReviewKind = 'draft'")
    return market


async def trail(office: Office, market: Market) -> list[AuditEntry]:
    entries = await audit.entries(office.world.pool, "market", str(market.id))
    return [entry for entry in entries if entry.action.startswith("review_")]


def told(entries: list[AuditEntry]) -> list[tuple[str, str, str]]:
    return [(entry.action, entry.actor, entry.why) for entry in entries]


@pytest.mark.timeout(240)
async def test_thirty_flagged_drafts_end_as_they_should(office: Office) -> None:
    began, breaches_before = datetime.now(UTC), await office.counted(BREACHES)
    rhea = await office.reviewer(RHEA)
    series = [one for one in load_series() if one.source == "fred" and len(one.observations) > 1]
    questions = [Question(one, office.world.site) for one in series[-APPROVED - REJECTED - BREACHED :]]
    markets = await asyncio.gather(*(flagged(office, question) for question in questions))
    approved, rejected, left = markets[:APPROVED], markets[APPROVED : APPROVED + REJECTED], markets[-BREACHED:]
    ids = {str(market.id) for market in markets}

    # Lists, shows, claims.
    listed = [
        state for state in await rhea.ok("review", "list", "--kind", "draft") if state["request"]["subject"] in ids
    ]
    assert len(listed) == len(ids)
    assert listed == sorted(listed, key=lambda state: state["deadline"])
    edited = approved[0]
    page = await rhea.ok("review", "show", str(edited.id))
    assert "confidence 0.50" in page["state"]["request"]["why"].lower()
    await rhea.ok("review", "claim", str(edited.id))

    # Edits one, which is checked again and comes back.
    rules = page["draft"]["rules"]
    rules["not_yet_published"]["give_up_after"] += 60
    file = office.operator.stack.folder / "walk.json"
    file.write_text(json.dumps(rules))
    change = ("--edit", str(file), "--reason", "a minute more", "--now")
    changed = (await rhea.ok("review", "request-changes", str(edited.id), *change))["changed"]
    await edited.children(2)
    assert (await (await edited.review()).state()).request.version == changed
    assert len(await edited.steps(steps.VALIDATE_MARKET.name)) == 2

    # Approves twenty at once, and rejects five, of which one for a moment only.
    clear = ("--reason", "clear and official", "--now")
    done = await rhea.ok("review", "approve", *(str(market.id) for market in approved), *clear)
    assert [one["done"] for one in done] == [True] * APPROVED
    vague = ("--code", "ambiguous", "--reason", "two readings are possible")
    done = await rhea.ok("review", "reject", *(str(market.id) for market in rejected), *vague)
    assert [one["done"] for one in done] == [True] * REJECTED
    await rhea.ok("review", "undo", str(rejected[0].id))
    await rhea.ok("review", "reject", str(rejected[0].id), *vague)

    # The other five are left until their time is over; then they are everybody's.
    reviews = [Review(office.world, ReviewKind.DRAFT, str(market.id)) for market in (*rejected, *left)]
    await asyncio.gather(*(review.skip(11 * SECOND) for review in reviews[:REJECTED]))
    await asyncio.gather(*(review.skip(TERM[Priority.MEDIUM] + SECOND) for review in reviews[REJECTED:]))
    overdue = [state for state in await rhea.ok("review", "list", "--breached") if state["request"]["subject"] in ids]
    assert {state["request"]["subject"] for state in overdue} == {str(market.id) for market in left}
    assert {state["priority"] for state in overdue} == {"high"}
    assert {state["decision"] for state in overdue} == {None}
    assert await office.counted(BREACHES) - breaches_before == BREACHED

    # Every market ends where it should.
    for market, question in zip(approved, questions, strict=False):
        await market.becomes(MarketStatus.ACTIVE)
        await question.publish()
    ends = await asyncio.gather(*(market.end() for market in approved))
    truths = [question.truth for question in questions[:APPROVED]]
    assert [(end.status, end.outcome) for end in ends] == [(MarketStatus.FINALIZED, truth) for truth in truths]
    record = await edited.record()
    assert record is not None
    assert record.rules_sha256 == changed
    for market in rejected:
        end = await market.result()
        assert (end.status, end.reason) == (MarketStatus.REJECTED, "two readings are possible")
    assert {(await market.row()).status for market in left} == {MarketStatus.PENDING_REVIEW}

    # And the record says who, when and why.
    for market in approved[1:]:
        assert told(await trail(office, market))[1:] == [("review_approve", RHEA, "clear and official")]
    assert told(await trail(office, edited))[1::2] == [
        ("review_request_changes", RHEA, "a minute more"),
        ("review_approve", RHEA, "clear and official"),
    ]
    for market in rejected:
        (entry,) = [entry for entry in await trail(office, market) if entry.action == "review_reject"]
        assert (entry.actor, entry.why, entry.details["code"]) == (RHEA, "two readings are possible", "ambiguous")
    for market in left:
        actions = [(entry.action, entry.actor) for entry in await trail(office, market)]
        assert actions == [(f"review_{moment}", "clotho") for moment in ("opened", "reminded", "breached")]
    for market in markets:
        assert all(began < entry.created_at < datetime.now(UTC) for entry in await trail(office, market))


def decisions(place: int) -> tuple[DecisionBy, DecisionBy]:
    """What the two say at the same moment: now the one speaks first, now the other."""
    yes = Approve(by=RHEA, reason="it is complete", at_once=True)
    no = Reject(by=OLAF, reason="a page is missing", code=RejectCode.OTHER, at_once=True)
    return (yes, no) if place % 2 else (no, yes)


async def race(office: Office, place: int) -> tuple[str, str]:
    """Who won, and what the other was told. Every tenth review is overdue, so that both get a claim."""
    review = await office.world.review()
    if place % 10 == 0:
        await review.skip(TERM[Priority.LOW] + SECOND)
    state = await review.state()
    both = decisions(place)
    answers = await asyncio.gather(*(decide(office.world.client, state, made) for made in both), return_exceptions=True)
    won = [made for made, answer in zip(both, answers, strict=True) if isinstance(answer, ReviewTaken)]
    (lost,) = [answer for answer in answers if not isinstance(answer, ReviewTaken)]
    (winner,) = won
    end = await review.result()
    assert (end.by, end.reason) == (winner.by, winner.reason)
    assert isinstance(lost, WorkflowUpdateFailedError | CommandError), lost
    return winner.by, str(as_command_error(lost))


async def test_of_two_reviewers_who_decide_at_once_one_wins_and_the_other_is_told(office: Office) -> None:
    for name in (RHEA, OLAF):
        await office.reviewer(name)
    results = await gather_bounded([functools.partial(race, office, place) for place in range(RACES)], limit=10)
    faults = [result for result in results if isinstance(result, BaseException)]
    assert not faults, faults[0]
    assert len(results) == RACES
    for winner, sentence in results:
        assert winner in sentence.lower(), sentence
        assert sentence.endswith(".")


async def test_two_commands_at_once(office: Office) -> None:
    rhea, olaf = await office.reviewer(RHEA), await office.reviewer(OLAF)
    for _ in range(4):
        review = await office.world.review()
        subject = (await review.state()).request.subject
        answers = await asyncio.gather(
            rhea.clotho("review", "approve", subject, "--reason", "complete", "--now"),
            olaf.clotho("review", "reject", subject, "--reason", "a page is missing", "--code", "other", "--now"),
        )
        assert sorted(answer.code for answer in answers) == [0, 1]
        (loser,) = [answer for answer in answers if answer.code == 1]
        (sentence,) = loser.err.splitlines()
        assert (await review.result()).by in sentence.lower()
