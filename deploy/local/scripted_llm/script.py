"""From the messages of a request to the answer: finds the data blocks, recognises the prompt by them, answers it."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter

from deploy.local.scripted_llm import (
    dispute_review,
    duplicate_detection,
    entity_extraction,
    market_generation,
    resolution,
    safety_check,
    validation,
)
from domain.base import Model
from domain.duplicates import Asked
from domain.market import Issue, MarketDraft
from domain.rules import Answer

_BLOCK = re.compile(r"^<([a-z_]+)>\n([^\n]*)\n</\1>$", re.MULTILINE)
_FINDINGS: TypeAdapter[tuple[Issue, ...]] = TypeAdapter(tuple[Issue, ...])
_EVIDENCE: TypeAdapter[tuple[resolution.Evidence, ...]] = TypeAdapter(tuple[resolution.Evidence, ...])


class NotScripted(ValueError):
    """The messages are none of Clotho's prompts; the message says what is."""


def answer(user_messages: Iterable[str]) -> Model:
    """The answer to a rendered prompt: of the first message with data blocks; later ones ask for repair.

    Raises:
        NotScripted: no prompt that the script knows.
        ValueError: a block holds what the prompt does not promise.
    """
    for message in user_messages:
        blocks = {name: json.loads(data) for name, data in _BLOCK.findall(message)}
        if blocks:
            return _answer(blocks)
    raise NotScripted("This is a script and no model: it answers only Clotho's prompts, whose data blocks are missing.")


def _answer(blocks: Mapping[str, Any]) -> Model:
    match blocks:
        case {"title": title, "content": content, "published": published, "today": today}:
            return entity_extraction.answer(title=title, content=content, published=published, today=today)
        case {"draft": draft, "findings": findings, "today": today}:
            return validation.answer(
                draft=MarketDraft.model_validate(draft), findings=_FINDINGS.validate_python(findings), today=today
            )
        case {"question": question, "condition": condition, "evidence": evidence, "lens": lens}:
            documents = _EVIDENCE.validate_python(evidence)
            return resolution.answer(question=question, condition=condition, evidence=documents, lens=lens)
        case {
            "question": question, "rules": rules, "outcome": outcome, "dispute": reason, "evidence": evidence,
            "recheck": recheck,
        }:  # fmt: skip
            return dispute_review.answer(
                question=question,
                rules=dispute_review.Rules.model_validate(rules),
                outcome=Answer(outcome),
                dispute=reason,
                evidence=_EVIDENCE.validate_python(evidence),
                recheck=dispute_review.Found.model_validate(recheck),
            )
        case {
            "question": question, "background": background, "criteria": criteria, "category": category,
            "expiry": expiry, "today": today,
        }:  # fmt: skip
            return market_generation.answer(
                question=question,
                background=background,
                criteria=criteria,
                category=category,
                expiry=expiry,
                today=today,
            )
        case {"text": text, "background": background, "criteria": criteria}:
            return safety_check.answer(text=text, background=background, criteria=criteria)
        case {"proposed": proposed, "existing": existing}:
            return duplicate_detection.answer(
                proposed=Asked.model_validate(proposed), existing=Asked.model_validate(existing)
            )
    raise NotScripted(f"This is a script and no model: no prompt of Clotho has the data blocks {', '.join(blocks)}.")
