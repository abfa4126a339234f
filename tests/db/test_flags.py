"""Flags in the database: one of a setting at a time, leads counted by what became of them, the winner promoted."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from db import audit, flags, leads
from db.pool import Pool, connect
from domain.flags import Flag, Setting, bucket_of
from domain.leads import LeadRow, Outcome


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with await connect(database_url) as opened:
        yield opened


def flag(**changes: Any) -> Flag:
    given = {
        "id": "lower", "setting": "prediction_threshold", "minimum": 30, "created_by": "anna",
        "buckets": [{"name": "today", "value": 0.7}, {"name": "lower", "value": 0.6}],
        "created_at": datetime.now(UTC),
    }  # fmt: skip
    return Flag.model_validate({**given, **changes})


async def new_lead(pool: Pool, number: int) -> str:
    row = LeadRow(
        lead_id=f"lead-{number}", tenant_hash=1, intent="info", sentiment="neutral", urgency="normal", score=0.5,
        details_len=10, hour_of_day=9,
    )  # fmt: skip
    await leads.add(pool, row)
    return row.lead_id


async def test_one_flag_of_a_setting_runs_at_a_time(pool: Pool) -> None:
    assert await flags.bucket_for(pool, Setting.PREDICTION_THRESHOLD, "lead-1") is None
    assert await flags.define(pool, flag(), "why not")
    assert not await flags.define(pool, flag(), "again")
    assert not await flags.define(pool, flag(id="other"), "another")
    assert await flags.stop(pool, "lower", "anna", "enough")
    assert not await flags.stop(pool, "lower", "anna", "enough")
    assert await flags.bucket_for(pool, Setting.PREDICTION_THRESHOLD, "lead-1") is None
    assert await flags.define(pool, flag(id="other"), "another")
    trail = [(entry.action, entry.actor) for entry in await audit.entries(pool, "flag", "lower")]
    assert trail == [("flag_defined", "anna"), ("flag_stopped", "anna")]


async def test_the_newest_outcome_of_a_lead_counts_in_its_bucket(pool: Pool) -> None:
    wanted = flag()
    await flags.define(pool, wanted, "why not")
    expected = {"today": [0, 0, 0], "lower": [0, 0, 0]}
    for number in range(20):
        lead = await new_lead(pool, number)
        for _ in range(2):
            bucket = await flags.bucket_for(pool, wanted.setting, lead)
            assert bucket == bucket_of(wanted, lead)
        assert bucket is not None
        counted = expected[bucket.name]
        counted[0] += 1
        if number < 12:
            counted[1] += 1
            await leads.record_outcome(pool, lead, Outcome.GHOSTED, "tests")
        if number < 6:
            counted[2] += 1
            await leads.record_outcome(pool, lead, Outcome.BOOKED, "tests")
    found = {one.name: [one.leads, one.decided, one.booked] for one in await flags.counts(pool, wanted)}
    assert found == expected
    order = await flags.outcomes(pool, wanted)
    assert [booked for _, booked in order] == [True] * 6 + [False] * 6
    assert await flags.promote_winners(pool) == [], "no bucket has its minimum"


async def test_what_a_lead_became_before_it_was_concerned_does_not_count(pool: Pool) -> None:
    lead = await new_lead(pool, 1)
    await leads.record_outcome(pool, lead, Outcome.BOOKED, "tests")
    await flags.define(pool, flag(), "why not")
    await flags.bucket_for(pool, Setting.PREDICTION_THRESHOLD, lead)
    assert sum(one.decided for one in await flags.counts(pool, flag())) == 0
    assert await flags.outcomes(pool, flag()) == []


async def test_a_winner_is_promoted_once_and_every_lead_gets_it(pool: Pool) -> None:
    wanted = flag()
    await flags.define(pool, wanted, "why not")
    rows = [(f"lead-{number}", bucket_of(wanted, f"lead-{number}").name) for number in range(90)]
    for number in range(90):
        await new_lead(pool, number)
    await pool.executemany("INSERT INTO flag_leads (flag, lead_id, bucket) VALUES ('lower', $1, $2)", rows)
    outcomes = [(lead, "booked" if bucket == "lower" else "ghosted") for lead, bucket in rows]
    await pool.executemany(
        "INSERT INTO lead_outcomes (lead_id, outcome, recorded_by) VALUES ($1, $2, 'tests')", outcomes
    )
    assert await flags.promote_winners(pool) == ["lower"]
    assert await flags.promote_winners(pool) == []
    promoted = await flags.get(pool, "lower")
    assert promoted is not None
    assert (promoted.status, promoted.winner) == ("promoted", "lower")
    for lead in ("lead-1", "lead-2", "stranger"):
        bucket = await flags.bucket_for(pool, wanted.setting, lead)
        assert bucket is not None
        assert bucket.value == 0.6
    entry = (await audit.entries(pool, "flag", "lower"))[-1]
    assert (entry.action, entry.actor, entry.details["winner"]) == ("flag_promoted", "clotho", "lower")
