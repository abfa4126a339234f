"""The stories whose histories and fingerprints are kept: the distinct ways through each workflow."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory

from bench.public_leads import public_leads
from cli.feeding import start as start_intake
from cli.migration import BUNDLED, read_inputs
from db import ai_config, ai_versions, follow_ups, leads, markets, model_migrations, news
from db.follow_ups import Contact, Tenant
from deploy.local import data
from deploy.local.source_site.control import Fault, Release
from domain import follow_up, migration, model, pii, steps
from domain.base import Model
from domain.follow_up import Channel, FollowUpEnd, FollowUpRequest, OutcomeTold
from domain.ids import follow_up_workflow_id, migration_workflow_id, pii_workflow_id
from domain.leads import Lead, Outcome, enrich
from domain.market import MarketDraft, Note, Proposal, Unpark
from domain.migration import MigrationEnd, MigrationRequest
from domain.model import RetrainEnd, RetrainRequest
from domain.news import IntakeEnd
from domain.news_items import item_of
from domain.pii import BackfillEnd, BackfillRequest, BackfillState
from domain.review import Approve, Reject, RejectCode, RequestChanges, Resolve, ReviewKind
from domain.rules import NotYetPublished, ResolutionRules
from domain.status import MarketStatus
from domain.steps import Role
from prompts import loader
from tests.support import eventually
from tests.workflows.world import REVIEWER, Market, Question, Review, Running, TextQuestion, World, text_question

NOTE = Note(by="operator", reason="the story goes so")
APPROVAL = Approve(by=REVIEWER, reason="the question is clear", at_once=True)
OTHER_VERSION = "ai_v1.0.2_gpt41_20260702"


@dataclass(frozen=True)
class Pace:
    """How long the stories' waits are."""

    trading: timedelta
    between_looks: int
    """Seconds. The dispute window is as long."""
    long_window: int
    """Seconds of a dispute window in which somebody disputes."""
    skipped: bool
    """Whether the waits are skipped, or really waited."""


REAL = Pace(trading=timedelta(seconds=20), between_looks=3, long_window=12, skipped=False)
SKIPPED = Pace(trading=timedelta(days=30), between_looks=3_600, long_window=86_400, skipped=True)


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

    async def start(
        self, asked: MarketDraft | Proposal, status: MarketStatus = MarketStatus.ACTIVE, *, window: int | None = None
    ) -> Market:
        """Start a market; returns when it has the status."""
        market = await self.world.start(asked, dispute_window=window or self.pace.between_looks)
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
    await (await market.review()).decide("approve", APPROVAL)
    await market.becomes(MarketStatus.ACTIVE)
    await stage.question.publish()
    await stage.end(market)
    return market


async def review_changes_requested(stage: Stage) -> Market:
    draft = stage.draft(rules=stage.rules(value_path="$.observations[*].price"))
    market = await stage.start(draft, MarketStatus.PENDING_REVIEW)
    mended = await markets.store_rules(stage.world.pool, stage.rules())
    changes = RequestChanges(by=REVIEWER, reason="the path", changed=mended, at_once=True)
    await (await market.review()).decide("request_changes", changes)
    await market.until(lambda state: state.validation and not state.validation.issues, "a validation without issues")
    await market.children(2)
    await (await market.review()).decide("approve", APPROVAL)
    await market.becomes(MarketStatus.ACTIVE)
    await stage.question.publish()
    await stage.end(market)
    return market


async def review_rejected(stage: Stage) -> Market:
    market = await stage.start(stage.draft(confidence=0.5), MarketStatus.PENDING_REVIEW)
    review = await market.review()
    rejection = Reject(
        by=REVIEWER,
        reason="the question is of no interest",
        code=RejectCode.NO_INTEREST,
        lease=(await review.claim()).lease,
        at_once=True,
    )
    await review.signal("reject", rejection)
    await stage.end(market)
    return market


async def review_withdrawn(stage: Stage) -> Market:
    market = await stage.start(stage.draft(confidence=0.5), MarketStatus.PENDING_REVIEW)
    await market.review()
    await market.tell("cancel", NOTE)
    await stage.end(market)
    return market


async def resolved_by_hand(stage: Stage) -> Market:
    # On a host of its own, which fails while the other stories go on.
    question = text_question(stage.world.site, "manifold:dI5U6ps6IP")
    market, mend = await parked_at_a_source(stage, question)
    by_hand = Resolve(by=REVIEWER, reason="the printed bulletin says so", outcome=question.truth, at_once=True)
    await (await market.review(ReviewKind.RESOLUTION)).decide("resolve", by_hand)
    await mend()
    await stage.end(market)
    return market


