"""`clotho template`: what the rules of a category begin with."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from temporalio.exceptions import ApplicationError

from cli.context import Context, command, connected
from cli.output import CommandError, Exit, JsonOption, emit, say, table
from cli.reading import read_text
from cli.reasons import ReasonOption, reason_of
from db import templates
from domain.intake import INPUT_LIMIT
from domain.market import Category, Issue
from domain.templates import SourcePattern, parse

app = typer.Typer(help="What the rules of a category begin with.", no_args_is_help=True)

CategoryArgument = Annotated[Category, typer.Argument(metavar="CATEGORY", help=f"One of {', '.join(Category)}.")]


@app.command("list")
@command
async def list_templates(as_json: JsonOption = False) -> None:
    """List the categories that have a template."""
    async with connected() as context:
        found = await templates.every(context.pool)

        def show() -> None:
            rows = [
                (t.category, t.version, len(t.body.conditions), len(t.body.source_patterns), t.created_by)
                for t in found
            ]
            table(["category", "version", "conditions", "sources", "by…"], rows, empty="No category has a template.")

        emit(found, as_json, show)


@app.command("show")
@command
async def show_template(category: CategoryArgument, as_json: JsonOption = False) -> None:
    """Print the template of a category, as `set` takes it."""
    async with connected() as context:
        found = await templates.current(context.pool, category)
        if found is None:
            what = f"CATEGORY: {category} has no template: make one with `clotho template set {category} FILE`."
            raise CommandError(what, Exit.FAILED, field="CATEGORY")
        body = found.body.model_dump(mode="json", by_alias=True, exclude={"category"})
        emit(found, as_json, lambda: say(json.dumps(body, indent=2)))


@app.command("set")
@command
async def set_template(
    category: CategoryArgument,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="JSON: must_meet_all, must_not_count, source_patterns; `-` reads it.")
    ],
    reason: ReasonOption,
    as_json: JsonOption = False,
) -> None:
    """Put a template in force for markets that are drafted from now on; those that exist keep their rules.

    A draft of the model gets the conditions that it leaves out. Of a full draft, and of sources that fit no pattern,
    the reviewer is told.

    Every condition is parsed and every source asked first, and all that is wrong is named together.

    Example: clotho template set finance finance.json --reason "official statistics only"
    """
    why = reason_of(reason)
    parsed = parse(category, read_text(file, "FILE", INPUT_LIMIT))
    async with connected() as context:
        issues = (*parsed.issues, *await _unreachable(context, parsed.patterns))
        if parsed.template is None or issues:
            raise _refusal(issues)
        version = await templates.put(context.pool, parsed.template, context.settings.identity, why)
        sentence = f"Version {version} of {category} is in force for markets drafted from now on."
        emit({"category": category, "version": version}, as_json, lambda: say(sentence))


async def _unreachable(context: Context, patterns: Sequence[SourcePattern]) -> tuple[Issue, ...]:
    settings = context.settings
    # Only this command pays for loading the fetcher.
    from activities.fetch import Fetcher

    async with Fetcher(connect_to=settings.sources_connect_to, ca_file=settings.sources_ca_file) as fetcher:

        async def one(pattern: str, start: str) -> Issue | None:
            try:
                await fetcher.reachable(start)
            except ApplicationError as error:
                return Issue(code="source_unreachable", field=pattern[:120], message=error.message[:300])
            return None

        found = await asyncio.gather(*(one(p.pattern, p.start) for p in patterns))
    return tuple(issue for issue in found if issue is not None)


def _refusal(issues: tuple[Issue, ...]) -> CommandError:
    listed = "; ".join(f"{issue.field}: {issue.message.rstrip('.')}" for issue in issues)
    return CommandError(f"FILE: nothing was changed, {len(issues)} to correct: {listed}.", field="FILE")
