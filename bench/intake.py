"""News intake at work: many items from many feeds, a third of them duplicates, five feeds broken.

`python -m bench.intake --json`: 10,000 items from 50 feeds in four editions, read by the step `poll_feeds` itself over
HTTPS from `bench.news_site`, a process of its own, into an embedded PostgreSQL; then a poll that finds nothing new. The
model is left out: the rules decide all but a handful of the items, which are counted. Memory is this process's, which
runs the step alone.
"""

import argparse
import asyncio
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from temporalio.testing import ActivityEnvironment

from activities.feeds import FeedSteps
from activities.fetch import Fetcher, Limits
from bench.news_site import BROKEN, EDITIONS, Piece, feeds_of, pieces, url_of
from db import feeds
from db.pool import Pool, connect
from deploy.local.temporary import free_ports, temporary_folder, temporary_stack
from domain.news import Polled, PollRequest
from domain.news_items import item_of


async def measure(items: int, count: int, hang_seconds: float) -> dict[str, Any]:
    """Read all editions and compare what is stored with what was published."""
    published = pieces(items, count)
    expected = {(stored.content_sha256, piece.event) for piece in published for stored in [_as_stored(piece)]}
    with temporary_stack(without={"workers", "temporal", "solana", "valkey", "llm", "site"}) as stack:
        await stack.supervisor.start()
        try:
            async with (
                await connect(stack.environment["DATABASE_URL"]) as pool,
                site(items, count) as (folder, address),
                Fetcher(connect_to=address, ca_file=folder / "ca.pem", limits=Limits(seconds=hang_seconds)) as fetcher,
            ):
                for feed in feeds_of(count):
                    await feeds.add(pool, url_of(feed), feed, "bench")
                return await _measured(FeedSteps(pool, fetcher), pool, folder, published, expected)
        finally:
            await stack.supervisor.stop()


async def _measured(
    steps: FeedSteps, pool: Pool, folder: Path, published: list[Piece], expected: set[tuple[str, int]]
) -> dict[str, Any]:
    polls, memory, started = [], [], time.monotonic()
    for edition in range(EDITIONS):
        (folder / "edition").write_text(str(edition))
        polls.append(await _poll(steps))
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    seconds = time.monotonic() - started
    idle_started = time.monotonic()
    idle = await _poll(steps)
    idle_seconds = time.monotonic() - idle_started
    rows = await pool.fetch(
        "SELECT n.content_sha256, n.duplicate_of, c.worth_it, c.decided_by FROM news_items n"
        " LEFT JOIN candidates c USING (content_sha256)"
    )
    event = dict(expected)
    firsts = [row for row in rows if row["duplicate_of"] is None]
    stored = await feeds.every(pool)
    return {
        "items": len(published),
        "events": len({piece.event for piece in published}),
        "documents": len(event),
        "stored": len(rows),
        "stored_once": {row["content_sha256"] for row in rows} == set(event),
        "first_of_their_event": len(firsts),
        "events_told_twice": sum(n - 1 for n in Counter(event[row["content_sha256"]] for row in firsts).values()),
        "wrongly_called_duplicates": sum(
            event[row["content_sha256"]] != event[row["duplicate_of"]]
            for row in rows
            if row["duplicate_of"] is not None
        ),
        "worth_a_market": sum(bool(row["worth_it"]) for row in rows),
        "left_to_the_model": sum(row["decided_by"] is None for row in firsts),
        "failed_feeds": {feed.name: feed.last_error for feed in stored if feed.last_error},
        "only_the_broken_failed": {feed.name for feed in stored if feed.last_error} == set(BROKEN),
        "seconds": round(seconds, 1),
        "items_a_second": round(len(published) / seconds),
        "idle_poll": {"seconds": round(idle_seconds, 1), "unchanged": idle.unchanged, "items": idle.items},
        "peak_rss_mb": {"quarter": memory[0], "end": memory[-1]},
        "polls": [poll.model_dump() for poll in polls],
    }


async def _poll(steps: FeedSteps) -> Polled:
    return await ActivityEnvironment().run(steps.poll_feeds, PollRequest(at=datetime.now(UTC)))


def _as_stored(piece: Piece) -> Any:
    return item_of(url="", title=piece.title, content=piece.content)


@asynccontextmanager
async def site(items: int, count: int) -> AsyncIterator[tuple[Path, str]]:
    """The news site as a process of its own: its folder, and where it listens."""
    (port,) = free_ports(1)
    with temporary_folder() as folder:
        (folder / "edition").write_text("0")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.news_site", "--port", str(port), "--folder", str(folder),
            "--items", str(items), "--feeds", str(count),
        )  # fmt: skip
        try:
            await _listening(port)
            yield folder, f"127.0.0.1:{port}"
        finally:
            process.kill()
            await process.wait()


async def _listening(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.intake", description=__doc__)
    parser.add_argument("--items", type=int, default=10_000, help="published by all feeds together (default 10,000)")
    parser.add_argument("--feeds", type=int, default=50, help="how many, five of them broken (default 50)")
    parser.add_argument("--hang-seconds", type=float, default=10, help="patience with a feed (default 10)")
    parser.add_argument("--json", action="store_true", help="one JSON line (it is the only form)")
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(measure(arguments.items, arguments.feeds, arguments.hang_seconds))))


if __name__ == "__main__":
    main()
