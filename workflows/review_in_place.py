"""Reviews as version 0.1 held them, in the market's own workflow: for the markets that were under review when 0.2 came.

Drop it, with the patch that leads here, when `clotho review list` shows a review for every market in pending_review and
Temporal keeps no open lifecycle that 0.1 began.
"""

from functools import partial

from temporalio import workflow

from domain.market import Accepted, Draft, DraftDecision, InPlaceChanges, InPlaceDecision
from domain.review import ReviewEnd
from workflows.steering import Steered
from workflows.story import refusal


class ReviewInPlace(Steered):
    """Takes decisions about a draft as updates and signals of the market."""

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self._reviewed: Draft | None = None
        self._blocked = ""
        self._decision: InPlaceDecision | InPlaceChanges | None = None
        self._decided: DraftDecision | None = None

    async def review_in_place(self, draft: Draft, blocked: str) -> ReviewEnd | None:
        """Wait for a decision about a draft; None when the market was stopped first.

        Args:
            draft: what is under review.
            blocked: why it cannot be approved as it is.
        """
        self._reviewed, self._blocked, self._decision = draft, blocked, None
        await workflow.wait_condition(lambda: self._decision is not None or self._stop is not None)
        self._reviewed = None
        decision = self._decision
        if self._stop is not None or decision is None or self._decided is None:
            return None
        changed = decision.new_rules_sha256 if isinstance(decision, InPlaceChanges) else None
        return ReviewEnd(decision=self._decided, by=decision.by, reason=decision.reason, changed=changed)

    def _decide(self, decision: InPlaceDecision | InPlaceChanges, made: DraftDecision) -> Accepted:
        self._decision, self._decided = decision, made
        return self.accepted()

    def _check_review(self, rules_sha256: str | None) -> Draft:
        if self._reviewed is None or self._decision is not None:
            raise refusal("the market waits for no decision here: reviews are workflows of their own")
        if rules_sha256 is not None and rules_sha256 != self._reviewed.rules_sha256:
            raise refusal("the draft was changed since you looked at it")
        return self._reviewed

    @workflow.update(name="approve", description="Only for a review that version 0.1 began")
    def update_approve(self, decision: InPlaceDecision) -> Accepted:
        """Take an approval."""
        return self._decide(decision, "approve")

    @update_approve.validator
    def check_approve(self, decision: InPlaceDecision) -> None:
        """Refuse what cannot be published: a failed rehearsal, an expiry that has passed."""
        draft = self._check_review(decision.rules_sha256)
        if self._blocked:
            raise refusal(f"the rehearsal failed, so the rules must change: {self._blocked}")
        if draft.expiry <= workflow.now():
            raise refusal("the expiry has passed, so the rules must change or the draft be rejected")

    @workflow.signal(name="approve", description="Only for a review that version 0.1 began")
    def signal_approve(self, decision: InPlaceDecision) -> None:
        """The same as a plain signal."""
        self.take("approve", self.check_approve, partial(self._decide, made="approve"), decision)

    @workflow.update(name="reject", description="Only for a review that version 0.1 began")
    def update_reject(self, decision: InPlaceDecision) -> Accepted:
        """Take a rejection."""
        return self._decide(decision, "reject")

    @update_reject.validator
    def check_reject(self, decision: InPlaceDecision) -> None:
        """Refuse a decision about nothing, or about another version."""
        self._check_review(decision.rules_sha256)

    @workflow.signal(name="reject", description="Only for a review that version 0.1 began")
    def signal_reject(self, decision: InPlaceDecision) -> None:
        """The same as a plain signal."""
        self.take("reject", self.check_reject, partial(self._decide, made="reject"), decision)

    @workflow.update(name="request_changes", description="Only for a review that version 0.1 began")
    def update_request_changes(self, changes: InPlaceChanges) -> Accepted:
        """Take changed rules."""
        return self._decide(changes, "request_changes")

    @update_request_changes.validator
    def check_request_changes(self, changes: InPlaceChanges) -> None:
        """Refuse a decision about nothing, or about another version."""
        self._check_review(changes.rules_sha256)

    @workflow.signal(name="request_changes", description="Only for a review that version 0.1 began")
    def signal_request_changes(self, changes: InPlaceChanges) -> None:
        """The same as a plain signal."""
        decide = partial(self._decide, made="request_changes")
        self.take("request_changes", self.check_request_changes, decide, changes)
