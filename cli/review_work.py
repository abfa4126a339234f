"""`clotho review work`: the queue walked through with single keys."""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial

from pydantic import ValidationError
from temporalio.client import WorkflowUpdateFailedError
from temporalio.service import RPCError

from cli.context import Context, as_command_error
from cli.editing import edited
from cli.keyboard import asking, next_key, single_keys, whole_lines
from cli.output import CommandError, console, say
from cli.redacting import redacting
from cli.review_page import page_of, show_diff, show_page
from cli.reviewing import Choice, claim, difference, in_words, open_reviews, release, send, state_of, tell
from db import markets
from domain.canonical import model_sha256
from domain.review import (
    KINDS,
    Approve,
    Claimed,
    Decision,
    DecisionBy,
    LookAgain,
    Reject,
    RejectCode,
    RequestChanges,
    Resolve,
    ReviewState,
    ReviewTaken,
    Undo,
)

_OUTCOMES = {"y": "YES", "n": "NO", "v": "VOID"}
_DECISIONS: dict[str, Decision] = {
    "a": "approve", "r": "reject", "e": "request_changes", "l": "look_again",
    **dict.fromkeys(_OUTCOMES, "resolve"),
}  # fmt: skip
"""What each key decides."""
_KEYS = {*_DECISIONS, "j", "k", "u", "q"}

_REFUSED = (WorkflowUpdateFailedError, CommandError, ValidationError)
"""Told to the reviewer, who goes on."""


