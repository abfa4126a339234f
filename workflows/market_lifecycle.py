"""One market from first text to finalised outcome. It may live for a year; it costs nothing while it sleeps."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate
from temporalio.exceptions import ApplicationError

from domain import search_attributes as attributes
from domain import steps
from domain.base import Model
from domain.market import (
    WORKFLOW,
    Accepted,
    CancelRequest,
    CollectRequest,
    DecideRequest,
    Decision,
    Draft,
    DraftRequest,
    FinalizeRequest,
    MarketEnd,
    MarketRequest,
    MarketState,
    Note,
    Outcome,
    Published,
    PublishRequest,
    Rehearsal,
    RehearseRequest,
    RequestChanges,
    Resolution,
    ReviewDecision,
    SettleRequest,
    ValidateRequest,
    Validation,
)
from domain.status import MARKET_MOVES, MarketStatus, move
from domain.verdict import Abstention
from workflows.story import Stopped, Story, refusal

M = TypeVar("M", bound=Model)

SYSTEM = "clotho"
"""Who acted, when a rule of the market did and no person."""


@workflow.defn(name=WORKFLOW)
class MarketLifecycle(Story):
    """Draft, validate, review where needed, publish, trade, resolve, settle, dispute window, finalise."""

    @workflow.init
    def __init__(self, request: MarketRequest) -> None:
        super().__init__()
        self._request = request
        self._status = MarketStatus.DRAFT
        self._stage = "Drafting"
        self._draft: Draft | None = None
        self._round = 0
        self._look_number = 0
        self._rehearsal = Rehearsal()
        self._validation: Validation | None = None
        self._decision: ReviewDecision | RequestChanges | None = None
        self._decided: Decision | None = None
        self._published: Published | None = None
        self._paused: Note | None = None
        self._settling = False
        self._outcome: Outcome | None = None
        self._window_ends: datetime | None = None
        self._reason = ""

    @workflow.run
    async def run(self, request: MarketRequest) -> MarketEnd:
        """The lifecycle; cancelling it in Temporal is the same as the signal `cancel`."""
        order = Note(by="temporal", reason="cancellation was requested in Temporal")
        return await self.live(self._lifecycle(), partial(self.signal_cancel, order))

    async def _lifecycle(self) -> MarketEnd:
        """A person may stop it until the outcome is on its way to the chain."""
        try:
            if await self._make_draft() and await self._pass_validation():
                await self._publish()
                await self._trade()
                await self._settle(await self._resolve())
                await self._dispute_window()
                await self._finalize()
        except Stopped as stop:
            await self._cancel(stop)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return MarketEnd(status=self._status, outcome=self._outcome, address=self._address, reason=self._reason)

    async def _make_draft(self) -> bool:
        result = await self.run_step(steps.DRAFT_MARKET, DraftRequest(market_id=self._id))
        self._draft, self._reason = result.draft, result.refusal
        if self._draft is None:
            self._become(MarketStatus.REJECTED, "Rejected: no market can be made of the text")
        return self._draft is not None

    async def _pass_validation(self) -> bool:
        """Rehearse and validate; a person decides what is flagged, and whatever a person has changed."""
        while True:
            await self._gate("Validating")
            self._round += 1
            version = self._current.rules_sha256
            self._rehearsal = await self.run_step(
                steps.REHEARSE_RULES, RehearseRequest(market_id=self._id, rules_sha256=version)
            )
            self._validation = await self.run_step(
                steps.VALIDATE_MARKET,
                ValidateRequest(market_id=self._id, rules_sha256=version, round=self._round, rehearsal=self._rehearsal),
            )
            in_review = self._status is MarketStatus.PENDING_REVIEW
            if not in_review and self._validation.decision != "needs_human":
                if self._validation.decision == "rejected":
                    self._reason = self._validation.reason
                    self._become(MarketStatus.REJECTED, "Rejected by validation")
                return self._validation.decision == "approved"
            decision = await self._review()
            if decision != "request_changes":
                return decision == "approve"

    async def _review(self) -> Decision:
        self._decision = None
        self._become(MarketStatus.PENDING_REVIEW, "Waiting for a reviewer")
        await workflow.wait_condition(lambda: self._decision is not None or self._stop is not None)
        self._check_stopped()
        decision, made = self._decision, self._decided
        assert decision is not None
        assert made is not None
        new_rules = decision.new_rules_sha256 if isinstance(decision, RequestChanges) else None
        decided = await self.run_step(
            steps.RECORD_DECISION,
            DecideRequest(
                market_id=self._id,
                round=self._round,
                decision=made,
                by=decision.by,
                reason=decision.reason,
                rules_sha256=new_rules or self._current.rules_sha256,
            ),
            summary=f"{made} by {decision.by}",
        )
        self._draft = decided.draft
        if made == "reject":
            self._reason = decision.reason
            self._become(MarketStatus.REJECTED, f"Rejected by {decision.by}")
        return made

    async def _publish(self) -> None:
        await self._gate("Publishing")
        self._published = await self.run_step(
            steps.PUBLISH_MARKET,
            PublishRequest(
                market_id=self._id,
                rules_sha256=self._current.rules_sha256,
                dispute_window_seconds=self._request.dispute_window_seconds,
            ),
        )
        self._become(MarketStatus.ACTIVE, "Trading")

    async def _trade(self) -> None:
        opens = self._current.expiry + timedelta(seconds=self._current.waiting.settle_after)
        await self._sleep_until(opens, f"Trading until {self._current.expiry:%Y-%m-%d %H:%M:%S} UTC")

    async def _resolve(self) -> Resolution:
        """Look at the sources until they decide; what they leave undecided waits or goes to a person."""
        waiting = self._current.waiting
        gives_up = self._current.expiry + timedelta(seconds=waiting.give_up_after)
        look = 0
        while True:
            look += 1
            resolution = await self._look(look)
            if resolution.outcome is not None:
                return resolution
            if resolution.abstention is not Abstention.TOO_EARLY:
                await self._ask_person(resolution.abstention or Abstention.UNSURE, resolution.detail)
            elif workflow.now() < gives_up:
                again = min(workflow.now() + timedelta(seconds=waiting.check_every), gives_up)
                self._become(MarketStatus.RESOLVING, f"Not published yet: {resolution.detail}")
                await self._sleep_until(again, "Waiting for the value to be published")
            elif waiting.then == "void":
                raise Stopped(SYSTEM, f"not published within {waiting.give_up_after} s of expiry")
            else:
                await self._ask_person(Abstention.TOO_EARLY, resolution.detail)

    async def _look(self, look: int) -> Resolution:
        await self._gate("Resolving")
        request = CollectRequest(
            market_id=self._id, rules_sha256=self._current.rules_sha256, look=look, at=workflow.now()
        )
        resolution = await self.run_step(steps.COLLECT_EVIDENCE, request, summary=f"look {look}")
        if resolution.needs_judgement:
            await self._gate("Judging")
            resolution = await self.run_step(steps.JUDGE_CONDITIONS, request, summary=f"look {look}")
        self._look_number = look
        return resolution

    async def _ask_person(self, abstention: Abstention, detail: str) -> None:
        self._become(MarketStatus.RESOLVING, f"Undecided ({abstention}): a person looks again or cancels")
        await self.park("resolution", abstention, detail or "the evidence does not decide the question")

    async def _settle(self, resolution: Resolution) -> None:
        await self._gate("Settling")
        self._settling = True
        assert resolution.outcome is not None
        await self.run_step(
            steps.SETTLE_MARKET,
            SettleRequest(
                market_id=self._id,
                look=self._look_number,
                outcome=resolution.outcome,
                evidence_root=resolution.evidence_root,
            ),
            summary=f"{resolution.outcome}: {resolution.detail}",
        )
        self._outcome, self._reason = resolution.outcome.value, resolution.detail
        assert self._published is not None
        self._window_ends = workflow.now() + timedelta(seconds=self._published.dispute_window_seconds)
        if self._status is MarketStatus.ACTIVE:
            # The database passes through "resolving" as well; the search attribute skips it, to save an action.
            self._status = move(MARKET_MOVES, self._status, MarketStatus.RESOLVING)
        self._become(MarketStatus.RESOLVED, f"Resolved {self._outcome}, open to dispute")

    async def _dispute_window(self) -> None:
        assert self._window_ends is not None
        await self._sleep_until(self._window_ends, f"Dispute window until {self._window_ends:%Y-%m-%d %H:%M:%S} UTC")

    async def _finalize(self) -> None:
        await self._gate("Finalising")
        await self.run_step(steps.FINALIZE_MARKET, FinalizeRequest(market_id=self._id))
        self._become(MarketStatus.FINALIZED, f"Finalised {self._outcome}")

    async def _cancel(self, stop: Stopped) -> None:
        self._stop, self._settling = None, True
        self._stage = "Canceling"
        canceled = await self.run_step(
            steps.CANCEL_MARKET,
            CancelRequest(market_id=self._id, by=stop.by, reason=stop.reason),
            summary=f"by {stop.by}: {stop.reason}",
        )
        self._outcome = "VOID" if canceled.signature else None
        self._reason = f"canceled by {stop.by}: {stop.reason}"
        self._become(MarketStatus.CANCELED, "Canceled")

    # Waiting, pausing, stopping.

    async def _gate(self, stage: str) -> None:
        """Before a stage: end if told to, wait while paused."""
        self._check_stopped()
        if self._paused is not None:
            self.show()
            await workflow.wait_condition(lambda: self._paused is None or self._stop is not None)
            self._check_stopped()
        self._stage = stage
        self.show()

    def _check_stopped(self) -> None:
        if self._stop is not None:
            raise self._stop

    async def _sleep_until(self, moment: datetime, why: str) -> None:
        self._stage = why
        self.show()
        remaining = moment - workflow.now()
        if remaining > timedelta(0):
            try:
                await workflow.wait_condition(
                    lambda: self._stop is not None, timeout=remaining, timeout_summary=why[:200]
                )
            except TimeoutError:
                return
            self._check_stopped()

    # What it shows.

    @property
    def _id(self) -> UUID:
        return self._request.market_id

    @property
    def _current(self) -> Draft:
        assert self._draft is not None, "the stages after drafting run on a draft"
        return self._draft

    @property
    def _address(self) -> str | None:
        return self._published.address if self._published else None

    def _become(self, status: MarketStatus, stage: str) -> None:
        """Change status and stage; search attributes only when they change, since each change is billed."""
        if status is not self._status:
            self._status = move(MARKET_MOVES, self._status, status)
            changed: list[SearchAttributeUpdate[Any]] = [attributes.MARKET_STATUS.value_set(status.value)]
            if status is MarketStatus.ACTIVE:
                changed.append(attributes.MARKET_CATEGORY.value_set(self._current.category.value))
                changed.append(attributes.AI_VERSION.value_set(self._current.ai_version))
                changed.append(attributes.EXPIRY.value_set(self._current.expiry))
            workflow.upsert_search_attributes(changed)
        self._stage = stage
        self.show()

    def show(self) -> None:
        """Current details for the Web UI: title, status, what it waits for, and what an operator can do."""
        lines = [f"### {self._draft.title if self._draft else self._id}", f"**{self._status}**: {self._stage}"]
        if self._paused is not None:
            lines.append(f"**Paused** by {self._paused.by}: {self._paused.reason}")
        if self._parked is not None:
            lines.append(f"**Parked** at `{self._parked.step}` ({self._parked.kind}): {self._parked.message}")
            lines.append(f"`clotho parked retry {self._id}`")
        elif self._status is MarketStatus.PENDING_REVIEW and self._validation is not None:
            lines.append(f"{self._validation.reason}")
            lines.extend(f"- `{issue.field}` {issue.message}" for issue in self._validation.issues)
            lines.append(f"`clotho review approve {self._id} --reason …` or `reject`, `request-changes`")
        if self._published is not None:
            lines.append(f"On chain at `{self._published.address}`")
        lines.extend(f"Refused signal: {refused}" for refused in self._refused)
        workflow.set_current_details("\n\n".join(lines))

    @workflow.query(description="Status, stage, what it waits for, outcome")
    def state(self) -> MarketState:
        """A look at the lifecycle."""
        return MarketState(
            market_id=self._id,
            status=self._status,
            stage=self._stage,
            title=self._draft.title if self._draft else "",
            rules_sha256=self._draft.rules_sha256 if self._draft else None,
            ai_version=self._draft.ai_version if self._draft else "",
            expiry=self._draft.expiry if self._draft else None,
            address=self._address,
            paused=self._paused is not None,
            parked=self._parked,
            validation=self._validation,
            outcome=self._outcome,
            window_ends=self._window_ends,
            refused=tuple(self._refused),
        )

    def accepted(self) -> Accepted:
        """The answer to a message that was taken."""
        return Accepted(status=self._status)

    def may_abort(self) -> bool:
        """Until the outcome is on its way to the chain."""
        return not self._settling

    # What people tell it: updates for an answer, signals of the same names for the Web UI's buttons.

    def _take(self, name: str, check: Callable[[M], None], apply: Callable[[M], object], message: M) -> None:
        """A signal: applied when its update's validator would let it pass, noted as refused otherwise."""
        try:
            check(message)
        except ApplicationError as error:
            self.note_refusal(name, error)
        else:
            apply(message)

    def _decide(self, decision: ReviewDecision | RequestChanges, made: Decision) -> Accepted:
        self._decision, self._decided = decision, made
        return self.accepted()

    def _check_review(self, rules_sha256: str | None) -> None:
        if self._status is not MarketStatus.PENDING_REVIEW or self._decision is not None:
            raise refusal(f"the market is {self._status} and waits for no decision now")
        if rules_sha256 is not None and rules_sha256 != self._current.rules_sha256:
            raise refusal("the draft was changed since you looked at it")

    @workflow.update(name="approve", description="Approve the draft under review")
    def update_approve(self, decision: ReviewDecision) -> Accepted:
        """Take an approval."""
        return self._decide(decision, "approve")

    @update_approve.validator
    def check_approve(self, decision: ReviewDecision) -> None:
        """Refuse what cannot be published: a failed rehearsal, an expiry that has passed."""
        self._check_review(decision.rules_sha256)
        if self._rehearsal.blocking:
            raise refusal(f"the rehearsal failed, so the rules must change: {self._rehearsal.blocking[0].message}")
        if self._current.expiry <= workflow.now():
            raise refusal("the expiry has passed, so the rules must change or the draft be rejected")

    @workflow.signal(name="approve", description="Approve the draft under review")
    def signal_approve(self, decision: ReviewDecision) -> None:
        """The same as a plain signal."""
        self._take("approve", self.check_approve, partial(self._decide, made="approve"), decision)

    @workflow.update(name="reject", description="Reject the draft under review")
    def update_reject(self, decision: ReviewDecision) -> Accepted:
        """Take a rejection."""
        return self._decide(decision, "reject")

    @update_reject.validator
    def check_reject(self, decision: ReviewDecision) -> None:
        """Refuse a decision about nothing, or about another version."""
        self._check_review(decision.rules_sha256)

    @workflow.signal(name="reject", description="Reject the draft under review")
    def signal_reject(self, decision: ReviewDecision) -> None:
        """The same as a plain signal."""
        self._take("reject", self.check_reject, partial(self._decide, made="reject"), decision)

    @workflow.update(name="request_changes", description="Replace the rules under review; they are validated again")
    def update_request_changes(self, changes: RequestChanges) -> Accepted:
        """Take changed rules."""
        return self._decide(changes, "request_changes")

    @update_request_changes.validator
    def check_request_changes(self, changes: RequestChanges) -> None:
        """Refuse a decision about nothing, or about another version."""
        self._check_review(changes.rules_sha256)

    @workflow.signal(name="request_changes", description="Replace the rules under review; they are validated again")
    def signal_request_changes(self, changes: RequestChanges) -> None:
        """The same as a plain signal."""
        self._take(
            "request_changes", self.check_request_changes, partial(self._decide, made="request_changes"), changes
        )

    def _stop_by(self, note: Note) -> Accepted:
        self._stop = Stopped(note.by, note.reason)
        return self.accepted()

    @workflow.update(name="cancel", description="Cancel the market; VOID when it is published")
    def update_cancel(self, note: Note) -> Accepted:
        """Take a cancellation."""
        return self._stop_by(note)

    @update_cancel.validator
    def check_cancel(self, note: Note) -> None:
        """Refuse once the outcome is on its way to the chain, or the market is being cancelled."""
        if self._settling or self._stop is not None or not MARKET_MOVES[self._status]:
            raise refusal(f"the market is {self._status} and can no longer be canceled")

    @workflow.signal(name="cancel", description="Cancel the market; VOID when it is published")
    def signal_cancel(self, note: Note) -> None:
        """The same as a plain signal."""
        self._take("cancel", self.check_cancel, self._stop_by, note)

    def _pause_by(self, note: Note | None) -> Accepted:
        self._paused = note
        self.show()
        return self.accepted()

    @workflow.update(name="pause", description="Hold the market before its next stage")
    def update_pause(self, note: Note) -> Accepted:
        """Take a pause."""
        return self._pause_by(note)

    @update_pause.validator
    def check_pause(self, note: Note) -> None:
        """Refuse when it is paused or at its end."""
        if self._paused is not None or not MARKET_MOVES[self._status]:
            raise refusal("the market is paused already" if self._paused else f"the market is {self._status}")

    @workflow.signal(name="pause", description="Hold the market before its next stage")
    def signal_pause(self, note: Note) -> None:
        """The same as a plain signal."""
        self._take("pause", self.check_pause, self._pause_by, note)

    @workflow.update(name="resume", description="Let a paused market go on")
    def update_resume(self, note: Note) -> Accepted:
        """Take the end of a pause."""
        return self._pause_by(None)

    @update_resume.validator
    def check_resume(self, note: Note) -> None:
        """Refuse when it is not paused."""
        if self._paused is None:
            raise refusal("the market is not paused")

    @workflow.signal(name="resume", description="Let a paused market go on")
    def signal_resume(self, note: Note) -> None:
        """The same as a plain signal."""
        self._take("resume", self.check_resume, lambda _: self._pause_by(None), note)
