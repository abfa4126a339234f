"""Follow-ups of leads: how each tenant has them, where leads are reached, and what became of every message."""

import re
from collections.abc import Mapping
from datetime import datetime, time
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from db import audit, rate_limits
from db.pool import Connection, Pool, insertion
from domain.base import Model
from domain.canonical import sha256_hex
from domain.config import Limits, Period
from domain.follow_up import Channel, Ending, QuietHours
from domain.messages import DEFAULT_TEXTS, Text
from domain.source_urls import check_url

MessageState = Literal["waiting", "sending"] | Ending
"""`sending`: on its way, or nobody knows whether it was delivered."""

UNDER_WAY = ("waiting", "sending")


_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
_ADDRESSES = {
    Channel.EMAIL: re.compile(r"[!-?A-~]+@[A-Za-z0-9.-]+\.[A-Za-z0-9-]+"),
    Channel.SMS: _NUMBER,
    Channel.WHATSAPP: _NUMBER,
}
"""Numbers as E.164; mail addresses in ASCII, as every mail server takes them."""


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("no such time zone is known: write one like Africa/Lagos") from None
    return name


def _public(url: str) -> str:
    if (refusal := check_url(url)) is not None:
        raise ValueError(refusal.rstrip("."))
    return url


def _usual_limits() -> dict[Period, int]:
    return {"minute": 10, "hour": 100, "day": 500}


class Tenant(Model):
    """How a tenant's leads are followed up."""

    tenant: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    business: Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f]{1,80}$")]
    """The tenant's name as its customers know it."""
    time_zone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    quiet_start: time = QuietHours().start
    quiet_end: time = QuietHours().end
    limits: Limits = Field(default_factory=_usual_limits)
    """Messages to all of its leads together."""
    webhook_url: Annotated[str, AfterValidator(_public)] | None = None
    """Takes the messages of leads that have no contact of their own."""
    texts: Annotated[tuple[Text, ...], Field(min_length=1, max_length=5)] = DEFAULT_TEXTS

    @property
    def quiet(self) -> QuietHours:
        """When nothing is sent."""
        return QuietHours(start=self.quiet_start, end=self.quiet_end)

    @property
    def zone(self) -> ZoneInfo:
        """Where the tenant's clock stands."""
        return ZoneInfo(self.time_zone)


class Contact(Model):
    """Where a lead is reached: personal data, which no history and no log line holds."""

    lead_id: str
    channel: Literal[Channel.EMAIL, Channel.SMS, Channel.WHATSAPP]
    address: Annotated[str, StringConstraints(strip_whitespace=True, max_length=254)]

    @model_validator(mode="after")
    def _fits(self) -> "Contact":
        if not _ADDRESSES[self.channel].fullmatch(self.address):
            form = "name@example.org" if self.channel is Channel.EMAIL else "+2348012345678"
            raise ValueError(f"the address of {self.channel} reads like {form}")  # without the address itself
        return self


class Addressee(Model):
    """All that a message to a lead needs."""

    intent: str
    tenant: Tenant
    channel: Channel | None
    """None: there is no way to reach the lead."""
    address: str
    outcome: str | None
    """The lead's newest; with one nothing is sent any more."""


class MessageRow(Model):
    """One row of follow_ups."""

    lead_id: str
    number: int
    due: datetime
    state: MessageState
    channel: Channel | None
    tries: int
    provider_id: str | None
    reason: str | None
    updated_at: datetime


async def tenant(connection: Connection | Pool, name: str) -> Tenant | None:
    """What was set for a tenant; None: the defaults."""
    row = await connection.fetchrow(
        "SELECT tenant, business, time_zone, quiet_start, quiet_end, limits, webhook_url, texts"
        " FROM follow_up_tenants WHERE tenant = $1",
        name,
    )
    return None if row is None else Tenant.model_validate(dict(row))


async def put_tenant(pool: Pool, wanted: Tenant, by: str) -> None:
    """Set how a tenant's leads are followed up, from the next message on."""
    fields = wanted.model_dump() | {"updated_by": by}
    changes = ", ".join(f"{name} = excluded.{name}" for name in fields if name != "tenant") + ", updated_at = now()"
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            f"{insertion('follow_up_tenants', fields)} ON CONFLICT (tenant) DO UPDATE SET {changes}",
            *fields.values(),
        )
        # The rest of the address is often all that a webhook asks of who posts there.
        host = wanted.webhook_url and urlsplit(wanted.webhook_url).hostname
        details = wanted.model_dump(mode="json", exclude={"tenant", "webhook_url"}) | {"webhook_host": host}
        await audit.append(connection, "follow_up_tenant_set", "tenant", wanted.tenant, by, details)


async def put_contact(pool: Pool, contact: Contact, by: str) -> bool:
    """Set where a lead is reached; False, and nothing is written, when there is no such lead."""
    async with pool.acquire() as connection, connection.transaction():
        put = await connection.fetchval(
            "INSERT INTO lead_contacts (lead_id, channel, address) SELECT lead_id, $2, $3 FROM leads WHERE lead_id = $1"
            " ON CONFLICT (lead_id) DO UPDATE SET channel = excluded.channel, address = excluded.address"
            " RETURNING true",
            *contact.model_dump().values(),
        )
        if put:
            details = {"channel": contact.channel}
            await audit.append(connection, "lead_contact_set", "lead", contact.lead_id, by, details)
    return bool(put)


