"""One market from first text to finalised outcome. It may live for a year; it costs nothing while it sleeps."""

import asyncio
import contextlib
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast
from uuid import UUID

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate

from domain import dispute, errors, steps
from domain import search_attributes as attributes
from domain.dispute import (
    AdmitRequest,
    CloseRequest,
    DisputeAdmitted,
    DisputeEnd,
    DisputeRequest,
    DisputeSubmission,
    Opinion,
)
from domain.ids import dispute_workflow_id
from domain.market import (
    WORKFLOW,
    Accepted,
    CancelRequest,
    CollectRequest,
    DecideRequest,
    Draft,
    DraftDecision,
    DraftRequest,
    FinalizeRequest,
    HandResolution,
    MarketEnd,
    MarketRequest,
    MarketState,
    Note,
    Order,
    OrderRequest,
    Outcome,
    Published,
    PublishRequest,
    Rehearsal,
    RehearseRequest,
    Resolution,
    SettleRequest,
    Unpark,
    ValidateRequest,
    Validation,
)
from domain.review import ReviewEnd, ReviewKind, ReviewRequest
from domain.rules import Answer
from domain.status import MARKET_MOVES, MarketStatus, move
from domain.verdict import Abstention
from workflows.review_in_place import ReviewInPlace
from workflows.story import Stopped, refusal

DRAFT_REVIEW = "draft-review-is-a-workflow"
"""Patch of 0.2 (2026-11-22): a draft's review is a workflow of its own. Drop it with workflows/review_in_place.py."""

RESOLUTION_REVIEW = "undecided-resolution-is-reviewed"
"""Patch of 0.2 (2026-11-22): what the sources leave undecided is reviewed, where 0.1 parked it. Drop it when no open
lifecycle is older than 0.2."""

ORDERS_RECORDED = "pauses-and-second-looks-are-audited"
"""Patch of 0.2 (2026-11-22): what somebody orders of a market is recorded. Drop it when no open lifecycle is older than
0.2."""

SYSTEM = "clotho"
"""Who acted, when a rule of the market did and no person."""


class ResolvedByHand(Exception):
    """A person has decided while a step was parked."""

    def __init__(self, answer: ReviewEnd) -> None:
        super().__init__(answer.reason)
        self.answer = answer


