"""The error catalogue: every failure that a step reports, by name, with who acts and what they do next.

Names match exactly and nobody branches on message text. A message is one sentence: what happened and why; the kind
adds what to do next.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

MESSAGE_LIMIT = 500
"""Characters: text from outside is cut before it becomes part of a history."""


class Acts(StrEnum):
    """Who acts on a failure when retries do not mend it."""

    NOBODY = "nobody"
    OPERATOR = "operator"
    PROPOSER = "proposer"
    REVIEWER = "reviewer"


@dataclass(frozen=True)
class Kind:
    """One kind of failure."""

    type: str
    retryable: bool
    acts: Acts
    next: str
    """What the one who acts does, as an imperative clause."""
    benign: bool = False
    """Expected in normal work, so no alarm and no error log."""


BAD_INPUT = Kind("BadInput", False, Acts.PROPOSER, "correct the field named and send it again")
UNKNOWN_MARKET = Kind("UnknownMarket", False, Acts.OPERATOR, "look the id up with `clotho market list`")
UNKNOWN_DISPUTE = Kind("UnknownDispute", False, Acts.OPERATOR, "look the id up with `clotho dispute list`")
ILLEGAL_MOVE = Kind("IllegalMove", False, Acts.OPERATOR, "look at the market with `clotho market show`")
MARKET_EXPIRED = Kind(
    "MarketExpired", False, Acts.PROPOSER, "propose it again with a later expiry, as it ends canceled", benign=True
)
EVIDENCE_CHANGED = Kind(
    "EvidenceChanged", True, Acts.OPERATOR, "look at the evidence with `clotho review show`, then `clotho parked retry`"
)
DATABASE_UNAVAILABLE = Kind(
    "DatabaseUnavailable", True, Acts.OPERATOR, "check PostgreSQL with `clotho status`, then `clotho parked retry`"
)

LLM_RATE_LIMITED = Kind(
    "LlmRateLimited", True, Acts.OPERATOR, "raise the provider's limit or wait, then `clotho parked retry`", benign=True
)
LLM_UNAVAILABLE = Kind(
    "LlmUnavailable", True, Acts.OPERATOR, "check OPENAI_BASE_URL and the provider, then `clotho parked retry`"
)
LLM_TIMEOUT = Kind("LlmTimeout", True, Acts.OPERATOR, "check the provider's latency, then `clotho parked retry`")
LLM_REFUSED = Kind(
    "LlmRefused", False, Acts.OPERATOR, "correct the request's model or prompt, then `clotho parked retry`"
)
LLM_UNAUTHORIZED = Kind("LlmUnauthorized", False, Acts.OPERATOR, "correct OPENAI_API_KEY, then `clotho parked retry`")
LLM_BAD_OUTPUT = Kind(
    "LlmBadOutput", True, Acts.OPERATOR, "choose a model that keeps to the schema, then `clotho parked retry`"
)

LLM_BUDGET_SPENT = Kind(
    "LlmBudgetSpent",
    False,
    Acts.OPERATOR,
    "wait, or `clotho config set llm_daily_budget_usd`, then `clotho parked retry`",
)
AI_VERSION_UNUSABLE = Kind(
    "AiVersionUnusable", False, Acts.OPERATOR, "restore that version's prompt files, then `clotho parked retry`"
)

SOURCE_UNREACHABLE = Kind(
    "SourceUnreachable", True, Acts.OPERATOR, "wait for the source to answer, then `clotho parked retry`"
)
SOURCE_REFUSED = Kind("SourceRefused", False, Acts.OPERATOR, "name a source that is allowed, public and HTTPS")

CHAIN_UNREACHABLE = Kind("ChainUnreachable", True, Acts.OPERATOR, "check SOLANA_RPC_URL, then `clotho parked retry`")
CHAIN_EXPIRED = Kind(
    "ChainExpired", True, Acts.OPERATOR, "the transaction can no longer land; `clotho parked retry` signs a new one"
)
CHAIN_CONFLICT = Kind(
    "ChainConflict", False, Acts.OPERATOR, "compare with `clotho market verify`: the address holds another record"
)
CHAIN_REJECTED = Kind(
    "ChainRejected", False, Acts.OPERATOR, "read the program's error, correct its cause, then `clotho parked retry`"
)
CHAIN_UNFUNDED = Kind("ChainUnfunded", False, Acts.OPERATOR, "fund the wallet named, then `clotho parked retry`")

REDIS_UNAVAILABLE = Kind(
    "RedisUnavailable", True, Acts.OPERATOR, "check REDIS_URL and the server, then `clotho parked retry`"
)
PII_COLUMN_UNUSABLE = Kind(
    "PiiColumnUnusable", False, Acts.OPERATOR, "correct `clotho config set pii_columns`, then start another run"
)
PII_RUN_FAULT = Kind(
    "PiiRunFault", True, Acts.OPERATOR, "report the fault with the worker's log, then `clotho parked retry`"
)

TRAINING_DATA_CHANGED = Kind("TrainingDataChanged", False, Acts.OPERATOR, "start it again with `clotho model retrain`")
MODEL_UNUSABLE = Kind("ModelUnusable", False, Acts.OPERATOR, "go back to a sound version with `clotho model rollback`")

REFUSED = Kind(
    "Refused", False, Acts.REVIEWER, "see how it stands with `clotho market show` or `clotho review show`", benign=True
)
ABORTED = Kind("Aborted", False, Acts.NOBODY, "nothing: an operator decided so", benign=True)

CATALOGUE: dict[str, Kind] = {
    kind.type: kind
    for kind in (
        BAD_INPUT, UNKNOWN_MARKET, UNKNOWN_DISPUTE, ILLEGAL_MOVE, MARKET_EXPIRED, EVIDENCE_CHANGED,
        DATABASE_UNAVAILABLE,
        LLM_RATE_LIMITED, LLM_UNAVAILABLE, LLM_TIMEOUT, LLM_REFUSED, LLM_UNAUTHORIZED, LLM_BAD_OUTPUT,
        LLM_BUDGET_SPENT, AI_VERSION_UNUSABLE,
        SOURCE_UNREACHABLE, SOURCE_REFUSED,
        CHAIN_UNREACHABLE, CHAIN_EXPIRED, CHAIN_CONFLICT, CHAIN_REJECTED, CHAIN_UNFUNDED,
        REDIS_UNAVAILABLE, PII_COLUMN_UNUSABLE, PII_RUN_FAULT,
        TRAINING_DATA_CHANGED, MODEL_UNUSABLE,
        REFUSED, ABORTED,
    )
}  # fmt: skip
"""Every kind by its type name."""


def failure(kind: Kind, message: str, *, retry_after: timedelta | None = None) -> ApplicationError:
    """The error to raise for `kind`: `message` (what and why, one clause, cut to size) and what to do next.

    Args:
        kind: the catalogue's entry.
        message: what happened and why, without a full stop.
        retry_after: what the other side asked for (Retry-After), instead of the step's own backoff.
    """
    return ApplicationError(
        f"{message[:MESSAGE_LIMIT].rstrip(' .')}: {kind.next}.",
        type=kind.type,
        non_retryable=not kind.retryable,
        next_retry_delay=retry_after,
        category=ApplicationErrorCategory.BENIGN if kind.benign else ApplicationErrorCategory.UNSPECIFIED,
    )
