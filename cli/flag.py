"""`clotho flag`: settings tried in buckets of leads, until one bucket has won."""

import contextlib
import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from cli.context import command, database, unknown
from cli.output import CommandError, Exit, JsonOption, emit, say, table
from cli.reasons import ReasonOption, reason_of
from db import flags, leads
from db.pool import Pool
from domain.flags import Flag, Setting

app = typer.Typer(help="Settings tried in buckets of leads.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `clotho flag list` has it.")]


@app.command()
@command
async def define(
    flag_id: Annotated[str, typer.Argument(metavar="ID", help="Small letters, digits, - and _.")],
    setting: Annotated[Setting, typer.Option(help="What is tried out.")],
    bucket: Annotated[
        list[str], typer.Option(help="NAME[:WEIGHT]=VALUE, the value as JSON; the first is what holds today.")
    ],
    reason: ReasonOption,
    minimum: Annotated[int, typer.Option(min=30, help="Leads with an outcome that every bucket needs.")] = 200,
    as_json: JsonOption = False,
) -> None:
    """Try a setting out on new leads; one flag at a time for each setting.

    A bucket that has won, once every bucket has its minimum, is promoted by itself: every lead gets it from then on.

    Example: clotho flag define sooner --setting follow_up_timing --bucket "today=[1800, 7200]"
    --bucket "sooner:1=[300, 3600]" --reason "people answer within minutes"
    """
    why = reason_of(reason)
    given = {"id": flag_id, "setting": setting, "buckets": [_bucket(one) for one in bucket], "minimum": minimum}
    async with database() as (settings, pool):
        who = {"created_by": settings.identity, "created_at": datetime.now(UTC)}
        try:
            wanted = Flag.model_validate({**given, **who})
        except ValidationError as error:
            first = error.errors()[0]
            what = first["msg"].removeprefix("Value error, ")
            field = "ID" if first["loc"][:1] == ("id",) else "--bucket"
            raise CommandError(f"{field}: {what}: correct it.", field=field) from None
        if not await flags.define(pool, wanted, why):
            raise CommandError(
                f"ID: {flag_id} exists, or another flag of {setting} runs: see `clotho flag list`.",
                Exit.FAILED,
                field="ID",
            )
        sentence = f"New leads are divided over {' and '.join(one.name for one in wanted.buckets)} from now on."
        emit(wanted, as_json, lambda: say(sentence))


@app.command("list")
@command
async def list_flags(as_json: JsonOption = False) -> None:
    """List all flags, the newest first."""
    async with database() as (_, pool):
        found = await flags.every(pool)

        def show() -> None:
            rows = [
                (one.id, one.status, one.setting, one.winner or "-",
                 ", ".join(f"{b.name}:{b.weight}={json.dumps(b.value)}" for b in one.buckets))
                for one in found
            ]  # fmt: skip
            table(["id", "status", "setting", "winner", "buckets…"], rows, empty="There are no flags.", whole_text=True)

        emit(found, as_json, show)


@app.command("report")
@command
async def show_report(flag_id: IdArgument, as_json: JsonOption = False) -> None:
    """Report how the buckets of a flag do. It is tested once, on the first outcomes; looking often does no harm."""
    async with database() as (_, pool):
        flag = await _get(pool, flag_id)
        found = await flags.report_of(pool, flag)

        def page() -> None:
            rows = [(one.name, one.leads, one.decided, one.booked, _percent(one.conversion)) for one in found.buckets]
            table(["bucket…", "leads", "decided", "booked", "conversion"], rows, empty="")
            say(found.sentence)

        emit(found, as_json, page)


@app.command()
@command
async def bucket(
    setting: Annotated[Setting, typer.Argument(metavar="SETTING", help="As `clotho flag define` has them.")],
    lead: Annotated[str, typer.Argument(metavar="LEAD", help="Id of a stored lead.")],
    as_json: JsonOption = False,
) -> None:
    """Say which value of a setting a lead gets, the same every time, and count the lead in its bucket.

    Follow-ups ask for prediction_threshold and follow_up_timing; whoever chats with leads, for memory and enrichment.
    """
    async with database() as (_, pool):
        if await leads.get(pool, lead) is None:
            raise CommandError(f"LEAD: there is no lead {lead[:80]!r}: see `clotho lead add`.", field="LEAD")
        found = await flags.bucket_for(pool, setting, lead)
        answer = {"setting": setting, "lead_id": lead, "bucket": None, "value": None}
        sentence = f"No flag decides {setting}: what holds otherwise."
        if found is not None:
            answer |= {"bucket": found.name, "value": found.value}
            sentence = f"{lead} is in {found.name}: {setting} is {json.dumps(found.value)}."
        emit(answer, as_json, lambda: say(sentence))


@app.command()
@command
async def stop(flag_id: IdArgument, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """End a flag without a winner: every lead gets what held before."""
    why = reason_of(reason)
    async with database() as (settings, pool):
        flag = await _get(pool, flag_id)
        if not await flags.stop(pool, flag.id, settings.identity, why):
            raise CommandError(f"{flag.id} runs no more: see `clotho flag list`.", Exit.FAILED)
        emit({"id": flag.id, "status": "stopped"}, as_json, lambda: say(f"{flag.id} is stopped."))


async def _get(pool: Pool, flag_id: str) -> Flag:
    found = await flags.get(pool, flag_id)
    if found is None:
        raise unknown(f"flag {flag_id[:80]!r}", "clotho flag list")
    return found


def _bucket(text: str) -> dict[str, Any]:
    found = re.fullmatch(r"([^:=]+)(?::(\d{1,4}))?=(.+)", text, re.DOTALL)
    with contextlib.suppress(ValueError):
        if found is not None:
            return {"name": found[1], "weight": int(found[2] or 1), "value": json.loads(found[3])}
    why = f"--bucket: {text[:80]!r} is not NAME[:WEIGHT]=VALUE with a value in JSON: correct it."
    raise CommandError(why, field="--bucket")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