@workflow.defn(name=WORKFLOW)
class MarketLifecycle(ReviewInPlace):
    """Draft, validate, review where needed, publish, trade, resolve, settle, dispute window, finalise."""

    @workflow.init
    def __init__(self, request: MarketRequest) -> None:
        super().__init__("Drafting")
        self._request = request
        self._status = MarketStatus.DRAFT
        self._draft: Draft | None = None
        self._round = 0
        self._look_number = 0
        self._orders = 0
        self._rehearsal = Rehearsal()
        self._validation: Validation | None = None
        self._published: Published | None = None
        self._settling = False
        self._outcome: Outcome | None = None
        self._rechecks = 0
        self._window_ends: datetime | None = None
        self._fresh_window_used = False
        self._admitting = 0
        self._one_at_a_time = asyncio.Lock()
        self._disputes: dict[UUID, Answer] = {}
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
            matched = f"Matched: the open market {result.matched} asks the same"
            self._become(
                MarketStatus.REJECTED, matched if result.matched else "Rejected: no market can be made of the text"
            )
        return self._draft is not None

    async def _pass_validation(self) -> bool:
        """Rehearse and validate; a person decides what is flagged, and whatever a person has changed."""
        while True:
            await self.gate("Validating")
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

    async def _review(self) -> DraftDecision:
        self._become(MarketStatus.PENDING_REVIEW, "Waiting for a reviewer")
        answer = await self._decision_of_reviewer()
        decision = cast(DraftDecision, answer.decision)  # the kind's table lets no other pass
        decided = await self.run_step(
            steps.RECORD_DECISION,
            DecideRequest(
                market_id=self._id,
                round=self._round,
                decision=decision,
                by=answer.by,
                reason=answer.reason,
                rules_sha256=answer.changed or self._current.rules_sha256,
                code=answer.code,
            ),
            summary=f"{decision} by {answer.by}",
        )
        self._draft = decided.draft
        if decision == "reject":
            self._reason = answer.reason
            self._become(MarketStatus.REJECTED, f"Rejected by {answer.by}")
        return decision

    async def _decision_of_reviewer(self) -> ReviewEnd:
        blocked = self._rehearsal.blocking[0].message if self._rehearsal.blocking else ""
        if workflow.patched(DRAFT_REVIEW):
            answer = await self.ask(
                ReviewRequest(
                    kind=ReviewKind.DRAFT,
                    subject=str(self._id),
                    market_id=self._id,
                    title=self._current.title,
                    why=self._validation.reason[:500] if self._validation else "",
                    version=self._current.rules_sha256,
                    blocked=f"the rehearsal failed: {blocked}"[:400] if blocked else "",
                    decide_before=self._current.expiry,
                )
            )
        else:
            answer = await self.review_in_place(self._current, blocked)
            self.check_stopped()
        assert answer is not None, "withdrawn only when the market is stopped"
        return answer

    async def _publish(self) -> None:
        await self.gate("Publishing")
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
        await self.sleep_until(opens, f"Trading until {self._current.expiry:%Y-%m-%d %H:%M:%S} UTC")

    async def _resolve(self) -> Resolution:
        """Look at the sources until they decide; what they leave undecided waits or goes to a person."""
        waiting = self._current.waiting
        gives_up = self._current.expiry + timedelta(seconds=waiting.give_up_after)
        while True:
            self._look_number += 1
            try:
                resolution = await self._look(self._look_number)
                if resolution.outcome is None and resolution.abstention is not Abstention.TOO_EARLY:
                    await self._ask_person(resolution.abstention or Abstention.UNSURE, resolution.detail)
                    continue
                if resolution.outcome is None and workflow.now() >= gives_up and waiting.then == "review":
                    await self._ask_person(Abstention.TOO_EARLY, resolution.detail)
                    continue
            except ResolvedByHand as decided:
                return await self._resolve_by_hand(decided.answer)
            if resolution.outcome is not None:
                return resolution
            if workflow.now() >= gives_up:
                raise Stopped(SYSTEM, f"not published within {waiting.give_up_after} s of expiry")
            again = min(workflow.now() + timedelta(seconds=waiting.check_every), gives_up)
            self._become(MarketStatus.RESOLVING, f"Not published yet: {resolution.detail}")
            await self.sleep_until(again, "Waiting for the value to be published")

    async def _look(self, look: int) -> Resolution:
        await self.gate("Resolving")
        request = CollectRequest(
            market_id=self._id, rules_sha256=self._current.rules_sha256, look=look, at=workflow.now()
        )
        resolution = await self.run_step(steps.COLLECT_EVIDENCE, request, summary=f"look {look}")
        if resolution.needs_judgement:
            await self.gate("Judging")
            resolution = await self.run_step(steps.JUDGE_CONDITIONS, request, summary=f"look {look}")
        return resolution

    async def _ask_person(self, abstention: Abstention, detail: str) -> None:
        """Returns when the sources are to be looked at again.

        Raises:
            ResolvedByHand: the person has named the outcome.
        """
        why = detail or "the evidence does not decide the question"
        if not workflow.patched(RESOLUTION_REVIEW):
            self._become(MarketStatus.RESOLVING, f"Undecided ({abstention}): a person looks again or cancels")
            await self.park("resolution", abstention, why)
            return
        self._become(MarketStatus.RESOLVING, f"Undecided ({abstention}): waiting for a reviewer")
        await self._resolved_or_looked_again(await self.ask(self._undecided(f"{abstention}: {why}")))

    async def park(self, step: str, kind: str, message: str, *, may_skip: bool = False) -> Unpark:
        """A source that gives nothing parks the market, and a reviewer may look at what the others gave and decide.

        Who skips a step is recorded.

        Raises:
            ResolvedByHand: the reviewer has named the outcome.
            Stopped: the market expired before it was published, which nobody can mend.
        """
        if kind == errors.MARKET_EXPIRED.type:
            raise Stopped(SYSTEM, "it expired before it was published")
        parked = super().park(step, kind, message, may_skip=may_skip)
        if step != steps.COLLECT_EVIDENCE.name or not workflow.patched(RESOLUTION_REVIEW):
            ended = await parked
            if ended.decision == "skip":
                await self._record_order("step_skipped", ended.by, f"{step}: {ended.reason}"[:500])
            return ended
        parking = asyncio.create_task(parked)
        request = self._undecided(f"{Abstention.UNAVAILABLE}: {message}")
        asked = asyncio.create_task(self.ask(request, unless=parking.done))
        await workflow.wait([parking, asked], return_when=asyncio.FIRST_COMPLETED)
        if not parking.done():
            self._unpark = Unpark(decision="retry", by=SYSTEM, reason="a reviewer has answered")
        await workflow.wait([parking, asked])
        ended, answer = await asyncio.gather(parking, asked)
        await self._resolved_or_looked_again(answer)
        return ended

    async def _resolved_or_looked_again(self, answer: ReviewEnd | None) -> None:
        if answer is not None and answer.decision == "resolve":
            raise ResolvedByHand(answer)
        if answer is not None:
            await self._record_order("resolution_look_again", answer.by, answer.reason)

    async def gate(self, stage: str) -> None:
        """A pause that holds the market is recorded, and who ended it."""
        held = self._paused
        if held is not None and self._stop is None:
            await self._record_order("market_paused", held.by, held.reason)
        await super().gate(stage)
        if held is not None and self._resumed is not None:
            await self._record_order("market_resumed", self._resumed.by, self._resumed.reason)

    async def _record_order(self, order: Order, by: str, reason: str) -> None:
        if workflow.patched(ORDERS_RECORDED):
            self._orders += 1
            request = OrderRequest(market_id=self._id, number=self._orders, order=order, by=by, reason=reason)
            await self.run_step(steps.RECORD_ORDER, request, summary=f"{order} by {by}")

    def _undecided(self, why: str) -> ReviewRequest:
        return ReviewRequest(
            kind=ReviewKind.RESOLUTION,
            subject=str(self._id),
            market_id=self._id,
            title=self._current.title,
            why=why[:500],
            version=self._current.rules_sha256,
        )

    async def _resolve_by_hand(self, answer: ReviewEnd) -> Resolution:
        if answer.outcome == "VOID":
            raise Stopped(answer.by, answer.reason)
        return await self.run_step(
            steps.RESOLVE_BY_HAND,
            HandResolution(
                market_id=self._id,
                rules_sha256=self._current.rules_sha256,
                look=self._look_number,
                outcome=Answer(answer.outcome or ""),
                by=answer.by,
                reason=answer.reason,
            ),
            summary=f"{answer.outcome} by {answer.by}",
        )

    async def _settle(self, resolution: Resolution) -> None:
        await self.gate("Settling")
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
        self._open_window()
        if self._status is MarketStatus.ACTIVE:
            # The database passes through "resolving" as well; the search attribute skips it, to save an action.
            self._status = move(MARKET_MOVES, self._status, MarketStatus.RESOLVING)
        self._become(MarketStatus.RESOLVED, f"Resolved {self._outcome}, open to dispute")

    def _open_window(self) -> None:
        assert self._published is not None
        self._window_ends = workflow.now() + timedelta(seconds=self._published.dispute_window_seconds)

    async def _dispute_window(self) -> None:
        """Open to dispute until the window is over, no dispute is open, and none is being admitted."""
        while True:
            assert self._window_ends is not None
            self._stage = f"Dispute window until {self._window_ends:%Y-%m-%d %H:%M:%S} UTC"
            self.show()
            remaining = self._window_ends - workflow.now()
            if remaining > timedelta(0):
                with contextlib.suppress(TimeoutError):
                    await workflow.wait_condition(
                        lambda: bool(self._disputes), timeout=remaining, timeout_summary=self._stage[:200]
                    )
            await workflow.wait_condition(lambda: bool(self._disputes) or not self._admitting)
            if not self._disputes:
                return
            await self._close_dispute(*next(iter(self._disputes.items())))

    async def _close_dispute(self, dispute_id: UUID, disputed: Answer) -> None:
        """Have one dispute decided; the others wait, so that no two decide about the outcome at once."""
        self._stage = f"Disputed: {dispute_id}"
        self.show()
        self._rechecks += 1
        request = DisputeRequest(
            dispute_id=dispute_id,
            market_id=self._id,
            title=self._current.title,
            rules_sha256=self._current.rules_sha256,
            look=self._look_number,
            recheck=self._look_number + self._rechecks,
            outcome=disputed,
        )
        end = await (self._review_dispute(request) if disputed == self._outcome else self._already_overturned(request))
        del self._disputes[dispute_id]
        if end.status == "overturned" and end.outcome != self._outcome:
            self._outcome, self._reason = end.outcome.value, end.reason
            self._look_number, self._rechecks = end.look, 0
            if not self._fresh_window_used:
                self._fresh_window_used = True
                self._open_window()
        if not self._disputes:
            self._become(MarketStatus.RESOLVED, f"Resolved {self._outcome}, open to dispute")

    async def _review_dispute(self, request: DisputeRequest) -> DisputeEnd:
        """Again when somebody ended the review from outside: a dispute ends with an answer."""
        while True:
            end = await self.child(
                dispute.WORKFLOW,
                request,
                DisputeEnd,
                dispute_workflow_id(request.dispute_id),
                summary=request.title,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            )
            if end is not None:
                return end

    async def _already_overturned(self, request: DisputeRequest) -> DisputeEnd:
        """Another dispute has won against the same outcome: nothing is left to review."""
        opinion = Opinion(
            verdict="overturned",
            outcome=Answer(self._outcome or ""),
            confidence=1.0,
            reason="another dispute has overturned the same outcome",
            by=SYSTEM,
        )
        close = CloseRequest(dispute=request, opinion=opinion, evidence_root=None)
        async with self._one_at_a_time:
            return await self.run_step(steps.CLOSE_DISPUTE, close)

    async def _finalize(self) -> None:
        await self.gate("Finalising")
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
            lines.append(f"`clotho review show {self._id}`")
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
            disputes=tuple(self._disputes),
            refused=tuple(self._refused),
        )

    def accepted(self) -> Accepted:
        """The answer to a message that was taken."""
        return Accepted(status=self._status)

    def may_abort(self) -> bool:
        """Until the outcome is on its way to the chain."""
        return not self._settling and not self.ended

    @property
    def ended(self) -> bool:
        """Whether its status is a last one."""
        return not MARKET_MOVES[self._status]

    def standing(self) -> str:
        """Where it stands, in words."""
        return f"the market is {self._status}"

    @workflow.update(name="dispute", description="Contest the outcome; the dispute is stored in Postgres before")
    async def update_dispute(self, submission: DisputeSubmission) -> DisputeAdmitted:
        """Admit a dispute, or say why not; the market is not finalised while that is being found out."""
        self._admitting += 1
        try:
            async with self._one_at_a_time:
                if submission.dispute_id in self._disputes:
                    return DisputeAdmitted(dispute_id=submission.dispute_id, known=True)
                outcome = Answer(self._outcome or "")
                request = AdmitRequest(
                    dispute_id=submission.dispute_id, market_id=self._id, look=self._look_number, outcome=outcome
                )
                admission = await self.run_step(steps.ADMIT_DISPUTE, request, summary=str(submission.dispute_id))
                if admission.refusal:
                    raise refusal(admission.refusal)
                if not admission.known:
                    self._disputes[submission.dispute_id] = outcome
                    self._become(MarketStatus.DISPUTED, self._stage)
                return DisputeAdmitted(dispute_id=submission.dispute_id, known=admission.known)
        except Stopped as stop:
            raise refusal(f"the dispute was not admitted: {stop}") from None
        finally:
            self._admitting -= 1

    @update_dispute.validator
    def check_dispute(self, submission: DisputeSubmission) -> None:
        """Refuse outside of the dispute window."""
        if self._window_ends is None or self._status not in {MarketStatus.RESOLVED, MarketStatus.DISPUTED}:
            raise refusal(f"the market is {self._status}, and only a resolved one can be disputed")
        if workflow.now() >= self._window_ends:
            raise refusal(f"the dispute window closed at {self._window_ends:%Y-%m-%d %H:%M:%S} UTC")
