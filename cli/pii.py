"""`clotho pii`: personal data in chat memory and text columns, found, reported and replaced by tokens."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from cli.context import ANSWER, Context, command, connected, end_of, settings, unknown, update
from cli.output import CommandError, Exit, JsonOption, console, emit, say, table
from cli.reasons import ReasonOption, reason_of
from cli.redacting import redactor
from db import pii
from domain.base import Model
from domain.ids import pii_workflow_id
from domain.market import Accepted, Note
from domain.pii import KEPT, PREFIX, WORKFLOW, BackfillEnd, BackfillRequest, Progress, Report, SetRate, Tally
from domain.steps import Role

app = typer.Typer(
    help="Personal data in chat memory and text columns: found, reported, replaced by tokens.", no_args_is_help=True
)

RunArgument = Annotated[str | None, typer.Argument(metavar="[RUN]", help="Its name; left out, the newest.")]

RUNS = "clotho pii status"

LOOK = 0.05
"""Seconds between looks for a run that is about to begin."""

SCAN_COUNT = 2_000
"""Keys of one page of a scan."""

TELL_EVERY = 5.0
"""Seconds between two sentences about a run that somebody waits for."""


@app.command()
@command
async def backfill(
    execute: Annotated[bool, typer.Option("--execute", help="Redact. Without it nothing is written.")] = False,
    rate: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Keys a second; else as fast as it goes.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until the run has ended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Go over all chat lists, and the text columns that the configuration names; a dry run unless --execute.

    Exit status: 0 started, or with --wait reported or clean; 1 a run is under way, or it ended in another way.
    """
    async with connected() as context:
        request = BackfillRequest(execute=execute, by=context.settings.identity, rate=rate)
        handle = await _start(context, request)
        if not wait:
            hint = f"Follow it: clotho pii status {handle.id}. Then: clotho pii report {handle.id}"
            emit({"run": handle.id, "execute": execute}, as_json, lambda: say(f"{handle.id} has begun. {hint}"))
            return
        end = await _wait(context, handle, show=not as_json)
        emit(end, as_json, lambda: _print_end(end))
        if end.status not in {"reported", "clean"}:
            raise typer.Exit(Exit.FAILED)


@app.command()
@command
async def status(run: RunArgument = None, as_json: JsonOption = False) -> None:
    """Show how far a run is."""
    async with connected() as context:
        name = await _named(context, run)
        progress = await pii.progress(context.pool, name)
        if progress is None:
            raise unknown(f"run {name[:80]!r}", RUNS)
        emit(progress, as_json, lambda: _print_progress(progress))


