"""`clotho follow-up`: the messages that promising leads get, and how each tenant has them."""

import re
from datetime import time
from typing import Annotated, Any

import typer
from temporalio.service import RPCError, RPCStatusCode

from cli import following
from cli.context import command, connected, database, unknown
from cli.output import CommandError, Exit, JsonOption, emit, say, table
from db import follow_ups
from db.follow_ups import Contact, Tenant
from domain.ids import follow_up_workflow_id

app = typer.Typer(help="Messages to promising leads, and what became of each.", no_args_is_help=True)

LeadArgument = Annotated[str, typer.Argument(metavar="LEAD", help="Id of a stored lead.")]


@app.command("list")
@command
async def list_messages(
    lead: Annotated[str | None, typer.Option(help="Of this lead alone, in order.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List messages that were tried, and what became of each; the newest first."""
    async with database() as (_, pool):
        found = await follow_ups.recent(pool, lead, limit)

        def show() -> None:
            rows = [
                (one.lead_id, one.number, one.state, one.channel or "-", one.tries, f"{one.updated_at:%m-%d %H:%M:%S}",
                 one.reason or "")
                for one in found
            ]  # fmt: skip
            headings = ["lead", "no", "state", "channel", "tries", "at (UTC)", "why…"]
            table(headings, rows, empty="No message was tried yet.")

        emit(found, as_json, show)


@app.command()
@command
async def start(lead: LeadArgument, as_json: JsonOption = False) -> None:
    """Follow a lead up by hand, whatever its score; once in a lead's life."""
    async with connected() as context:
        if await follow_ups.addressee(context.pool, lead) is None:
            raise unknown(f"lead {lead[:80]!r}", "clotho outcomes export")
        if not await following.begin(context.temporal, context.pool, lead):
            raise CommandError(
                f"LEAD: {lead} is followed up already, or was: see `clotho follow-up list --lead {lead}`.",
                Exit.FAILED,
                field="LEAD",
            )
        workflow = follow_up_workflow_id(lead)
        emit({"lead_id": lead, "workflow": workflow}, as_json, lambda: say(f"{lead} is followed up, as {workflow}."))


@app.command()
@command
async def stop(lead: LeadArgument, as_json: JsonOption = False) -> None:
    """Send a lead no more messages."""
    async with connected() as context:
        handle = context.temporal.get_workflow_handle(follow_up_workflow_id(lead))
        try:
            await handle.cancel()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            raise unknown(f"lead {lead[:80]!r} that is followed up", "clotho follow-up list") from None
        await follow_ups.stop_by_hand(context.pool, lead, context.settings.identity)
        emit({"lead_id": lead, "stopped": True}, as_json, lambda: say(f"{lead} gets no more messages."))


@app.command()
@command
async def contact(
    lead: LeadArgument,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="name@example.org, or +2348012345678.")],
    channel: Annotated[str, typer.Option(help="email, sms or whatsapp.")],
    as_json: JsonOption = False,
) -> None:
    """Set where a lead is reached; without a contact its tenant's webhook gets the messages."""
    try:
        wanted = Contact.model_validate({"lead_id": lead, "channel": channel, "address": address})
    except ValueError as error:
        message = error.errors()[0]["msg"] if hasattr(error, "errors") else str(error)
        why = f"ADDRESS: {message.removeprefix('Value error, ')}: correct it or --channel."
        raise CommandError(why, field="ADDRESS") from None
    async with database() as (settings, pool):
        if not await follow_ups.put_contact(pool, wanted, settings.identity):
            raise unknown(f"lead {lead[:80]!r}", "clotho outcomes export")
        emit({"lead_id": lead, "channel": channel}, as_json, lambda: say(f"{lead} is reached by {channel}."))


@app.command()
@command
async def tenant(
    name: Annotated[str, typer.Argument(metavar="TENANT", help="As its leads name it.")],
    business: Annotated[str | None, typer.Option(help="Its name as its customers know it.")] = None,
    time_zone: Annotated[str | None, typer.Option(help="Such as Africa/Lagos.")] = None,
    quiet: Annotated[str | None, typer.Option(help="Hours without messages, such as 21:00-08:00, or none.")] = None,
    per_minute: Annotated[int | None, typer.Option(min=1, help="Messages to all of its leads.")] = None,
    per_hour: Annotated[int | None, typer.Option(min=1, help="The same in an hour.")] = None,
    per_day: Annotated[int | None, typer.Option(min=1, help="The same in a day.")] = None,
    webhook: Annotated[str | None, typer.Option(help="HTTPS address for leads without a contact; empty: none.")] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="Words of a message with $business and $topic; once for each message.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how a tenant's leads are followed up; with options, change that from the next message on.

    Example: clotho follow-up tenant acme --business "Acme Ltd" --time-zone Africa/Lagos --quiet 20:00-08:00
    """
    changes: dict[str, Any] = {
        "business": business,
        "time_zone": time_zone,
        "texts": text or None,
    }
    if quiet is not None:
        changes["quiet_start"], changes["quiet_end"] = _hours(quiet)
    limits = {"minute": per_minute, "hour": per_hour, "day": per_day}
    changes = {field: value for field, value in changes.items() if value is not None}
    async with database() as (settings, pool):
        found = await follow_ups.tenant(pool, name)
        known = found or Tenant(tenant=name, business=name[:80])
        if any(limits.values()):
            changes["limits"] = {**known.limits, **{period: limit for period, limit in limits.items() if limit}}
        if webhook is not None:
            changes["webhook_url"] = webhook or None
        if changes:
            known = Tenant.model_validate({**known.model_dump(), **changes})
            await follow_ups.put_tenant(pool, known, settings.identity)
        rows = [row for field, value in known.model_dump(mode="json").items() for row in _rows(field, value)]
        emit(known, as_json, lambda: table(["", "tenant…"], rows, empty="", whole_text=True))


def _rows(field: str, value: Any) -> list[tuple[str, str]]:
    """One setting of a tenant, as people read it."""
    match value:
        case list():
            return [(f"text {number}", text) for number, text in enumerate(value, 1)]
        case dict():
            return [(field, ", ".join(f"{limit} each {period}" for period, limit in value.items()))]
        case None:
            return [(field, "-")]
        case _:
            return [(field, str(value))]


def _hours(text: str) -> tuple[time, time]:
    if text == "none":
        return time(0), time(0)
    clock = r"([01]\d|2[0-3]):([0-5]\d)"
    found = re.fullmatch(f"{clock}-{clock}", text)
    if found is None:
        raise CommandError("--quiet: write hours like 21:00-08:00, or none.", field="--quiet")
    hour, minute, until_hour, until_minute = map(int, found.groups())
    return time(hour, minute), time(until_hour, until_minute)