async def dispute_upheld(stage: Stage) -> Market:
    market = await stage.start(stage.draft(), window=stage.pace.long_window)
    await stage.question.publish()
    await stage.expire(market)
    await market.becomes(MarketStatus.RESOLVED)
    await stage.world.dispute(market, await stage.world.holder(market))
    await market.until(lambda state: state.status is MarketStatus.RESOLVED and not state.disputes, "the upheld outcome")
    await stage.end(market)
    return market


async def dispute_overturned_by_a_person(stage: Stage) -> Market:
    market = await stage.start(stage.draft(), window=stage.pace.long_window)
    await stage.question.publish()
    await stage.question.misprint()
    await stage.expire(market)
    await market.becomes(MarketStatus.RESOLVED)
    await stage.question.publish()
    dispute = await stage.world.dispute(market, await stage.world.holder(market))
    review = Review(stage.world, ReviewKind.DISPUTE, str(dispute))
    await review.opens()
    by_hand = Resolve(by=REVIEWER, reason="the value was corrected", outcome=stage.question.truth, at_once=True)
    await review.decide("resolve", by_hand)
    await market.until(lambda state: state.status is MarketStatus.RESOLVED and not state.disputes, "the new outcome")
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
    market, mend = await parked_at_a_source(stage, text_question(stage.world.site, "infer:1681"))
    await market.review(ReviewKind.RESOLUTION)
    await mend()
    await market.tell("unpark", Unpark(decision="retry", by="operator", reason="the source answers again"))
    await stage.end(market)
    return market


async def news_becomes_a_market(stage: Stage) -> Running[Any, IntakeEnd]:
    # The rules are silent about it, so that the model decides.
    item = item_of(
        url="", title=f"{uuid4().hex} to return to the park", content="The keepers plan it until September 9, 2031."
    )
    assert item is not None
    async with stage.world.pool.acquire() as connection, connection.transaction():
        await news.store(connection, None, [item])
    handle = await start_intake(stage.world.client, "story", poll=False)
    intake = Running(stage.world, handle.id, Model, IntakeEnd)
    await intake.result()
    return intake


async def migration_rejected(stage: Stage) -> Running[Any, MigrationEnd]:
    made = await ai_versions.create(stage.world.pool, OTHER_VERSION, {}, loader.hashes(), "operator", NOTE.reason)
    await model_migrations.add_inputs(stage.world.pool, read_inputs(BUNDLED, made, loader.BUNDLED))
    current = str(await ai_config.get(stage.world.pool, "ai_version"))
    request = MigrationRequest(id=uuid4().hex, old_version=current, new_version=made.version, by="operator")
    await model_migrations.begin(stage.world.pool, request, NOTE.reason)
    await stage.world.client.start_workflow(
        migration.WORKFLOW, request, id=migration_workflow_id(request.id), task_queue=Role.ORCHESTRATOR.value
    )
    review = Review(stage.world, ReviewKind.MODEL_MIGRATION, request.id)
    await review.opens()
    await review.decide("reject", Reject(by=REVIEWER, reason="too dear", code=RejectCode.OTHER, at_once=True))
    migrating = Running(stage.world, migration_workflow_id(request.id), Model, MigrationEnd)
    await migrating.result()
    return migrating


async def retrained(stage: Stage) -> Running[Any, RetrainEnd]:
    await leads.import_outcomes(stage.world.pool, public_leads(), uuid4().hex, "operator")
    handle = await stage.world.client.start_workflow(
        model.WORKFLOW,
        RetrainRequest(model="lead", cause="operator", by="operator"),
        id=f"retrain-lead-{uuid4().hex}",
        task_queue=Role.ORCHESTRATOR.value,
    )
    retraining = Running(stage.world, handle.id, Model, RetrainEnd)
    assert (await retraining.result()).status == "active"
    return retraining


async def lead_followed_up(stage: Stage) -> Running[Any, FollowUpEnd]:
    following = await followed_up(stage, (1, 2))
    assert (await following.result()).messages == ("sent", "sent")
    return following


