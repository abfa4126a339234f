"""What is refused at the door, before anything is written: the deterministic half of the safety filter."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from domain.market import Issue, Proposal
from domain.source_urls import check_url

INPUT_LIMIT = 256 * 1024
"""Bytes of a proposal or draft file; the longest that the models allow is far below."""

_INJECTION = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(ignore|disregard|forget|override)\b.{0,40}\b(previous|prior|above|all|earlier|your|these)\b.{0,40}"
        r"\b(instruction|prompt|rule|direction|message)s?\b",
        r"\b(system|developer)\s*(prompt|message)\b",
        r"\byou are (now|no longer)\b",
        r"\b(act|behave|respond|reply|answer) as (if|an?|the)\b.{0,40}\b(model|assistant|ai|admin|system|developer)\b",
        r"<\|?(im_start|im_end|system|endoftext)\|?>",
        r"\[/?(inst|system)\]",
        r"\b(jailbreak|do anything now)\b",
        r"\b(always|must|should) (resolve|answer|output|return|respond|reply)\b.{0,20}\b(yes|no|met)\b",
    )
)


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
    """Faults of a well-formed proposal: an expiry that has passed, refused sources, text that gives orders."""
    issues = []
    for name in ("text", "background", "criteria"):
        if any(pattern.search(_unspaced(getattr(proposal, name))) for pattern in _INJECTION):
            message = "reads as an instruction to the model; ask the question alone"
            issues.append(Issue(code="prompt_injection", field=name, message=message))
    expiry = proposal.draft.rules.expiry if proposal.draft else proposal.expiry
    if expiry is not None and expiry <= now:
        field = "draft.rules.expiry" if proposal.draft else "expiry"
        issues.append(Issue(code="expiry_past", field=field, message=f"{expiry.isoformat()} has passed"))
    if proposal.draft is not None:
        for place, source in enumerate(proposal.draft.rules.criteria.allowed_sources):
            if (why := check_url(source.url)) is not None:
                field = f"draft.rules.criteria.allowed_sources.{place}.url"
                issues.append(Issue(code="source_refused", field=field, message=why[:300]))
    return issues


def _unspaced(text: str) -> str:
    """Without the invisible characters and the stretched white space that hide words from a filter."""
    return " ".join(re.sub(r"[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]", "", text).split())
