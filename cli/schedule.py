"""`clotho schedule`: what starts by itself, and when."""

from typing import Annotated

import typer
from temporalio.service import RPCError, RPCStatusCode

from cli import scheduling
from cli.context import command, connected
from cli.output import CommandError, JsonOption, emit, say, styled, table
from cli.reasons import ReasonOption, reason_of

app = typer.Typer(
    help="What starts by itself: news, nightly retraining, drift, the PII backfill.", no_args_is_help=True
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of a schedule; see `clotho schedule list`.")]


@app.command()
@command
async def create(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this one; left out: all.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Have all of it started by itself; doing it again changes nothing, and what is paused stays paused.

    intake every 15 minutes; retrain-lead daily 03:17 UTC; retrain-transactions Sundays 03:00 in Lagos; drift-lead
    hourly; pii-backfill Sundays 02:00 UTC.
    """
    if name is not None and name not in scheduling.PLANS:
        why = f"NAME: there is no plan {name[:80]!r}, known are {', '.join(scheduling.PLANS)}: name one of them."
        raise CommandError(why, field="NAME")
    names = [name] if name is not None else list(scheduling.PLANS)
    async with connected() as context:
        created = [one for one in names if await scheduling.create(context.temporal, one)]
        new = f"Created {', '.join(created)}." if created else "All were there already."
        emit({"schedules": names, "created": created}, as_json, lambda: say(new))


@app.command("list")
@command
async def list_schedules(as_json: JsonOption = False) -> None:
    """List the schedules, whether each is paused, and when it starts something next."""
    async with connected() as context:
        found = await scheduling.every(context.temporal)

        def show() -> None:
            rows = [
                (one.id, styled("paused" if one.paused else "active"), one.next or "-", one.note or one.does)
                for one in found
            ]
            headings = ["schedule", "state", "next (UTC)", "what it does, or why it is paused…"]
            table(headings, rows, empty="Nothing starts by itself: `clotho schedule create`.", whole_text=True)

        emit(found, as_json, show)


@app.command()
@command
async def pause(name: NameArgument, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Have a schedule start nothing until it is resumed; what runs goes on.

    Example: clotho schedule pause retrain-lead --reason "the outcomes of this week are wrong"
    """
    why = reason_of(reason)
    async with connected() as context:
        note = f"paused by {context.settings.identity}: {why}"
        try:
            await context.temporal.get_schedule_handle(name).pause(note=note)
        except RPCError as error:
            _explain(error, name)
        emit({"id": name, "paused": True}, as_json, lambda: say(f"{name} starts nothing until it is resumed."))


@app.command()
@command
async def resume(name: NameArgument, as_json: JsonOption = False) -> None:
    """Have a paused schedule start its work again, from its next time on."""
    async with connected() as context:
        try:
            await context.temporal.get_schedule_handle(name).unpause(note=f"resumed by {context.settings.identity}")
        except RPCError as error:
            _explain(error, name)
        emit({"id": name, "paused": False}, as_json, lambda: say(f"{name} is active again."))


def _explain(error: RPCError, name: str) -> None:
    if error.status is not RPCStatusCode.NOT_FOUND:
        raise error
    why = f"NAME: there is no schedule {name[:80]!r}: see `clotho schedule list`, or `clotho schedule create`."
    raise CommandError(why, field="NAME") from None
