"""`clotho reviewer`: who may decide reviews."""

from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from cli.context import command, connected
from cli.output import CommandError, Exit, JsonOption, emit, say, table
from db import reviewers
from domain.base import Actor

app = typer.Typer(help="Who may decide reviews.", no_args_is_help=True)

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="As CLOTHO_IDENTITY has it, letter by letter; else the system's user.")
]


@app.command("list")
@command
async def list_reviewers(as_json: JsonOption = False) -> None:
    """List who may decide reviews, and who let them."""
    async with connected() as context:
        found = await reviewers.every(context.pool)

        def show() -> None:
            rows = [(one.name, one.added_by, f"{one.created_at:%Y-%m-%d %H:%M:%S}") for one in found]
            table(["name…", "added by", "when (UTC)"], rows, empty="Nobody may: `clotho reviewer add NAME`.")

        emit(found, as_json, show)


@app.command()
@command
async def add(name: NameArgument, as_json: JsonOption = False) -> None:
    """Let somebody decide reviews; recorded in the audit log.

    Example: clotho reviewer add anna@example.org
    """
    wanted = _name(name)
    async with connected() as context:
        added = await reviewers.add(context.pool, wanted, context.settings.identity)
        sentence = f"{wanted} may decide reviews{'' if added else ' already'}."
        emit({"name": wanted, "added": added}, as_json, lambda: say(sentence))


@app.command()
@command
async def remove(name: NameArgument, as_json: JsonOption = False) -> None:
    """Let somebody decide reviews no longer; recorded in the audit log. What they have decided stays."""
    wanted = _name(name)
    async with connected() as context:
        if not await reviewers.remove(context.pool, wanted, context.settings.identity):
            raise CommandError(f"{wanted} is no reviewer: see `clotho reviewer list`.", Exit.FAILED)
        emit({"name": wanted, "removed": True}, as_json, lambda: say(f"{wanted} may decide reviews no longer."))


def _name(text: str) -> str:
    try:
        name = TypeAdapter(Actor).validate_python(text)
    except ValidationError as error:
        raise CommandError(f"NAME: {error.errors()[0]['msg']}: correct it.", field="NAME") from None
    if not name.isprintable():
        raise CommandError("NAME: holds characters that nobody can see: write it with letters.", field="NAME")
    return name
