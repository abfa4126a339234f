"""Reviewers at the command line: the queue, the page, claims, decisions and their refusals, the walk with keys."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from db import audit
from deploy.local.data import Series, load_series
from domain.review import CLAIM_LASTS, TERM, Priority, ReviewKind
from domain.status import MarketStatus
from tests.desk import Office, Reviewer, is_listed
from tests.drafts import draft
from tests.workflows.world import Market, Question, Review

REASON = ("--reason", "a test says so")
ANNA, BEN = "anna", "ben"
PERSON = "carla@example.org"
MARKUP = "Higher [/bold] or [red]not[/red]?"
"""A title that must be shown as it is written."""


@pytest.fixture
async def anna(office: Office) -> Reviewer:
    return await office.reviewer(ANNA)


@pytest.fixture
async def ben(office: Office) -> Reviewer:
    return await office.reviewer(BEN)


@pytest.fixture(scope="module")
def series() -> Iterator[Series]:
    return cycle(one for one in load_series() if one.source == "fred" and len(one.observations) > 1)


@pytest.fixture
async def flagged(office: Office, series: Iterator[Series]) -> AsyncIterator[Market]:
    """A draft that is not sure of itself; it is over when the test is."""
    question = Question(next(series), office.world.site)
    await question.withhold()
    market = await office.world.start(draft(f"{MARKUP} {uuid4().hex}", rules=question.rules(), confidence=0.5))
    await is_listed(await market.review(), "ReviewKind = 'draft' AND ReviewPriority = 'medium'")
    yield market
    await question.publish()


async def queue(reviewer: Reviewer, *options: str) -> list[str]:
    """What the reviews in the list are about, in its order."""
    return [state["request"]["subject"] for state in await reviewer.ok("review", "list", *options)]


async def entries(office: Office, market: Market) -> list[tuple[str, str, str]]:
    """What the audit log says people did to a market: action, who, why."""
    trail = await audit.entries(office.world.pool, "market", str(market.id))
    return [(entry.action, entry.actor, entry.why) for entry in trail if entry.actor in {ANNA, BEN}]


# The queue.


async def test_the_oldest_deadline_comes_first_and_what_is_postponed_last(office: Office, anna: Reviewer) -> None:
    low = await office.asks()
    high = await office.asks(ReviewKind.RESOLUTION)
    medium, later = [await office.asks(ReviewKind.PII_RUN) for _ in range(2)]
    subjects = [(await review.state()).request.subject for review in (high, medium, low, later)]
    await anna.ok("review", "postpone", subjects[-1], "--until", "2h", *REASON)
    await anna.ok("review", "claim", subjects[0])
    everything, kind, low_only, breached, mine = await asyncio.gather(
        queue(anna),
        queue(anna, "--kind", "pii_run"),
        queue(anna, "--priority", "low"),
        queue(anna, "--breached"),
        queue(anna, "--mine"),
    )
    assert [subject for subject in everything if subject in subjects] == subjects
    assert [subject for subject in kind if subject in subjects] == [subjects[1], subjects[3]]
    assert set(subjects) & set(low_only) == {subjects[2]}
    assert not set(subjects) & set(breached)
    assert set(subjects) & set(mine) == {subjects[0]}

    await medium.skip(TERM[Priority.MEDIUM] + timedelta(seconds=1))
    await is_listed(medium, "ReviewPriority = 'high'")
    assert set(subjects) & set(await queue(anna, "--breached", "--priority", "high")) == {subjects[1]}
    lines = {
        cells[3]: cells
        for line in (await anna.clotho("review", "list")).out.splitlines()
        for cells in [line.split("\t")]
    }
    assert lines[subjects[0]][4] == ANNA
    assert lines[subjects[3]][4].startswith("postponed to ")


async def test_time_left_counts_down_to_the_deadline(office: Office, anna: Reviewer) -> None:
    subject = (await (await office.asks()).state()).request.subject
    (state,) = [s for s in await anna.ok("review", "list") if s["request"]["subject"] == subject]
    left = datetime.fromisoformat(state["deadline"]) - datetime.now(UTC)
    assert abs(state["seconds_left"] - left.total_seconds()) < 10
    (line,) = [line for line in (await anna.clotho("review", "list")).out.splitlines() if subject in line]
    assert line.startswith("6 d 23 h\tlow\ttax_profile\t")


# The page.


async def test_the_page_of_a_draft_has_all_that_is_needed(office: Office, anna: Reviewer, flagged: Market) -> None:
    row = await flagged.row()
    page = await anna.ok("review", "show", str(flagged.id))
    assert page["state"]["request"]["version"] == row.rules_sha256
    assert page["draft"]["title"] == row.title
    assert "confidence 0.50 is below 0.6" in page["validation"]["reason"].lower()
    assert [one["source"] for one in page["rehearsal"]] == ["fred"]
    answer = await anna.clotho("review", "show", str(flagged.id))
    assert answer.code == 0
    assert "\x1b" not in answer.out
    lines = [line.split("\t") for line in answer.out.splitlines()]
    assert [f"review-draft-{flagged.id}"] == lines[0]
    facts = {cells[0]: cells[1] for cells in lines if len(cells) == 2}
    assert facts["about"] == row.title
    assert facts["question"] == page["draft"]["rules"]["exact_question"]
    assert facts["source fred"] == page["draft"]["rules"]["criteria"]["allowed_sources"][0]["url"]
    assert "needs_human" in facts["validation"]


async def test_similar_markets_are_shown_best_first_and_never_the_market_itself(
    office: Office, anna: Reviewer, series: Iterator[Series]
) -> None:
    words = f"Zyzzyva{uuid4().hex}"
    titles = [f"Will {words} win the cup in Oslo", f"Will {words} win the cup in Rome", f"{words}?", "Rain in Paris?"]
    markets = []
    for title in titles:
        rules = Question(next(series), office.world.site).rules()
        markets.append(await office.world.start(draft(title, rules=rules, confidence=0.5)))
        await markets[-1].review()
    page = await anna.ok("review", "show", str(markets[0].id))
    found = [one["id"] for one in page["similar"]]
    assert found[:2] == [str(markets[1].id), str(markets[2].id)]
    assert str(markets[0].id) not in found
    assert str(markets[3].id) not in found
    assert all(0.3 <= one["similarity"] <= 1 for one in page["similar"])
    assert len(found) <= 5


async def test_the_page_and_the_list_fit_a_terminal(office: Office, anna: Reviewer, flagged: Market) -> None:
    for arguments, shown in ((("review", "list"), str(flagged.id)), (("review", "show", str(flagged.id)), MARKUP)):
        async with anna.terminal(*arguments) as terminal:
            await terminal.shows(shown[:20])
            assert await terminal.ends() == 0
            assert terminal.width <= 100


# Claims.


async def test_a_claim_keeps_others_out_until_it_is_given_back(anna: Reviewer, ben: Reviewer, flagged: Market) -> None:
    subject = str(flagged.id)
    held = await anna.ok("review", "claim", subject)
    assert (await anna.ok("review", "claim", subject))["lease"] == held["lease"]
    assert f"claimed by {ANNA}" in await ben.refused("review", "approve", subject, *REASON)
    assert "holds no claim" in await ben.refused("review", "release", subject)
    await anna.ok("review", "release", subject)
    await ben.ok("review", "claim", f"review-draft-{subject}")


async def test_a_claim_lapses(office: Office, anna: Reviewer, ben: Reviewer) -> None:
    review = await office.asks()
    subject = (await review.state()).request.subject
    await anna.ok("review", "claim", subject)
    await review.skip(CLAIM_LASTS + timedelta(seconds=1))
    (done,) = await ben.ok("review", "approve", subject, "--now", *REASON)
    assert done["done"]
    assert (await review.result()).by == BEN
    assert f"over: {BEN} decided approve" in await anna.refused("review", "approve", subject, *REASON)


async def test_who_is_no_reviewer_decides_nothing(office: Office, anna: Reviewer) -> None:
    review = await office.asks()
    subject = (await review.state()).request.subject
    stranger = Reviewer(office, f"stranger-{uuid4().hex}")
    assert "register of reviewers has no" in await stranger.refused("review", "approve", subject, *REASON)

    assert (await anna.ok("reviewer", "add", f" {stranger.name} "))["added"]
    assert not (await anna.ok("reviewer", "add", stranger.name))["added"]
    assert stranger.name in [one["name"] for one in await anna.ok("reviewer", "list")]
    await stranger.ok("review", "claim", subject)
    await stranger.ok("review", "release", subject)

    await anna.ok("reviewer", "remove", stranger.name)
    assert "is no reviewer" in await anna.refused("reviewer", "remove", stranger.name)
    assert "register of reviewers has no" in await stranger.refused("review", "approve", subject, *REASON)
    trail = await audit.entries(office.world.pool, "reviewer", stranger.name)
    assert [(entry.action, entry.actor) for entry in trail] == [("reviewer_added", ANNA), ("reviewer_removed", ANNA)]
    state = await review.state()
    assert (state.decision, state.claimed_by) == (None, None)


# Decisions.


async def test_an_approval_takes_effect_later_and_is_taken_back_until_then(
    office: Office, anna: Reviewer, ben: Reviewer, flagged: Market
) -> None:
    subject, review = str(flagged.id), await flagged.review()
    (done,) = await anna.ok("review", "approve", subject, *REASON)
    assert datetime.fromisoformat(done["takes_effect"]) > datetime.now(UTC)
    assert subject not in await queue(anna)
    assert "nobody else takes it back" in await ben.refused("review", "undo", subject)
    await anna.ok("review", "undo", subject)
    assert subject in await queue(anna)

    await anna.ok("review", "approve", subject, *REASON)
    await review.skip(timedelta(seconds=11))
    await flagged.becomes(MarketStatus.ACTIVE)
    assert await entries(office, flagged) == [("review_approve", ANNA, "a test says so")]
    assert "is over" in await anna.refused("review", "undo", subject)


async def test_who_proposed_a_draft_does_not_approve_it(office: Office, flagged: Market) -> None:
    proposer = await office.reviewer("operator")  # who proposes the drafts of these tests
    assert "somebody else decides" in await proposer.refused("review", "approve", str(flagged.id), *REASON)
    # And the claim that it took for that is given back.
    assert (await (await flagged.review()).state()).claimed_by is None


async def test_a_rejection_carries_a_code(office: Office, anna: Reviewer, flagged: Market) -> None:
    without = await anna.refused("review", "reject", str(flagged.id), *REASON, code=2)
    assert "--code" in without
    await anna.ok("review", "reject", str(flagged.id), "--code", "ambiguous", "--now", *REASON)
    assert (await flagged.result()).status is MarketStatus.REJECTED
    trail = await audit.entries(office.world.pool, "market", str(flagged.id))
    (entry,) = [entry for entry in trail if entry.action == "review_reject"]
    assert (entry.actor, entry.why, entry.details["code"]) == (ANNA, "a test says so", "ambiguous")


@pytest.mark.parametrize(("key", "kept"), [({}, False), ({"PII_HASH_KEY": ""}, True)], ids=["with a key", "without"])
async def test_personal_data_in_a_reason_is_replaced_where_there_is_a_key(
    office: Office, anna: Reviewer, key: dict[str, str], kept: bool
) -> None:
    review = await office.asks()
    subject = (await review.state()).request.subject
    why = ("--reason", f"ask {PERSON} about it")
    await anna.ok("review", "reject", subject, "--code", "other", "--now", *why, **key)
    reason = (await review.result()).reason
    assert (PERSON in reason) is kept
    assert reason.startswith("ask ")
    assert reason.endswith(" about it")
    bad = {"PII_PATTERNS": "["} | key
    assert kept or "PII_PATTERNS is bad" in await anna.refused("review", "look-again", subject, *why, code=2, **bad)


async def test_a_version_that_has_changed_is_refused(anna: Reviewer, flagged: Market) -> None:
    version = (await flagged.row()).rules_sha256
    other = "0" if version[0] != "0" else "1"
    assert "changed since you looked" in await anna.refused(
        "review", "approve", str(flagged.id), "--version", other + version[1:12], *REASON
    )
    assert await anna.ok("review", "approve", str(flagged.id), "--version", version[:12], "--now", *REASON)


async def edited_rules(anna: Reviewer, market: Market, **changes: Any) -> tuple[str, Path]:
    """The rules under review with other values of not_yet_published, in a file; and their hash before."""
    page = await anna.ok("review", "show", str(market.id))
    rules = page["draft"]["rules"]
    rules["not_yet_published"] |= changes
    file = anna.office.operator.stack.folder / f"{uuid4().hex}.json"
    file.write_text(json.dumps(rules))
    return page["state"]["request"]["version"], file


async def test_changed_rules_are_shown_line_by_line_and_reviewed_again(
    office: Office, anna: Reviewer, ben: Reviewer, flagged: Market
) -> None:
    subject = str(flagged.id)
    before, file = await edited_rules(anna, flagged, give_up_after=604_860)
    taken = await anna.ok("review", "request-changes", subject, "--edit", str(file), "--now", *REASON)
    after = taken["changed"]
    assert after != before
    changed = ['-    "give_up_after": 604800,', '+    "give_up_after": 604860,']
    assert [line for line in taken["diff"].splitlines() if line[:1] in "-+"][2:] == changed
    await flagged.until(lambda state: state.rules_sha256 == after, "the new rules")
    await flagged.review()

    page = await ben.ok("review", "show", subject)
    assert page["state"]["request"]["version"] == after
    (change,) = page["changes"]
    assert (change["by"], change["why"], change["before"], change["after"]) == (ANNA, REASON[1], before, after)
    assert change["diff"] == taken["diff"]
    assert change["diff"] in (await ben.clotho("review", "show", subject)).out
    assert "changed since you looked" in await ben.refused("review", "approve", subject, "--version", before, *REASON)


async def test_the_same_rules_are_no_change(office: Office, anna: Reviewer, flagged: Market) -> None:
    _, file = await edited_rules(anna, flagged)
    change = ("review", "request-changes", str(flagged.id), *REASON)
    assert "as they were" in await anna.refused(*change, "--edit", str(file))
    # Left as they are, not saved, broken, no editor at all.
    for editor, says, code in (
        ("touch", "as they were", 1),
        ("true", "as they were", 1),
        ("sed -i s/binary/ternary/", "rules.type", 2),
        ("false", "editor failed", 1),
        ("/nonexistent/editor", "editor failed", 1),
    ):
        assert says in await anna.refused(*change, "--editor", code=code, VISUAL=editor)
    state = await (await flagged.review()).state()
    assert (state.decision, state.claimed_by) == (None, None)
    assert await entries(office, flagged) == []


async def test_rules_are_changed_in_an_editor(anna: Reviewer, flagged: Market) -> None:
    change = ("review", "request-changes", str(flagged.id), "--editor", "--now", *REASON)
    taken = await anna.ok(*change, VISUAL="sed -i s/604800/604860/")
    assert '+    "give_up_after": 604860,' in taken["diff"]
    await flagged.until(lambda state: state.rules_sha256 == taken["changed"], "the new rules")


# Several at once.


async def test_one_refusal_does_not_keep_the_others(office: Office, anna: Reviewer, ben: Reviewer) -> None:
    reviews = [await office.asks() for _ in range(4)]
    subjects = [(await review.state()).request.subject for review in reviews]
    await ben.ok("review", "claim", subjects[1])
    answer = await anna.clotho("review", "approve", *subjects, "unknown", "--now", "--json", *REASON)
    assert answer.code == 1
    assert [one["done"] for one in answer.data] == [True, False, True, True, False]
    assert BEN in answer.data[1]["why"].lower()
    assert "unknown" in answer.data[4]["why"]
    assert json.loads(answer.err)["error"]["message"].startswith("2 of 5 reviews were not approved")
    assert [(await reviews[place].result()).by for place in (0, 2, 3)] == [ANNA] * 3
    assert (await reviews[1].state()).decision is None

    table = await anna.clotho("review", "approve", subjects[1], "unknown", *REASON)
    assert [line.split("\t")[:2] for line in table.out.splitlines()] == [
        [subjects[1], "refused"],
        ["unknown", "refused"],
    ]


async def test_what_options_choose_is_decided_once_somebody_says_yes(office: Office, anna: Reviewer) -> None:
    reviews = [await office.asks(ReviewKind.MODEL_MIGRATION) for _ in range(4)]
    *subjects, later = [(await review.state()).request.subject for review in reviews]
    await anna.ok("review", "postpone", later, "--until", "2h", *REASON)
    choose = ("review", "approve", "--kind", "model_migration", "--now", *REASON)
    assert "--yes" in await anna.refused(*choose, code=2)
    async with anna.terminal(*choose) as terminal:
        await terminal.shows("Approve all 3?")
        terminal.types("n\n")
        assert await terminal.ends() == 1
    assert set(await queue(anna, "--kind", "model_migration")) == {*subjects, later}
    async with anna.terminal(*choose) as terminal:
        await terminal.shows("Approve all 3?")
        assert await terminal.is_interrupted() == 1
    assert set(await queue(anna, "--kind", "model_migration")) == {*subjects, later}
    done = await anna.ok(*choose, "--yes")
    assert {one["review"] for one in done} == {f"review-model_migration-{subject}" for subject in subjects}
    assert await queue(anna, "--kind", "model_migration") == [later]
    assert await anna.ok(*choose, "--yes") == []
    assert (await anna.ok("review", "approve", later, "--now", *REASON))[0]["done"]


async def test_what_changes_before_somebody_says_yes_is_not_decided(anna: Reviewer, flagged: Market) -> None:
    subject = str(flagged.id)
    _, file = await edited_rules(anna, flagged, give_up_after=604_860)
    await anna.ok("review", "claim", subject)
    async with anna.terminal("review", "approve", "--kind", "draft", "--mine", "--now", *REASON) as terminal:
        await terminal.shows("Approve all 1?")
        await anna.ok("review", "request-changes", subject, "--edit", str(file), "--now", *REASON)
        await flagged.children(2)
        review = await flagged.review()
        terminal.types("y\n")
        await terminal.shows("changed since")
        assert await terminal.ends() == 1
    assert (await review.state()).decision is None
    assert (await flagged.row()).status is MarketStatus.PENDING_REVIEW


async def test_a_decision_that_the_kind_does_not_take_is_refused(office: Office, anna: Reviewer) -> None:
    review = await office.asks(ReviewKind.RESOLUTION)
    subject = (await review.state()).request.subject
    assert "takes resolve, look_again" in await anna.refused("review", "approve", subject, *REASON)
    await anna.ok("review", "resolve", subject, "--outcome", "NO", "--now", *REASON)
    end = await review.result()
    assert (end.decision, end.outcome, end.by) == ("resolve", "NO", ANNA)

    again = await office.asks(ReviewKind.RESOLUTION)
    await anna.ok("review", "look-again", (await again.state()).request.subject, "--now", *REASON)
    assert (await again.result()).decision == "look_again"


async def test_a_subject_with_several_open_reviews_is_not_guessed(office: Office, anna: Reviewer) -> None:
    subject = uuid4().hex
    for kind in (ReviewKind.TAX_PROFILE, ReviewKind.PII_RUN):
        await office.asks(kind, subject=subject)
    sentence = await anna.refused("review", "claim", subject, code=2)
    assert f"review-pii_run-{subject}" in sentence
    assert f"review-tax_profile-{subject}" in sentence
    await anna.ok("review", "claim", f"review-pii_run-{subject}")


# The walk.


async def test_a_walk_through_the_queue(office: Office, ben: Reviewer) -> None:
    reviews = [await office.asks(ReviewKind.MODEL_ACTIVATION, title=f"Model number {n}") for n in (1, 2, 3)]
    async with ben.terminal("review", "work", "--kind", "model_activation") as terminal:
        await terminal.shows("Model number 1")
        await terminal.shows("[1/3]")
        terminal.types("k")
        await terminal.shows("first review")
        terminal.types("j")
        await terminal.shows("Model number 2")
        await terminal.shows("[2/3]")
        terminal.types("k")
        await terminal.shows("Model number 1")
        await terminal.shows("[1/3]")

        terminal.types("a")  # without a reason nothing is decided
        await terminal.shows("Why approve?")
        assert (await reviews[0].state()).claimed_by == BEN
        terminal.types("\n")
        await terminal.shows("Nothing is decided")
        await terminal.shows("[1/3]")
        state = await reviews[0].state()
        assert (state.decision, state.claimed_by) == (None, None)

        terminal.types("a")
        await terminal.shows("Why approve?")
        terminal.types("it is better than the last one\n")
        await terminal.shows("takes effect")
        await terminal.shows("[2/3]")
        state = await reviews[0].state()
        assert (state.decision, state.decided_by) == ("approve", BEN)
        terminal.types("u")
        await terminal.shows("taken back")
        assert (await reviews[0].state()).decision is None

        await terminal.shows("[2/3]")
        terminal.types("r")
        await terminal.shows("Code (")
        terminal.types("ugly\n")
        await terminal.shows("none of them")
        await terminal.shows("Code (")
        terminal.types("unfit_source\n")
        await terminal.shows("Why reject?")
        terminal.types("trained on the wrong month\n")
        await terminal.shows("[3/3]")
        assert (await reviews[1].state()).decision == "reject"

        terminal.types("y")  # no outcome is asked for here
        await terminal.shows("takes approve, reject")
        terminal.types("q")
        await terminal.shows("Decided 1 of 3")
        assert await terminal.ends() == 0
    assert (await reviews[0].state()).claimed_by is None
    await reviews[1].skip(timedelta(seconds=11))
    end = await reviews[1].result()
    assert (end.code, end.reason) == ("unfit_source", "trained on the wrong month")


@pytest.mark.parametrize("when", ["at the key", "at the reason"])
async def test_ctrl_c_leaves_and_gives_the_claim_back(office: Office, ben: Reviewer, when: str) -> None:
    review = await office.asks(ReviewKind.MODEL_ACTIVATION, title=f"Left {when}")
    async with ben.terminal("review", "work", "--kind", "model_activation") as terminal:
        await terminal.shows("u undo")
        while f"Left {when}" not in "\n".join(terminal.lines):
            terminal.types("j")
            await terminal.shows("u undo")
        if when == "at the reason":
            terminal.types("a")
            await terminal.shows("Why approve?")
            assert (await review.state()).claimed_by == BEN
            terminal.types("half a rea")
        assert await terminal.is_interrupted() == 0
        await terminal.shows("Decided 0 of")
    state = await review.state()
    assert (state.decision, state.claimed_by) == (None, None)


async def test_a_walk_names_outcomes_and_edits_rules(office: Office, flagged: Market) -> None:
    ben = await office.reviewer("claire")
    undecided = await office.asks(ReviewKind.RESOLUTION, title="Sources differ")
    subject = (await undecided.state()).request.subject
    for which in (subject, str(flagged.id)):
        await ben.ok("review", "claim", which)
    async with ben.terminal("review", "work", "--mine", VISUAL="sed -i s/604800/604860/") as terminal:
        await terminal.shows("Sources differ")  # due in 4 hours, the draft in 24
        await terminal.shows("[1/2]")
        terminal.types("n")
        await terminal.shows("Why resolve?")
        terminal.types(f"both were corrected, says {PERSON}\n")
        await terminal.shows("[2/2]")
        terminal.types("e")
        await terminal.shows('+    "give_up_after": 604860')
        await terminal.shows("Why request changes?")
        terminal.types("a minute more\n")
        await terminal.shows("takes effect")
        terminal.types("q")
        assert await terminal.ends() == 0
    state = await undecided.state()
    assert state.decision == "resolve"
    await undecided.skip(timedelta(seconds=11))
    end = await undecided.result()
    assert end.outcome == "NO"
    assert end.reason.startswith("both were corrected, says ")
    assert PERSON not in end.reason
    assert (await (Review(office.world, ReviewKind.DRAFT, str(flagged.id))).state()).decision == "request_changes"


async def test_a_walk_needs_a_terminal(ben: Reviewer) -> None:
    assert "needs a terminal" in await ben.refused("review", "work", code=2)
