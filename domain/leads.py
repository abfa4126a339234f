"""Leads: what comes in, what rules read out of it, and the rows that models are trained on and score.

The rules are tables of words, matched whole ("know" is not "now"), in lower case, typographic apostrophes as plain.
"""

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

from domain.base import Model

TENANT_HASHES = 10_000
"""How many values a tenant's hash has."""

DETAILS_LIMIT = 20_000
"""Characters of a lead's own words."""


def _word(text: str) -> str:
    if len(text.split()) != 1 or text != text.strip():
        raise ValueError("it has spaces: leave them out")
    return _line(text)


def _line(text: str) -> str:
    if any(_is_control(letter) for letter in text):
        raise ValueError("it has control characters: leave them out")
    return text


def _is_control(letter: str) -> bool:
    """Whether it is of Unicode's category C; spaces of any kind are not."""
    return ord(letter) < 32 or 127 <= ord(letter) < 160 or not (letter.isprintable() or letter.isspace())


_SHORT = StringConstraints(min_length=1, max_length=200)

LeadId = Annotated[str, _SHORT, AfterValidator(_word)]
"""Without spaces and control characters: it becomes part of a workflow's id and of a line of CSV."""

Tenant = Annotated[str, _SHORT, AfterValidator(_line)]
"""A tenant's name, without control characters."""

TenantHash = Annotated[int, Field(ge=0, lt=TENANT_HASHES)]
LeadScore = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
DetailsLength = Annotated[int, Field(ge=0, lt=2**31)]
Hour = Annotated[int, Field(ge=0, le=23)]


class Outcome(StrEnum):
    """What became of a lead; of several the newest counts."""

    BOOKED = "booked"
    GHOSTED = "ghosted"
    QUALIFIED = "qualified"
    UNQUALIFIED = "unqualified"
    NURTURE = "nurture"
    SPAM = "spam"


class Intent(StrEnum):
    """What somebody wants."""

    LEAD_CAPTURE = "lead_capture"
    SUPPORT = "support"
    INFO = "info"


class Sentiment(StrEnum):
    """How somebody feels about it."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    NEUTRAL = "neutral"


class Urgency(StrEnum):
    """Whether it must be soon."""

    HIGH = "high"
    NORMAL = "normal"


class Lead(Model):
    """What came in. The words are personal data: they are read once, by `enrich`, and go no further."""

    lead_id: LeadId
    tenant: Tenant
    details: Annotated[str, StringConstraints(max_length=DETAILS_LIMIT)]
    created_at: AwareDatetime


class LeadRow(Model):
    """What a model sees of a lead. Categories are plain text and everything but the id may be missing, as rows from
    outside come so; `domain.artifact.score` says how such a row is scored.
    """

    lead_id: LeadId
    tenant_hash: TenantHash | None = None
    intent: str | None = None
    sentiment: str | None = None
    urgency: str | None = None
    score: LeadScore | None = None
    details_len: DetailsLength | None = None
    hour_of_day: Hour | None = None
    """In UTC."""


class LabelledLead(LeadRow):
    """A row and what became of it."""

    outcome: Outcome

    @property
    def label(self) -> int:
        """1 for booked, 0 for everything else."""
        return int(self.outcome is Outcome.BOOKED)


EXPORT_COLUMNS = (
    "lead_id", "tenant_hash", "intent", "sentiment", "urgency",
    "score", "details_len", "hour_of_day", "outcome", "label",
)  # fmt: skip
"""Of the export, in this order; scripts rely on the label being last."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


INTENT_WORDS: dict[Intent, frozenset[str]] = {
    Intent.LEAD_CAPTURE: _words(
        "appointment appointments availability available book booking buy consultation cost costs demo estimate hire"
        " install installation interested order price prices pricing purchase quotation quote quotes reservation"
        " reserve schedule signup subscribe trial visit"
    ),
    Intent.SUPPORT: _words(
        "bug cancel cancellation complaint crash crashed error errors fails failed fix help invoice issue issues login"
        " password problem problems refund repair replace reset return support ticket troubleshoot warranty"
    ),
}
"""Words for an intent; without any it is info."""

