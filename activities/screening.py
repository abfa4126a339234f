"""Screening of a proposal before anybody drafts it: whether it is safe, and whether an open market asks the same."""

import asyncio
import re
from dataclasses import dataclass
from uuid import UUID

from activities.llm_client import Given, LlmClient, request_ids
from db import ai_config, markets
from db.markets import OpenQuestion
from db.pool import Connection, Pool
from domain.answers import DuplicateDetectionAnswer, SafetyCheckAnswer
from domain.duplicates import ALIKE_ABOVE, Asked, Likeness, compare
from domain.market import Proposal

MOST_ASKED = 3
"""So many of the most alike questions the model compares; a real duplicate is among the first."""

_URL = re.compile(r"https?://[^\s<>\"')\]]+")


@dataclass(frozen=True)
class Screened:
    """What screening found; `refusal` is empty when a draft may be made."""

    refusal: str = ""
    matched: UUID | None = None
    """The open market that asks the same; the refusal says so."""
    compared: frozenset[UUID] = frozenset()
    """The open markets that were compared."""
    request_ids: tuple[str, ...] = ()
    """Of the model's answers."""


class OpenedMeanwhile(Exception):
    """Since the screening a market was opened that may ask the same: screen again."""


class Screening:
    """Screens proposals by patterns of Postgres and by prompts."""

    def __init__(self, pool: Pool, llm: LlmClient) -> None:
        self._pool = pool
        self._llm = llm

    async def screen(self, market_id: UUID, proposal: Proposal, ai_version: str) -> Screened:
        """Ask whether a text is safe; then compare it with the open markets. Answers are cached by input hash."""
        checked = await self._llm.ask(
            ai_version,
            "safety_check",
            SafetyCheckAnswer,
            {"text": proposal.text, "background": proposal.background, "criteria": proposal.criteria},
            subject=str(market_id),
        )
        safe, asked_for = checked.answer, request_ids(checked)
        if not safe.safe:
            refusal = safe.reason or f"It is not safe to make a market of it ({safe.concern})."
            return Screened(refusal=refusal, request_ids=asked_for)
        async with self._pool.acquire() as connection, connection.transaction():
            alike = await self._alike(connection, market_id, proposal)
        asked = _asked(proposal)
        found = [(_likeness(asked, question), question) for question in alike]
        compared = frozenset(question.id for question in alike)
        for likeness, question in found:
            if likeness is Likeness.SAME:
                return _matched(question, "asks the same", compared, asked_for)
        doubtful = [question for likeness, question in found if likeness is Likeness.ASK][:MOST_ASKED]
        answers = await asyncio.gather(
            *(self._compared(market_id, asked, question, ai_version) for question in doubtful)
        )
        asked_for += request_ids(*answers)
        threshold = float(await ai_config.get(self._pool, "validation_confidence_threshold"))
        for question, answer in zip(doubtful, (one.answer for one in answers), strict=True):
            if answer.relation != "different" and answer.confidence >= threshold:
                how = "asks the same" if answer.relation == "same" else "asks the opposite, so its other side is yours"
                return _matched(question, how, compared, asked_for)
        return Screened(compared=compared, request_ids=asked_for)

    async def check_again(
        self, connection: Connection, market_id: UUID, proposal: Proposal, compared: frozenset[UUID]
    ) -> None:
        """Within the transaction that opens the market: no other was opened since that may ask the same.

        Raises:
            OpenedMeanwhile: one was.
        """
        await markets.hold_open(connection)
        asked = _asked(proposal)
        for question in await self._alike(connection, market_id, proposal):
            if question.id not in compared and _likeness(asked, question) is not Likeness.DIFFERENT:
                raise OpenedMeanwhile

    async def _alike(self, connection: Connection, market_id: UUID, proposal: Proposal) -> list[OpenQuestion]:
        return await markets.open_questions(connection, market_id, proposal.text, at_least=ALIKE_ABOVE)

    async def _compared(
        self, market_id: UUID, asked: Asked, question: OpenQuestion, ai_version: str
    ) -> Given[DuplicateDetectionAnswer]:
        return await self._llm.ask(
            ai_version,
            "duplicate_detection",
            DuplicateDetectionAnswer,
            {"proposed": asked.model_dump_json(), "existing": _existing(question).model_dump_json()},
            subject=str(market_id),
        )


def _asked(proposal: Proposal) -> Asked:
    return Asked(
        question=proposal.text,
        urls=_urls(proposal),
        expires_on=proposal.expiry.date().isoformat() if proposal.expiry else "",
    )


def _existing(question: OpenQuestion) -> Asked:
    named = _urls(question.proposed) if question.proposed else ()
    return Asked(
        question=question.question, urls=(*question.urls, *named), expires_on=question.expiry.date().isoformat()
    )


def _urls(proposal: Proposal) -> tuple[str, ...]:
    """The pages that a proposal names as its sources; a background names many that are none."""
    found = _URL.findall(f"{proposal.text}\n{proposal.criteria}")
    return tuple(dict.fromkeys(url.rstrip(".,;:!?") for url in found))


def _likeness(asked: Asked, question: OpenQuestion) -> Likeness:
    """How a text stands to an open market, by its question as it is now.

    The words it was proposed in may have been changed since, by draft or review: alone they are a reason to ask.
    """
    existing = _existing(question)
    likeness = compare(asked, existing, question.question_likeness).likeness
    if likeness is not Likeness.DIFFERENT or question.proposed is None:
        return likeness
    first = existing.model_copy(update={"question": question.proposed.text})
    once = compare(asked, first, question.proposed_likeness).likeness
    return Likeness.DIFFERENT if once is Likeness.DIFFERENT else Likeness.ASK


def _matched(question: OpenQuestion, how: str, compared: frozenset[UUID], request_ids: tuple[str, ...]) -> Screened:
    return Screened(
        refusal=f"The open market {question.id} {how}: {question.question}"[:400],
        matched=question.id,
        compared=compared,
        request_ids=request_ids,
    )
