"""All that a market's lifecycle is told, tells and passes between its steps: ids, hashes and short reasons only."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints

from domain.base import Actor, Model, Reason, Sha256
from domain.ids import Origin
from domain.rules import Answer, Moment, ResolutionRules
from domain.status import MarketStatus
from domain.verdict import Abstention

WORKFLOW = "MarketLifecycle"
"""Name of the workflow type, for those who start or find lifecycles without importing the story."""

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=256)]
Confidence = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[int, Field(ge=0)]


class Category(StrEnum):
    """What a market is about."""

    POLITICS = "politics"
    PRODUCT_LAUNCH = "product_launch"
    FINANCE = "finance"
    SPORTS = "sports"
    ENTERTAINMENT = "entertainment"
    TECHNOLOGY = "technology"
    MISC = "misc"


Outcome = Literal["YES", "NO", "VOID"]
"""YES and NO settle; VOID is a market that was cancelled after it was published."""


class MarketDraft(Model):
    """A full draft of a market: what the market_generation prompt answers and an operator may bring."""

    title: Title
    description: Annotated[str, StringConstraints(strip_whitespace=True, max_length=4_000)]
    category: Category
    rules: ResolutionRules
    initial_yes_prob: Annotated[int, Field(ge=2_000, le=8_000)]
    """Basis points; 5000 if unsure."""
    confidence: Confidence


class Proposal(Model):
    """A person's text, or an operator's full draft, that asks for a market."""

    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=10, max_length=500)]
    background: Annotated[str, StringConstraints(strip_whitespace=True, max_length=4_000)] = ""
    criteria: Annotated[str, StringConstraints(strip_whitespace=True, max_length=4_000)] = ""
    category: Category | None = None
    expiry: Moment | None = None
    """When trading is to end; None leaves it to the draft."""
    draft: MarketDraft | None = None
    """A full draft: the model is not asked."""
    proposer: Actor


class MarketRequest(Model):
    """Starts a lifecycle. Everything else about the cause is in Postgres under the market's id."""

    market_id: UUID
    origin: Origin
    dispute_window_seconds: Seconds | None = None
    """Instead of the configured `dispute_window_hours`, for this market only."""


class DraftRequest(Model):
    """Whose draft to make."""

    market_id: UUID


class Waiting(Model):
    """When the resolver looks, in seconds counted from expiry (the rules' not_yet_published)."""

    settle_after: Seconds
    check_every: Annotated[int, Field(ge=1)]
    give_up_after: Seconds
    then: Literal["void", "review"]


class Draft(Model):
    """What the lifecycle needs to know of a draft; the whole is in Postgres under `rules_sha256`."""

    title: Title
    category: Category
    ai_version: str
    rules_sha256: Sha256
    expiry: AwareDatetime
    waiting: Waiting
    has_text_conditions: bool


class DraftResult(Model):
    """A draft, or why there is none: no market can be made of the text, or an open market asks the same."""

    draft: Draft | None = None
    refusal: str = ""
    matched: UUID | None = None
    """The open market that asks the same."""


class Issue(Model):
    """One finding against a draft."""

    code: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")]
    field: Annotated[str, StringConstraints(max_length=120)]
    message: Annotated[str, StringConstraints(max_length=300)]


ISSUES_SHOWN = 4
"""So many issues travel through a history, which stays small; Postgres keeps all of them."""


def first_issues(issues: tuple[Issue, ...]) -> tuple[Issue, ...]:
    """The first issues, and how many more there are."""
    if len(issues) <= ISSUES_SHOWN:
        return issues
    more = Issue(code="more", field="rules", message=f"and {len(issues) - ISSUES_SHOWN + 1} more issues")
    return (*issues[: ISSUES_SHOWN - 1], more)


class RehearseRequest(Model):
    """Which rules to rehearse."""

    market_id: UUID
    rules_sha256: Sha256


class Rehearsal(Model):
    """What the deterministic checks found, the resolver program's run against today's sources among them.

    `blocking` issues cannot be approved away: the rules must change or the source must come back.
    """

    blocking: tuple[Issue, ...] = ()
    notes: tuple[Issue, ...] = ()


FOUND_LIMIT = 60
"""Characters of what a source gave: one cell of a table."""


class SourceState(Model):
    """What one source gave when a draft was rehearsed, for its reviewer."""

    source: str
    ok: bool
    found: Annotated[str, StringConstraints(max_length=FOUND_LIMIT)]
    """The values read, as the resolver took them; or why there are none."""


Round = Annotated[int, Field(ge=1)]
"""Counts the versions of a draft, from 1: each is rehearsed, validated and decided about on its own."""


class ValidateRequest(Model):
    """Which version of the draft to validate, and what its rehearsal found."""

    market_id: UUID
    rules_sha256: Sha256
    round: Round
    rehearsal: Rehearsal


class Validation(Model):
    """The decision about a draft: every issue is named, the reason is a sentence."""

    decision: Literal["approved", "rejected", "needs_human"]
    reason: str
    issues: tuple[Issue, ...] = ()


