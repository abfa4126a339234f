"""One decision that a person owes: claimed, made, taken back; reminded of and escalated, but never made by a timer."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from temporalio import workflow
from temporalio.exceptions import ActivityError

from domain import review, steps
from domain import search_attributes as attributes
from domain.ids import review_workflow_id
from domain.review import (
    CLAIM_LASTS,
    KINDS,
    TERM,
    Approve,
    Claim,
    Claimed,
    Decision,
    DecisionBy,
    LookAgain,
    Postpone,
    Reject,
    Release,
    RequestChanges,
    Resolve,
    ReviewEnd,
    ReviewMoment,
    ReviewRequest,
    ReviewState,
    ReviewTaken,
    ReviewTerms,
    Undo,
)
from workflows.story import Story, refusal


@workflow.defn(name=review.WORKFLOW)
class HumanReview(Story):
    """Waits for a decision for as long as it takes: a reminder at half time, a breach at the deadline."""

    @workflow.init
    def __init__(self, request: ReviewRequest) -> None:
        super().__init__()
        self._request = request
        self._kind = KINDS[request.kind]
        self._priority = self._kind.priority
        self._opened = workflow.now()
        self._term = TERM[self._priority]
        self._terms: ReviewTerms | None = None
        self._claimed_by: str | None = None
        self._claim: Claimed | None = None
        self._claiming = asyncio.Lock()
        self._postponed_until: datetime | None = None
        self._decision: Decision | None = None
        self._made: DecisionBy | None = None
        self._takes_effect: datetime | None = None
        self._final = False
        self._withdrawn = False
        self._reminded = False
        self._breached = False

    @workflow.run
    async def run(self, request: ReviewRequest) -> ReviewEnd:
        """The review; who asked withdraws it by cancelling it."""
        return await self.live(self._review(), self._withdraw)

    async def _review(self) -> ReviewEnd:
        self._count("clotho_reviews_opened_total", "Reviews opened")
        self._terms = await self._record("opened", self._request.why)
        self.show()
        for moment, due in (("reminded", self._opened + self._term / 2), ("breached", self._deadline)):
            if not await self._decided_by(due):
                await (self._remind() if moment == "reminded" else self._breach())
        await self._decided_by(None)
        await workflow.wait_condition(workflow.all_handlers_finished)
        if self._withdrawn or self._made is None or self._decision is None:
            self._count("clotho_reviews_withdrawn_total", "Reviews that nobody waits for any more")
            await self._record("withdrawn", "whoever asked waits for it no longer")
            return ReviewEnd(decision="withdrawn")
        self._count("clotho_review_decisions_total", "Decisions made", decision=self._decision)
        workflow.metric_meter().create_histogram_timedelta(
            "clotho_review_seconds", "From the opening of a review to its decision", "s"
        ).record(workflow.now() - self._opened, {"kind": self._request.kind.value})
        return _end(self._decision, self._made)

    async def _decided_by(self, due: datetime | None) -> bool:
        """Wait until the review is over, at the longest until `due`; whether it is."""
        while not self._over:
            if self._takes_effect is not None:
                await self._wait(
                    lambda: self._decision is None or self._withdrawn, self._takes_effect, "the decision takes effect"
                )
                self._final = self._decision is not None
            elif not await self._wait(
                lambda: self._decision is not None or self._withdrawn, due, "half time, or the deadline"
            ):
                return False
            self.show()
        return True

    async def _wait(self, condition: Callable[[], bool], until: datetime | None, what: str) -> bool:
        """Wait for the condition, at the longest until a moment, which is `what`; whether it holds."""
        remaining = None if until is None else until - workflow.now()
        if remaining is not None and remaining <= timedelta(0):
            return condition()
        try:
            await workflow.wait_condition(condition, timeout=remaining, timeout_summary=what)
        except TimeoutError:
            return False
        return True

    async def _remind(self) -> None:
        self._reminded = True
        self._count("clotho_review_reminders_total", "Reminders of open reviews")
        await self._record("reminded", f"half of the time is over, the deadline is {_shown(self._deadline)}")
        self.show()

    async def _breach(self) -> None:
        """The deadline has passed: counted, more urgent, open to everybody. Nothing is decided."""
        self._breached = True
        self._count("clotho_review_breaches_total", "Reviews not decided within their term")
        workflow.logger.warning("review breached", extra={"review": self._id})
        await self._record("breached", f"not decided by {_shown(self._deadline)}")
        if self._priority.raised is not self._priority:
            self._priority = self._priority.raised
            workflow.upsert_search_attributes([attributes.REVIEW_PRIORITY.value_set(self._priority.value)])
        self.show()

    async def _record(self, moment: ReviewMoment, why: str) -> ReviewTerms:
        request = review.RecordReviewRequest(
            kind=self._request.kind,
            subject=self._request.subject,
            number=self._request.number,
            market_id=self._request.market_id,
            moment=moment,
            why=why,
            priority=self._priority,
        )
        return await self.run_step(steps.RECORD_REVIEW, request, summary=moment)

    def _count(self, metric: str, does: str, **labels: str) -> None:
        counter = workflow.metric_meter().create_counter(metric, does)
        counter.add(1, {"kind": self._request.kind.value, "priority": self._priority.value, **labels})

    def _withdraw(self) -> None:
        if not self._final:
            self._withdrawn = True

    # What it shows.

    @property
    def _id(self) -> str:
        return review_workflow_id(self._request.kind, self._request.subject)

    @property
    def _proposer(self) -> str | None:
        return self._request.proposer or (self._terms.proposer if self._terms is not None else None)

    @property
    def _deadline(self) -> datetime:
        return self._opened + self._term

    @property
    def _over(self) -> bool:
        return self._final or self._withdrawn

    @property
    def _holder(self) -> str | None:
        """Who holds the claim now; a lapsed one is nobody's."""
        return self._claimed_by if self._claim is not None and workflow.now() < self._claim.until else None

    def show(self) -> None:
        """Current details for the Web UI: what is asked, by when, who is at it, and how to answer."""
        lines = [
            f"### {self._request.title}",
            f"**{self._request.kind}**, priority **{self._priority}**: {self._request.why}",
            f"Decision due by {_shown(self._deadline)}" + (" — **breached**" if self._breached else ""),
        ]
        if self._parked is not None:
            lines.append(f"**Parked** at `{self._parked.step}` ({self._parked.kind}): {self._parked.message}")
        if self._request.blocked:
            lines.append(f"Cannot be approved as it is: {self._request.blocked}")
        if self._claim is not None:
            lines.append(f"Claimed by {self._claimed_by} until {_shown(self._claim.until)}")
        if self._decision is not None and self._made is not None:
            lines.append(f"**{self._decision}** by {self._made.by}: {self._made.reason}")
        else:
            lines.append(f"`clotho review show {self._id}`, then one of {', '.join(self._kind.decisions)}")
        lines.extend(f"Refused signal: {refused}" for refused in self._refused)
        workflow.set_current_details("\n\n".join(lines))

    @workflow.query(description="What is asked, by when, who is at it, what was decided")
    def state(self) -> ReviewState:
        """A look at the review."""
        return ReviewState(
            id=self._id,
            request=self._request,
            proposer=self._proposer,
            ready=self._terms is not None and not self._over,
            priority=self._priority,
            opened=self._opened,
            deadline=self._deadline,
            reminded=self._reminded,
            breached=self._breached,
            claimed_by=self._claimed_by,
            claimed_until=self._claim.until if self._claim else None,
            postponed_until=self._postponed_until,
            decision=self._decision,
            decided_by=self._made.by if self._made else None,
            takes_effect=self._takes_effect,
            refused=tuple(self._refused),
        )

    def _taken(self) -> ReviewTaken:
        self.show()
        return ReviewTaken(review=self._id, takes_effect=self._takes_effect)

    # Claims: leases with a token, so that a decision made on a lapsed claim never counts.

    @workflow.update(description="Take the review for 30 minutes; who holds it renews it")
    async def claim(self, claim: Claim) -> Claimed:
        """Give a lease, or say why not."""
        async with self._claiming:
            self.check_claim(claim)
            if not await self._known(claim.by):
                raise refusal(f"the register of reviewers has no {claim.by}, which `clotho reviewer add` changes")
            self.check_claim(claim)
            until = workflow.now() + CLAIM_LASTS
            if self._claim is not None and self._holder == claim.by:
                self._claim = self._claim.model_copy(update={"until": until})
            else:
                self._claimed_by, self._claim = claim.by, Claimed(lease=workflow.uuid4().hex, until=until)
            self.show()
            return self._claim

    @claim.validator
    def check_claim(self, claim: Claim) -> None:
        """Refuse while somebody else holds it, unless it is overdue."""
        self._check_open()
        if self._holder not in {None, claim.by} and not self._breached:
            assert self._claim is not None
            raise refusal(f"the review is claimed by {self._holder} until {_shown(self._claim.until)}")

    async def _known(self, name: str) -> bool:
        try:
            return (await self.run_step(steps.LOOK_UP_REVIEWER, review.ReviewerRequest(name=name), summary=name)).known
        except ActivityError:
            raise refusal("the list of reviewers could not be read, so nothing was claimed") from None

    @workflow.update(description="Give the claim back")
    def release(self, release: Release) -> ReviewTaken:
        """End the lease."""
        self._claimed_by = self._claim = None
        return self._taken()

    @release.validator
    def check_release(self, release: Release) -> None:
        """Refuse who does not hold it."""
        self._check_lease(release.by, release.lease)

    @workflow.update(description="Leave the review out of the queue until a moment before its deadline")
    def postpone(self, postpone: Postpone) -> ReviewTaken:
        """Note until when, and give the claim back."""
        self._postponed_until = postpone.until
        self._claimed_by = self._claim = None
        return self._taken()

    @postpone.validator
    def check_postpone(self, postpone: Postpone) -> None:
        """Refuse a moment that is over or after the deadline, which stays."""
        self._check_lease(postpone.by, postpone.lease)
        if not workflow.now() < postpone.until < self._deadline:
            raise refusal(f"a review can be postponed to a moment before its deadline {_shown(self._deadline)} alone")

    # Decisions: updates for an answer, signals of the same names for the Web UI's buttons.

    def _check_open(self) -> None:
        if self._decision is not None and self._made is not None:
            raise refusal(f"it has been decided already: {self._decision} by {self._made.by}")
        if self._over or self._terms is None:
            raise refusal("the review is over" if self._over else "the review is only just being opened")

    def _check_lease(self, by: str, lease: str) -> None:
        self._check_open()
        if self._claim is None or lease != self._claim.lease or by != self._holder:
            holder = f"{self._holder} holds it" if self._holder else "nobody holds it, or it has lapsed"
            raise refusal(f"a decision needs the token of a claim of one's own ({holder})")

    def _check(self, decision: Decision, made: DecisionBy) -> None:
        """Refuse a second decision, one that the kind does not take, without the claim, or about another version."""
        self._check_lease(made.by, made.lease)
        if decision not in self._kind.decisions:
            possible = ", ".join(self._kind.decisions)
            raise refusal(f"a review of the kind {self._request.kind} takes {possible}, and not {decision}")
        if made.version is not None and made.version != self._request.version:
            raise refusal("it was changed since you looked at it")

    def _check_proposer(self, made: DecisionBy) -> None:
        if made.by == self._proposer:
            raise refusal(f"it was proposed by {made.by}, so somebody else decides")

    def _decide(self, made: DecisionBy, *, decision: Decision) -> ReviewTaken:
        assert self._terms is not None, "checked before: decisions come after the opening"
        self._decision, self._made = decision, made
        seconds = 0.0 if made.at_once else self._terms.undo_seconds
        self._takes_effect = workflow.now() + timedelta(seconds=seconds)
        return self._taken()

    @workflow.update(name="approve", description="Let it go on")
    def update_approve(self, made: Approve) -> ReviewTaken:
        """Take an approval."""
        return self._decide(made, decision="approve")

    @update_approve.validator
    def check_approve(self, made: Approve) -> None:
        """Refuse the proposer's own, and what cannot go on as it is."""
        self._check("approve", made)
        self._check_proposer(made)
        if self._request.blocked:
            raise refusal(f"it cannot be approved as it is: {self._request.blocked}")
        if self._request.decide_before is not None and self._request.decide_before <= workflow.now():
            raise refusal("the expiry has passed, so the rules must change or the draft be rejected")

    @workflow.signal(name="approve", description="Let it go on")
    def signal_approve(self, made: Approve) -> None:
        """The same as a plain signal."""
        self.take("approve", self.check_approve, partial(self._decide, decision="approve"), made)

    @workflow.update(name="reject", description="End it, with a reason code")
    def update_reject(self, made: Reject) -> ReviewTaken:
        """Take a rejection."""
        return self._decide(made, decision="reject")

    @update_reject.validator
    def check_reject(self, made: Reject) -> None:
        """Refuse as every decision."""
        self._check("reject", made)

    @workflow.signal(name="reject", description="End it, with a reason code")
    def signal_reject(self, made: Reject) -> None:
        """The same as a plain signal."""
        self.take("reject", self.check_reject, partial(self._decide, decision="reject"), made)

    @workflow.update(name="request_changes", description="Replace the rules; they are validated again")
    def update_request_changes(self, made: RequestChanges) -> ReviewTaken:
        """Take changed rules."""
        return self._decide(made, decision="request_changes")

    @update_request_changes.validator
    def check_request_changes(self, made: RequestChanges) -> None:
        """Refuse as every decision, and rules that are the same."""
        self._check("request_changes", made)
        if made.changed == self._request.version:
            raise refusal("the changed rules are the rules under review")

    @workflow.signal(name="request_changes", description="Replace the rules; they are validated again")
    def signal_request_changes(self, made: RequestChanges) -> None:
        """The same as a plain signal."""
        decide = partial(self._decide, decision="request_changes")
        self.take("request_changes", self.check_request_changes, decide, made)

    @workflow.update(name="resolve", description="Name the outcome by hand")
    def update_resolve(self, made: Resolve) -> ReviewTaken:
        """Take an outcome."""
        return self._decide(made, decision="resolve")

    @update_resolve.validator
    def check_resolve(self, made: Resolve) -> None:
        """Refuse the proposer's own, and an outcome that the kind does not have."""
        self._check("resolve", made)
        self._check_proposer(made)
        if made.outcome not in self._kind.outcomes:
            possible = ", ".join(self._kind.outcomes)
            raise refusal(f"a review of the kind {self._request.kind} resolves to {possible}, and not {made.outcome}")

    @workflow.signal(name="resolve", description="Name the outcome by hand")
    def signal_resolve(self, made: Resolve) -> None:
        """The same as a plain signal."""
        self.take("resolve", self.check_resolve, partial(self._decide, decision="resolve"), made)

    @workflow.update(name="look_again", description="Have the sources looked at again")
    def update_look_again(self, made: LookAgain) -> ReviewTaken:
        """Take the wish."""
        return self._decide(made, decision="look_again")

    @update_look_again.validator
    def check_look_again(self, made: LookAgain) -> None:
        """Refuse as every decision."""
        self._check("look_again", made)

    @workflow.signal(name="look_again", description="Have the sources looked at again")
    def signal_look_again(self, made: LookAgain) -> None:
        """The same as a plain signal."""
        self.take("look_again", self.check_look_again, partial(self._decide, decision="look_again"), made)

    @workflow.update(description="Take one's decision back before it takes effect")
    def undo(self, undo: Undo) -> ReviewTaken:
        """Open the review again; the claim stays."""
        self._decision = self._made = self._takes_effect = None
        return self._taken()

    @undo.validator
    def check_undo(self, undo: Undo) -> None:
        """Refuse what has taken effect, and who did not decide."""
        if self._made is None or self._over:
            raise refusal("there is no decision that could be taken back")
        if undo.by != self._made.by:
            raise refusal(f"the decision was made by {self._made.by}, and nobody else takes it back")


def _end(decision: Decision, made: DecisionBy) -> ReviewEnd:
    return ReviewEnd(
        decision=decision,
        by=made.by,
        reason=made.reason,
        code=made.code if isinstance(made, Reject) else None,
        changed=made.changed if isinstance(made, RequestChanges) else None,
        outcome=made.outcome if isinstance(made, Resolve) else None,
    )


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
