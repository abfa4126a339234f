"""Follow-ups of leads in skipped time: two messages, fewer after an outcome, later ones while a provider is down."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from bench.histories import readable
from cli import following
from db import follow_ups, leads
from db.follow_ups import Contact, Tenant
from deploy.local import sink_control
from deploy.local.channel_sinks.sinks import Delivery, Fault
from deploy.local.sink_control import SinkControl
from domain.base import Model
from domain.follow_up import WORKFLOW, Channel, FollowUpEnd, FollowUpRequest
from domain.ids import follow_up_workflow_id
from domain.leads import Lead, Outcome, enrich
from domain.steps import Role
from tests.conftest import EmbeddedStack
from tests.support import eventually
from tests.workflows.world import Running, World

MINUTES = timedelta(minutes=1)


@pytest.fixture
async def sinks(stack: EmbeddedStack) -> AsyncIterator[SinkControl]:
    async with sink_control.connected(stack.environment) as opened:
        yield opened
        await opened.mend()


class Followed(Running[Model, FollowUpEnd]):
    """A lead that is followed up by SMS, at any hour."""

    def __init__(self, world: World, sinks: SinkControl) -> None:
        self.lead = f"lead-{uuid4().hex[:12]}"
        super().__init__(world, follow_up_workflow_id(self.lead), Model, FollowUpEnd)
        self.world, self._sinks = world, sinks
        self.address = f"+23480{uuid4().int % 10**8:08}"

    async def begin(self, probability: float = 0.7, delays: tuple[int, ...] | None = None) -> bool:
        """Store the lead and have it followed up, if it scored high enough; with `delays` whatever its score."""
        tenant = f"tenant-{self.lead}"
        given = {"tenant": tenant, "business": "Acme", "quiet_start": "00:00", "quiet_end": "00:00"}
        await follow_ups.put_tenant(self.world.pool, Tenant.model_validate(given), "tests")
        words = Lead(lead_id=self.lead, tenant=tenant, details="Please call me", created_at=datetime.now(UTC))
        await leads.add(self.world.pool, enrich(words), tenant=tenant)
        contact = Contact(lead_id=self.lead, channel=Channel.SMS, address=self.address)
        await follow_ups.put_contact(self.world.pool, contact, "tests")
        if delays is not None:
            request = FollowUpRequest(lead_id=self.lead, delays=delays)
            queue = Role.ORCHESTRATOR.value
            await self.world.client.start_workflow(WORKFLOW, request, id=self._handle.id, task_queue=queue)
            return True
        return await following.consider(self.world.client, self.world.pool, self.lead, probability)

    async def got(self) -> list[Delivery]:
        return await self._sinks.deliveries(self.address)

    async def arrived(self, count: int) -> None:
        async def there() -> bool:
            return len(await self.got()) == count

        await eventually(there, f"{count} messages")

    async def outcome(self, outcome: Outcome) -> None:
        """Record an outcome as whoever records them does."""
        assert await leads.record_outcome(self.world.pool, self.lead, outcome, "tests")
        await following.outcomes_recorded(self.world.client, self.world.pool, [(self.lead, outcome)])


@pytest.fixture
async def followed(world: World, sinks: SinkControl) -> Followed:
    return Followed(world, sinks)


async def test_a_promising_lead_gets_two_messages_and_never_more(followed: Followed) -> None:
    assert await followed.begin(0.7)
    await followed.skip(29 * MINUTES)
    assert await followed.got() == []
    await followed.skip(2 * MINUTES)
    await followed.arrived(1)
    await followed.skip(88 * MINUTES)
    assert len(await followed.got()) == 1
    assert await followed.end() == FollowUpEnd(messages=("sent", "sent"))
    assert len(await followed.got()) == 2
    first, second = [step.scheduled for step in await followed.steps("send_follow_up")]
    assert second - first == pytest.approx(90 * MINUTES, abs=MINUTES)
    assert not await following.consider(followed.world.client, followed.world.pool, followed.lead, 0.99)
    history = readable(await followed.events())
    assert followed.lead in history
    for personal in (followed.address, followed.address[1:], "call me", "Acme"):
        assert personal not in history


async def test_a_lead_below_the_threshold_gets_none(followed: Followed) -> None:
    assert not await followed.begin(0.6999)


async def test_an_outcome_between_messages_ends_them(followed: Followed) -> None:
    await followed.begin()
    await followed.skip(31 * MINUTES)
    await followed.arrived(1)
    await followed.outcome(Outcome.QUALIFIED)
    assert await followed.result() == FollowUpEnd(messages=("sent",), stopped="the lead is qualified")
    assert len(await followed.got()) == 1


async def test_an_outcome_that_nobody_told_is_found_before_sending(followed: Followed) -> None:
    await followed.begin()
    await leads.record_outcome(followed.world.pool, followed.lead, Outcome.SPAM, "tests")
    assert await followed.end() == FollowUpEnd(messages=("stopped",), stopped="the lead has an outcome")
    assert await followed.got() == []


async def test_cancelling_it_in_temporal_ends_it(followed: Followed) -> None:
    await followed.begin()
    await followed.cancel_in_temporal()
    assert (await followed.result()).messages == ()
    assert await followed.got() == []


async def test_a_provider_that_is_down_gets_the_message_within_the_window_once(
    followed: Followed, sinks: SinkControl
) -> None:
    await sinks.fail(Fault(sink="sms", kind="down", count=5))
    await followed.begin()
    assert await followed.end() == FollowUpEnd(messages=("sent", "sent"))
    assert len(await followed.got()) == 2
    tries = [step.scheduled for step in await followed.steps("send_follow_up")]
    assert len(tries) == 7
    # The first one went about 15.5 minutes late, and the second as much.
    assert timedelta(minutes=15) < tries[5] - tries[0] < timedelta(minutes=17)
    assert tries[6] - tries[5] == pytest.approx(90 * MINUTES, abs=MINUTES)


async def test_lost_replies_never_send_twice(followed: Followed, sinks: SinkControl) -> None:
    await sinks.fail(Fault(sink="sms", kind="lost_reply", count=3))
    await followed.begin()
    assert await followed.end() == FollowUpEnd(messages=("sent", "sent"))
    assert len(await followed.got()) == 2


async def test_an_outcome_ends_the_tries_at_a_provider_that_is_down(followed: Followed, sinks: SinkControl) -> None:
    await sinks.fail(Fault(sink="sms", kind="down"))
    await followed.begin()
    await followed.skip(35 * MINUTES)
    await followed.outcome(Outcome.GHOSTED)
    assert await followed.result() == FollowUpEnd(messages=(), stopped="the lead is ghosted")
    await sinks.mend()
    (row,) = await follow_ups.recent(followed.world.pool, followed.lead, 10)
    assert row.state == "stopped"
    assert await followed.got() == []


async def test_a_provider_that_is_down_for_too_long_is_given_up(followed: Followed, sinks: SinkControl) -> None:
    await sinks.fail(Fault(sink="sms", kind="down"))
    await followed.begin(delays=(60,))
    assert await followed.end() == FollowUpEnd(messages=("missed",))
    tries = [step.scheduled for step in await followed.steps("send_follow_up")]
    assert timedelta(hours=4) <= tries[-1] - tries[0] < timedelta(minutes=256)
