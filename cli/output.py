"""How commands answer: tables for people, clean text in a pipe, JSON on request, one sentence when it fails."""

import json
import re
import sys
from collections.abc import Callable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH = 100
"""Columns that every table fits in."""

console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, soft_wrap=False)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class Exit(IntEnum):
    """What the exit status says."""

    OK = 0
    FAILED = 1
    """A check failed, or the decision was refused; nothing was changed by a refusal."""
    USAGE = 2
    """The command or its input is wrong; nothing was changed."""
    UNREACHABLE = 3
    """Temporal, Postgres or the chain cannot be reached."""


class CommandError(Exception):
    """Ends a command with one sentence (what, why, what to do next) and an exit status."""

    def __init__(self, message: str, status: Exit = Exit.USAGE, *, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.field = status, field


def emit(data: Any, as_json: bool, show: Callable[[], None]) -> None:
    """Print `data` as JSON, or let `show` print it for people."""
    if as_json:
        sys.stdout.write(json.dumps(_plain(data), indent=2) + "\n")
    else:
        show()


# Control characters but tab and line feed, and the overrides that turn text around.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """Text from outside, with what a terminal would obey written out."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def say(sentence: str) -> None:
    """A sentence for people; a terminal wraps it, a pipe gets it in one line."""
    console.print(Text(harmless(sentence)), soft_wrap=not console.is_terminal)


def write_new(file: Path, data: bytes) -> None:
    """Write a file that does not exist yet.

    Raises:
        CommandError: it exists, or cannot be written.
    """
    try:
        with file.open("xb") as opened:
            opened.write(data)
    except OSError as error:
        why = f"FILE: {file} cannot be written ({error.strerror}): name a new file."
        raise CommandError(why, field="FILE") from None


def fail(error: CommandError, *, as_json: bool) -> NoReturn:
    """Print the sentence on standard error and end."""
    if as_json:
        body = {"error": {"message": str(error), "field": error.field, "status": int(error.status)}}
        sys.stderr.write(json.dumps(body) + "\n")
    else:
        errors = Console(stderr=True, highlight=False, soft_wrap=True)
        errors.print(Text.assemble(("Error: ", "bold red"), harmless(str(error))))
    raise SystemExit(int(error.status))


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str, whole_text: bool = False) -> None:
    """A table that fits the width; in a pipe plain lines with tabs between the cells, no heading.

    Args:
        headings: one for each column; the one ending in "…" takes the room that is left.
        rows: cells, made text with str().
        empty: the sentence when there are no rows.
        whole_text: wrap the flexible column instead of cutting it.
    """
    if not console.is_terminal:
        for row in rows:
            cells = (harmless(str(cell)).replace("\t", " ").replace("\n", " ") for cell in row)
            sys.stdout.write("\t".join(cells) + "\n")
        return
    if not rows:
        console.print(empty)
        return
    shown = Table(box=box.SIMPLE_HEAD, width=min(console.width, WIDTH), pad_edge=False)
    for heading in headings:
        flexible = heading.endswith("…")
        wraps = flexible and whole_text
        shown.add_column(
            heading.rstrip("…"),
            ratio=1 if flexible else None,
            no_wrap=not wraps,
            overflow="fold" if wraps else "ellipsis",
        )
    for row in rows:
        shown.add_row(*(cell if isinstance(cell, Text) else Text(harmless(str(cell))) for cell in row))
    console.print(shown)


_STYLES = {
    "active": "green",
    "resolving": "yellow",
    "resolved": "cyan",
    "finalized": "bold green",
    "pending_review": "magenta",
    "disputed": "red",
    "rejected": "dim",
    "canceled": "dim",
    "ok": "green",
    "failed": "bold red",
    "parked": "bold yellow",
}


def styled(word: str, text: str | None = None) -> Text:
    """A status word in its colour, or another text in the colour of that word."""
    return Text(word if text is None else text, style=_STYLES.get(word, ""))


def _plain(data: Any) -> Any:
    if isinstance(data, BaseModel):
        return data.model_dump(mode="json", by_alias=True)
    if isinstance(data, (list, tuple)):
        return [_plain(item) for item in data]
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    return data
