"""Whole market lifecycles on a fresh embedded stack: `python -m bench.lifecycle --markets 200 --json`.

All markets are proposed at once, trade until one common expiry, and are resolved and finalised. The rate counts the
time in which there was work: from the first proposal until the last is published, and from expiry until the last is
finalised.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from bench.billing import cost_of
from cli.proposing import propose
from db.pool import Pool, connect
from deploy.local import site_control
from deploy.local.data import load_series
from deploy.local.proposals import series_proposal
from deploy.local.source_site.control import Embargo
from deploy.local.temporary import temporary_stack

DISPUTE_WINDOW = 1
"""Seconds: the least that still is a timer."""
SECONDS_TO_PUBLISH = 0.35
"""Allowed for each market until expiry; more than two cores need."""


async def measure(markets: int, seed: int) -> dict[str, Any]:
    """Run `markets` lifecycles and report."""
    with temporary_stack(without=("workers", "valkey")) as stack:
        await stack.supervisor.start()
        try:
            return await _measure(markets, random.Random(seed), stack.environment)
        finally:
            await stack.supervisor.stop()


async def _measure(markets: int, chance: random.Random, environment: dict[str, str]) -> dict[str, Any]:
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workers.main", env=os.environ | environment | {"LOG_LEVEL": "error"}
    )
    try:
        await _until_ready(environment["HEALTH_PORT"])
        client = await Client.connect(environment["TEMPORAL_ADDRESS"], data_converter=pydantic_data_converter)
        async with await connect(environment["DATABASE_URL"]) as pool:
            process = psutil.Process(worker.pid)
            before = _cpu(process)
            ids, published, finalized = await _run(client, pool, environment, markets, chance)
            cpu = _cpu(process) - before
            costs = [cost_of((await client.get_workflow_handle(name).fetch_history()).events) for name in ids]
    finally:
        worker.terminate()
        await worker.wait()
    latencies = sorted(latency.total_seconds() for cost in costs for latency in cost.step_latencies)
    return {
        "markets": markets,
        "finalized": len(ids),
        "lifecycles_per_second": round(markets / (published + finalized), 2),
        "publish_seconds": round(published, 2),
        "resolve_seconds": round(finalized, 2),
        "actions_per_lifecycle": round(statistics.mean(cost.actions for cost in costs), 2),
        "actions_max": max(cost.actions for cost in costs),
        "events_per_lifecycle": round(statistics.mean(cost.events for cost in costs), 2),
        "events_max": max(cost.events for cost in costs),
        "history_bytes": round(statistics.mean(cost.size for cost in costs)),
        "worker_cpu_seconds_per_lifecycle": round(cpu / markets, 4),
        "step_latency_p50_seconds": round(latencies[len(latencies) // 2], 4),
        "step_latency_p95_seconds": round(latencies[int(len(latencies) * 0.95)], 4),
    }


async def _run(
    client: Client, pool: Pool, environment: dict[str, str], markets: int, chance: random.Random
) -> tuple[list[str], float, float]:
    """Propose all and wait; returns workflow ids and the seconds of the two busy stretches."""
    series = [one for one in load_series() if one.source != "wikipedia" and len(one.observations) > 1]
    expiry = (datetime.now(UTC) + timedelta(seconds=max(10, markets * SECONDS_TO_PUBLISH))).replace(microsecond=0)
    # Every question once: a second market on it would only match the first.
    days = [(one, observation.date) for one in series for observation in one.observations[:-1]]
    if markets > len(days):
        raise ValueError(f"--markets: the bundled series give {len(days)} questions, so no more can be asked")
    chosen = chance.sample(days, markets)
    ca_file = Path(environment["SOURCES_CA_FILE"])
    async with site_control.connected(environment["SOURCES_CONNECT_TO"], ca_file) as site:
        for one in {one for one, _ in chosen}:
            await site.embargo(Embargo(id=one.key, date=one.observations[-1].date, until=expiry))
    started = time.monotonic()
    ids = []
    for number, (one, due) in enumerate(chosen):
        proposal = series_proposal(one, due, one.observations[-1].date, expiry=expiry, proposer="bench")
        proposed = await propose(client, pool, proposal, key=str(number), dispute_window_seconds=DISPUTE_WINDOW)
        ids.append(proposed.workflow_id)
    published = await _until(pool, "active", markets, started)
    expired = time.monotonic() + (expiry - datetime.now(UTC)).total_seconds()
    finalized = await _until(pool, "finalized", markets, expired)
    return ids, published, finalized


async def _until(pool: Pool, status: str, markets: int, since: float) -> float:
    """Seconds from `since` until all markets have the status."""
    deadline = time.monotonic() + 600
    while True:
        rows = await pool.fetch("SELECT status, count(*) FROM markets GROUP BY status")
        counts = {row["status"]: row["count"] for row in rows}
        if counts.get(status, 0) == markets:
            return time.monotonic() - since
        if time.monotonic() > deadline:
            raise RuntimeError(f"not all of {markets} markets became {status}: {counts}")
        await asyncio.sleep(0.1)


async def _until_ready(port: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if (await client.get(f"http://127.0.0.1:{port}/ready")).is_success:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)
    raise RuntimeError("the worker did not become ready within 60 s")


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.lifecycle", description=__doc__)
    parser.add_argument("--markets", type=int, default=200, help="how many lifecycles (default 200)")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of series (default 1)")
    parser.add_argument("--json", action="store_true", help="one JSON line (it is the only form)")
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(measure(arguments.markets, arguments.seed))))


if __name__ == "__main__":
    main()