@app.command()
@command
async def report(
    run: RunArgument = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Compare with another run, item by item; exit status 1 if they differ."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a run found, or changed: counts by kind and tenant, and what was left, by key and index."""
    async with connected() as context:
        name = await _named(context, run)
        found = await pii.report(context.pool, name)
        if found is None:
            raise unknown(f"run {name[:80]!r}", RUNS)
        if against is None:
            emit(found, as_json, lambda: _print_report(found))
            return
        if await pii.progress(context.pool, against) is None:
            raise unknown(f"run {against[:80]!r}", RUNS)
        for one in (name, against):
            if not await pii.is_kept(context.pool, one):
                why = f"RUN: what {one} found where is no longer kept: compare two of the newest {KEPT} runs."
                raise CommandError(why, field="RUN")
        differing = await pii.differences(context.pool, name, against)

        def show() -> None:
            say(f"{name} and {against} {'differ in' if differing else 'are equal, item by item.'}")
            table(["place…"], [(place,) for place in differing], empty="")

        emit({"run": name, "against": against, "equal": not differing, "differing": differing}, as_json, show)
        if differing:
            raise typer.Exit(Exit.FAILED)


@app.command()
@command
async def scan(
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="Left out, standard input.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Redact a text as a run would, and print it; nothing is stored. What was found is told by kind and place."""
    given = text if text is not None else await asyncio.to_thread(sys.stdin.read)
    redacted = redactor(settings()).redact(given)
    found = [{"kind": str(one.kind), "start": one.start, "end": one.end} for one in redacted.findings]

    def show() -> None:
        say(redacted.text)
        if console.is_terminal:
            table(["kind", "from", "to…"], [tuple(one.values()) for one in found], empty="Nothing was found.")

    emit({"text": redacted.text, "findings": found}, as_json, show)


@app.command()
@command
async def find(
    place: Annotated[str, typer.Argument(metavar="PLACE", help="As a report lists it.")], as_json: JsonOption = False
) -> None:
    """Print the key of a list that a report names by tokens, since the key itself holds personal data."""
    configured = settings()
    called = redactor(configured).called
    if configured.redis_url is None:
        raise CommandError("REDIS_URL is missing: set it, see .env.example.")
    keys = [key async for key in _keys(configured.redis_url.get_secret_value()) if called(key) == place]
    if not keys:
        raise CommandError(f"PLACE: no list is called {place[:80]!r}: see `clotho pii report`.", field="PLACE")
    emit({"keys": keys}, as_json, lambda: say("\n".join(keys)))


@app.command()
@command
async def pause(reason: ReasonOption, run: RunArgument = None, as_json: JsonOption = False) -> None:
    """Hold a run where it is, within a second or two."""
    await _steer(run, "pause", lambda by: Note(by=by, reason=reason_of(reason)), "is held", as_json)


@app.command()
@command
async def resume(reason: ReasonOption, run: RunArgument = None, as_json: JsonOption = False) -> None:
    """Let a run go on where it was paused."""
    await _steer(run, "resume", lambda by: Note(by=by, reason=reason_of(reason)), "goes on", as_json)


@app.command()
@command
async def cancel(reason: ReasonOption, run: RunArgument = None, as_json: JsonOption = False) -> None:
    """Stop a run; what was redacted stays redacted."""
    await _steer(run, "cancel", lambda by: Note(by=by, reason=reason_of(reason)), "stops", as_json)


@app.command()
@command
async def rate(
    keys: Annotated[int, typer.Argument(metavar="KEYS", min=0, max=1_000_000, help="A second; 0: as fast as it goes.")],
    run: RunArgument = None,
    as_json: JsonOption = False,
) -> None:
    """Have a run go on at another rate, within a second or two."""
    told = f"goes on at {keys} keys a second" if keys else "goes on as fast as it can"
    await _steer(run, "set_rate", lambda by: SetRate(by=by, rate=keys or None), told, as_json)


async def _keys(redis_url: str) -> AsyncIterator[str]:
    from redis.asyncio import Redis  # loaded by the one command that needs it
    from redis.exceptions import RedisError

    try:
        async with Redis.from_url(redis_url, socket_connect_timeout=5) as redis:
            async for key in redis.scan_iter(match=f"{PREFIX}*", count=SCAN_COUNT):
                yield key.decode(errors="backslashreplace")
    except (RedisError, ValueError) as error:
        why = f"Redis cannot be reached at REDIS_URL ({type(error).__name__}): start it or correct the setting."
        raise CommandError(why, Exit.UNREACHABLE) from None


async def _start(context: Context, request: BackfillRequest) -> WorkflowHandle[Any, BackfillEnd]:
    under_way = await pii.newest(context.pool, running=True)
    if under_way is not None and await _runs(context, under_way):
        why = f"{under_way} is under way: see `clotho pii status`, or stop it with `clotho pii cancel`."
        raise CommandError(why, Exit.FAILED)
    handle = await context.temporal.start_workflow(
        WORKFLOW,
        request,
        id=pii_workflow_id(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")),
        task_queue=Role.ORCHESTRATOR.value,
        result_type=BackfillEnd,
        id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        static_summary=f"{'redacts' if request.execute else 'dry run'}, asked for by {request.by}"[:120],
    )
    # Whoever comes next finds it in the table; where no worker is, it begins when one comes.
    ends = time.monotonic() + ANSWER.total_seconds()
    while True:
        if await pii.progress(context.pool, handle.id) is not None or time.monotonic() > ends:
            return handle
        await asyncio.sleep(LOOK)


async def _runs(context: Context, run: str) -> bool:
    """Whether its workflow does: one that was terminated leaves its row as it was."""
    try:
        described = await context.temporal.get_workflow_handle(run).describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return False
    return described.status is WorkflowExecutionStatus.RUNNING


async def _wait(context: Context, handle: WorkflowHandle[Any, BackfillEnd], *, show: bool) -> BackfillEnd:
    """The run's end; a terminal is told now and then how far it is."""
    ending = asyncio.create_task(end_of(handle, f"the run {handle.id}", "start another", RUNS))
    while not (await asyncio.wait([ending], timeout=TELL_EVERY))[0]:
        progress = await pii.progress(context.pool, handle.id) if show and console.is_terminal else None
        if progress is not None:
            say(_standing(progress))
    return ending.result()


async def _steer(run: str | None, name: str, message: Any, told: str, as_json: bool) -> None:
    async with connected() as context:
        which = run or await pii.newest(context.pool, running=True)
        if which is None:
            raise CommandError("RUN: no run is under way: see `clotho pii status`.", Exit.FAILED, field="RUN")

        async def over() -> CommandError:
            if await pii.progress(context.pool, which) is None:
                return unknown(f"run {which[:80]!r}", RUNS)
            return CommandError(f"The run {which} has ended: see `clotho pii report`.", Exit.FAILED)

        by: Model = message(context.settings.identity)
        await update(context.temporal, which, name, by, Accepted, f"the run {which}", over)
        emit({"run": which, "done": name}, as_json, lambda: say(f"{which} {told}."))


async def _named(context: Context, run: str | None) -> str:
    name = run or await pii.newest(context.pool)
    if name is None:
        raise CommandError("RUN: there was no run yet: start a dry one with `clotho pii backfill`.", field="RUN")
    return name


def _standing(progress: Progress) -> str:
    tally, seconds = progress.tally, progress.seconds
    kind = "redacts" if progress.execute else "dry run"
    held = f", at most {progress.rate} keys a second" if progress.rate else ""
    return (
        f"{progress.run} ({kind}): {progress.status}{', held' if progress.halted else held}; pass {progress.number}:"
        f" {tally.items} items in {tally.places} places, {tally.changed} of them with PII; {seconds:.0f} s"
    )


def _print_progress(progress: Progress) -> None:
    say(_standing(progress))
    say(f"Asked for by {progress.by}, {progress.started_at:%Y-%m-%d %H:%M:%S} UTC, pattern set {progress.pattern_set}.")


def _print_end(end: BackfillEnd) -> None:
    say(f"{end.run} is {end.status} after {end.seconds:.0f} s: {end.reason}.")
    say(f"See more: clotho pii report {end.run}")


def _print_report(found: Report) -> None:
    say(_standing(found.progress))
    say(_counts(found.first))
    kinds = sorted(found.kinds)
    rows = [(tenant, *(counts.get(kind, 0) for kind in kinds)) for tenant, counts in found.tenants.items()]
    if kinds:
        rows.append(("all", *(found.kinds[kind] for kind in kinds)))
    table(["tenant…", *kinds], rows, empty="No PII was found.")
    if not found.kept:
        say(f"Tenants and what was left are kept of the newest {KEPT} runs; these are its counts in the audit.")
    if found.left:
        say("Left as they are:")
        table(
            ["place…", "index", "why"],
            [(one.place, "" if one.index is None else one.index, one.why) for one in found.left],
            empty="",
        )


def _counts(tally: Tally) -> str:
    return (
        f"{tally.places} places, {tally.items} items, {tally.changed} with PII, {tally.redactions} redactions;"
        f" {tally.malformed} malformed, {tally.without_text} without text, {tally.large} of 1 MB and more,"
        f" {tally.wrong_type} keys of a wrong type, {tally.gone} gone before they could be redacted."
    )
