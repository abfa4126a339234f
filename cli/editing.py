"""Rules in a reviewer's own editor."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
import typer

from cli.keyboard import asking
from cli.output import CommandError, Exit, say
from cli.reviewing import parse_rules, pretty
from domain.rules import ResolutionRules


def edited(rules: ResolutionRules) -> ResolutionRules | None:
    """Rules as somebody has changed them in $VISUAL or $EDITOR; None when nothing was saved.

    What is no longer a set of rules can be edited on, where somebody is there to do so.

    Raises:
        CommandError: the editor failed, or left what are no rules.
    """
    text = pretty(rules)
    while True:
        changed = _in_editor(text)
        if changed is None:
            return None
        try:
            return parse_rules(changed)
        except CommandError as error:
            if not sys.stdin.isatty():
                raise
            say(str(error))
            with asking():
                if not typer.confirm("Edit on?", default=True):
                    return None
            text = changed


def _in_editor(text: str) -> str | None:
    try:
        with _leaving_signals_to_the_editor():
            return click.edit(text, extension=".json")
    except click.ClickException as error:
        raise CommandError(
            f"The editor failed ({error.format_message()}): set EDITOR, or use --edit FILE.", Exit.FAILED
        ) from None


@contextmanager
def _leaving_signals_to_the_editor() -> Iterator[None]:
    """Ctrl-C in the editor is the editor's."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
