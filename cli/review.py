"""`clotho review`: the queue of decisions that a person owes."""

import asyncio
import functools
import re
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import AwareDatetime, TypeAdapter, ValidationError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from cli.context import Context, as_command_error, command, connected, gather_bounded
from cli.editing import edited
from cli.keyboard import asking
from cli.output import CommandError, Exit, JsonOption, console, emit, say, styled, table
from cli.reading import read_text
from cli.reasons import ReasonOption
from cli.review_page import page_of, show_diff, show_page, time_left
from cli.review_work import walk
from cli.reviewing import (
    DECISIONS,
    Choice,
    claim,
    claimed,
    decide,
    difference,
    find,
    in_words,
    is_postponed,
    open_reviews,
    parse_rules,
    release,
    send,
    state_of,
    tell,
)
from db import markets
from domain.base import Model
from domain.canonical import model_sha256
from domain.intake import INPUT_LIMIT
from domain.market import Outcome
from domain.review import (
    KINDS,
    Approve,
    DecisionBy,
    LookAgain,
    Postpone,
    Priority,
    Reject,
    RejectCode,
    RequestChanges,
    Resolve,
    ReviewKind,
    ReviewState,
    ReviewTaken,
    Undo,
)

app = typer.Typer(
    help="Decisions that a person owes: drafts, undecided outcomes, disputes, runs.", no_args_is_help=True
)

ReviewId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the review, or of the market, dispute or run that it is about.")
]
ReviewIds = Annotated[
    list[str] | None, typer.Argument(metavar="ID", help="Ids of reviews; left out: choose by options.")
]
KindOption = Annotated[ReviewKind | None, typer.Option("--kind", help="Only reviews of this kind.")]
PriorityOption = Annotated[Priority | None, typer.Option("--priority", help="Only reviews as urgent as this.")]
MineOption = Annotated[bool, typer.Option("--mine", help="Only reviews that you have claimed.")]
BreachedOption = Annotated[bool, typer.Option("--breached", help="Only reviews whose deadline has passed.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before deciding about all that are chosen.")]
NowOption = Annotated[bool, typer.Option("--now", help="Take effect at once, with no time to undo it.")]
VersionOption = Annotated[
    str | None,
    typer.Option(
        "--version",
        metavar="HASH",
        help="The version that `review show` showed, or how it begins; the decision is refused when it has changed.",
    ),
]

_LONG = 2
"""Seconds; what takes longer shows a progress bar."""


class Done(Model):
    """What happened to one review of several."""

    review: str
    done: bool
    why: str = ""
    takes_effect: datetime | None = None


# Looking.


@app.command("list")
@command
async def list_reviews(
    kind: KindOption = None,
    priority: PriorityOption = None,
    mine: MineOption = False,
    breached: BreachedOption = False,
    as_json: JsonOption = False,
) -> None:
    """List what waits for a decision: the oldest deadline first, with the time left (negative: overdue).

    Example: clotho review list --kind draft --breached
    """
    async with connected() as context:
        states = await open_reviews(context.temporal, _choice(context, kind, priority, mine, breached))
        now = datetime.now(UTC)
        data = [
            {**state.model_dump(mode="json"), "seconds_left": int((state.deadline - now).total_seconds())}
            for state in states
        ]
        emit(data, as_json, functools.partial(_show_list, states))


def _show_list(states: list[ReviewState]) -> None:
    rows = []
    for state in states:
        holder = state.claimed_by or ""
        if state.postponed_until is not None and is_postponed(state):
            holder = f"postponed to {state.postponed_until:%m-%d %H:%M}"
        elif console.is_terminal:
            holder = holder[:16]
        left = styled("failed" if state.breached else "ok", time_left(state))
        rows.append(
            (left, state.priority, state.request.kind, state.request.subject, holder,
             state.request.title.replace("\n", " "))
        )  # fmt: skip
    table(["left", "priority", "kind", "id", "claimed by", "title…"], rows, empty="Nothing waits for a review.")


@app.command()
@command
async def show(which: ReviewId, as_json: JsonOption = False) -> None:
    """Show all that is needed to decide on one page.

    Why a person is asked, the draft with its rules and what the validator found, the state of
    its sources, similar markets, what reviewers changed; for an undecided outcome the evidence
    side by side; for a dispute its words.
    """
    async with connected() as context:
        page = await page_of(context.pool, await _state(context, which))
        emit(page, as_json, lambda: show_page(page))


