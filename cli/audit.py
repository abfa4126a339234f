"""`clotho audit`: who did what, when and why; and whether anybody has changed the record."""

import csv
import io
from pathlib import Path
from typing import Annotated

import typer

from cli.context import command, connected
from cli.output import CommandError, Exit, JsonOption, emit, say, table, write_new
from db import audit
from db.pool import Pool
from domain.audit import AuditEntry, Broken, ChainCheck
from domain.base import Model

app = typer.Typer(help="The append-only record of every change of state.", no_args_is_help=True)

EntityOption = Annotated[str | None, typer.Option("--entity", help="Only entries about this id, e.g. a market's.")]


class AuditReport(Model):
    """The whole log checked; `broken` in order of ids."""

    entries: int
    broken: tuple[Broken, ...]


async def check(pool: Pool) -> AuditReport:
    """Follow the chain from its first entry to its recorded end."""
    chain, broken, count = ChainCheck(), list[Broken](), 0
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        async for entry in audit.every(connection):
            count += 1
            broken.extend(chain.follow(entry))
        broken.extend(chain.end(await audit.head(connection)))
    return AuditReport(entries=count, broken=tuple(broken))


@app.command("list")
@command
async def list_entries(
    entity: EntityOption = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the newest.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List entries, oldest first."""
    async with connected() as context:
        found = await audit.entries(context.pool, entity_id=entity, last=limit)

        def show() -> None:
            rows = [(e.id, f"{e.created_at:%Y-%m-%d %H:%M:%S}", e.action, e.entity_id, e.actor, e.why) for e in found]
            table(
                ["", "when (UTC)", "action", "about", "who", "why…"], rows, empty="The audit log has no such entries."
            )

        emit(found, as_json, show)


@app.command()
@command
async def verify(as_json: JsonOption = False) -> None:
    """Check that no entry was removed, edited or moved. Exit status 1, with each break named, when one was."""
    async with connected() as context:
        report = await check(context.pool)

        def show() -> None:
            if report.broken:
                table(["entry", "why…"], [(broken.id, broken.why) for broken in report.broken], empty="")
            else:
                say(f"All {report.entries} entries are intact.")

        emit(report, as_json, show)
        if report.broken:
            raise CommandError(
                f"The audit log was changed at {len(report.broken)} places: compare with a back-up before you rely on"
                " it.",
                Exit.FAILED,
            )


@app.command()
@command
async def export(
    file: Annotated[Path, typer.Argument(help="Where to write; must not exist. .csv gives CSV, else JSON Lines.")],
    entity: EntityOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write entries to a file, hashes included, oldest first."""
    async with connected() as context:
        found = await audit.entries(context.pool, entity_id=entity, last=10_000_000)
    text = _as_csv(found) if file.suffix == ".csv" else "".join(f"{entry.model_dump_json()}\n" for entry in found)
    write_new(file, text.encode())
    emit({"file": str(file), "entries": len(found)}, as_json, lambda: say(f"Wrote {len(found)} entries to {file}."))


def _as_csv(found: list[AuditEntry]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(AuditEntry.model_fields))
    writer.writeheader()
    for entry in found:
        writer.writerow(entry.model_dump(mode="json"))
    return text.getvalue()
