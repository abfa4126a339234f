"""One PII run: a pass over everything, then passes that verify, until one finds nothing or a person leaves it so."""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from domain import pii, steps
from domain.market import Accepted, Unpark
from domain.pii import (
    PASSES,
    BackfillEnd,
    BackfillRequest,
    BackfillState,
    BeginRequest,
    EndRequest,
    Pace,
    PartEnd,
    PartRequest,
    PassRequest,
    SetRate,
    Status,
    Tally,
    Terms,
)
from domain.review import ReviewKind, ReviewRequest
from domain.steps import START_AGAIN, Step
from workflows.steering import Steered
from workflows.story import Stopped, refusal

SYSTEM = "temporal"
"""Who acted, when somebody cancelled the workflow itself."""


@workflow.defn(name=pii.WORKFLOW)
class PiiBackfill(Steered):
    """A dry run unless told to execute. How far a pass is stands in Postgres, where a killed worker's work goes on."""

    @workflow.init
    def __init__(self, request: BackfillRequest) -> None:
        super().__init__("Beginning")
        self._request = request
        self._name = workflow.info().workflow_id
        self._rate = request.rate
        self._told = Pace(run=self._name, rate=request.rate, halted=False)
        self._terms = Terms(approval=False, columns=())
        self._number = 0
        self._parts = self._parts_done = 0
        self._tallies: list[Tally] = []
        self._parking: asyncio.Task[Unpark] | None = None
        self._closing = False
        self._end: BackfillEnd | None = None

    @workflow.run
    async def run(self, request: BackfillRequest) -> BackfillEnd:
        """The run; cancelling it in Temporal stops it, and what was redacted stays redacted."""
        return await self.live(self._backfill(), self._cancel)

    async def _backfill(self) -> BackfillEnd:
        pacing = asyncio.create_task(self._keep_pace())
        try:
            begin = BeginRequest(run=self._name, backfill=self._request)
            self._terms = await self.run_step(steps.BEGIN_PII_RUN, begin)
            status, by, reason = await self._passes()
        except Stopped as stop:
            status, by, reason = "stopped", stop.by, str(stop)
        self._closing = True
        pacing.cancel()
        end = EndRequest(run=self._name, status=status, passes=self._number, by=by, reason=reason[:500])
        self._end = await self.run_step(steps.END_PII_RUN, end, summary=reason)
        self.show()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._end

    async def _passes(self) -> tuple[Status, str, str]:
        """All passes; how the run ended, on whose word, and why."""
        by = self._request.by
        if self._request.execute and self._terms.approval:
            found = await self._pass(0, execute=False)
            refused = await self._ask(f"{_found(found)}, and are to be redacted")
            if refused is not None:
                return "rejected", *refused
        first = await self._pass(1, execute=self._request.execute)
        if not self._request.execute:
            return "reported", by, _found(first)
        number = 1
        while True:
            number += 1
            left = await self._pass(number, execute=True)
            if not left.changed:
                return "clean", by, f"{_found(first)}; verified by another pass, which found none"
            if number % PASSES == 0:
                refused = await self._ask(f"after {number} passes {_found(left)}: approve to go over it once more")
                if refused is not None:
                    return "leftovers", *refused

    async def _pass(self, number: int, *, execute: bool) -> Tally:
        """Go over everything once, all parts at a time."""
        parts: list[tuple[Step[PartRequest, PartEnd], str]] = [
            (steps.SCRUB_MEMORY, f"memory:{shard}") for shard in range(self._terms.shards)
        ]
        parts += [(steps.SCRUB_COLUMN, f"column:{column}") for column in self._terms.columns]
        self._number, self._parts, self._parts_done = number, len(parts), 0
        self._stage = f"Pass {number}" + ("" if execute else ", dry") + (", verifying" if number > 1 else "")
        self.show()
        requests = [
            (step, PartRequest(run=self._name, number=number, part=part, shards=self._terms.shards, execute=execute))
            for step, part in parts
        ]
        # All come to their end, so that none goes on unseen when the run is stopped.
        ends = await asyncio.gather(*(self._part(step, one) for step, one in requests), return_exceptions=True)
        for failed in ends:
            if failed is not None:
                raise failed
        tally = await self.run_step(steps.TALLY_PII_PASS, PassRequest(run=self._name, number=number))
        self._tallies.append(tally)
        return tally

    async def _part(self, step: Step[PartRequest, PartEnd], request: PartRequest) -> None:
        """One part to its end: it returns when it is halted, and for a breath after each hour."""
        while True:
            await self.gate(self._stage)
            await workflow.wait_condition(lambda: not self._told.halted or self._stop is not None)
            self.check_stopped()
            try:
                end = await self.run_step(step, request, summary=f"pass {request.number}, {request.part}")
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                await self._wait_for_operator(step.name, error)
                continue
            if end.done:
                self._parts_done += 1
                self.show()
                return

    async def _wait_for_operator(self, step: str, error: ActivityError) -> None:
        """Park, once for all parts that failed together: what one misses, the others miss too."""
        if self._parking is None or self._parking.done():
            cause = error.cause
            kind = cause.type if isinstance(cause, ApplicationError) and cause.type else type(cause).__name__
            message = cause.message if isinstance(cause, ApplicationError) else str(cause or error)
            self._parking = asyncio.create_task(self.park(step, kind, message))
        try:
            await self._parking
        except Stopped as stop:
            self._stop = stop
            raise

    async def _ask(self, why: str) -> tuple[str, str] | None:
        """Ask a person; None when approved, else who rejected it and why."""
        answer = await self.ask(
            ReviewRequest(
                kind=ReviewKind.PII_RUN,
                subject=self._name.replace(":", ""),
                title=f"Redact PII: {self._name}",
                why=f"{why}: see `clotho pii report {self._name}`",
                proposer=self._request.by,
            )
        )
        assert answer is not None, "it is withdrawn only when the run is stopped"
        return None if answer.decision == "approve" else (answer.by, answer.reason)

    # How it is steered.

    @property
    def _wanted(self) -> Pace:
        return Pace(run=self._name, rate=self._rate, halted=self._paused is not None or self._stop is not None)

    async def _keep_pace(self) -> None:
        """Tell the parts, by way of Postgres, how fast to go, whenever somebody has changed it."""
        while True:
            await workflow.wait_condition(lambda: self._wanted != self._told)
            try:
                self._told = await self.run_step(steps.PACE_PII_RUN, self._wanted)
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                await workflow.sleep(START_AGAIN)

    def _cancel(self) -> None:
        if self.may_abort() and self._stop is None:
            self._stop = Stopped(SYSTEM, "cancellation was requested in Temporal")

    def may_abort(self) -> bool:
        """Until its end is being recorded."""
        return not self._closing

    @property
    def ended(self) -> bool:
        """Whether nothing is left to steer."""
        return self._closing

    def standing(self) -> str:
        """Where it stands, for whoever is refused."""
        return f"the run is {self._end.status}" if self._end is not None else "the run is ending"

    def _set_rate(self, wanted: SetRate) -> Accepted:
        self._rate = wanted.rate
        self.show()
        return self.accepted()

    @workflow.update(name="set_rate", description="Go on at another rate: keys a second, null for as fast as it goes")
    def update_set_rate(self, wanted: SetRate) -> Accepted:
        """Take another rate."""
        return self._set_rate(wanted)

    @update_set_rate.validator
    def check_set_rate(self, wanted: SetRate) -> None:
        """Refuse when nothing goes on."""
        if self._closing:
            raise refusal(self.standing())

    @workflow.signal(name="set_rate", description="Go on at another rate: keys a second, null for as fast as it goes")
    def signal_set_rate(self, wanted: SetRate) -> None:
        """The same as a plain signal."""
        self.take("set_rate", self.check_set_rate, self._set_rate, wanted)

    @workflow.query(description="How far it is")
    def state(self) -> BackfillState:
        """A look at the run."""
        return BackfillState(
            run=self._name,
            backfill=self._request,
            stage=self._stage,
            number=self._number,
            parts=self._parts,
            parts_done=self._parts_done,
            paused=self._paused is not None,
            rate=self._rate,
            tallies=tuple(self._tallies),
            ended=self._end,
            refused=tuple(self._refused),
        )

    def show(self) -> None:
        """Current details for the Web UI."""
        lines = [f"### PII run{'' if self._request.execute else ', dry'}", self._stage]
        if self._parts:
            lines.append(f"{self._parts_done} of {self._parts} parts done")
        if self._paused is not None:
            lines.append(f"**Paused** by {self._paused.by}: {self._paused.reason}")
        if self._parked is not None:
            lines.append(f"**Parked** at `{self._parked.step}` ({self._parked.kind}): {self._parked.message}")
        lines.extend(f"Pass: {_found(tally)}" for tally in self._tallies)
        if self._end is not None:
            lines.append(f"**{self._end.status}**: {self._end.reason}")
        lines.extend(f"Refused: {refused}" for refused in self._refused)
        workflow.set_current_details("\n\n".join(lines))


def _found(tally: Tally) -> str:
    left = (
        f", {tally.malformed} malformed and {tally.wrong_type} of a wrong type"
        if tally.malformed or tally.wrong_type
        else ""
    )
    return f"{tally.changed} of {tally.items} items in {tally.places} places held PII{left}"