DraftDecision = Literal["approve", "reject", "request_changes"]
"""What a reviewer can say of a draft."""


class DecideRequest(Model):
    """A reviewer's decision, to be recorded."""

    market_id: UUID
    round: Round
    decision: DraftDecision
    by: Actor
    reason: Reason
    rules_sha256: Sha256
    """The version of the rules decided about; after request_changes the new one."""
    code: str | None = None
    """Reason code of a rejection."""


class Decided(Model):
    """What the lifecycle needs to know after a decision: the draft as it now is (new rules, new expiry)."""

    draft: Draft


Order = Literal["market_paused", "market_resumed", "resolution_look_again", "step_skipped"]
"""What somebody may order that changes the course of a market and none of its facts."""


class OrderRequest(Model):
    """An order, to be recorded."""

    market_id: UUID
    number: Annotated[int, Field(ge=1)]
    """Counts the orders of a market."""
    order: Order
    by: Actor
    reason: Reason


class Recorded(Model):
    """It stands in the audit log."""


class PublishRequest(Model):
    """What to publish; None takes the configured dispute window."""

    market_id: UUID
    rules_sha256: Sha256
    dispute_window_seconds: Seconds | None


class Published(Model):
    """Where the market is on chain. `dispute_window_seconds` is fixed from here on."""

    address: str
    signature: str
    slot: int
    dispute_window_seconds: Seconds


class CollectRequest(Model):
    """`look` counts the looks at the sources, from 1: each look is a step of its own with a result of its own."""

    market_id: UUID
    rules_sha256: Sha256
    look: Annotated[int, Field(ge=1)]
    at: AwareDatetime
    """The workflow's clock when the look began; never before expiry."""


class Resolution(Model):
    """A verdict, or the abstention; `needs_judgement` when text conditions are still to be judged."""

    outcome: Answer | None = None
    abstention: Abstention | None = None
    needs_judgement: bool = False
    evidence_root: Sha256
    detail: str = ""
    """The deciding condition in words."""


class HandResolution(Model):
    """What a person decided about a look at the sources that gave no outcome."""

    market_id: UUID
    rules_sha256: Sha256
    look: Annotated[int, Field(ge=1)]
    outcome: Answer
    by: Actor
    reason: Reason


class SettleRequest(Model):
    """The outcome, and the look at the sources that it comes from."""

    market_id: UUID
    look: int
    outcome: Answer
    evidence_root: Sha256


class Settled(Model):
    """The transaction that settled."""

    signature: str
    slot: int
    resolved_at: AwareDatetime


class FinalizeRequest(Model):
    """Which market to finalise."""

    market_id: UUID


class Finalized(Model):
    """The transaction after which the record cannot change."""

    signature: str
    slot: int


class CancelRequest(Model):
    """Which market to cancel, and on whose word."""

    market_id: UUID
    by: Actor
    reason: Reason


class Canceled(Model):
    """`signature` is None when nothing was on chain yet."""

    signature: str | None


# What people tell a running lifecycle.


class InPlaceDecision(Model):
    """Version 0.1: approve or reject the draft under review in the market's own workflow."""

    by: Actor
    reason: Reason
    rules_sha256: Sha256 | None = None


class InPlaceChanges(Model):
    """Version 0.1: replace the rules under review by others, already stored in Postgres."""

    by: Actor
    reason: Reason
    rules_sha256: Sha256 | None = None
    new_rules_sha256: Sha256


class Note(Model):
    """Who, and why: for cancel, pause and resume."""

    by: Actor
    reason: Reason


class Unpark(Model):
    """What to do with a parked step."""

    decision: Literal["retry", "skip", "abort"]
    by: Actor
    reason: Reason


class Parked(Model):
    """A step that waits for an operator."""

    step: str
    kind: str
    """Type of the error, from the error catalogue, or the abstention that needs a person."""
    message: str
    since: datetime
    may_skip: bool = False


class ParkedState(Model):
    """What is parked in a workflow; None when nothing is."""

    workflow_id: str
    parked: Parked | None


class Accepted(Model):
    """The answer to a message that was taken; `status` when it is a market's."""

    status: MarketStatus | None = None


class MarketState(Model):
    """A look at a running lifecycle."""

    market_id: UUID
    status: MarketStatus
    stage: str
    """What it is doing or waiting for, in words."""
    title: str = ""
    rules_sha256: str | None = None
    ai_version: str = ""
    expiry: datetime | None = None
    address: str | None = None
    paused: bool = False
    parked: Parked | None = None
    validation: Validation | None = None
    outcome: Outcome | None = None
    window_ends: datetime | None = None
    disputes: tuple[UUID, ...] = ()
    """Those that are open; the market is not finalised before they are closed."""
    refused: tuple[str, ...] = ()
    """The last signals that were refused, and why (newest last, at most five)."""


class MarketEnd(Model):
    """How a lifecycle ended."""

    status: MarketStatus
    outcome: Outcome | None = None
    address: str | None = None
    reason: str = ""
