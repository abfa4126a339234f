"""Steps between a news item and its market: the model asked where the rules are silent, and markets handed over."""

import asyncio
from datetime import UTC, datetime, timedelta

from temporalio.exceptions import ApplicationError

from activities.base import heartbeating, implements
from activities.feeds import decision
from activities.llm_client import Given, LlmClient, request_ids
from db import ai_config, news
from db.pool import Pool
from domain import errors, steps
from domain.answers import EntityExtractionAnswer
from domain.news import MANUAL, Extracted, Extraction, ExtractRequest, HandedOver, HandOverRequest
from domain.news_items import end_of_day

BATCH = 20
"""Items of one step: at 30 s for an answer, four at once, they are done within the step's time."""

AT_ONCE = 4

PAGE = 50
"""Markets that are handed over at once."""

PATIENCE = timedelta(hours=1)
"""So long an item is asked about again while the model answers nothing else either, which may be the model's fault."""

_OF_THE_ITEM = frozenset({errors.LLM_REFUSED.type, errors.LLM_BAD_OUTPUT.type})
"""Failures that one item can cause by its text alone."""


class NewsSteps:
    """Steps of the role llm about news."""

    def __init__(self, pool: Pool, llm: LlmClient) -> None:
        self._pool = pool
        self._llm = llm

    @implements(steps.EXTRACT_NEWS)
    async def extract_news(self, request: ExtractRequest) -> Extracted:
        """Ask the model about items on which the rules were silent: what they are about, and whether worth a market.

        An item that the model refuses, or answers with what breaks the schema, is turned away while others succeed.
        When none does, the fault may be the model's, and it is asked about again for an hour.

        Idempotent because: an item is decided once for its hash (candidates), with the proposal that it causes, and
        answers are cached by input hash.

        Raises:
            ApplicationError: Llm… of the error catalogue; what was decided meanwhile is recorded.
        """
        waiting = await news.waiting(self._pool, request.at, BATCH)
        if not waiting:
            return Extracted()
        ai_version = str(await ai_config.get(self._pool, "ai_version"))
        now = datetime.now(UTC)
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(item: news.Waiting) -> Given[Extraction] | ApplicationError:
            async with gate:
                try:
                    return await self._extraction(item, ai_version, now)
                except ApplicationError as error:
                    return error

        async with heartbeating():
            found = await asyncio.gather(*(one(item) for item in waiting))
        failures = [answer for answer in found if isinstance(answer, ApplicationError)]
        works = len(failures) < len(found)
        decisions = [
            _decision(item, answer, ai_version, now)
            for item, answer in zip(waiting, found, strict=True)
            if isinstance(answer, Given) or (answer.type in _OF_THE_ITEM and (works or now - item.since > PATIENCE))
        ]
        if not decisions:
            raise failures[0]
        async with self._pool.acquire() as connection, connection.transaction():
            decided = await news.decide(connection, decisions)
        for failure in failures:
            if failure.type not in _OF_THE_ITEM:
                raise failure
        return Extracted(decided=decided, left=await news.count_waiting(self._pool, request.at))

    async def _extraction(self, waiting: news.Waiting, ai_version: str, now: datetime) -> Given[Extraction]:
        item = waiting.item
        given = await self._llm.ask(
            ai_version,
            "entity_extraction",
            EntityExtractionAnswer,
            {
                "title": item.title,
                "content": item.content,
                "published": item.published_at.isoformat() if item.published_at else "",
                "today": now.date().isoformat(),
            },
        )
        return Given(checked(given.answer, now), given.request_id)


class IntakeSteps:
    """Steps of the role orchestrator about news."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @implements(steps.HAND_OVER_CANDIDATES)
    async def hand_over_candidates(self, request: HandOverRequest) -> HandedOver:
        """Record which markets were started, and give the next ones.

        Idempotent because: a market's start is recorded once under its id; the rest only reads.
        """
        await news.record_started(self._pool, request.started)
        return HandedOver(candidates=tuple(await news.to_start(self._pool, PAGE)))


def checked(answer: EntityExtractionAnswer, now: datetime) -> Extraction:
    """What the model answered, as far as it holds: a market needs a question and a deadline that is to come."""
    deadline = None if answer.deadline is None else end_of_day(answer.deadline)
    question = answer.question.strip()
    fault = answer.reason.strip() or "the model gave no reason"
    if answer.worth_a_market:
        fault = ""
        if deadline is None or deadline <= now:
            fault = "The model named no deadline that is to come."
        elif len(question) < 10 or not question.endswith("?"):
            fault = "The model wrote no question."
    return Extraction(
        entities=answer.entities,
        event_type=answer.event_type,
        category=answer.category,
        deadline=deadline,
        worth_it=not fault,
        question="" if fault else question,
        reason=fault,
    )


def _decision(
    waiting: news.Waiting, answer: Given[Extraction] | ApplicationError, ai_version: str, now: datetime
) -> news.Decision:
    if isinstance(answer, ApplicationError):
        answer = Given(Extraction(reason=f"The model gave no usable answer ({answer.type})."), None)
    made = decision(waiting.item, answer.answer, ai_version, waiting.source or MANUAL, now)
    return made.model_copy(update={"request_ids": request_ids(answer)})
