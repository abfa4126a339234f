"""`clotho model-migration`: another model, compared over stored inputs and approved by a person before it decides."""

import asyncio
import json
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import typer
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from cli.context import Context, command, connected, unknown
from cli.output import CommandError, Exit, JsonOption, emit, say, table
from cli.reading import read_text
from cli.reasons import ReasonOption, reason_of
from db import ai_config, ai_versions, model_migrations
from db.model_migrations import Inputs, StoredMigration
from domain import migration
from domain.ai import AiVersion, VersionError
from domain.comparison import TypeComparison
from domain.ids import migration_workflow_id, review_workflow_id
from domain.migration import MigrationRequest
from domain.review import ReviewKind
from domain.steps import Role
from prompts import loader

app = typer.Typer(help="Another model: compared, approved by a person, then switched to.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Small letters, digits, -, _ and dots.")]

BUNDLED = loader.BUNDLED / "migration_inputs.jsonl"
"""Some inputs of every prompt type, for who has stored none."""

_FILE_LIMIT = 50 * 2**20
"""Bytes of a file of inputs."""


@app.command()
@command
async def start(
    migration_id: IdArgument,
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="The new ai_version, made with `clotho ai-version create`.")
    ],
    reason: ReasonOption,
    inputs: Annotated[
        Path | None,
        typer.Option(help='Inputs to add: JSON lines {"prompt_type": …, "variables": {…}}; else the bundled ones.'),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Have the current and a new ai_version answer the stored inputs; nothing changes before another reviewer approves.

    Example: clotho model-migration start to-gpt41 ai_v1.1.0_gpt41_20260701 --reason "cheaper and newer"
    """
    why = reason_of(reason)
    async with connected() as context:
        old, new = await _versions(context, version)
        stored = await model_migrations.inputs(context.pool)
        added: Inputs = {}
        if inputs is not None or not stored:
            added = await asyncio.to_thread(read_inputs, inputs or BUNDLED, new, context.settings.prompts_dir)
        if missing := new.prompts.keys() - stored.keys() - added.keys():
            what = f"--inputs: there is no stored input of {', '.join(sorted(missing))}: add one of each in a file."
            raise CommandError(what, field="--inputs")
        by = context.settings.identity
        request = MigrationRequest(id=migration_id, old_version=old.version, new_version=new.version, by=by)
        await model_migrations.add_inputs(context.pool, added)
        begun = await model_migrations.begin(context.pool, request, why)
        if not begun and not await _same(context, request):
            what = f"ID: {migration_id} is another migration: see `clotho model-migration list`."
            raise CommandError(what, Exit.FAILED, field="ID")
        await _start(context, request)
        review = review_workflow_id(ReviewKind.MODEL_MIGRATION, migration_id)
        sentence = f"{old.version} and {new.version} are compared; then {review} waits for another reviewer."
        emit(request, as_json, lambda: say(sentence))


@app.command("list")
@command
async def list_migrations(as_json: JsonOption = False) -> None:
    """List all migrations, the newest first."""
    async with connected() as context:
        found = await model_migrations.every(context.pool)

        def show() -> None:
            rows = [(m.id, m.status, f"{m.old_version} to {m.new_version}", f"{m.created_at:%Y-%m-%d}") for m in found]
            table(["id", "status", "versions…", "begun"], rows, empty="There are no migrations.")

        emit(found, as_json, show)


@app.command("show")
@command
async def show_migration(migration_id: IdArgument, as_json: JsonOption = False) -> None:
    """Show a migration and what the comparison found."""
    async with connected() as context:
        found = await model_migrations.get(context.pool, migration_id)
        if found is None:
            raise unknown(f"migration {migration_id[:80]!r}", "clotho model-migration list")
        emit(found, as_json, lambda: _print(found))


def _print(found: StoredMigration) -> None:
    say(f"{found.id}: {found.old_version} to {found.new_version}, {found.status}{f': {found.why}' * bool(found.why)}")
    headings = ["prompt…", "inputs", "valid", "agree", "confidence", "latency ms", "cost $"]
    rows = [_row(one) for one in found.report.types] if found.report else []
    table(headings, rows, empty="The comparison is not done yet.")


def _row(one: TypeComparison) -> tuple[object, ...]:
    shift = one.confidence_shift
    return (
        one.prompt_type,
        one.inputs,
        f"{one.old.valid:.0%} to {one.new.valid:.0%}",
        "-" if one.agreement is None else f"{one.agreement:.0%}",
        "-" if shift is None else f"{shift:+.2f}",
        f"{one.old.latency_ms or 0:.0f} to {one.new.latency_ms or 0:.0f}",
        f"{one.old.cost_usd:.4f} to {one.new.cost_usd:.4f}",
    )


def read_inputs(file: Path, version: AiVersion, prompts: Path) -> Inputs:
    """The inputs of a file, each tried on its prompt.

    Raises:
        CommandError: a line cannot be used; nothing is stored.
    """
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    for number, line in enumerate(read_text(file, "--inputs", _FILE_LIMIT).splitlines(), 1):
        try:
            fields: Any = json.loads(line)
            prompt_type, variables = fields["prompt_type"], {str(k): str(v) for k, v in fields["variables"].items()}
            loader.load(prompt_type, version.prompts[prompt_type].version, prompts).render(**variables)
        except (ValueError, KeyError, TypeError, AttributeError, loader.PromptError) as error:
            why = f"no such prompt type or field {error}" if isinstance(error, KeyError) else str(error)
            raise CommandError(f"--inputs: line {number}: {why}: correct it.", field="--inputs") from None
        found[prompt_type].append(variables)
    return {prompt_type: tuple(several) for prompt_type, several in found.items()}


async def _versions(context: Context, version: str) -> tuple[AiVersion, AiVersion]:
    """The current version, and the new one, which this code must be able to serve."""
    try:
        new = await ai_versions.get(context.pool, version)
        old = await ai_versions.get(context.pool, str(await ai_config.get(context.pool, "ai_version")))
    except VersionError as error:
        raise CommandError(f"VERSION: {error}.", field="VERSION") from None
    hashes = await asyncio.to_thread(loader.hashes, context.settings.prompts_dir)
    if new.version == old.version:
        raise CommandError(f"VERSION: {version} is the current one: name another.", field="VERSION")
    if faults := list(new.faults(hashes)):
        raise CommandError(f"VERSION: {version} cannot be served, since {'; '.join(faults)}.", field="VERSION")
    return old, new


async def _same(context: Context, request: MigrationRequest) -> bool:
    """Whether it was begun with these versions and not ended: then its workflow is only made sure of."""
    found = await model_migrations.get(context.pool, request.id)
    return (
        found is not None
        and (found.old_version, found.new_version) == (request.old_version, request.new_version)
        and found.status in {"comparing", "reported"}
    )


async def _start(context: Context, request: MigrationRequest) -> None:
    try:
        await context.temporal.start_workflow(
            migration.WORKFLOW,
            request,
            id=migration_workflow_id(request.id),
            task_queue=Role.ORCHESTRATOR.value,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"{request.old_version} to {request.new_version}"[:120],
        )
    except WorkflowAlreadyStartedError:
        return