@app.command()
@command
async def work(
    kind: KindOption = None,
    priority: PriorityOption = None,
    mine: MineOption = False,
    breached: BreachedOption = False,
) -> None:
    """Walk through the queue with single keys.

    j next, k previous, u undo, q quit;
    a approve, r reject, e edit the rules;
    y n v the outcome YES, NO, VOID, l look at the sources again.

    A decision claims the review and asks for the reason; without one nothing is decided.
    Ctrl-C leaves at once and gives back what was claimed.

    Example: clotho review work --kind draft
    """
    if not (sys.stdin.isatty() and console.is_terminal):
        raise CommandError("A walk through the queue needs a terminal: use `clotho review list` and `approve` instead.")
    async with connected() as context:
        await walk(context, _choice(context, kind, priority, mine, breached))


# Holding.


@app.command("claim")
@command
async def claim_review(which: ReviewId, as_json: JsonOption = False) -> None:
    """Claim a review for 30 minutes, so that nobody else decides it meanwhile; again: renew the claim.

    Decisions of this command line claim by themselves; the token is for decisions from elsewhere.
    """
    async with connected() as context:
        review_id = await find(context.temporal, which)
        held = await claim(context.temporal, review_id, context.settings.identity)
        sentence = f"{review_id} is yours until {held.until:%H:%M:%S} UTC; the token of the claim is {held.lease}."
        emit(held, as_json, lambda: say(sentence))


@app.command("release")
@command
async def release_review(which: ReviewId, as_json: JsonOption = False) -> None:
    """Give a claim back, so that others can take the review."""
    async with connected() as context:
        by, state = context.settings.identity, await _state(context, which)
        if state.claimed_by != by:
            raise CommandError(f"{by} holds no claim of {state.id}: see `clotho review list --mine`.", Exit.FAILED)
        held = await claim(context.temporal, state.id, by)
        taken = await release(context.temporal, state.id, by, held.lease)
        emit(taken, as_json, lambda: say(f"{state.id} is free again."))


