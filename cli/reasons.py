"""The reason that a change is audited with; personal data in it is replaced before anything is sent or stored."""

from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from cli.context import settings
from cli.output import CommandError
from cli.redacting import redacting
from domain.base import Reason


def redacted(text: str | None) -> str | None:
    """A reason as it is told to others; callback of every option that takes one.

    Raises:
        CommandError: PII_HASH_KEY or PII_PATTERNS cannot be used.
    """
    return None if text is None else redacting(settings())(text)


ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why, in a sentence; for the audit log.", callback=redacted)
]


def reason_of(text: str) -> str:
    """The reason given.

    Raises:
        CommandError: it says nothing, or too much.
    """
    try:
        return TypeAdapter(Reason).validate_python(text)
    except ValidationError as error:
        raise CommandError(f"--reason: {error.errors()[0]['msg']}: correct it.", field="--reason") from None
