"""What every story shares: running a step of the catalogue, and parking it when its retries are used up."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from domain import errors, search_attributes
from domain.market import Accepted, Parked, Unpark
from domain.steps import I, O, Step

R = TypeVar("R")

REFUSALS_KEPT = 5


class Stopped(Exception):
    """A person cancelled the story or aborted a parked step; `by` and `reason` say who and why."""

    def __init__(self, by: str, reason: str) -> None:
        super().__init__(reason)
        self.by, self.reason = by, reason


def refusal(message: str) -> ApplicationError:
    """What a validator raises: nothing has changed, and the sender reads why."""
    return errors.failure(errors.REFUSED, message)


class Story:
    """Base of the workflows. `run_step` is the only place that executes an activity."""

    def __init__(self) -> None:
        self._parked: Parked | None = None
        self._unpark: Unpark | None = None
        self._stop: Stopped | None = None
        self._refused: list[str] = []

    async def live(self, story: Coroutine[Any, Any, R], order_to_cancel: Callable[[], None]) -> R:
        """Live through a story, which Temporal's own cancellation does not break off: it is an order like any other.

        Args:
            story: the whole course of the workflow.
            order_to_cancel: takes the order or refuses it, as the workflow's signal does.
        """
        life = asyncio.create_task(story)
        while not life.done():
            try:
                await workflow.wait([life])
            except asyncio.CancelledError:
                order_to_cancel()
        return life.result()

    async def run_step(self, step: Step[I, O], request: I, *, summary: str | None = None) -> O:
        """Run a step until it succeeds; when its retries are used up, wait for an operator.

        Args:
            step: entry of the catalogue.
            request: its input.
            summary: what the Web UI shows beside the step's name.

        Raises:
            Stopped: an operator aborted the step, or the story was cancelled while it was parked.
        """
        while True:
            try:
                result: O = await workflow.execute_activity(
                    step.name,
                    request,
                    result_type=step.gives,
                    task_queue=step.role.value,
                    start_to_close_timeout=step.timing.start_to_close,
                    heartbeat_timeout=step.timing.heartbeat,
                    retry_policy=step.timing.retry,
                    summary=(summary or step.does)[:200],
                )
                return result
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                cause = error.cause
                kind = cause.type if isinstance(cause, ApplicationError) and cause.type else type(cause).__name__
                message = cause.message if isinstance(cause, ApplicationError) else str(cause or error)
                decision = await self.park(step.name, kind, message, may_skip=step.when_skipped is not None)
                if decision == "skip" and step.when_skipped is not None:
                    return step.when_skipped

    async def park(self, step: str, kind: str, message: str, *, may_skip: bool = False) -> str:
        """Wait for an operator's retry or skip, visibly: search attribute, current details, query.

        Raises:
            Stopped: the operator aborted, or the story was cancelled meanwhile.
        """
        self._parked = Parked(
            step=step, kind=kind, message=message[: errors.MESSAGE_LIMIT], since=workflow.now(), may_skip=may_skip
        )
        self._unpark = None
        workflow.upsert_search_attributes([search_attributes.PARKED.value_set(True)])
        self.show()
        await workflow.wait_condition(lambda: self._unpark is not None or self._stop is not None)
        decision = self._unpark
        self._parked = self._unpark = None
        workflow.upsert_search_attributes([search_attributes.PARKED.value_set(False)])
        self.show()
        if self._stop is not None:
            raise self._stop
        assert decision is not None
        if decision.decision == "abort":
            raise Stopped(decision.by, decision.reason)
        return decision.decision

    def show(self) -> None:
        """Refresh the current details of the Web UI."""
        raise NotImplementedError

    def accepted(self) -> Accepted:
        """The answer to a message that was taken."""
        raise NotImplementedError

    def may_abort(self) -> bool:
        """Whether the story may still be ended by an operator."""
        return True

    def note_refusal(self, message: str, error: ApplicationError) -> None:
        """Keep a refused signal visible: it has no caller who could be told."""
        self._refused = [*self._refused, f"{message}: {error.message}"][-REFUSALS_KEPT:]
        self.show()

    def _decide_parked(self, decision: Unpark) -> Accepted:
        self._unpark = decision
        return self.accepted()

    @workflow.update(name="unpark", description="Decide about the parked step: retry, skip or abort")
    def update_unpark(self, decision: Unpark) -> Accepted:
        """Take an operator's decision about the parked step."""
        return self._decide_parked(decision)

    @update_unpark.validator
    def check_unpark(self, decision: Unpark) -> None:
        """Refuse a decision that does not fit the parked step."""
        if self._parked is None or self._unpark is not None:
            raise refusal("no step is parked")
        if decision.decision == "skip" and not self._parked.may_skip:
            raise refusal(f"the step {self._parked.step} cannot be skipped, only retried or aborted")
        if decision.decision == "abort" and not self.may_abort():
            raise refusal(f"the step {self._parked.step} cannot be aborted any more, only retried")

    @workflow.signal(name="unpark", description="Decide about the parked step: retry, skip or abort")
    def signal_unpark(self, decision: Unpark) -> None:
        """The same decision as a plain signal, as the Web UI sends it."""
        try:
            self.check_unpark(decision)
        except ApplicationError as error:
            self.note_refusal("unpark", error)
        else:
            self._decide_parked(decision)
