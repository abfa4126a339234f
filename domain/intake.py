"""What is refused at the door, before anything is written: the deterministic half of the safety filter."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from domain.injection import instructs
from domain.market import Issue, Proposal
from domain.source_urls import check_url

INPUT_LIMIT = 256 * 1024
"""Bytes of a proposal or draft file; the longest that the models allow is far below."""

EXPIRY_LIMIT = timedelta(days=36_525)
"""How far ahead a market may end: a hundred years."""

_KEY = re.compile(r"[ -~]{1,200}")
_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Controls, of which PostgreSQL cannot store NUL, and the overrides that turn text around for its reader."""

_FORBIDDEN = {
    "a killing or an attack": (
        r"\b(?:assassinat\w+|murder of|be (?:killed|murdered|shot dead|poisoned|beheaded|lynched)"
        r"|get (?:killed|shot)|commit suicide|kill (?:him|her|them|it)self|terror(?:ist)? attack|mass shooting"
        r"|school shooting|bombing of)\b"
    ),
    "a crime": (
        r"\b(?:child porn\w*|sexual(?:ly)? (?:abuse|assault)\w* of (?:a )?(?:child|minor)"
        r"|buy (?:cocaine|heroin|fentanyl)|hire a hitman|ransomware attack on|dox+(?:ed|ing)?|swat(?:ted|ting) of)\b"
    ),
    "the harassment of a person": (
        r"\b(?:harass\w*|stalk(?:ed|ing)?|bull(?:y|ied)|humiliat\w+|blackmail\w*|revenge porn|nude photos? of"
        r"|home address of)\b"
    ),
}
_FORBIDDEN_QUESTIONS = {what: re.compile(words, re.IGNORECASE) for what, words in _FORBIDDEN.items()}
"""What no market is made on and a pattern can tell; the prompt safety_check tells the rest."""


def parse_proposal(fields: Mapping[str, Any]) -> Proposal | list[Issue]:
    """A proposal from untrusted fields, or every fault by field."""
    try:
        return Proposal.model_validate(dict(fields))
    except ValidationError as error:
        return [
            Issue(
                code="bad_field",
                field=(".".join(str(part) for part in fault["loc"]) or "proposal")[:120],
                message=fault["msg"][:300],
            )
            for fault in error.errors()[:20]
        ]


def check_proposal(proposal: Proposal, now: datetime) -> list[Issue]:
    """Faults of a well-formed proposal: an expiry out of reach, refused sources, text that hides or gives orders.

    What is forbidden is told of the question alone: a background may speak of deaths and crimes.
    """
    issues = []
    for name, text in _texts(proposal):
        if _UNREADABLE.search(text):
            message = "holds a control character, so it would not read the same for everyone"
            issues.append(Issue(code="unreadable", field=name, message=message))
    for name in ("text", "background", "criteria"):
        if instructs(getattr(proposal, name)):
            message = "reads as an instruction to the model; ask the question alone"
            issues.append(Issue(code="prompt_injection", field=name, message=message))
    if (what := forbidden(proposal.text)) is not None:
        message = f"asks about {what}, on which no market is made; ask about something else"
        issues.append(Issue(code="forbidden", field="text", message=message))
    expiry = proposal.draft.rules.expiry if proposal.draft else proposal.expiry
    if expiry is not None and expiry <= now:
        field = "draft.rules.expiry" if proposal.draft else "expiry"
        issues.append(Issue(code="expiry_past", field=field, message=f"{expiry.isoformat()} has passed"))
    if proposal.expiry is not None and proposal.expiry > now + EXPIRY_LIMIT:
        message = f"{proposal.expiry.isoformat()} is more than a hundred years ahead"
        issues.append(Issue(code="expiry_far", field="expiry", message=message))
    if proposal.draft is not None:
        for place, source in enumerate(proposal.draft.rules.criteria.allowed_sources):
            if (why := check_url(source.url)) is not None:
                field = f"draft.rules.criteria.allowed_sources.{place}.url"
                issues.append(Issue(code="source_refused", field=field, message=why[:300]))
    return issues


def forbidden(question: str) -> str | None:
    """What a question is a bet on that no market is made on, or None."""
    return next((what for what, words in _FORBIDDEN_QUESTIONS.items() if words.search(question)), None)


def check_key(key: str) -> list[Issue]:
    """Faults of an idempotency key."""
    if _KEY.fullmatch(key):
        return []
    return [Issue(code="bad_field", field="key", message="must be 1 to 200 printable ASCII characters")]


def _texts(proposal: Proposal) -> Iterator[tuple[str, str]]:
    """The free texts; those of the rules are checked by their models."""
    for name in ("text", "background", "criteria"):
        yield name, getattr(proposal, name)
    if proposal.draft is not None:
        yield "draft.title", proposal.draft.title
        yield "draft.description", proposal.draft.description
