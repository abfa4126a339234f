"""Reviews as the command line and the demo handle them: found, claimed, decided; and the rules that they change."""

import contextlib
import difflib
import functools
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowUpdateFailedError,
)
from temporalio.service import RPCError, RPCStatusCode

from cli.context import ANSWER, explain, gather_all, query, unknown, update
from cli.output import CommandError, Exit
from domain import ids
from domain.base import Model
from domain.canonical import model_sha256
from domain.review import (
    WORKFLOW,
    Approve,
    Claim,
    Claimed,
    Decision,
    DecisionBy,
    LookAgain,
    Priority,
    Reject,
    Release,
    RequestChanges,
    Resolve,
    ReviewKind,
    ReviewState,
    ReviewTaken,
    Subject,
)
from domain.rules import ResolutionRules

M = TypeVar("M", bound=Model)

LOOK_UP = "clotho review list"

DECISIONS: Mapping[type[DecisionBy], Decision] = {
    Approve: "approve",
    Reject: "reject",
    RequestChanges: "request_changes",
    Resolve: "resolve",
    LookAgain: "look_again",
}
"""What each message decides, which is also the name of its update."""


@dataclass(frozen=True)
class Choice:
    """Which of the open reviews; None and False choose all."""

    kind: ReviewKind | None = None
    priority: Priority | None = None
    claimed_by: str | None = None
    breached: bool = False

    def __bool__(self) -> bool:
        """Whether it leaves any out."""
        return self != Choice()

    def takes(self, state: ReviewState) -> bool:
        """Whether a review is among them."""
        return (
            self.kind in {None, state.request.kind}
            and self.priority in {None, state.priority}
            and self.claimed_by in {None, state.claimed_by}
            and (state.breached or not self.breached)
        )


async def state_of(temporal: Client, review_id: str) -> ReviewState:
    """What a review says of itself, open or over.

    Raises:
        CommandError: there is no such review, or no worker answers.
    """
    return await query(temporal, review_id, "state", ReviewState, f"review {review_id}", LOOK_UP)


async def open_reviews(temporal: Client, choice: Choice) -> list[ReviewState]:
    """The reviews that wait for a decision: the oldest deadline first, those postponed last.

    Raises:
        CommandError: one of them does not answer, so the list would be wrong.
    """
    listed = f"WorkflowType = '{WORKFLOW}' AND ExecutionStatus = 'Running'"
    if choice.kind is not None:
        listed += f" AND ReviewKind = '{choice.kind}'"
    if choice.priority is not None:
        listed += f" AND ReviewPriority = '{choice.priority}'"
    found = {execution.id async for execution in temporal.list_workflows(listed)}
    states = await gather_all([functools.partial(state_of, temporal, review_id) for review_id in found])
    waiting = [state for state in states if state.decision is None and choice.takes(state)]
    return sorted(waiting, key=lambda state: (is_postponed(state), state.deadline, state.id))


def is_postponed(state: ReviewState) -> bool:
    """Whether a review is to be left alone for now."""
    return state.postponed_until is not None and state.postponed_until > datetime.now(UTC)


async def find(temporal: Client, which: str) -> str:
    """The workflow id of a review.

    Args:
        temporal: where reviews run.
        which: the id itself, or what the review is about when one open review is about it; of several that are over
            the last one.

    Raises:
        CommandError: there is none, or more than one is open.
    """
    with contextlib.suppress(ValueError):
        kind, _ = ids.review_of_workflow(which)
        if kind in list(ReviewKind):
            return which
    try:
        subject = TypeAdapter(Subject).validate_python(which)
    except ValidationError:
        raise CommandError("ID: is no id of a review: look ids up with `clotho review list`.", field="ID") from None
    possible = [ids.review_workflow_id(kind, subject) for kind in ReviewKind]
    answers = await gather_all([functools.partial(_description, temporal, review_id) for review_id in possible])
    found = [answer for answer in answers if answer is not None]
    running = [one.id for one in found if one.status is WorkflowExecutionStatus.RUNNING]
    if len(running) > 1:
        raise CommandError(f"ID: {which} has several open reviews: name one of {', '.join(running)}.", field="ID")
    if not found:
        raise unknown(f"review of {which}", LOOK_UP)
    return running[0] if running else max(found, key=lambda one: one.start_time).id


