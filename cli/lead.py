"""`clotho lead`: leads that come in, and the process that scores them."""

import asyncio
import contextlib
import functools
import json
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import asyncpg
import typer
from pydantic import TypeAdapter, ValidationError
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from cli import following
from cli.context import command, connect_temporal, database
from cli.output import CommandError, Exit, JsonOption, emit, say, table
from db import leads
from db.leads import KnownOtherwiseError, ScoredLead
from db.pool import Pool
from domain.leads import Lead, LeadRow, enrich

if TYPE_CHECKING:
    from activities.scorer import Scorer

app = typer.Typer(help="Leads: what rules read out of them, and how likely each books.", no_args_is_help=True)

_WAITING = 10_000
"""Leads that may wait to be stored; more make the scoring wait instead."""

_BATCH = 500
"""Leads that are stored in one transaction at most."""

_TRY_AGAIN = 1.0
"""Seconds until storing is tried again while Postgres is away, or following up while Temporal is."""

_AT_THE_END = 30.0
"""Seconds that storing and following up may take once the input has ended."""


@app.command()
@command
async def add(
    lead_id: Annotated[str, typer.Argument(metavar="ID", help="The source's own id of the lead.")],
    tenant: Annotated[str, typer.Option(help="Whose lead it is.")],
    details: Annotated[str, typer.Option(help="What the person wrote; - reads it from standard input.")],
    created_at: Annotated[datetime | None, typer.Option(help="When it came in, in UTC, instead of now.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Store a lead's features, read from its words by rules; the words are not kept. Doing it again changes nothing.

    Example: clotho lead add web-17 --tenant acme --details "I want to book a demo today"
    """
    words = sys.stdin.read() if details == "-" else details
    moment = datetime.now(UTC) if created_at is None else created_at.replace(tzinfo=UTC)
    row = enrich(Lead(lead_id=lead_id, tenant=tenant, details=words, created_at=moment))
    async with database() as (_, pool):
        try:
            added = await leads.add(pool, row, tenant=tenant, created_at=moment)
        except KnownOtherwiseError:
            why = f"ID: {lead_id} is stored with other features, and a lead stays as it came in: use another id."
            raise CommandError(why, field="ID") from None

        def show() -> None:
            table(["", "lead…"], [(name, str(value)) for name, value in row.model_dump(mode="json").items()], empty="")
            if not added:
                say("It was stored before.")

        emit(row.model_dump(mode="json") | {"added": added}, as_json, show)


@app.command()
@command
async def score(
    file: Annotated[typer.FileText, typer.Argument(metavar="FILE", help="One lead a line, as JSON; - reads on.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only score: store nothing, follow nobody up.")] = False,
    no_follow_up: Annotated[bool, typer.Option("--no-follow-up", help="Store, and follow nobody up.")] = False,
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Serve metrics for Prometheus at this port of 127.0.0.1.")
    ] = None,
) -> None:
    """Score leads as they come, one JSON line for each, with the active version, whichever it is at the moment.

    A lead is {"lead_id", "tenant", "details", "created_at"}, the last in ISO 8601 or left out for now; or its features
    as `clotho outcomes export` names them. Answers are {"lead_id", "version", "probability"}, or {"line", "error"}.

    Exit status: 0 every line was scored; 1 a line was not, or what was scored could not be stored.
    """
    from activities.scorer import Scorer
    from workers.telemetry import configure_logging

    configure_logging("warning")
    async with database() as (settings, pool):
        key = settings.verify_key
        if metrics_port is not None:
            _serve_metrics(metrics_port)
        async with Scorer(settings.database_url.get_secret_value(), key) as scorer:
            temporal = None if dry_run or no_follow_up else await connect_temporal(settings, lazy=True)
            keeper = None if dry_run else _Keeper(pool, temporal)
            failed = await _score_lines(file, scorer, keeper)
            left = await keeper.finish() if keeper else None
    if left:
        raise CommandError(f"{left}: score the same leads again.", Exit.FAILED)
    if failed:
        raise typer.Exit(Exit.FAILED)


class _Keeper:
    """Stores what was scored and has leads followed up, beside the scoring, so that an outage holds nobody up.

    Args:
        pool: where it is stored.
        temporal: where follow-ups run; None: nobody is followed up.
    """

    def __init__(self, pool: Pool, temporal: Client | None) -> None:
        self._pool, self._temporal = pool, temporal
        self._to_store: asyncio.Queue[ScoredLead] = asyncio.Queue(_WAITING)
        self._to_follow: asyncio.Queue[ScoredLead] = asyncio.Queue(_WAITING)
        self._tasks = [asyncio.create_task(self._store()), asyncio.create_task(self._follow())]

    async def put(self, scored: ScoredLead) -> None:
        """Keep one; waits only when thousands are waiting.

        Raises:
            Exception: what ended the keeping.
        """
        for task in self._tasks:
            if task.done():
                task.result()
        await self._to_store.put(scored)

    async def finish(self) -> str | None:
        """Wait for what is left; returns a clause about what could not be kept in time."""

        async def all_done() -> None:
            await self._to_store.join()
            await self._to_follow.join()

        ended = asyncio.create_task(all_done())
        await asyncio.wait([ended, *self._tasks], timeout=_AT_THE_END, return_when=asyncio.FIRST_COMPLETED)
        done = ended.done()
        for task in (ended, *self._tasks):
            if task.done():
                task.result()
            task.cancel()
        await asyncio.gather(ended, *self._tasks, return_exceptions=True)
        return (
            None if done else "Not all that was scored could be stored and followed up, as something cannot be reached"
        )

    async def _store(self) -> None:
        while True:
            batch = [await self._to_store.get()]
            while len(batch) < _BATCH and not self._to_store.empty():
                batch.append(self._to_store.get_nowait())
            await _when_reached(functools.partial(leads.store_scored, self._pool, batch))
            for scored in batch:
                if self._temporal is not None:
                    await self._to_follow.put(scored)
                self._to_store.task_done()

    async def _follow(self) -> None:
        while True:
            one = await self._to_follow.get()
            assert self._temporal is not None, "nothing is put here without"
            lead_id, probability = one.row.lead_id, one.probability
            await _when_reached(functools.partial(following.consider, self._temporal, self._pool, lead_id, probability))
            self._to_follow.task_done()


_AWAY = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.RESOURCE_EXHAUSTED})


async def _when_reached(doing: Callable[[], Awaitable[object]]) -> None:
    """Do something, again and again until the other side can be reached."""
    while True:
        try:
            await doing()
            return
        except (
            OSError,
            asyncpg.PostgresConnectionError,
            asyncpg.OperatorInterventionError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
        ):
            pass
        except RPCError as error:
            if error.status not in _AWAY:
                raise
        except RuntimeError as error:
            if "Failed client connect" not in str(error):
                raise
        await asyncio.sleep(_TRY_AGAIN)


async def _score_lines(file: TextIO, scorer: "Scorer", keeper: _Keeper | None) -> int:
    """Answer every line, until the input ends or the process is told to; returns how many had no score."""
    failed = 0

    async def answer_all() -> None:
        nonlocal failed
        number = 0
        async for line in _lines(file):
            number += 1
            if line.strip():
                failed += not await _answer(number, line, scorer, keeper)

    answering = asyncio.create_task(answer_all())
    loop = asyncio.get_running_loop()
    for stop in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(stop, answering.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await answering
    return failed


async def _answer(number: int, line: str, scorer: "Scorer", keeper: _Keeper | None) -> bool:
    from activities.scorer import NoModelError

    try:
        row, tenant = _row(line)
        scored = scorer.score(row)
    except (CommandError, NoModelError) as error:
        _print({"line": number, "error": str(error)})
        return False
    _print({"lead_id": row.lead_id, "version": scored.version, "probability": scored.probability})
    if keeper is not None:
        kept = ScoredLead(row=row, tenant=tenant, version=scored.version, probability=scored.probability)
        await keeper.put(kept)
    return True


def _row(line: str) -> tuple[LeadRow, str | None]:
    """The features of a lead in a line, and its tenant where the line has the lead itself.

    Raises:
        CommandError: there is none in it.
    """
    try:
        given = TypeAdapter(dict[str, Any]).validate_json(line)
        if "details" not in given:
            return LeadRow.model_validate(given), None
        lead = Lead.model_validate({"created_at": datetime.now(UTC)} | given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the line"
        why = first["msg"].removeprefix("Value error, ")
        raise CommandError(f"{where}: {why}: send it again, corrected.") from None
    return enrich(lead), lead.tenant


async def _lines(file: TextIO) -> AsyncIterator[str]:
    """Lines as they come. Read by a thread that nobody waits for, since it may wait for input for ever."""
    lines: asyncio.Queue[str | None] = asyncio.Queue(100)
    loop = asyncio.get_running_loop()

    def read() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            for line in file:
                asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()
            asyncio.run_coroutine_threadsafe(lines.put(None), loop).result()

    threading.Thread(target=read, daemon=True).start()
    while (line := await lines.get()) is not None:
        yield line


def _serve_metrics(port: int) -> None:
    import prometheus_client

    try:
        prometheus_client.start_http_server(port, addr="127.0.0.1")
    except OSError as error:
        why = f"--metrics-port: {port} cannot be used ({error.strerror}): choose another."
        raise CommandError(why, field="--metrics-port") from None


def _print(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
