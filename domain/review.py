"""Reviews: what waits for a person's decision, how urgent each kind is, and all that a review is told and tells.

Terms and kinds: runbook "Markets Requiring Review" and the review specification's table of priorities.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints

from domain.base import Actor, Model, Reason, Sha256
from domain.market import Outcome

WORKFLOW = "HumanReview"
"""Name of the workflow type."""


class ReviewKind(StrEnum):
    """What kind of decision is asked for."""

    DRAFT = "draft"
    """A market's draft that validation flagged."""
    RESOLUTION = "resolution"
    """A market that its sources do not decide."""
    DISPUTE = "dispute"
    """A dispute that the model could not settle."""
    MODEL_ACTIVATION = "model_activation"
    MODEL_MIGRATION = "model_migration"
    PII_RUN = "pii_run"
    TAX_PROFILE = "tax_profile"


class Priority(StrEnum):
    """How urgent a review is; a breach raises it by one."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"

    @property
    def raised(self) -> "Priority":
        """One step more urgent; high stays high."""
        return Priority.MEDIUM if self is Priority.LOW else Priority.HIGH


TERM = {
    Priority.HIGH: timedelta(hours=4),
    Priority.MEDIUM: timedelta(hours=24),
    Priority.LOW: timedelta(weeks=1),
}
"""Within which a decision is owed."""

CLAIM_LASTS = timedelta(minutes=30)
"""A claim that is not used lapses, so that nobody's coffee keeps an item from the others."""

Decision = Literal["approve", "reject", "request_changes", "resolve", "look_again"]
"""What a reviewer can say: `resolve` names the outcome, `look_again` sends the market back to its sources."""


@dataclass(frozen=True)
class Kind:
    """What holds for all reviews of a kind."""

    priority: Priority
    decisions: tuple[Decision, ...]
    outcomes: tuple[Outcome, ...] = ()
    """Those that `resolve` may name."""


KINDS: dict[ReviewKind, Kind] = {
    ReviewKind.DRAFT: Kind(Priority.MEDIUM, ("approve", "reject", "request_changes")),
    ReviewKind.RESOLUTION: Kind(Priority.HIGH, ("resolve", "look_again"), ("YES", "NO", "VOID")),
    ReviewKind.DISPUTE: Kind(Priority.HIGH, ("resolve",), ("YES", "NO")),
    ReviewKind.MODEL_ACTIVATION: Kind(Priority.MEDIUM, ("approve", "reject")),
    ReviewKind.MODEL_MIGRATION: Kind(Priority.MEDIUM, ("approve", "reject")),
    ReviewKind.PII_RUN: Kind(Priority.MEDIUM, ("approve", "reject")),
    ReviewKind.TAX_PROFILE: Kind(Priority.LOW, ("approve", "reject")),
}


class RejectCode(StrEnum):
    """Why a draft or run is rejected, for counting; the sentence says the rest."""

    AMBIGUOUS = "ambiguous"
    UNRESOLVABLE = "unresolvable"
    UNFIT_SOURCE = "unfit_source"
    DUPLICATE = "duplicate"
    ALREADY_KNOWN = "already_known"
    FORBIDDEN = "forbidden"
    NO_INTEREST = "no_interest"
    OTHER = "other"


Subject = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""What the review is about: a market's or dispute's id, the name of a run."""


class ReviewRequest(Model):
    """Starts a review. What there is to read is in Postgres under the subject."""

    kind: ReviewKind
    subject: Subject
    number: Annotated[int, Field(ge=1)] = 1
    """Counts the reviews that one asker asks for; each is recorded on its own."""
    market_id: UUID | None = None
    title: Annotated[str, StringConstraints(max_length=256)]
    why: Annotated[str, StringConstraints(max_length=500)]
    """Why a person is asked."""
    version: Sha256 | None = None
    """Hash of the rules decided about; a decision about another version is stale."""
    outcome: Outcome | None = None
    """The outcome that stands, where one does."""
    blocked: Annotated[str, StringConstraints(max_length=400)] = ""
    """Why it cannot be approved as it is."""
    decide_before: AwareDatetime | None = None
    """When an approval comes too late."""
    proposer: Actor | None = None
    """Who asked for it, and may not approve it; a market's stands in Postgres."""


ReviewMoment = Literal["opened", "reminded", "breached", "withdrawn"]


class RecordReviewRequest(Model):
    """What happened to a review, to be recorded."""

    kind: ReviewKind
    subject: Subject
    number: int
    market_id: UUID | None
    moment: ReviewMoment
    why: str
    priority: Priority


class ReviewTerms(Model):
    """What a review needs to know beyond its request."""

    undo_seconds: Annotated[float, Field(ge=0)]
    """How long a decision can be taken back before it takes effect (ai_config `review_undo_seconds`)."""
    proposer: str | None = None
    """Who proposed the thing, and so may not approve it."""


class ReviewerRequest(Model):
    """Whose name to look up."""

    name: Actor


class Reviewer(Model):
    """Whether somebody may review."""

    known: bool


# What people tell it. Fields that a signal of the Web UI may leave out have defaults, so that it can be refused.


class Claim(Model):
    """Take a review for oneself; who holds it already renews it."""

    by: Actor


class Claimed(Model):
    """The lease: decisions carry its token, until it lapses or is released."""

    lease: str
    until: datetime


class Release(Model):
    """Give a claim back."""

    by: Actor
    lease: str = ""


class DecisionBy(Model):
    """What every decision carries."""

    by: Actor
    reason: Reason
    lease: str = ""
    """Token of the current claim."""
    version: Sha256 | None = None
    """Hash of the rules that the reviewer has seen; None means those under review now."""
    at_once: bool = False
    """Takes effect without the time in which it could be taken back."""


class Approve(DecisionBy):
    """Let it go on."""


class Reject(DecisionBy):
    """End it."""

    code: RejectCode


class RequestChanges(DecisionBy):
    """Replace the rules under review by others, already stored in Postgres."""

    changed: Sha256


class Resolve(DecisionBy):
    """Name the outcome by hand."""

    outcome: Outcome


class LookAgain(DecisionBy):
    """Have the sources looked at again."""


class Undo(Model):
    """Take one's decision back before it takes effect."""

    by: Actor


class Postpone(Model):
    """Leave a review out of the queue until a moment before its deadline; the deadline stays."""

    by: Actor
    reason: Reason
    lease: str = ""
    until: AwareDatetime


class ReviewTaken(Model):
    """The answer to a message that was taken; `takes_effect` of a decision, until when it can be taken back."""

    review: str
    takes_effect: datetime | None = None


class ReviewEnd(Model):
    """How a review ended; `withdrawn` when nobody waits for it any more."""

    decision: Decision | Literal["withdrawn"]
    by: str = ""
    reason: str = ""
    code: RejectCode | None = None
    changed: Sha256 | None = None
    outcome: Outcome | None = None


class ReviewState(Model):
    """A look at a review."""

    id: str
    request: ReviewRequest
    proposer: str | None = None
    ready: bool
    """Whether it takes claims: not while it is only just being opened."""
    priority: Priority
    opened: datetime
    deadline: datetime
    reminded: bool = False
    breached: bool = False
    claimed_by: str | None = None
    claimed_until: datetime | None = None
    """After it the claim is nobody's; whoever asks compares, since a query does not move the workflow's clock."""
    postponed_until: datetime | None = None
    decision: Decision | None = None
    """Made, and not taken back so far."""
    decided_by: str | None = None
    takes_effect: datetime | None = None
    refused: tuple[str, ...] = ()
    """The last signals that were refused, and why (newest last, at most five)."""
