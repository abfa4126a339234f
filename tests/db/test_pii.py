"""What PII runs found where is kept of the newest; of the others their audit entries have the counts."""

from collections.abc import AsyncIterator

import pytest

from activities.privacy import RunSteps
from db import pii
from db.pool import Pool, connect
from domain.chat_memory import Place
from domain.pii import KEPT, BackfillRequest, BeginRequest, EndRequest
from domain.redaction import Redactor


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with await connect(database_url) as opened:
        yield opened


async def ended(pool: Pool, number: int) -> str:
    """A run that found `number` addresses in one list, from its beginning to its end."""
    run, steps = f"pii-backfill-{number}", RunSteps(pool, Redactor(b"k" * 32))
    await steps.begin_pii_run(BeginRequest(run=run, backfill=BackfillRequest(by="tests")))
    place = Place("mem:t:c", "t", items=10, malformed=[3], changes=bytes(20) * number, kinds={"EMAIL": number})
    await pii.store_places(pool, run, 1, [place])
    await steps.end_pii_run(EndRequest(run=run, status="reported", passes=1, by="tests", reason="a test"))
    return run


async def test_places_of_old_runs_are_forgotten_and_their_counts_are_not(pool: Pool) -> None:
    runs = [await ended(pool, number) for number in range(1, KEPT + 3)]
    await pii.forget(pool)
    held = {row["run"] for row in await pool.fetch("SELECT run FROM pii_places")}
    assert held == set(runs[2:])

    old, new = await pii.report(pool, runs[1]), await pii.report(pool, runs[-1])
    assert old is not None
    assert new is not None
    assert (old.kept, old.first.changed, old.first.malformed, old.kinds) == (False, 2, 1, {"EMAIL": 2})
    assert (old.progress.tally, old.tenants, old.left) == (old.first, {}, ())
    assert (new.kept, new.first.changed, new.tenants, len(new.left)) == (True, KEPT + 2, {"t": {"EMAIL": KEPT + 2}}, 1)