async def addressee(connection: Connection | Pool, lead_id: str) -> Addressee | None:
    """Whom a message to a lead is for, and how it gets there; None when there is no such lead."""
    row = await connection.fetchrow(
        "SELECT tenant, tenant_hash, intent, channel, address,"
        " (SELECT outcome FROM lead_outcomes o WHERE o.lead_id = l.lead_id ORDER BY recorded_at DESC, id DESC LIMIT 1)"
        " AS outcome FROM leads l LEFT JOIN lead_contacts USING (lead_id) WHERE lead_id = $1",
        lead_id,
    )
    if row is None:
        return None
    name = row["tenant"] or f"tenant {row['tenant_hash']}"
    settings = await tenant(connection, name) or Tenant(tenant=name, business=name[:80])
    channel, address = row["channel"], row["address"]
    if channel is None and settings.webhook_url is not None:
        channel, address = Channel.WEBHOOK, settings.webhook_url
    return Addressee(
        intent=row["intent"], tenant=settings, channel=channel, address=address or "", outcome=row["outcome"]
    )


async def find(connection: Connection | Pool, lead_id: str, number: int) -> MessageRow | None:
    """The row of a message; None when it was never tried."""
    row = await connection.fetchrow("SELECT * FROM follow_ups WHERE lead_id = $1 AND number = $2", lead_id, number)
    return None if row is None else MessageRow.model_validate(dict(row))


async def lock(connection: Connection, lead_id: str, number: int, due: datetime) -> MessageRow:
    """The row of a message, made when it is tried for the first time; nobody else has it until the transaction ends."""
    await connection.execute(
        "INSERT INTO follow_ups (lead_id, number, due, state) VALUES ($1, $2, $3, 'waiting') ON CONFLICT DO NOTHING",
        lead_id,
        number,
        due,
    )
    row = await connection.fetchrow(
        "SELECT * FROM follow_ups WHERE lead_id = $1 AND number = $2 FOR UPDATE", lead_id, number
    )
    assert row is not None, "it was just made"
    return MessageRow.model_validate(dict(row))


async def count_use(connection: Connection, tenant: str, limits: Mapping[Period, int]) -> None:
    """Count one message of a tenant within a transaction.

    Raises:
        LimitReached: a limit is used up; nothing was written.
    """
    await rate_limits.use(connection, "follow_up", sha256_hex(tenant.encode()), limits)


async def on_its_way(connection: Connection, lead_id: str, number: int, channel: Channel) -> None:
    """Note that a message is about to be given to its provider."""
    await connection.execute(
        "UPDATE follow_ups SET state = 'sending', channel = $3, tries = tries + 1, updated_at = clock_timestamp()"
        " WHERE lead_id = $1 AND number = $2",
        lead_id,
        number,
        channel,
    )


async def not_taken(pool: Pool, lead_id: str, number: int, reason: str) -> None:
    """Note that the provider did not take a message that was on its way; what has ended stays as it is."""
    await pool.execute(
        "UPDATE follow_ups SET state = 'waiting', reason = $3, updated_at = clock_timestamp()"
        " WHERE lead_id = $1 AND number = $2 AND state = 'sending'",
        lead_id,
        number,
        reason,
    )


async def end(
    connection: Connection, lead_id: str, number: int, ending: Ending, reason: str, provider_id: str | None = None
) -> None:
    """Note how a message ended. Audited, so call it last."""
    await connection.execute(
        "UPDATE follow_ups SET state = $3, reason = nullif($4, ''), provider_id = $5, updated_at = clock_timestamp()"
        " WHERE lead_id = $1 AND number = $2",
        lead_id,
        number,
        ending,
        reason,
        provider_id,
    )
    details = {"number": number, "reason": reason}
    await audit.append(connection, f"follow_up_{ending}", "lead", lead_id, "clotho", details)


async def stop(connection: Connection | Pool, lead_id: str, reason: str) -> None:
    """End the messages of a lead that wait for another try."""
    await connection.execute(
        "UPDATE follow_ups SET state = 'stopped', reason = $2, updated_at = clock_timestamp()"
        " WHERE lead_id = $1 AND state = 'waiting'",
        lead_id,
        reason,
    )


async def stop_by_hand(pool: Pool, lead_id: str, by: str) -> None:
    """The same because a person wants it; audited."""
    async with pool.acquire() as connection, connection.transaction():
        await stop(connection, lead_id, f"{by} stopped it.")
        await audit.append(connection, "follow_ups_stopped", "lead", lead_id, by, {})


async def recent(connection: Connection | Pool, lead_id: str | None, limit: int) -> list[MessageRow]:
    """The messages of one lead in order, or the newest of all."""
    rows = await connection.fetch(
        "SELECT * FROM follow_ups WHERE $1::text IS NULL OR lead_id = $1"
        " ORDER BY CASE WHEN $1::text IS NULL THEN NULL ELSE number END, updated_at DESC LIMIT $2",
        lead_id,
        limit,
    )
    return [MessageRow.model_validate(dict(row)) for row in rows]
