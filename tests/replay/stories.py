"""The stories whose histories and fingerprints are kept: the distinct ways through a lifecycle."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory

from db import markets
from deploy.local import data
from deploy.local.source_site.control import Fault, Release
from domain import steps
from domain.market import MarketDraft, Note, Proposal, RequestChanges, ReviewDecision, Unpark
from domain.rules import NotYetPublished, ResolutionRules
from domain.status import MarketStatus
from tests.support import eventually
from tests.workflows.world import Market, Question, World, text_question

NOTE = Note(by="operator", reason="the story goes so")
APPROVAL = ReviewDecision(by="reviewer", reason="the question is clear")


@dataclass(frozen=True)
class Pace:
    """How long the stories' waits are."""

    trading: timedelta
    between_looks: int
    """Seconds. The dispute window is as long."""
    skipped: bool
    """Whether the waits are skipped, or really waited."""


REAL = Pace(trading=timedelta(seconds=20), between_looks=3, skipped=False)
SKIPPED = Pace(trading=timedelta(days=30), between_looks=3_600, skipped=True)


@dataclass(frozen=True)
class Stage:
    """Where one story is played, with a question of its own whose answer is not published yet."""

    world: World
    pace: Pace
    question: Question

    def expiry(self) -> datetime:
        return (datetime.now(UTC) + self.pace.trading).replace(microsecond=0)

    def rules(self, **changes: Any) -> ResolutionRules:
        waiting = NotYetPublished(
            settle_after=0, check_every=self.pace.between_looks, give_up_after=86_400, then="review"
        )
        return self.question.rules(expiry=self.expiry(), not_yet_published=waiting, **changes)

    def draft(self, **changes: Any) -> MarketDraft:
        return self.question.draft(**{"rules": self.rules(), **changes})

    async def start(self, asked: MarketDraft | Proposal, status: MarketStatus = MarketStatus.ACTIVE) -> Market:
        """Start a market; returns when it has the status."""
        market = await self.world.start(asked, dispute_window=self.pace.between_looks)
        await market.becomes(status)
        return market

    async def expire(self, market: Market) -> None:
        """Return when trading is over."""
        if self.pace.skipped:
            await market.skip(self.pace.trading)

        async def over() -> bool:
            return any(event.event_type == EventType.EVENT_TYPE_TIMER_FIRED for event in await market.events())

        await eventually(over, "the end of trading")

    async def end(self, market: Market) -> None:
        """Return when the story is over."""
        await (market.end() if self.pace.skipped else market.result())


async def happy_machine_checkable(stage: Stage) -> Market:
    market = await stage.start(stage.draft())
    await stage.question.publish()
    await stage.end(market)
    return market


async def happy_text_condition(stage: Stage) -> Market:
    question = text_question(stage.world.site)
    await question.withhold()
    market = await stage.start(question.proposal(stage.expiry()))
    await question.publish()
    await stage.end(market)
    return market


async def review_approved(stage: Stage) -> Market:
    market = await stage.start(stage.draft(confidence=0.5), MarketStatus.PENDING_REVIEW)
    await market.tell("approve", APPROVAL)
    await market.becomes(MarketStatus.ACTIVE)
    await stage.question.publish()
    await stage.end(market)
    return market


async def review_changes_requested(stage: Stage) -> Market:
    draft = stage.draft(rules=stage.rules(value_path="$.observations[*].price"))
    market = await stage.start(draft, MarketStatus.PENDING_REVIEW)
    mended = await markets.store_rules(stage.world.pool, stage.rules())
    await market.tell("request_changes", RequestChanges(by="reviewer", reason="the path", new_rules_sha256=mended))
    await market.until(lambda state: state.validation and not state.validation.issues, "a validation without issues")
    await market.tell("approve", APPROVAL)
    await market.becomes(MarketStatus.ACTIVE)
    await stage.question.publish()
    await stage.end(market)
    return market


async def review_rejected(stage: Stage) -> Market:
    market = await stage.start(stage.draft(confidence=0.5), MarketStatus.PENDING_REVIEW)
    await market.signal("reject", ReviewDecision(by="reviewer", reason="the question is of no interest"))
    await stage.end(market)
    return market


async def canceled_while_trading(stage: Stage) -> Market:
    market = await stage.start(stage.draft())
    await market.tell("cancel", NOTE)
    await stage.end(market)
    return market


async def not_yet_published(stage: Stage) -> Market:
    market = await stage.start(stage.draft())
    await stage.expire(market)
    await market.becomes(MarketStatus.RESOLVING)
    await stage.question.publish()
    await stage.end(market)
    return market


async def parked_and_retried(stage: Stage) -> Market:
    # On a host of its own, which fails while the other stories go on.
    question = text_question(stage.world.site, "infer:1681")
    host = urlsplit(question.question.url).hostname
    await question.withhold()
    market = await stage.start(question.proposal(stage.expiry()))
    await question.publish()
    await stage.world.site.fault(Fault(host=host, status=404))
    await stage.expire(market)
    await market.parks(steps.COLLECT_EVIDENCE.name)
    await stage.world.site.release(Release(host=host))
    await market.tell("unpark", Unpark(decision="retry", by="operator", reason="the source answers again"))
    await stage.end(market)
    return market


async def paused_and_resumed(stage: Stage) -> Market:
    market = await stage.start(stage.draft())
    await stage.question.publish()
    await market.tell("pause", NOTE)
    await stage.expire(market)
    await market.signal("resume", NOTE)
    await stage.end(market)
    return market


STORIES: dict[str, Callable[[Stage], Awaitable[Market]]] = {
    story.__name__: story
    for story in (
        happy_machine_checkable,
        happy_text_condition,
        review_approved,
        review_changes_requested,
        review_rejected,
        canceled_while_trading,
        not_yet_published,
        parked_and_retried,
        paused_and_resumed,
    )
}


async def tell(world: World, pace: Pace) -> dict[str, WorkflowHistory]:
    """Tell all stories at once, to their ends; returns their histories by name."""
    series = (one for one in data.load_series() if one.source == "fred" and len(one.observations) > 1)

    async def told(story: Callable[[Stage], Awaitable[Market]]) -> WorkflowHistory:
        question = Question(next(series), world.site)
        await question.withhold()
        return await (await story(Stage(world, pace, question))).history()

    async with asyncio.TaskGroup() as group:
        telling = {name: group.create_task(told(story)) for name, story in STORIES.items()}
    return {name: task.result() for name, task in telling.items()}