async def _description(temporal: Client, review_id: str) -> WorkflowExecutionDescription | None:
    try:
        return await temporal.get_workflow_handle(review_id).describe(rpc_timeout=ANSWER)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        explain(error, f"review {review_id}", LOOK_UP)


async def tell(temporal: Client, review_id: str, name: str, message: Model, gives: type[M]) -> M:
    """Send an update to a review and return its answer.

    Raises:
        WorkflowUpdateFailedError: the review refuses it, and says why.
        CommandError: the review is over or unknown, or no worker answers.
    """

    async def over() -> CommandError:
        return CommandError(_over(await state_of(temporal, review_id)), Exit.FAILED)

    return await update(temporal, review_id, name, message, gives, f"review {review_id}", over)


def _over(state: ReviewState) -> str:
    if state.decision is None:
        return "The review is over, since whoever asked for it waits no longer: see `clotho review list`."
    then = "; the changed rules are checked and then reviewed again" if state.decision == "request_changes" else ""
    return f"The review is over: {state.decided_by} decided {in_words(state.decision)}{then}."


def in_words(decision: str) -> str:
    """A decision as people write it."""
    return decision.replace("_", " ")


async def claim(temporal: Client, review_id: str, by: str) -> Claimed:
    """Take a review, or renew the claim that one holds; raises as `tell`."""
    return await tell(temporal, review_id, "claim", Claim(by=by), Claimed)


async def release(temporal: Client, review_id: str, by: str, lease: str) -> ReviewTaken:
    """Give a claim back; raises as `tell`."""
    return await tell(temporal, review_id, "release", Release(by=by, lease=lease), ReviewTaken)


@contextlib.asynccontextmanager
async def claimed(temporal: Client, state: ReviewState, by: str) -> AsyncIterator[Claimed]:
    """Hold a review for the block; a claim that was not held before is given back when the block fails."""
    lease = await claim(temporal, state.id, by)
    try:
        yield lease
    except BaseException:
        if state.claimed_by != by:
            with contextlib.suppress(WorkflowUpdateFailedError, CommandError):
                await release(temporal, state.id, by, lease.lease)
        raise


async def decide(temporal: Client, state: ReviewState, made: DecisionBy) -> ReviewTaken:
    """Claim a review, and decide about the version that `state` shows; raises as `tell`."""
    async with claimed(temporal, state, made.by) as held:
        return await send(temporal, state, made, held)


async def send(temporal: Client, state: ReviewState, made: DecisionBy, held: Claimed) -> ReviewTaken:
    """Decide about the version that `state` shows, on a claim that one holds; raises as `tell`."""
    told = made.model_copy(update={"lease": held.lease, "version": state.request.version})
    return await tell(temporal, state.id, DECISIONS[type(made)], told, ReviewTaken)


# Rules, as people read and edit them.


def pretty(rules: ResolutionRules) -> str:
    """Rules as indented JSON, every field in its place."""
    return json.dumps(rules.model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=False) + "\n"


def difference(old: ResolutionRules, new: ResolutionRules) -> str:
    """The unified diff of two rule sets, named by their hashes; what no eye can see is written out."""
    before, after = (f"rules {model_sha256(rules)}" for rules in (old, new))
    lines = difflib.unified_diff(pretty(old).split("\n"), pretty(new).split("\n"), before, after, lineterm="")
    return "\n".join("".join(map(_visible, line)) for line in lines)


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def parse_rules(content: str | bytes) -> ResolutionRules:
    """Rules from the JSON that a reviewer wrote.

    Raises:
        CommandError: they are none; the sentence names the field.
    """
    try:
        return ResolutionRules.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(["rules", *(str(part) for part in first["loc"])])
        raise CommandError(f"{field}: {first['msg']}. Nothing was changed; correct the rules.", field=field) from None
