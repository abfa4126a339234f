"""The reason that a change is audited with."""

from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from cli.output import CommandError
from domain.base import Reason

ReasonOption = Annotated[str, typer.Option("--reason", help="Why, in a sentence; for the audit log.")]


def reason_of(text: str) -> str:
    """The reason given.

    Raises:
        CommandError: it says nothing, or too much.
    """
    try:
        return TypeAdapter(Reason).validate_python(text)
    except ValidationError as error:
        raise CommandError(f"--reason: {error.errors()[0]['msg']}: correct it.", field="--reason") from None
