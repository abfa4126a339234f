"""`clotho ai-version`: which prompts, model and rules make the decisions."""

import asyncio
from collections.abc import Awaitable
from typing import Annotated, Any, TypeVar

import typer

from cli.context import Context, command, connected
from cli.output import CommandError, Exit, JsonOption, emit, say, table
from cli.reasons import ReasonOption, reason_of
from db import ai_config, ai_versions
from domain import ai
from domain.ai import AiVersion, VersionError
from prompts import loader

app = typer.Typer(help="Versions of prompts, model and rules; a market keeps its own to the end.", no_args_is_help=True)

VersionArgument = Annotated[
    str, typer.Argument(metavar="VERSION", help="Like ai_v1.0.0_gpt35_20240601: number, model, day of the last change.")
]
T = TypeVar("T")


@app.command("list")
@command
async def list_versions(as_json: JsonOption = False) -> None:
    """List all versions, the newest first, and how many open markets are bound to each."""
    async with connected() as context:
        found = await ai_versions.every(context.pool)

        def show() -> None:
            rows = [
                (one.version.version, _state(one.version, one.current), one.open_markets, one.version.reason)
                for one in found
            ]
            table(["version", "state", "open markets", "made because…"], rows, empty="None: run the migrations.")

        emit([_plain(one) for one in found], as_json, show)


@app.command()
@command
async def show(version: VersionArgument, as_json: JsonOption = False) -> None:
    """Show what a version is made of, and whether this code and these prompt files can serve it."""
    async with connected() as context:
        found = await _refusable(ai_versions.get(context.pool, version))
        current = await ai_config.get(context.pool, "ai_version") == version
        faults = list(found.faults(await _hashes(context)))

        def page() -> None:
            say(f"{version}: {_state(found, current)}, model {ai.model_of(version).name}, rules {found.rules_version}.")
            say(f"Made {found.created_at:%Y-%m-%d %H:%M} UTC by {found.created_by}: {found.reason}")
            rows = [(type, ref.version, ref.sha256 or "not seen yet") for type, ref in sorted(found.prompts.items())]
            table(["prompt", "version", "sha256…"], rows, empty="It has no prompts.")
            for fault in faults:
                say(f"It cannot be served here: {fault}.")

        emit({**found.model_dump(mode="json"), "current": current, "faults": faults}, as_json, page)


@app.command()
@command
async def create(
    version: VersionArgument,
    reason: ReasonOption,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", help="TYPE=VERSION of a prompt that is another; may be repeated.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Register a version: the current one's prompts with the changes named, and the model in its own name.

    It decides nothing until `clotho ai-version set`.

    Example: clotho ai-version create ai_v1.1.0_gpt4_20260701 --prompt resolution=v2 --reason "clearer about ties"
    """
    why, changes = reason_of(reason), dict(_change(one) for one in prompt or [])
    async with connected() as context:
        hashes, by = await _hashes(context), context.settings.identity
        made = await _refusable(ai_versions.create(context.pool, version, changes, hashes, by, why))
        emit(made, as_json, lambda: say(f"{version} is registered; `clotho ai-version set` makes it current."))


@app.command("set")
@command
async def set_version(version: VersionArgument, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Bind markets that are drafted from now on to a version, and its model; markets that run keep theirs."""
    why = reason_of(reason)
    async with connected() as context:
        wanted = await _refusable(ai_versions.get(context.pool, version))
        faults = list(wanted.faults(await _hashes(context)))
        if faults:
            what = f"VERSION: {version} cannot be served, since {'; '.join(faults)}: deploy its prompt files first."
            raise CommandError(what, Exit.FAILED, field="VERSION")
        old = await _refusable(ai_versions.make_current(context.pool, version, context.settings.identity, why))
        done = f"{version} is current" + (" already." if old == version else f", it was {old}.")
        emit({"old": old, "new": version, "changed": old != version}, as_json, lambda: say(done))


@app.command()
@command
async def deprecate(version: VersionArgument, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Say that a version shall be used no longer: for six months `set` can bring it back, then no more."""
    why = reason_of(reason)
    async with connected() as context:
        until = await _refusable(ai_versions.deprecate(context.pool, version, context.settings.identity, why))
        sentence = f"{version} can be brought back until {until:%Y-%m-%d}; markets bound to it keep it to their end."
        emit({"version": version, "usable_until": until.isoformat()}, as_json, lambda: say(sentence))


async def _refusable(call: Awaitable[T]) -> T:
    try:
        return await call
    except VersionError as error:
        raise CommandError(f"VERSION: {error}.", field="VERSION") from None


async def _hashes(context: Context) -> dict[str, str]:
    return await asyncio.to_thread(loader.hashes, context.settings.prompts_dir)


def _change(text: str) -> tuple[str, str]:
    type, equals, version = text.partition("=")
    if not (type and equals and version):
        raise CommandError(f"--prompt: {text!r} is not TYPE=VERSION: write e.g. resolution=v2.", field="--prompt")
    return type, version


def _state(version: AiVersion, current: bool) -> str:
    until = version.usable_until
    return "current" if current else f"deprecated, until {until:%Y-%m-%d}" if until else "ready"


def _plain(use: ai_versions.Use) -> dict[str, Any]:
    fields = {**use.version.model_dump(mode="json"), "current": use.current, "open_markets": use.open_markets}
    until = use.version.usable_until
    return {**fields, "usable_until": until.isoformat() if until else None}
