"""The follow-ups of one lead: a message some time after it was scored, and another, unless it has an outcome before."""

from datetime import datetime, timedelta

from temporalio import workflow

from domain import follow_up, steps
from domain.follow_up import Ending, FollowUpEnd, FollowUpRequest, OutcomeTold, SendRequest
from workflows.story import Stopped, Story

SYSTEM = "temporal"
"""Who acted, when somebody cancelled the workflow itself."""


@workflow.defn(name=follow_up.WORKFLOW)
class FollowUp(Story):
    """Knows the lead's id and nothing else of it: where and with what words it is reached is in Postgres."""

    @workflow.init
    def __init__(self, request: FollowUpRequest) -> None:
        super().__init__()
        self._messages: list[Ending] = []
        self._waits = ""

    @workflow.run
    async def run(self, request: FollowUpRequest) -> FollowUpEnd:
        """The messages one after the other; an outcome, or cancelling it in Temporal, ends them."""
        return await self.live(self._follow_up(request), self._cancel)

    async def _follow_up(self, request: FollowUpRequest) -> FollowUpEnd:
        start, late = workflow.now(), timedelta(0)
        stopped = ""
        try:
            for number, delay in enumerate(request.delays, 1):
                due = start + timedelta(seconds=delay)
                # A message that went late puts off the next one: two at once would be one too many.
                self._messages.append(await self._message(request.lead_id, number, due + late))
                if self._messages[-1] == "stopped":
                    stopped = "the lead has an outcome"
                    break
                if self._messages[-1] != "missed":
                    late = workflow.now() - due
        except Stopped as stop:
            stopped = str(stop)
        self.show()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return FollowUpEnd(messages=tuple(self._messages), stopped=stopped)

    async def _message(self, lead_id: str, number: int, due: datetime) -> Ending:
        """Send one message once it is due, at as many tries as it takes; returns how it ended."""
        when: datetime | None = due
        while when is not None:
            await self._wait_until(when)
            request = SendRequest(lead_id=lead_id, number=number, due=due, at=workflow.now())
            result = await self.run_step(steps.SEND_FOLLOW_UP, request, summary=f"Message {number}")
            if result.status != "waits":
                return result.status
            when, self._waits = result.again, result.reason
            self.show()
        raise AssertionError("what waits says until when")

    async def _wait_until(self, when: datetime) -> None:
        """Raises Stopped as soon as there is an outcome."""
        wait = max(when - workflow.now(), timedelta(0))
        try:
            await workflow.wait_condition(lambda: self._stop is not None, timeout=wait)
        except TimeoutError:
            return
        assert self._stop is not None
        raise self._stop

    @workflow.signal(name="outcome", description="The lead has an outcome: no message follows")
    def signal_outcome(self, told: OutcomeTold) -> None:
        """Take the fact; the first one counts."""
        self._stop = self._stop or Stopped(SYSTEM, f"the lead is {told.outcome}")

    def _cancel(self) -> None:
        self._stop = self._stop or Stopped(SYSTEM, "cancellation was requested in Temporal")

    def show(self) -> None:
        """Current details for the Web UI."""
        lines = [f"Message {number}: {ending}" for number, ending in enumerate(self._messages, 1)]
        if self._parked is not None:
            lines.append(f"**Parked** at `{self._parked.step}` ({self._parked.kind}): {self._parked.message}")
        elif self._stop is not None:
            lines.append(f"**Stopped**: {self._stop}")
        elif self._waits:
            lines.append(self._waits)
        lines.extend(f"Refused: {refused}" for refused in self._refused)
        workflow.set_current_details("\n\n".join(lines))
