"""The step that sends follow-ups, over every channel's real protocol, against sinks that fail on demand."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.testing import ActivityEnvironment

from activities.channels import FollowUpSteps, Message, RefusedError, senders
from db import audit, follow_ups, leads
from db.follow_ups import Contact, Tenant
from db.pool import Pool, connect
from deploy.local import sink_control
from deploy.local.channel_sinks.sinks import Delivery, Fault
from deploy.local.sink_control import SinkControl
from domain.follow_up import WINDOW, Channel, SendRequest, SendResult
from domain.leads import Lead, Outcome, enrich
from domain.messages import Words
from tests.conftest import EmbeddedStack

NOTHING_SET_UP: dict[str, Any] = {
    "smtp_url": None, "email_from": "clotho@clotho.example", "sms": (None, None), "whatsapp": (None, None),
    "webhook_stand_in": None,
}  # fmt: skip
WHILE_OPEN = {"quiet_start": "00:00", "quiet_end": "00:00"}


@pytest.fixture(scope="module")
async def pool(stack: EmbeddedStack) -> AsyncIterator[Pool]:
    async with await connect(stack.environment["DATABASE_URL"]) as opened:
        yield opened


@pytest.fixture
async def sinks(stack: EmbeddedStack) -> AsyncIterator[SinkControl]:
    async with sink_control.connected(stack.environment) as opened:
        yield opened
        await opened.mend()


@pytest.fixture
async def steps(stack: EmbeddedStack, pool: Pool) -> AsyncIterator[FollowUpSteps]:
    given = stack.environment
    async with senders(
        smtp_url=given["SMTP_URL"], email_from="clotho@clotho.example",
        sms=(given["SMS_API_URL"], "key"), whatsapp=(given["WHATSAPP_API_URL"], "key"),
        webhook_stand_in=given["WEBHOOK_STAND_IN_URL"],
    ) as channels:  # fmt: skip
        yield FollowUpSteps(pool, channels)


class SomeLead:
    """A lead of a tenant of its own, reached over one channel."""

    def __init__(self, pool: Pool, sinks: SinkControl, steps: FollowUpSteps, channel: Channel) -> None:
        self._pool, self._sinks, self._steps, self.channel = pool, sinks, steps, channel
        self.id, self.tenant = f"lead-{uuid4().hex[:12]}", f"tenant-{uuid4().hex[:12]}"
        number = f"+23480{uuid4().int % 10**8:08}"
        email, hook = f"{self.id}@example.org", f"https://hooks.example.org/{self.id}"
        self.address = {Channel.EMAIL: email, Channel.WEBHOOK: hook}.get(channel, number)
        self.due = datetime.now(UTC)

    async def arrive(self, **tenant: Any) -> None:
        """Store the lead, its tenant and its contact."""
        hook = {"webhook_url": self.address} if self.channel is Channel.WEBHOOK else {}
        given = {"tenant": self.tenant, "business": "Acme", **WHILE_OPEN, **hook, **tenant}
        await follow_ups.put_tenant(self._pool, Tenant.model_validate(given), "tests")
        await self.share_tenant()

    async def share_tenant(self) -> None:
        """Store the lead and its contact alone."""
        words = Lead(lead_id=self.id, tenant=self.tenant, details="Book a demo", created_at=self.due)
        await leads.add(self._pool, enrich(words), tenant=self.tenant)
        if self.channel is not Channel.WEBHOOK:
            contact = {"lead_id": self.id, "channel": self.channel, "address": self.address}
            assert await follow_ups.put_contact(self._pool, Contact.model_validate(contact), "tests")

    async def send(self, number: int = 1, later: timedelta = timedelta(0)) -> SendResult:
        """One try."""
        request = SendRequest(lead_id=self.id, number=number, due=self.due, at=self.due + later)
        result: SendResult = await ActivityEnvironment().run(self._steps.send_follow_up, request)
        return result

    async def got(self) -> list[Delivery]:
        return await self._sinks.deliveries(self.address)

    async def state(self) -> str:
        row = await follow_ups.find(self._pool, self.id, 1)
        assert row is not None
        return row.state


@pytest.fixture
async def lead(pool: Pool, sinks: SinkControl, steps: FollowUpSteps, request: pytest.FixtureRequest) -> SomeLead:
    return SomeLead(pool, sinks, steps, getattr(request, "param", Channel.SMS))


EVERY_CHANNEL = pytest.mark.parametrize("lead", list(Channel), indirect=True)
BOTH_PROTOCOLS = pytest.mark.parametrize("lead", [Channel.EMAIL, Channel.SMS], indirect=True)


@EVERY_CHANNEL
async def test_a_message_arrives_once_however_often_it_is_tried(lead: SomeLead, pool: Pool) -> None:
    await lead.arrive()
    results = await asyncio.gather(*(lead.send() for _ in range(4)))
    assert "sent" in {result.status for result in results}
    assert (await lead.send()).status == "sent"
    (message,) = await lead.got()
    assert "your request" in message.text
    assert "Acme" in message.text
    trail = [entry.action for entry in await audit.entries(pool, "lead", lead.id) if "follow_up" in entry.action]
    assert len(trail) == 1
    await lead.send(2)
    first, second = await lead.got()
    assert first.text != second.text


@BOTH_PROTOCOLS
async def test_a_provider_that_is_down_is_tried_again_later(lead: SomeLead, sinks: SinkControl) -> None:
    await lead.arrive()
    await sinks.fail(Fault(sink=lead.channel.value, kind="down", count=2))
    for tried, wait in enumerate((30, 60)):
        result = await lead.send()
        assert result.status == "waits", tried
        assert result.again is not None
        assert 0 <= (result.again - lead.due).total_seconds() - wait < 30
        assert await lead.got() == []
    assert (await lead.send()).status == "sent"
    assert len(await lead.got()) == 1


@EVERY_CHANNEL
async def test_a_lost_reply_never_sends_twice(lead: SomeLead, sinks: SinkControl) -> None:
    await lead.arrive()
    await sinks.fail(Fault(sink=lead.channel.value, kind="lost_reply", count=1))
    first = await lead.send()
    again = await lead.send()
    # A mail server knows no keys, so nobody may ask it again.
    expected = ("unconfirmed", "unconfirmed") if lead.channel is Channel.EMAIL else ("waits", "sent")
    assert (first.status, again.status) == expected
    assert len(await lead.got()) == 1


@BOTH_PROTOCOLS
async def test_what_is_refused_is_not_tried_again(lead: SomeLead, sinks: SinkControl) -> None:
    await lead.arrive()
    await sinks.fail(Fault(sink=lead.channel.value, kind="refuse", count=1))
    refused = await lead.send()
    assert refused.status == "failed"
    assert lead.address not in refused.reason
    assert await lead.send() == refused
    assert await lead.got() == []


async def test_another_channel_does_not_repeat_what_may_be_on_its_way(
    lead: SomeLead, sinks: SinkControl, pool: Pool
) -> None:
    await lead.arrive()
    await sinks.fail(Fault(sink="sms", kind="lost_reply", count=1))
    assert (await lead.send()).status == "waits"
    whatsapp = Contact(lead_id=lead.id, channel=Channel.WHATSAPP, address=lead.address)
    await follow_ups.put_contact(pool, whatsapp, "tests")
    assert (await lead.send()).status == "waits"
    assert (await lead.send(later=timedelta(minutes=3))).status == "unconfirmed"
    assert [message.sink for message in await lead.got()] == ["sms"]


async def test_nothing_is_sent_after_an_outcome(lead: SomeLead, pool: Pool) -> None:
    await lead.arrive()
    await leads.record_outcome(pool, lead.id, Outcome.BOOKED, "tests")
    stopped = await lead.send()
    assert (stopped.status, stopped.reason) == ("stopped", "The lead is booked.")
    assert await lead.got() == []


async def test_a_message_waits_for_the_end_of_quiet_hours(lead: SomeLead) -> None:
    lead.due = datetime.now(UTC).replace(hour=22, minute=30) + timedelta(days=1)
    await lead.arrive(quiet_start="21:00", quiet_end="08:00", time_zone="Africa/Lagos")
    result = await lead.send()
    morning = (lead.due + timedelta(days=1)).replace(hour=7, minute=0, second=0, microsecond=0)
    assert (result.status, result.again) == ("waits", morning)
    assert await lead.got() == []
    assert (await lead.send(later=morning - lead.due)).status == "sent"


async def test_a_window_that_is_over_is_missed_unless_it_may_have_arrived(
    pool: Pool, sinks: SinkControl, steps: FollowUpSteps
) -> None:
    for fault, ending, arrived in (("down", "missed", 0), ("lost_reply", "unconfirmed", 1)):
        lead = SomeLead(pool, sinks, steps, Channel.SMS)
        await lead.arrive()
        await sinks.fail(Fault.model_validate({"sink": "sms", "kind": fault, "count": 1}))
        assert (await lead.send()).status == "waits"
        assert (await lead.send(later=WINDOW)).status == ending
        assert len(await lead.got()) == arrived


async def test_a_tenants_limit_holds_over_all_of_its_leads(
    pool: Pool, sinks: SinkControl, steps: FollowUpSteps
) -> None:
    some = [SomeLead(pool, sinks, steps, Channel.SMS) for _ in range(6)]
    await some[0].arrive(limits={"hour": 3})
    for lead in some[1:]:
        lead.tenant = some[0].tenant
        await lead.share_tenant()
    results = await asyncio.gather(*(lead.send() for lead in some))
    assert sorted(result.status for result in results) == ["sent"] * 3 + ["waits"] * 3
    for lead, result in zip(some, results, strict=True):
        assert len(await lead.got()) == (result.status == "sent")
        if result.again is not None:
            assert timedelta(minutes=59) < result.again - lead.due < timedelta(minutes=61)


async def test_a_lead_nobody_can_reach_is_said_to_be_so(lead: SomeLead, pool: Pool) -> None:
    await leads.add(
        pool, enrich(Lead(lead_id=lead.id, tenant="nobody", details="Hello", created_at=lead.due)), tenant="nobody"
    )
    await follow_ups.put_tenant(pool, Tenant.model_validate({"tenant": "nobody", "business": "N", **WHILE_OPEN}), "t")
    assert (await lead.send()).reason == "The lead has no contact and its tenant no webhook."


async def test_a_webhook_goes_to_public_addresses_only() -> None:
    # A name that a tenant may point anywhere it likes, after it was looked at.
    message = Message(key="k", to="https://localhost/hook", words=Words(subject="s", text="t"), lead_id="one")
    async with senders(**NOTHING_SET_UP) as channels:
        with pytest.raises(RefusedError, match="not a public one"):
            await channels[Channel.WEBHOOK].send(message)


async def test_a_channel_that_is_not_set_up_keeps_its_messages(pool: Pool, sinks: SinkControl) -> None:
    async with senders(**NOTHING_SET_UP) as channels:
        for channel, setting in ((Channel.SMS, "SMS_API_URL"), (Channel.EMAIL, "SMTP_URL")):
            lead = SomeLead(pool, sinks, FollowUpSteps(pool, channels), channel)
            await lead.arrive()
            result = await lead.send()
            assert (result.status, result.reason) == ("waits", f"{setting} is not set.")
