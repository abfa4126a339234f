"""`clotho outcomes`: what became of leads, as the file that scripts rely on."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import following
from cli.context import command, connected, database
from cli.output import CommandError, Exit, JsonOption, emit, say, table, write_new
from db import leads
from db.leads import KnownOtherwiseError
from domain.canonical import sha256_hex
from domain.leads import EXPORT_COLUMNS, LabelledLead, Outcome
from domain.outcomes_csv import OutcomesError, read_outcomes, write_outcomes
from domain.training_data import MINIMUM, check_data

app = typer.Typer(help="What became of leads: what the lead model learns from.", no_args_is_help=True)

_COLUMNS = ", ".join(EXPORT_COLUMNS)


@app.command()
@command
async def export(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A new file, else standard output.")] = None,
) -> None:
    """Write every lead with an outcome as CSV, the newest outcome of each; the label is the last column."""
    async with database() as (_, pool):
        rows = await leads.training_set(pool)
    text = write_outcomes(rows)
    if file is None:
        sys.stdout.write(text)
        return
    write_new(file, text.encode())
    say(f"{len(rows)} leads are in {file}.")


@app.command("import")
@command
async def import_file(
    file: Annotated[typer.FileBinaryRead, typer.Argument(metavar="FILE", help=f"CSV: {_COLUMNS}. - reads it.")],
    as_json: JsonOption = False,
) -> None:
    """Store the leads of a file and what became of them, all or nothing; the same file again changes nothing.

    An outcome that differs from a lead's newest one becomes the newest. Features that a stored lead misses are
    completed; others stay as they came in.
    """
    data = file.read()
    rows = _read(data)
    async with connected() as context:
        try:
            changed = set(await leads.import_outcomes(context.pool, rows, sha256_hex(data), context.settings.identity))
        except KnownOtherwiseError as error:
            raise CommandError(
                f"FILE: lead {error.lead_id} is stored with other features, and a lead stays as it came in: correct"
                " the file; nothing of it was taken.",
                field="FILE",
            ) from None
        told = await leads.scored_among(context.pool, list(changed))  # only these may be followed up
        new = [(row.lead_id, row.outcome) for row in rows if row.lead_id in told]
        await following.outcomes_recorded(context.temporal, context.pool, new)
        sentence = f"{len(rows)} leads were read; {len(changed)} have a new outcome."
        emit({"leads": len(rows), "changed": len(changed)}, as_json, lambda: say(sentence))


@app.command()
@command
async def check(
    file: Annotated[
        typer.FileBinaryRead | None, typer.Argument(metavar="[FILE]", help="A file of outcomes, else what is stored.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check whether outcomes are fit to train on, with the numbers.

    Exit status: 0 they are; 1 they are not.
    """
    if file is None:
        async with database() as (_, pool):
            rows = await leads.training_set(pool)
    else:
        rows = _read(file.read(), gaps=True)
    found = check_data(rows, MINIMUM["lead"])

    def show() -> None:
        table(["what", "number…"], [(name, f"{value:g}") for name, value in found.numbers.items()], empty="")
        say("They are fit to train on." if found.ok else found.reason)

    emit(found, as_json, show)
    if not found.ok:
        raise typer.Exit(Exit.FAILED)


@app.command()
@command
async def record(
    lead_id: Annotated[str, typer.Argument(metavar="LEAD", help="Id of a stored lead.")],
    outcome: Annotated[Outcome, typer.Argument(help="What became of it; the newest outcome counts.")],
    as_json: JsonOption = False,
) -> None:
    """Record what became of a lead; no follow-up goes out after it.

    Example: clotho outcomes record web-17 booked
    """
    async with connected() as context:
        if await leads.get(context.pool, lead_id) is None:
            raise CommandError(f"LEAD: there is no lead {lead_id[:80]!r}: see `clotho lead add`.", field="LEAD")
        new = await leads.record_outcome(context.pool, lead_id, outcome, context.settings.identity)
        # Again as well, in case that nobody could be told the first time.
        await following.outcomes_recorded(context.temporal, context.pool, [(lead_id, outcome)])
        sentence = f"{lead_id} is {outcome}{'' if new else ', as it was'}."
        emit({"lead_id": lead_id, "outcome": outcome, "new": new}, as_json, lambda: say(sentence))


def _read(data: bytes, *, gaps: bool = False) -> list[LabelledLead]:
    try:
        return list(read_outcomes(data.decode(), gaps=gaps))
    except OutcomesError as error:
        raise CommandError(f"FILE: {error}", field="FILE") from None
    except UnicodeDecodeError:
        raise CommandError("FILE: it is no UTF-8: save it as UTF-8 and send it again.", field="FILE") from None