SENTIMENT_WORDS: dict[Sentiment, frozenset[str]] = {
    Sentiment.POSITIVE: _words(
        "amazing awesome best brilliant delighted excellent excited fantastic glad good great happy helpful impressed"
        " interested keen like love loved lovely nice perfect pleased recommend recommended thank thanks wonderful"
    ),
    Sentiment.NEGATIVE: _words(
        "angry annoyed annoying appalling awful bad broken disappointed disappointing disgusting frustrated"
        " frustrating hate horrible never poor ridiculous rude sad slow terrible unacceptable unhappy upset useless"
        " worse worst wrong"
    ),
}
"""Words for a sentiment."""

URGENT_WORDS = _words(
    "asap critical deadline emergency immediate immediately now quickly today tomorrow tonight urgent urgently"
)

NEGATIONS = _words("no not cannot can't don't doesn't didn't isn't wasn't aren't won't wouldn't")
"""A word of sentiment right after one of these counts for the opposite."""

_LEAST, _FOR_INTENT, _FOR_URGENCY, _FOR_SENTIMENT = 0.5, 0.15, 0.1, 0.05

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def enrich(lead: Lead) -> LeadRow:
    """The row of a lead, by rules alone: the same words give the same row, whoever asks and when.

    Intent: the one with more words in the text; a tie is lead_capture, as a customer to win is not to be missed; none
    is info. Sentiment: the one with more words, a negated word counting for the other; a tie is neutral. Urgency: high
    with any urgent word. Score: 0.5, and 0.15 more for lead_capture, 0.10 for high urgency, 0.05 for a positive
    sentiment, so 0.5 to 0.8. Length: characters of the details. Hour: of the arrival, in UTC.
    """
    words = _WORD.findall(lead.details.casefold().replace("\u2019", "'"))
    intent, sentiment = _intent(words), _sentiment(words)
    urgency = Urgency.HIGH if not URGENT_WORDS.isdisjoint(words) else Urgency.NORMAL
    score = (
        _LEAST
        + _FOR_INTENT * (intent is Intent.LEAD_CAPTURE)
        + _FOR_URGENCY * (urgency is Urgency.HIGH)
        + _FOR_SENTIMENT * (sentiment is Sentiment.POSITIVE)
    )
    return LeadRow(
        lead_id=lead.lead_id,
        tenant_hash=tenant_hash(lead.tenant),
        intent=intent,
        sentiment=sentiment,
        urgency=urgency,
        score=round(score, 2),
        details_len=len(lead.details),
        hour_of_day=lead.created_at.astimezone(UTC).hour,
    )


def tenant_hash(tenant: str) -> int:
    """A tenant's number, 0 to 9,999, the same for ever: the first eight bytes of SHA-256, modulo 10,000."""
    return int.from_bytes(hashlib.sha256(tenant.encode()).digest()[:8]) % TENANT_HASHES


def _intent(words: Sequence[str]) -> Intent:
    found = {intent: sum(word in table for word in words) for intent, table in INTENT_WORDS.items()}
    if not any(found.values()):
        return Intent.INFO
    return Intent.LEAD_CAPTURE if found[Intent.LEAD_CAPTURE] >= found[Intent.SUPPORT] else Intent.SUPPORT


def _sentiment(words: Sequence[str]) -> Sentiment:
    balance = 0
    for before, word in zip(("", *words), words, strict=False):
        feels = (word in SENTIMENT_WORDS[Sentiment.POSITIVE]) - (word in SENTIMENT_WORDS[Sentiment.NEGATIVE])
        balance += -feels if before in NEGATIONS else feels
    if not balance:
        return Sentiment.NEUTRAL
    return Sentiment.POSITIVE if balance > 0 else Sentiment.NEGATIVE
