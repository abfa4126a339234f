"""What every story shares: running a step of the catalogue, parking it when its retries are used up, asking people."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ChildWorkflowError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)

from domain import errors, review, search_attributes
from domain.base import Model
from domain.ids import review_workflow_id
from domain.market import Accepted, Parked, ParkedState, Unpark
from domain.review import KINDS, TERM, ReviewEnd, ReviewRequest
from domain.steps import START_AGAIN, I, O, Step

M = TypeVar("M", bound=Model)
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
        self._reviews = 0

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
        """Run a step until it succeeds; when its retries are used up, wait for an operator if the step parks.

        Args:
            step: entry of the catalogue.
            request: its input.
            summary: what the Web UI shows beside the step's name.

        Raises:
            Stopped: an operator aborted the step, or the story was cancelled while it was parked.
            ActivityError: the retries of a step that does not park are used up.
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
                if is_cancelled_exception(error) or not step.parks:
                    raise
                cause = error.cause
                kind = cause.type if isinstance(cause, ApplicationError) and cause.type else type(cause).__name__
                message = cause.message if isinstance(cause, ApplicationError) else str(cause or error)
                ended = await self.park(step.name, kind, message, may_skip=step.when_skipped is not None)
                if ended.decision == "skip" and step.when_skipped is not None:
                    return step.when_skipped

    async def park(self, step: str, kind: str, message: str, *, may_skip: bool = False) -> Unpark:
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
        return decision

    async def ask(self, request: ReviewRequest, *, unless: Callable[[], bool] = lambda: False) -> ReviewEnd | None:
        """Have a person decide, in a review of its own, however long it takes.

        Args:
            request: what is to be decided; its number is set here.
            unless: the review is withdrawn when this comes to hold.

        Returns:
            The decision; None when it was withdrawn.

        Raises:
            Stopped: the story was cancelled meanwhile; the review is withdrawn then.
        """
        kind = KINDS[request.kind]
        while self._stop is None and not unless():
            self._reviews += 1
            answer = await self.child(
                review.WORKFLOW,
                request.model_copy(update={"number": self._reviews}),
                ReviewEnd,
                review_workflow_id(request.kind, request.subject),
                summary=request.title,
                called_off=lambda: self._stop is not None or unless(),
                # Withdrawn with the story that asked.
                parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
                search_attributes=TypedSearchAttributes(
                    [
                        SearchAttributePair(search_attributes.REVIEW_KIND, request.kind.value),
                        SearchAttributePair(search_attributes.REVIEW_PRIORITY, kind.priority.value),
                        SearchAttributePair(search_attributes.REVIEW_DEADLINE, workflow.now() + TERM[kind.priority]),
                    ]
                ),
            )
            if answer is not None and answer.decision != "withdrawn":
                return answer
        if self._stop is not None:
            raise self._stop
        return None

    async def child(
        self,
        name: str,
        request: Model,
        gives: type[O],
        id: str,
        *,
        summary: str,
        called_off: Callable[[], bool] = lambda: False,
        **options: Any,
    ) -> O | None:
        """A child workflow's result; None when it cannot run, or was ended from outside, and may be started again.

        It is cancelled when it is called off, and may end as it likes then.
        """
        try:
            # It has started when this returns. A request to cancel that is sent before may come before the child, is
            # lost then, and the story would wait for the child for good.
            child: workflow.ChildWorkflowHandle[Any, O] = await workflow.start_child_workflow(
                name, request, result_type=gives, id=id, static_summary=summary[:120], **options
            )
            await workflow.wait_condition(lambda: child.done() or called_off())
            if not child.done():
                child.cancel()
            return await child
        except (WorkflowAlreadyStartedError, ChildWorkflowError) as error:
            if not is_cancelled_exception(error):
                # Already there: the child of an earlier run of this story, a reset one, that is only just ending.
                with contextlib.suppress(TimeoutError):
                    await workflow.wait_condition(called_off, timeout=START_AGAIN)
            return None

    def take(self, name: str, check: Callable[[M], None], apply: Callable[[M], object], message: M) -> None:
        """A signal: applied when its update's validator would let it pass, noted as refused otherwise."""
        try:
            check(message)
        except ApplicationError as error:
            self.note_refusal(name, error)
        else:
            apply(message)

    def show(self) -> None:
        """Refresh the current details of the Web UI."""
        raise NotImplementedError

    def accepted(self) -> Accepted:
        """The answer to an operator's decision that was taken."""
        return Accepted()

    def may_abort(self) -> bool:
        """Whether the story may still be ended by an operator."""
        return True

    def note_refusal(self, message: str, error: ApplicationError) -> None:
        """Keep a refused signal visible: it has no caller who could be told."""
        self.keep_refusal(f"{message}: {error.message}")

    def keep_refusal(self, sentence: str) -> None:
        """Keep the last refusals where people look."""
        self._refused = [*self._refused, sentence][-REFUSALS_KEPT:]
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
        self.take("unpark", self.check_unpark, self._decide_parked, decision)

    @workflow.query(description="The step that waits for an operator, if one does")
    def parked(self) -> ParkedState:
        """A look at what is parked."""
        return ParkedState(workflow_id=workflow.info().workflow_id, parked=self._parked)
