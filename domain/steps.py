"""The step catalogue: everything that Clotho does to the world, on one page.

A step is one named side effect: an activity with its role, models, time-outs, retries, and what it gives when an
operator skips it. Retries used up park it, or fail it where somebody waits for an answer and can ask again. Workflows
say `await self.run_step(steps.PUBLISH_MARKET, request)`; an activity says which step it implements; a worker refuses to
start when a step of its role has no implementation, or two.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Generic, TypeVar

from temporalio.common import RetryPolicy

from domain import dispute, follow_up, market, migration, model, news, pii, review
from domain.base import Model

I = TypeVar("I", bound=Model)  # noqa: E741
O = TypeVar("O", bound=Model)  # noqa: E741


class Role(StrEnum):
    """A kind of worker; its value is the name of its task queue."""

    ORCHESTRATOR = "orchestrator"
    SOURCES = "sources"
    LLM = "llm"
    CHAIN = "chain"
    TRAINING = "training"
    PRIVACY = "privacy"
    CHANNELS = "channels"


@dataclass(frozen=True)
class Timing:
    """Time-outs and retries of one kind of work."""

    start_to_close: timedelta
    retry: RetryPolicy
    heartbeat: timedelta | None = None
    """Set for what may take longer than 10 s: a dead worker is noticed after this instead of `start_to_close`."""


# The runbooks' 1 s, 5 s, 30 s (25 s by a coefficient of 5), then a person.
_THEN_A_PERSON = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=5.0,
    maximum_interval=timedelta(seconds=30),
    maximum_attempts=4,
)

# Somebody waits at the command line; asking again is theirs.
_WHILE_SOMEBODY_WAITS = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_attempts=3)

LOOKUP = Timing(timedelta(seconds=2), _WHILE_SOMEBODY_WAITS)
BOOKKEEPING = Timing(timedelta(seconds=10), _THEN_A_PERSON)
# Three judgements of 30 s each at the model's own time-out, and one repair attempt.
LLM_CALL = Timing(timedelta(seconds=240), _THEN_A_PERSON, heartbeat=timedelta(seconds=20))
# Some hundred inputs of each prompt type, by two models, a few at once; answered ones are cached for a next attempt.
LLM_COMPARISON = Timing(timedelta(hours=2), _THEN_A_PERSON, heartbeat=timedelta(seconds=20))
# All sources at once, each 10 s at most, with HEAD before GET.
FETCH = Timing(timedelta(seconds=60), _THEN_A_PERSON, heartbeat=timedelta(seconds=20))
# A blockhash lives for 150 blocks, about 60 to 90 s; the last look and one new transaction come on top.
CHAIN_SEND = Timing(timedelta(seconds=240), _THEN_A_PERSON, heartbeat=timedelta(seconds=20))
# Every feed, some at a time, each 10 s at most.
POLL = Timing(timedelta(minutes=10), _THEN_A_PERSON, heartbeat=timedelta(seconds=20))
# Some hundred thousand rows, and the model a second time for the control.
# A mail server has 10 s for each of its answers.
DELIVERY = Timing(timedelta(seconds=90), _THEN_A_PERSON, heartbeat=timedelta(seconds=20))
TRAINING = Timing(timedelta(hours=1), _THEN_A_PERSON, heartbeat=timedelta(seconds=20))
# A minute for the processes that score to follow, ten at the most that can be asked for.
VERIFICATION = Timing(timedelta(minutes=11), _THEN_A_PERSON, heartbeat=timedelta(seconds=20))

# An hour, after which a part ends by itself and is started again, and the page that is under way then.
SWEEP = Timing(timedelta(hours=2), _THEN_A_PERSON, heartbeat=timedelta(seconds=20))

START_AGAIN = timedelta(seconds=5)
"""Until a child workflow is started again that somebody ended from outside."""


@dataclass(frozen=True)
class Step(Generic[I, O]):
    """One side effect. `does` completes the sentence "this step …"."""

    name: str
    does: str
    role: Role
    takes: type[I]
    gives: type[O]
    timing: Timing
    when_skipped: O | None = None
    """What a parked step gives when an operator skips it; None: it cannot be skipped."""
    parks: bool = True
    """Whether retries used up park it; otherwise it fails: who asked for it is told, or a schedule does it again."""


DRAFT_MARKET = Step(
    "draft_market", "asks the model for a market, or takes an operator's draft, and stores it",
    Role.LLM, market.DraftRequest, market.DraftResult, LLM_CALL,
)  # fmt: skip
REHEARSE_RULES = Step(
    "rehearse_rules", "checks a draft's fields and sources and runs its resolver program against today's sources",
    Role.SOURCES, market.RehearseRequest, market.Rehearsal, FETCH,
)  # fmt: skip
VALIDATE_MARKET = Step(
    "validate_market", "asks the model for faults of a draft and decides: approved, rejected or needs_human",
    Role.LLM, market.ValidateRequest, market.Validation, LLM_CALL,
    when_skipped=market.Validation(decision="needs_human", reason="An operator skipped the model's validation."),
)  # fmt: skip
RECORD_DECISION = Step(
    "record_decision", "records a reviewer's decision and its effect on the draft",
    Role.ORCHESTRATOR, market.DecideRequest, market.Decided, BOOKKEEPING,
)  # fmt: skip
RECORD_ORDER = Step(
    "record_order", "records who held a market, let it go on, skipped a step or sent it back to its sources, and why",
    Role.ORCHESTRATOR, market.OrderRequest, market.Recorded, BOOKKEEPING,
)  # fmt: skip
PUBLISH_MARKET = Step(
    "publish_market", "creates the market's record on chain, once",
    Role.CHAIN, market.PublishRequest, market.Published, CHAIN_SEND,
)  # fmt: skip
COLLECT_EVIDENCE = Step(
    "collect_evidence", "fetches every source, stores the bytes and evaluates the resolver program",
    Role.SOURCES, market.CollectRequest, market.Resolution, FETCH,
)  # fmt: skip
JUDGE_CONDITIONS = Step(
    "judge_conditions", "has text conditions judged against the stored evidence by independent votes",
    Role.LLM, market.CollectRequest, market.Resolution, LLM_CALL,
)  # fmt: skip
SETTLE_MARKET = Step(
    "settle_market", "writes outcome and evidence root on chain",
    Role.CHAIN, market.SettleRequest, market.Settled, CHAIN_SEND,
)  # fmt: skip
CANCEL_MARKET = Step(
    "cancel_market", "cancels the market, with outcome VOID on chain when it was published",
    Role.CHAIN, market.CancelRequest, market.Canceled, CHAIN_SEND,
)  # fmt: skip
FINALIZE_MARKET = Step(
    "finalize_market", "makes the record on chain immutable",
    Role.CHAIN, market.FinalizeRequest, market.Finalized, CHAIN_SEND,
)  # fmt: skip

RECORD_REVIEW = Step(
    "record_review", "records that a review was opened, reminded of, breached or withdrawn",
    Role.ORCHESTRATOR, review.RecordReviewRequest, review.ReviewTerms, BOOKKEEPING,
)  # fmt: skip
LOOK_UP_REVIEWER = Step(
    "look_up_reviewer", "looks up whether somebody may review",
    Role.ORCHESTRATOR, review.ReviewerRequest, review.Reviewer, LOOKUP, parks=False,
)  # fmt: skip
RESOLVE_BY_HAND = Step(
    "resolve_by_hand", "records the outcome that a person decided for a look that the rules left open",
    Role.ORCHESTRATOR, market.HandResolution, market.Resolution, BOOKKEEPING,
)  # fmt: skip
ADMIT_DISPUTE = Step(
    "admit_dispute", "checks a disputant's tokens and limits and opens the dispute",
    Role.CHAIN, dispute.AdmitRequest, dispute.Admission, CHAIN_SEND,
    when_skipped=dispute.Admission(refusal="an operator turned it away, since the chain could not be asked"),
)  # fmt: skip
RECHECK_SOURCES = Step(
    "recheck_sources", "fetches the sources again for a dispute, and the allowed ones among its evidence URLs",
    Role.SOURCES, dispute.DisputeRequest, dispute.Recheck, FETCH,
)  # fmt: skip
REVIEW_DISPUTE = Step(
    "review_dispute", "asks the model whether the disputed outcome stands, and checks what it answers",
    Role.LLM, dispute.OpinionRequest, dispute.Opinion, LLM_CALL,
)  # fmt: skip
CLOSE_DISPUTE = Step(
    "close_dispute", "closes a dispute after which nothing changes on chain",
    Role.ORCHESTRATOR, dispute.CloseRequest, dispute.DisputeEnd, BOOKKEEPING,
)  # fmt: skip
OVERTURN_OUTCOME = Step(
    "overturn_outcome", "writes the outcome that a dispute won on chain and closes the dispute",
    Role.CHAIN, dispute.CloseRequest, dispute.DisputeEnd, CHAIN_SEND,
)  # fmt: skip

COMPARE_MODELS = Step(
    "compare_models", "has the old and the new model answer the stored inputs and keeps the report",
    Role.LLM, migration.MigrationRequest, migration.Compared, LLM_COMPARISON,
)  # fmt: skip
END_MIGRATION = Step(
    "end_migration", "switches ai_version and llm_model together, or records that a person would not",
    Role.ORCHESTRATOR, migration.EndRequest, migration.MigrationEnd, BOOKKEEPING,
)  # fmt: skip

# What a schedule does again by itself does not park: a parked intake would hold up the next.
POLL_FEEDS = Step(
    "poll_feeds", "reads news feeds, stores each item once and decides by rules which are worth a market",
    Role.SOURCES, news.PollRequest, news.Polled, POLL, parks=False,
)  # fmt: skip
EXTRACT_NEWS = Step(
    "extract_news", "asks the model about news items on which the rules are silent",
    Role.LLM, news.ExtractRequest, news.Extracted, LLM_CALL, parks=False,
)  # fmt: skip
HAND_OVER_CANDIDATES = Step(
    "hand_over_candidates", "records which markets were started and gives the next ones to start",
    Role.ORCHESTRATOR, news.HandOverRequest, news.HandedOver, BOOKKEEPING, parks=False,
)  # fmt: skip

# A retraining that fails is done again by the next night's; what is half active is not left so.
COLLECT_TRAINING_DATA = Step(
    "collect_training_data", "reads the training rows as of the cut-off and checks whether they are fit",
    Role.TRAINING, model.CollectRequest, model.Collected, TRAINING, parks=False,
)  # fmt: skip
TRAIN_MODEL = Step(
    "train_model", "trains a model and stores its artifact under its hash",
    Role.TRAINING, model.TrainRequest, model.Trained, TRAINING, parks=False,
)  # fmt: skip
EVALUATE_MODEL = Step(
    "evaluate_model", "evaluates a model beside the active one, and registers it, signed, when it passes the gate",
    Role.TRAINING, model.EvaluateRequest, model.Evaluated, TRAINING, parks=False,
)  # fmt: skip
ACTIVATE_MODEL = Step(
    "activate_model", "makes a registered version the active one, in place of the one it was compared with",
    Role.TRAINING, model.ActivateRequest, model.Activated, BOOKKEEPING,
)  # fmt: skip
VERIFY_ACTIVATION = Step(
    "verify_activation", "waits until every process scores with the new version, else switches back",
    Role.TRAINING, model.VerifyRequest, model.Verified, VERIFICATION,
)  # fmt: skip
MEASURE_DRIFT = Step(
    "measure_drift", "measures how far scored rows are from those of the training, and keeps the day's report",
    Role.TRAINING, model.DriftRequest, model.Drifted, POLL, parks=False,
)  # fmt: skip

SEND_FOLLOW_UP = Step(
    "send_follow_up", "sends one message to a lead, or says when it is to be tried again",
    Role.CHANNELS, follow_up.SendRequest, follow_up.SendResult, DELIVERY,
)  # fmt: skip

# The parts of a pass run at once: the run parks for all that fail together.
BEGIN_PII_RUN = Step(
    "begin_pii_run", "records a PII run and what the configuration says about it",
    Role.PRIVACY, pii.BeginRequest, pii.Terms, BOOKKEEPING,
)  # fmt: skip
SCRUB_MEMORY = Step(
    "scrub_memory", "goes over a shard of the chat lists and redacts their items, or counts what it would redact",
    Role.PRIVACY, pii.PartRequest, pii.PartEnd, SWEEP, parks=False,
)  # fmt: skip
SCRUB_COLUMN = Step(
    "scrub_column", "goes over a text column of Postgres and redacts its rows, or counts what it would redact",
    Role.PRIVACY, pii.PartRequest, pii.PartEnd, SWEEP, parks=False,
)  # fmt: skip
TALLY_PII_PASS = Step(
    "tally_pii_pass", "counts what a pass found",
    Role.PRIVACY, pii.PassRequest, pii.Tally, BOOKKEEPING,
)  # fmt: skip
PACE_PII_RUN = Step(
    "pace_pii_run", "tells the parts of a run at which rate to go on, or to halt",
    Role.PRIVACY, pii.Pace, pii.Pace, LOOKUP, parks=False,
)  # fmt: skip
END_PII_RUN = Step(
    "end_pii_run", "records and audits how a PII run ended",
    Role.PRIVACY, pii.EndRequest, pii.BackfillEnd, BOOKKEEPING,
)  # fmt: skip

CATALOGUE: tuple[Step, ...] = (  # type: ignore[type-arg]
    DRAFT_MARKET, REHEARSE_RULES, VALIDATE_MARKET, RECORD_DECISION, RECORD_ORDER, PUBLISH_MARKET,
    COLLECT_EVIDENCE, JUDGE_CONDITIONS, RESOLVE_BY_HAND, SETTLE_MARKET, CANCEL_MARKET, FINALIZE_MARKET,
    RECORD_REVIEW, LOOK_UP_REVIEWER,
    ADMIT_DISPUTE, RECHECK_SOURCES, REVIEW_DISPUTE, CLOSE_DISPUTE, OVERTURN_OUTCOME,
    POLL_FEEDS, EXTRACT_NEWS, HAND_OVER_CANDIDATES,
    COMPARE_MODELS, END_MIGRATION,
    BEGIN_PII_RUN, SCRUB_MEMORY, SCRUB_COLUMN, TALLY_PII_PASS, PACE_PII_RUN, END_PII_RUN,
    COLLECT_TRAINING_DATA, TRAIN_MODEL, EVALUATE_MODEL, ACTIVATE_MODEL, VERIFY_ACTIVATION, MEASURE_DRIFT,
    SEND_FOLLOW_UP,
)  # fmt: skip
"""All steps, by story, in the order in which each meets them."""


def steps_of(role: Role) -> tuple[Step, ...]:  # type: ignore[type-arg]
    """The steps that workers of a role must implement."""
    return tuple(step for step in CATALOGUE if step.role is role)