@app.command()
@command
async def postpone(
    which: ReviewId,
    reason: ReasonOption,
    until: Annotated[
        str, typer.Option("--until", help="A moment, e.g. 2027-01-31T18:00:00Z, or how long: 30min, 3h, 2d.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Leave a review out of the queue for a while; its deadline stays.

    Example: clotho review postpone ID --until 3h --reason "the ministry answers in the afternoon"
    """
    moment = _moment(until)
    async with connected() as context:
        by, state = context.settings.identity, await _state(context, which)
        message = Postpone(by=by, reason=reason, until=moment)
        async with claimed(context.temporal, state, by) as held:
            message = message.model_copy(update={"lease": held.lease})
            taken = await tell(context.temporal, state.id, "postpone", message, ReviewTaken)
        emit(taken, as_json, lambda: say(f"{state.id} is postponed until {message.until:%Y-%m-%d %H:%M:%S} UTC."))


# Deciding.


@app.command()
@command
async def approve(
    reason: ReasonOption,
    which: ReviewIds = None,
    kind: KindOption = None,
    priority: PriorityOption = None,
    mine: MineOption = False,
    breached: BreachedOption = False,
    yes: YesOption = False,
    now: NowOption = False,
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve one review, several, or all that options choose but the postponed; each is claimed first.

    Until the decision takes effect (10 s, if not configured otherwise) `clotho review undo` takes it back.

    Example: clotho review approve ID --reason "clear, and decided by one official series"
    Example: clotho review approve --kind draft --mine --yes --reason "checked one by one"
    """
    await _decide_all(
        which or [],
        (kind, priority, mine, breached),
        lambda by: Approve(by=by, reason=reason, at_once=now),
        yes=yes,
        version=version,
        as_json=as_json,
    )


@app.command()
@command
async def reject(
    reason: ReasonOption,
    code: Annotated[RejectCode, typer.Option("--code", help="Why, in one word, for counting.")],
    which: ReviewIds = None,
    kind: KindOption = None,
    priority: PriorityOption = None,
    mine: MineOption = False,
    breached: BreachedOption = False,
    yes: YesOption = False,
    now: NowOption = False,
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reject one review, several, or all that options choose but the postponed; each is claimed first.

    Example: clotho review reject ID --code ambiguous --reason "two readings of 'win' are possible"
    """
    await _decide_all(
        which or [],
        (kind, priority, mine, breached),
        lambda by: Reject(by=by, reason=reason, code=code, at_once=now),
        yes=yes,
        version=version,
        as_json=as_json,
    )


@app.command("request-changes")
@command
async def request_changes(
    which: ReviewId,
    reason: ReasonOption,
    edit: Annotated[Path | None, typer.Option("--edit", help="JSON file with the whole changed rules.")] = None,
    editor: Annotated[
        bool, typer.Option("--editor", help="Change the rules in your editor ($VISUAL or $EDITOR).")
    ] = False,
    now: NowOption = False,
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace the draft's rules; they are rehearsed and validated again, and then reviewed again.

    Shows exactly what changes. A file to edit: clotho review show ID --json | jq .draft.rules > rules.json

    Example: clotho review request-changes ID --editor --reason "the deadline is a Sunday"
    """
    if (edit is None) is not editor:
        raise CommandError("--edit: name a FILE with the changed rules, or say --editor, and not both.", field="--edit")
    new = None if edit is None else parse_rules(await asyncio.to_thread(read_text, edit, "edit", INPUT_LIMIT))
    async with connected() as context:
        state = _seen(await _state(context, which), version)
        made = functools.partial(RequestChanges, by=context.settings.identity, reason=reason, at_once=now)
        made(changed="0" * 64)  # a bad reason is refused before the editor opens
        if "request_changes" not in KINDS[state.request.kind].decisions or state.request.version is None:
            raise CommandError(f"A review of the kind {state.request.kind} is about no rules to change.", Exit.FAILED)
        old = await markets.load_rules(context.pool, state.request.version)
        async with claimed(context.temporal, state, context.settings.identity) as held:
            new = new or edited(old)
            if new is None or model_sha256(new) == state.request.version:
                raise CommandError("The rules are as they were, so nothing was sent.", Exit.FAILED)
            diff = difference(old, new)
            if not as_json:
                show_diff(diff)
            changed = await markets.store_rules(context.pool, new)
            taken = await send(context.temporal, state, made(changed=changed), held)
        data = {"taken": taken.model_dump(mode="json"), "changed": changed, "diff": diff}
        emit(data, as_json, lambda: say(f"{state.id}: the rules are changed{_effect(taken)}"))


@app.command()
@command
async def resolve(
    which: ReviewId,
    outcome: Annotated[Outcome, typer.Option("--outcome", help="What the market resolves to.")],
    reason: ReasonOption,
    now: NowOption = False,
    as_json: JsonOption = False,
) -> None:
    """Name the outcome that the sources do not decide, or that a dispute is about.

    Example: clotho review resolve ID --outcome NO --reason "both agencies had corrected their tables by noon"
    """
    await _decide_one(which, lambda by: Resolve(by=by, reason=reason, outcome=outcome, at_once=now), as_json)


@app.command("look-again")
@command
async def look_again(
    which: ReviewId, reason: ReasonOption, now: NowOption = False, as_json: JsonOption = False
) -> None:
    """Have the sources of an undecided market looked at again."""
    await _decide_one(which, lambda by: LookAgain(by=by, reason=reason, at_once=now), as_json)


@app.command()
@command
async def undo(which: ReviewId, as_json: JsonOption = False) -> None:
    """Take your decision back before it takes effect; the review is open again, and still yours."""
    async with connected() as context:
        review_id = await find(context.temporal, which)
        taken = await tell(context.temporal, review_id, "undo", Undo(by=context.settings.identity), ReviewTaken)
        emit(taken, as_json, lambda: say(f"{review_id}: the decision is taken back."))


async def _decide_one(which: str, made: Callable[[str], DecisionBy], as_json: bool) -> None:
    async with connected() as context:
        told = made(context.settings.identity)
        state = await _state(context, which)
        taken = await decide(context.temporal, state, told)
        emit(taken, as_json, lambda: say(f"{state.id}: decided {in_words(DECISIONS[type(told)])}{_effect(taken)}"))


async def _decide_all(
    which: list[str],
    choice: tuple[ReviewKind | None, Priority | None, bool, bool],
    made: Callable[[str], DecisionBy],
    *,
    yes: bool,
    version: str | None,
    as_json: bool,
) -> None:
    """The same decision about several reviews: what is refused does not keep the others.

    Raises:
        CommandError: the only review named is refused, or some of several.
    """
    async with connected() as context:
        told = made(context.settings.identity)
        chosen = _choice(context, *choice)
        if bool(which) is bool(chosen):
            raise CommandError("ID: name reviews, or choose them by options such as --kind, and not both.", field="ID")
        if version is not None and len(which) != 1:
            raise CommandError("--version: is about one review: name that one.", field="--version")

        async def one(name: str) -> ReviewTaken:
            return await decide(context.temporal, _seen(await _state(context, name), version), told)

        calls: dict[str, Callable[[], Awaitable[ReviewTaken]]] = {name: functools.partial(one, name) for name in which}
        if chosen:
            # About the versions that were agreed to, and not what has become of them since.
            agreed = await _agreed(context, chosen, told, yes=yes, as_json=as_json)
            calls = {state.id: functools.partial(decide, context.temporal, state, told) for state in agreed}
        names = list(calls)
        answers = await _with_progress(list(calls.values()), quiet=as_json)
        if len(names) == 1 and not chosen and isinstance(answers[0], BaseException):
            raise answers[0]
        results = [_done(name, answer) for name, answer in zip(names, answers, strict=True)]
        word = _PAST[DECISIONS[type(told)]]

        def show_results() -> None:
            if len(results) == 1 and results[0].done:
                say(f"{results[0].review} is {word}{_effect(answers[0])}")
            else:
                rows = [(r.review, styled("ok", word) if r.done else styled("failed", "refused"), r.why)
                        for r in results]  # fmt: skip
                table(["review", "", "why…"], rows, empty="No such review waits.", whole_text=True)

        emit(results, as_json, show_results)
        refused = sum(not result.done for result in results)
        if refused:
            raise CommandError(
                f"{refused} of {len(results)} reviews were not {word}: look at them with `clotho review list`.",
                Exit.FAILED,
            )


_PAST = {"approve": "approved", "reject": "rejected"}


async def _agreed(context: Context, choice: Choice, told: DecisionBy, *, yes: bool, as_json: bool) -> list[ReviewState]:
    """The reviews chosen that take the decision, once somebody has said yes to all of them."""
    decision = DECISIONS[type(told)]
    found = await open_reviews(context.temporal, choice)
    # What is postponed waits for something; whoever decides it all the same names it.
    states = [s for s in found if decision in KINDS[s.request.kind].decisions and not is_postponed(s)]
    if states and not yes:
        if not (sys.stdin.isatty() and console.is_terminal):
            why = f"--yes: nobody is here to ask about {len(states)} reviews, so nothing was decided: say --yes."
            raise CommandError(why, field="--yes")
        _show_list(states)
        with asking():
            if not typer.confirm(f"{decision.title()} all {len(states)}?", err=as_json):
                raise CommandError("Nothing was decided, as you said no.", Exit.FAILED)
    return states


async def _with_progress(calls: list[Callable[[], Awaitable[Any]]], *, quiet: bool) -> list[Any]:
    """Results of calls, some at once; what takes long shows how far it is."""
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console, transient=True
    )
    task = progress.add_task("reviews decided", total=len(calls))

    async def counted(call: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await call()
        finally:
            progress.advance(task)

    working = asyncio.ensure_future(gather_bounded([functools.partial(counted, call) for call in calls]))
    done, _ = await asyncio.wait({working}, timeout=_LONG)
    if not done and console.is_terminal and not quiet:
        with progress:
            await asyncio.wait({working})
    return await working


def _done(name: str, answer: ReviewTaken | BaseException) -> Done:
    if isinstance(answer, ReviewTaken):
        return Done(review=answer.review, done=True, takes_effect=answer.takes_effect)
    sentence = as_command_error(answer)
    if sentence is None:
        raise answer
    return Done(review=name, done=False, why=str(sentence))


async def _state(context: Context, which: str) -> ReviewState:
    return await state_of(context.temporal, await find(context.temporal, which))


def _seen(state: ReviewState, version: str | None) -> ReviewState:
    """The state, when it is about the version that the reviewer has seen."""
    if version is not None and (not version or not (state.request.version or "").startswith(version.lower())):
        raise CommandError(
            f"{state.id} was changed since you looked at it: look again with `clotho review show {state.id}`.",
            Exit.FAILED,
        )
    return state


def _choice(context: Context, kind: ReviewKind | None, priority: Priority | None, mine: bool, breached: bool) -> Choice:
    return Choice(kind, priority, context.settings.identity if mine else None, breached)


def _effect(taken: ReviewTaken) -> str:
    """When a decision takes effect, as the end of a sentence."""
    if taken.takes_effect is None or taken.takes_effect <= datetime.now(UTC):
        return "."
    return f"; it takes effect at {taken.takes_effect:%H:%M:%S} UTC, until then: clotho review undo {taken.review}"


_LASTS = re.compile(r"([1-9][0-9]{0,4})\s*(min|h|d)")
_UNITS: dict[str, Literal["minutes", "hours", "days"]] = {"min": "minutes", "h": "hours", "d": "days"}


def _moment(text: str) -> datetime:
    """A moment, or how long from now."""
    if (lasts := _LASTS.fullmatch(text.strip())) is not None:
        return datetime.now(UTC) + timedelta(**{_UNITS[lasts[2]]: int(lasts[1])})
    try:
        moment: datetime = TypeAdapter(AwareDatetime).validate_python(text)
    except ValidationError:
        why = f"--until: {text[:40]!r} is no moment with its zone: write 2027-01-31T18:00:00Z, or 30min, 3h, 2d."
        raise CommandError(why, field="--until") from None
    return moment.astimezone(UTC)
