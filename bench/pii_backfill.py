"""A PII run at work: a million chat messages, a worker killed on the way, a writer that never stops.

`python -m bench.pii_backfill --items 1000000 --lists 20000 --json`: against a Valkey, a Postgres and a Temporal server
of their own. First a dry run, then the same really, with a worker of the roles orchestrator and privacy that is killed
twice with SIGKILL while 500 messages a second are pushed; then once more, to see that nothing is left to change. The
rates are of the runs that nobody disturbs; memory is the worker's at its highest.
"""

import argparse
import asyncio
import json
import os
import sys
import sysconfig
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
from redis.asyncio import Redis
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from bench.chat_lists import MARKERS, Writer, faults, fill
from bench.histories import payloads, readable
from db import pii
from db.pool import Pool, connect
from deploy.local.temporary import temporary_stack
from domain.chat_memory import digests_in
from domain.ids import pii_workflow_id
from domain.pii import WORKFLOW, BackfillEnd, BackfillRequest
from domain.steps import Role
from workers.settings import redactor_of


class Worker:
    """A worker process that can be killed, and its memory."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._environment, self._log = environment, log
        self._process: psutil.Popen | None = None
        self.peak = 0
        self.heartbeats: set[str] = set()
        """What steps under way told the server, as often as somebody looked."""

    async def start(self) -> None:
        """Start it; returns when it polls."""
        command = [str(Path(sysconfig.get_path("scripts"), "clotho")), "worker", "--role", "orchestrator", "--role"]
        with self._log.open("ab") as log:
            self._process = psutil.Popen(
                [*command, "privacy"], env=os.environ | self._environment, stdout=log, stderr=log
            )
        async with httpx.AsyncClient(trust_env=False) as client:
            for _ in range(600):
                with suppress(httpx.HTTPError):
                    if (await client.get(f"http://127.0.0.1:{self._environment['HEALTH_PORT']}/ready")).is_success:
                        return
                await asyncio.sleep(0.1)
        raise RuntimeError(f"the worker did not become ready: see {self._log}")

    def look(self) -> int:
        """Note its memory; returns the peak so far, in MB."""
        if self._process is not None and self._process.is_running():
            with suppress(psutil.Error):
                self.peak = max(self.peak, self._process.memory_info().rss >> 20)
        return self.peak

    def kill(self) -> None:
        """End it with no warning."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


async def measure(items: int, lists: int, kills: int) -> dict[str, Any]:
    """All runs, and what they came to."""
    with temporary_stack(without={"workers", "solana", "llm", "site"}) as stack:
        await stack.supervisor.start()
        worker = Worker(stack.environment, stack.folder / "logs" / "bench-worker.log")
        try:
            client = await Client.connect(stack.environment["TEMPORAL_ADDRESS"], data_converter=pydantic_data_converter)
            async with (
                await connect(stack.environment["DATABASE_URL"]) as pool,
                Redis.from_url(stack.environment["REDIS_URL"]) as redis,
            ):
                await fill(redis, lists, items)
                await worker.start()
                measured = await _measured(client, pool, redis, worker, stack.environment, items, lists, kills)
                log = await asyncio.to_thread((stack.folder / "logs" / "bench-worker.log").read_bytes)
                return measured | {"planted_in_log": _planted(log.decode("utf-8", "replace"))}
        finally:
            worker.kill()
            await stack.supervisor.stop()