class Walk:
    """A reviewer's way through the queue; `held` are the claims that it took and has to give back."""

    def __init__(self, context: Context, queue: list[str]) -> None:
        self._context, self._queue = context, queue
        self._by = context.settings.identity
        self._place = 0
        self._leases: dict[str, Claimed] = {}
        self.held: set[str] = set()
        self.decided: list[str] = []

    async def go(self) -> None:
        """Show one review after the other until the reviewer leaves."""
        state = await self._show()
        while (key := await self._key(state)) != "q":
            if key in {"j", "k"}:
                state = await self._move(1 if key == "j" else -1, state)
            elif key == "u":
                await self._undo()
            elif await self._decide(key, state):
                state = await self._move(1, state)

    async def give_back(self) -> None:
        """Release what is still held."""
        for review_id in self.held:
            with contextlib.suppress(WorkflowUpdateFailedError, CommandError, RPCError):
                await release(self._context.temporal, review_id, self._by, self._leases[review_id].lease)

    async def _show(self) -> ReviewState:
        state = await state_of(self._context.temporal, self._queue[self._place])
        console.rule()
        show_page(await page_of(self._context.pool, state))
        return state

    async def _move(self, by: int, state: ReviewState) -> ReviewState:
        if not 0 <= self._place + by < len(self._queue):
            say(f"That was the {'last' if by > 0 else 'first'} review.")
            return state
        self._place += by
        return await self._show()

    async def _key(self, state: ReviewState) -> str:
        """The next key that means something."""
        keys = [f"{key} {word}" for key, word in _words(state)]
        say(f"[{self._place + 1}/{len(self._queue)}] {'  '.join(keys)}")
        while (key := await next_key()) not in _KEYS:
            pass
        return key

    def _ask(self, question: str) -> str:
        with whole_lines(), asking():
            return console.input(f"{question}: ", markup=False).strip()

    async def _decide(self, key: str, state: ReviewState) -> bool:
        """Claim, ask, send; True when the review is decided."""
        if key not in dict(_words(state)):
            say(f"A review of the kind {state.request.kind} takes {', '.join(KINDS[state.request.kind].decisions)}.")
            return False
        try:
            await self._hold(state)
            made = await self._made(key, state)
            if made is None:
                say("Nothing is decided.")
                await self._give_back_one(state)
                return False
            taken = await send(self._context.temporal, state, made, self._leases[state.id])
        except _REFUSED as error:
            say(str(as_command_error(error)))
            await self._give_back_one(state)
            return False
        self.held.discard(state.id)
        self.decided.append(state.id)
        when = f" at {taken.takes_effect:%H:%M:%S} UTC" if taken.takes_effect else ""
        say(f"{in_words(_DECISIONS[key]).capitalize()}: takes effect{when}; u takes it back until then.")
        return True

    async def _hold(self, state: ReviewState) -> None:
        """Claim it, and remember to give it back unless the reviewer held it before."""
        self._leases[state.id] = await claim(self._context.temporal, state.id, self._by)
        if state.claimed_by != self._by:
            self.held.add(state.id)

    async def _give_back_one(self, state: ReviewState) -> None:
        if state.id in self.held:
            self.held.discard(state.id)
            with contextlib.suppress(WorkflowUpdateFailedError, CommandError):
                await release(self._context.temporal, state.id, self._by, self._leases[state.id].lease)

    async def _made(self, key: str, state: ReviewState) -> DecisionBy | None:
        """The decision with all that has to be told with it; None when the reviewer thinks better of it."""
        make: Callable[..., DecisionBy]
        match key:
            case "a":
                make = Approve
            case "l":
                make = LookAgain
            case "e":
                changed = await self._changed(state)
                if changed is None:
                    return None
                make = partial(RequestChanges, changed=changed)
            case "r":
                code = self._code()
                if code is None:
                    return None
                make = partial(Reject, code=code)
            case _:
                make = partial(Resolve, outcome=_OUTCOMES[key])
        reason = self._ask(f"Why {in_words(_DECISIONS[key])}? (a sentence; nothing: leave it)")
        return make(by=self._by, reason=redacting(self._context.settings)(reason)) if reason else None

    async def _changed(self, state: ReviewState) -> str | None:
        """Hash of the rules as the reviewer has edited them."""
        assert state.request.version is not None, "a kind that takes changes is about rules"
        old = await markets.load_rules(self._context.pool, state.request.version)
        with whole_lines():
            new = edited(old)
        if new is None or model_sha256(new) == state.request.version:
            return None
        show_diff(difference(old, new))
        return await markets.store_rules(self._context.pool, new)

    def _code(self) -> RejectCode | None:
        while True:
            answer = self._ask(f"Code ({', '.join(RejectCode)}; nothing: leave it)")
            if not answer or answer in list(RejectCode):
                return RejectCode(answer) if answer else None
            say(f"{answer} is none of them.")

    async def _undo(self) -> None:
        """Take back the last decision of this walk."""
        if not self.decided:
            say("There is nothing to undo.")
            return
        review_id = self.decided[-1]
        try:
            await tell(self._context.temporal, review_id, "undo", Undo(by=self._by), ReviewTaken)
        except _REFUSED as error:
            say(str(as_command_error(error)))
            return
        self.decided.pop()
        self.held.add(review_id)
        say(f"{review_id}: the decision is taken back.")


def _words(state: ReviewState) -> list[tuple[str, str]]:
    """The keys that a review takes, with what they do."""
    kind = KINDS[state.request.kind]
    decisions = [
        (key, _OUTCOMES.get(key) or in_words(decision))
        for key, decision in _DECISIONS.items()
        if decision in kind.decisions and _OUTCOMES.get(key) in {None, *kind.outcomes}
    ]
    return [("j", "next"), ("k", "previous"), *decisions, ("u", "undo"), ("q", "quit")]


async def walk(context: Context, choice: Choice) -> None:
    """Walk through the reviews chosen, until the reviewer leaves; what was claimed and not decided is given back."""
    queue = [state.id for state in await open_reviews(context.temporal, choice)]
    if not queue:
        say("Nothing waits for a review.")
        return
    walking = Walk(context, queue)
    # Ctrl-C and the end of the input are ways to leave, so that they end the walk and no more than that.
    try:
        with contextlib.suppress(KeyboardInterrupt, EOFError, asyncio.CancelledError), single_keys():
            await walking.go()
    finally:
        await walking.give_back()
    say(f"Decided {len(walking.decided)} of {len(queue)} reviews.")
