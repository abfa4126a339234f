"""Disputes of a settled outcome: what is refused at the door, what the stages tell each other, when a person decides.

The text of a dispute never enters a history: it is stored first, and the messages carry its id.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from domain.base import Model, Sha256
from domain.market import Confidence
from domain.rules import Answer

WORKFLOW = "DisputeReview"
"""Name of the workflow type."""

REASON_LIMIT = 2_000
"""Characters."""
EVIDENCE_LIMIT = 5
"""URLs."""
URL_LIMIT = 2_000
"""Characters."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""What UTF-8 and PostgreSQL cannot hold."""
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_ADDRESS_BYTES = 32
_ADDRESS_LENGTHS = range(32, 45)
"""Characters that 32 bytes take in base58, where each leading zero byte is a 1."""


class Dispute(Model):
    """Somebody contests the outcome of a market."""

    market_id: UUID
    disputant: str
    """Address that holds tokens of the market."""
    reason: str
    evidence_urls: tuple[str, ...] = ()


def check_dispute(dispute: Dispute) -> str | None:
    """The clause why a dispute is refused before anything is stored; None when it is well-formed."""
    if not _is_address(dispute.disputant):
        return f"address: {dispute.disputant[:50]!r} is no address of the chain"
    if not dispute.reason.strip():
        return "reason: the text is empty"
    if len(dispute.reason) > REASON_LIMIT:
        return f"reason: the text has {len(dispute.reason)} characters, at most {REASON_LIMIT} are read"
    if _UNSTORABLE.search(dispute.reason):
        return "reason: the text holds a character that cannot be stored"
    if len(dispute.evidence_urls) > EVIDENCE_LIMIT:
        return f"evidence: there are {len(dispute.evidence_urls)} URLs, at most {EVIDENCE_LIMIT} are read"
    for url in dispute.evidence_urls:
        if not url.strip() or len(url) > URL_LIMIT or _UNSTORABLE.search(url):
            return f"evidence: {url[:60]!r} is no URL of at most {URL_LIMIT} characters"
    return None


def _is_address(text: str) -> bool:
    """Whether a text is the base58 of 32 bytes: an address of Solana."""
    if len(text) not in _ADDRESS_LENGTHS or not set(text) <= set(_BASE58):
        return False
    number = 0
    for character in text:
        number = number * len(_BASE58) + _BASE58.index(character)
    zeros = len(text) - len(text.lstrip(_BASE58[0]))
    return zeros + (number.bit_length() + 7) // 8 == _ADDRESS_BYTES


class DisputeSubmission(Model):
    """The update that opens a dispute already stored in Postgres."""

    dispute_id: UUID


class DisputeAdmitted(Model):
    """The answer to it; `known` when the same dispute had been admitted before."""

    dispute_id: UUID
    known: bool = False


class AdmitRequest(Model):
    """Which dispute to admit, against which look's outcome."""

    dispute_id: UUID
    market_id: UUID
    look: Annotated[int, Field(ge=1)]
    outcome: Answer


class Admission(Model):
    """Admitted when `refusal`, the clause why not, is empty."""

    refusal: str = ""
    known: bool = False
    """Admitted before, and perhaps closed again."""


class DisputeRequest(Model):
    """Starts the review of one dispute."""

    dispute_id: UUID
    market_id: UUID
    title: Annotated[str, StringConstraints(max_length=256)]
    rules_sha256: Sha256
    look: Annotated[int, Field(ge=1)]
    """The look that the disputed outcome follows from."""
    recheck: Annotated[int, Field(ge=1)]
    """Number of the look in which the sources are fetched again."""
    outcome: Answer


class Recheck(Model):
    """What the sources say now, beside the evidence that decided."""

    changed: tuple[str, ...] = ()
    """Names of the sources whose bytes are others now."""
    unreachable: tuple[str, ...] = ()
    fresh: Answer | None = None
    """What the rules give from today's bytes, without any judgement."""
    evidence_root: Sha256
    """Over what was fetched now."""
    evidence_read: int = 0
    """How many of the disputant's URLs were read; the others are no allowed sources or did not answer."""


class OpinionRequest(Model):
    """Which dispute to have an opinion about."""

    dispute: DisputeRequest
    recheck: Recheck


class Opinion(Model):
    """What the model and the checks on it lead to; `escalate` goes to a person."""

    verdict: Literal["upheld", "overturned", "escalate"]
    outcome: Answer
    """The outcome that this leads to; the disputed one when it is escalated."""
    confidence: Confidence = 0.0
    reason: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    by: str
    """ai_version, or the person."""


class CloseRequest(Model):
    """How a dispute ends; `overturned` is written on chain first."""

    dispute: DisputeRequest
    opinion: Opinion
    evidence_root: Sha256 | None
    """Over what was fetched for the dispute; None when nothing was."""


class DisputeEnd(Model):
    """How a dispute ended, and the outcome that stands after it."""

    status: Literal["upheld", "overturned"]
    outcome: Answer
    look: int
    """The look that the outcome follows from now."""
    evidence_root: Sha256 | None = None
    """Set when it was overturned."""
    reason: str


def settle(
    *,
    verdict: Literal["upheld", "overturned", "escalate"],
    confidence: float,
    threshold: float,
    quoted: bool,
    machine_checkable: bool,
    revisions_ignored: bool,
    decided_by: str | None,
    outcome: Answer,
    recheck: Recheck,
) -> tuple[Literal["upheld", "overturned", "escalate"], str]:
    """What the model's opinion may do by itself, and why; everything else goes to a person.

    Args:
        verdict: the model's.
        confidence: the model's.
        threshold: below it a person decides.
        quoted: whether the words that it rests on stand in what an allowed source says now.
        machine_checkable: whether the rules decide without any judgement.
        revisions_ignored: whether a value that has been revised by now does not count.
        decided_by: who decided the disputed outcome, where the rules alone did not: a person, or an earlier dispute.
        outcome: the disputed one.
        recheck: what the sources say now.
    """
    contradicted = recheck.fresh is not None and recheck.fresh is not outcome
    overturned = verdict == "overturned"
    doubts: Sequence[tuple[bool, str]] = (
        (verdict == "escalate", "the model asks for a person"),
        (confidence < threshold, f"the model's confidence {confidence:.2f} is below {threshold}"),
        (bool(recheck.unreachable), f"{', '.join(recheck.unreachable)[:200]} could not be fetched again"),
        (verdict == "upheld" and contradicted, f"the sources give {recheck.fresh} today"),
        (overturned and not quoted, "the words that the model rests on do not stand in what an allowed source says"),
        # What code decided is not overturned by a model alone, nor what several judgements or a person have decided
        # from the same bytes.
        (overturned and machine_checkable and not contradicted, "the sources do not give another outcome today"),
        (overturned and not recheck.changed, "the sources say what they said when it was decided"),
        (overturned and decided_by is not None, f"{decided_by} has decided it"),
        (overturned and contradicted and revisions_ignored, "the rules ignore later revisions"),
    )
    doubt = next((why for raised, why in doubts if raised), None)
    return (verdict, "") if doubt is None else ("escalate", doubt)