async def _measured(
    client: Client,
    pool: Pool,
    redis: Any,
    worker: Worker,
    environment: dict[str, str],
    items: int,
    lists: int,
    kills: int,
) -> dict[str, Any]:
    idle = worker.look()
    dry, dry_seconds, dry_peak = await _run(client, pool, worker, execute=False, kills=0)
    stop = asyncio.Event()
    async with Redis.from_url(environment["REDIS_URL"]) as own:
        writer = Writer(own, lists, 500)
        writing = asyncio.create_task(writer.run(stop))
        real, real_seconds, _ = await _run(client, pool, worker, execute=True, kills=kills)
        stop.set()
        await writing
    redactor = redactor_of(environment["PII_HASH_KEY"], "[]")
    wrong = list(await faults(redis, lists, items, writer.pushed, redactor))
    again, again_seconds, _ = await _run(client, pool, worker, execute=True, kills=0)
    wrong_after = list(await faults(redis, lists, items, writer.pushed, redactor))
    histories = [await client.get_workflow_handle(run).fetch_history() for run in (dry.run, real.run, again.run)]
    changes = [await _changes(pool, run) for run in (dry.run, real.run)]
    return {
        "items": items,
        "lists": lists,
        "dry": {
            "seconds": round(dry_seconds, 1),
            "items_a_second": round(items / dry_seconds),
            "places": dry.first.places,
            "items": dry.first.items,
            "changed": dry.first.changed,
        },
        "real": {
            "seconds": round(real_seconds, 1),
            "status": real.status,
            "changed": real.first.changed,
            "gone": real.first.gone,
            "left": real.last.changed,
            "kills": kills,
            "pushed_meanwhile": writer.count,
        },
        "again": {
            "seconds": round(again_seconds, 1),
            "items_a_second_of_two_passes": round(2 * again.first.items / again_seconds),
            "changed": again.first.changed,
        },
        # Items that the writer pushed out of a full list before their turn are in the dry report alone.
        "in_real_report_only": sum((changes[1] - changes[0]).values()),
        "in_dry_report_only": sum((changes[0] - changes[1]).values()),
        "wrong_lists": wrong[:5],
        "wrong_lists_after_second_run": wrong_after[:5],
        "worker_memory_mb": {"idle": idle, "after_a_tenth": dry_peak, "peak": worker.look()},
        "history_events": [len(history.events) for history in histories],
        "heartbeats": len(worker.heartbeats),
        "planted_in_heartbeats": sum(_planted(beat) for beat in worker.heartbeats),
        "planted_in_histories": sum(_planted(readable(history.events)) for history in histories),
        "planted_in_rows": await _planted_rows(pool),
    }


async def _run(
    client: Client, pool: Pool, worker: Worker, *, execute: bool, kills: int
) -> tuple[BackfillEnd, float, int]:
    """One run; its end, its seconds, and the worker's memory when a tenth was done."""
    began, tenth = time.monotonic(), 0
    total = None if not kills else (await pii.tally(pool, await pii.newest(pool) or "", 1)).places
    handle = await client.start_workflow(
        WORKFLOW,
        BackfillRequest(execute=execute, by="bench"),
        id=pii_workflow_id(f"{time.time():.6f}"),
        task_queue=Role.ORCHESTRATOR.value,
        result_type=BackfillEnd,
    )
    waiting = asyncio.create_task(handle.result())
    killed = 0
    while not waiting.done():
        await asyncio.wait([waiting], timeout=0.2)
        worker.look()
        under_way = (await handle.describe()).raw_description.pending_activities
        worker.heartbeats |= {beat.data.decode("utf-8", "replace") for one in under_way for beat in payloads([one])}
        if killed < kills or not tenth:
            done = (await pii.tally(pool, handle.id, 1)).places
            tenth = tenth or (worker.look() if done else 0)
            if total and killed < kills and done > total * (killed + 1) / (kills + 1):
                worker.kill()
                killed += 1
                await worker.start()
    return waiting.result(), time.monotonic() - began, tenth


def _planted(text: str) -> int:
    return sum(text.count(marker) for marker in MARKERS)


async def _planted_rows(pool: Pool) -> int:
    """Rows of any table in which something planted stands."""
    names = [
        row["tablename"] for row in await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    ]
    like = [f"%{marker}%" for marker in MARKERS]
    return sum(
        [await pool.fetchval(f'SELECT count(*) FROM "{name}" t WHERE t::text LIKE ANY($1)', like) for name in names]
    )


async def _changes(pool: Pool, run: str) -> Counter[tuple[str, bytes]]:
    """The items of a run's report by place and digest; a writer moves indexes."""
    rows = await pool.fetch("SELECT place, changes FROM pii_places WHERE run = $1 AND number = 1", run)
    return Counter((row["place"], digest) for row in rows for digest in digests_in(row["changes"]))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.pii_backfill", description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--lists", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    given = parser.parse_args()
    report = asyncio.run(measure(given.items, given.lists, given.kills))
    sys.stdout.write(json.dumps(report, indent=None if given.json else 2) + "\n")


if __name__ == "__main__":
    main()