async def follow_up_stopped(stage: Stage) -> Running[Any, FollowUpEnd]:
    following = await followed_up(stage, (600,))

    async def waits() -> bool:
        return any(event.event_type == EventType.EVENT_TYPE_TIMER_STARTED for event in await following.events())

    await eventually(waits, "the wait for the first message")
    await following.signal("outcome", OutcomeTold(outcome=Outcome.BOOKED))
    await following.result()
    return following


async def followed_up(stage: Stage, delays: tuple[int, ...]) -> Running[Any, FollowUpEnd]:
    """The follow-ups of a lead that has come in; of a tenant of its own, where it is never quiet."""
    pool, lead = stage.world.pool, uuid4().hex
    tenant = {"tenant": lead, "business": "Acme", "quiet_start": "00:00", "quiet_end": "00:00"}
    await follow_ups.put_tenant(pool, Tenant.model_validate(tenant), "operator")
    words = Lead(lead_id=lead, tenant=lead, details="Please call me", created_at=datetime.now(UTC))
    await leads.add(pool, enrich(words), tenant=lead)
    contact = Contact(lead_id=lead, channel=Channel.SMS, address="+2348012345678")
    await follow_ups.put_contact(pool, contact, "operator")
    handle = await stage.world.client.start_workflow(
        follow_up.WORKFLOW,
        FollowUpRequest(lead_id=lead, delays=delays),
        id=follow_up_workflow_id(lead),
        task_queue=Role.ORCHESTRATOR.value,
    )
    return Running(stage.world, handle.id, Model, FollowUpEnd)


async def pii_removed(stage: Stage) -> Running[Any, BackfillEnd]:
    handle = await stage.world.client.start_workflow(
        pii.WORKFLOW,
        BackfillRequest(execute=True, by="operator"),
        id=pii_workflow_id(uuid4().hex),
        task_queue=Role.ORCHESTRATOR.value,
    )
    run = Running(stage.world, handle.id, BackfillState, BackfillEnd)
    assert (await run.result()).status == "clean"
    return run


async def parked_at_a_source(stage: Stage, question: TextQuestion) -> tuple[Market, Callable[[], Awaitable[None]]]:
    """A market whose source is gone at expiry, and what brings it back; its host is no other story's."""
    host = urlsplit(question.question.url).hostname
    await question.withhold()
    market = await stage.start(question.proposal(stage.expiry()))
    await question.publish()
    await stage.world.site.fault(Fault(host=host, status=404))
    await stage.expire(market)
    await market.parks(steps.COLLECT_EVIDENCE.name)

    async def mend() -> None:
        await stage.world.site.release(Release(host=host))

    return market, mend


async def paused_and_resumed(stage: Stage) -> Market:
    market = await stage.start(stage.draft())
    await stage.question.publish()
    await market.tell("pause", NOTE)
    await stage.expire(market)

    async def held() -> bool:
        return bool(await market.steps(steps.RECORD_ORDER.name))

    # A pause that is over before it holds anything is another story.
    await eventually(held, "the pause that holds it")
    await market.signal("resume", NOTE)
    await stage.end(market)
    return market


STORIES: dict[str, Callable[[Stage], Awaitable[Running[Any, Any]]]] = {
    story.__name__: story
    for story in (
        happy_machine_checkable,
        happy_text_condition,
        review_approved,
        review_changes_requested,
        review_rejected,
        review_withdrawn,
        resolved_by_hand,
        dispute_upheld,
        dispute_overturned_by_a_person,
        canceled_while_trading,
        not_yet_published,
        parked_and_retried,
        paused_and_resumed,
        news_becomes_a_market,
        migration_rejected,
        retrained,
        lead_followed_up,
        follow_up_stopped,
        pii_removed,
    )
}


async def tell(world: World, pace: Pace) -> dict[str, WorkflowHistory]:
    """Tell all stories at once, to their ends; returns their histories by name, those of reviews and disputes too."""
    series = (one for one in data.load_series() if one.source == "fred" and len(one.observations) > 1)

    async def told(name: str, story: Callable[[Stage], Awaitable[Running[Any, Any]]]) -> dict[str, WorkflowHistory]:
        question = Question(next(series), world.site)
        await question.withhold()
        running = await story(Stage(world, pace, question))
        return {name: await running.history()} | {
            f"{name}.{place}": history for place, history in enumerate(await running.histories_of_children(), start=1)
        }

    async with asyncio.TaskGroup() as group:
        telling = [group.create_task(told(name, story)) for name, story in STORIES.items()]
    return {name: history for task in telling for name, history in task.result().items()}
