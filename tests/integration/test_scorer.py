"""Scoring processes follow the active version, and never load what is not what was registered and signed."""

import asyncio
import json
import math
import os
import sys
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import prometheus_client
import pytest

import activities.scorer
from activities.scorer import LiveModel, NoModelError, Scorer
from db import leads, models
from db.pool import Pool, connect
from domain.artifact import artifact_bytes
from domain.leads import LabelledLead, LeadRow, Outcome
from tests.operator import CLOTHO
from tests.support import eventually
from tests.versions import VERIFY_KEY, lead_artifact, register_lead

FOLLOWS_WITHIN = 2.0
"""Seconds; spec/models.md."""

OTHER_KEY = "22" * 32

ROW = LeadRow(lead_id="a", tenant_hash=1, intent="info", sentiment="neutral", urgency="high", score=0.6, details_len=90,
              hour_of_day=11)  # fmt: skip


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with await connect(database_url) as opened:
        yield opened


async def activate(pool: Pool, version: int) -> None:
    async with pool.acquire() as connection, connection.transaction():
        assert await models.activate(connection, "lead", version, "anna", "a test")


def probability(intercept: float) -> float:
    return 1 / (1 + math.exp(-intercept))


def gauge(name: str, **labels: str) -> float | None:
    return prometheus_client.REGISTRY.get_sample_value(name, labels)


async def test_a_scorer_follows_the_active_version_and_shows_it(pool: Pool, database_url: str) -> None:
    async with Scorer(database_url, VERIFY_KEY) as scorer:
        with pytest.raises(NoModelError, match="no version is active"):
            scorer.score(ROW)
        await register_lead(pool, 5, intercept=1.0, auc=0.7)
        await register_lead(pool, 6, intercept=-1.0, auc=0.8)
        for version, intercept, auc in ((5, 1.0, 0.7), (6, -1.0, 0.8)):
            await activate(pool, version)
            verified = await models.verify_activation(pool, "lead", version, FOLLOWS_WITHIN)
            assert (verified.ok, verified.processes) == (True, 1)
            scored = scorer.score(ROW)
            assert scored.version == version
            assert scored.probability == pytest.approx(probability(intercept))
            assert (gauge("lead_model_version"), gauge("lead_model_auc")) == (version, auc)
        assert abs((gauge("lead_model_last_reload_ts") or 0) - time.time()) < 60
        assert gauge("lead_model_n_train") == 400
        assert (gauge("lead_pred_latency_seconds_count") or 0) >= 2
    assert await models.loads(pool, "lead") == []  # forgotten once it has ended


async def test_outcomes_and_drift_are_shown(pool: Pool, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training rows have details of 100 characters, give or take 40: a mean of 300 is five deviations away."""
    rows = [
        LabelledLead(**(ROW.model_dump() | {"lead_id": f"{n}", "details_len": 300, "score": 0.65, "hour_of_day": 12}),
                     outcome=Outcome.BOOKED if n == 0 else Outcome.SPAM)
        for n in range(4)
    ]  # fmt: skip
    monkeypatch.setattr(activities.scorer, "FIGURES", 0.0)
    await leads.import_outcomes(pool, rows, "0" * 64, "anna")
    scored = [leads.ScoredLead(row=LeadRow(**row.model_dump(exclude={"outcome"})), tenant=None, version=5,
                               probability=0.5) for row in rows]  # fmt: skip
    await leads.store_scored(pool, scored)
    await register_lead(pool, 5)
    await activate(pool, 5)
    async with Scorer(database_url, VERIFY_KEY):
        assert gauge("lead_model_drift_score") == pytest.approx(5.0)
        assert gauge("lead_conversion_rate") == 0.25
        assert gauge("lead_outcome_total", outcome="spam") == 3
        seen = set[datetime]()

        async def looked_again() -> bool:
            seen.add(await pool.fetchval("SELECT seen_at FROM model_loads"))
            return len(seen) > 2

        await eventually(looked_again, "two looks at which nothing had changed", 5)
        await leads.record_outcome(pool, "1", Outcome.BOOKED, "anna")

        async def counted() -> bool:
            return gauge("lead_conversion_rate") == 0.5

        await eventually(counted, "the new outcome in the gauges", 5)
        assert gauge("lead_outcome_total", outcome="booked") == 2


@pytest.mark.parametrize("fault", ["artifact", "signature", "another version's signature", "gone"])
async def test_what_was_tampered_with_is_never_loaded(pool: Pool, database_url: str, fault: str) -> None:
    good = await register_lead(pool, 5, intercept=1.0)
    await activate(pool, 5)
    async with Scorer(database_url, VERIFY_KEY) as scorer:
        match fault:
            case "artifact":
                bad = await register_lead(pool, 6, intercept=9.0)
                other = artifact_bytes(lead_artifact(6, intercept=-9.0))  # sound in itself
                await pool.execute("UPDATE model_artifacts SET body = $1 WHERE sha256 = $2", other, bad.sha256)
            case "signature":
                await register_lead(pool, 6, intercept=9.0, key=OTHER_KEY)
            case "another version's signature":
                again = good.model_copy(update={"version": 6})
                async with pool.acquire() as connection, connection.transaction():
                    assert await models.register(connection, again, "clotho")
            case "gone":
                await register_lead(pool, 6, intercept=9.0)
                await pool.execute("ALTER TABLE ml_models DROP CONSTRAINT ml_models_sha256_fkey")
                await pool.execute("DELETE FROM model_artifacts WHERE sha256 <> $1", good.sha256)
        await activate(pool, 6)
        await eventually(lambda: refused(pool), "a report of the error", 5)
        assert scorer.score(ROW).version == 5
        verified = await models.verify_activation(pool, "lead", 6, 0)
        assert not verified.ok
        assert verified.reason is not None
        assert "version 6" in verified.reason
        async with pool.acquire() as connection, connection.transaction():
            assert await models.switch_back(connection, "lead", 2, "clotho", "it is not loaded")
        assert (await models.verify_activation(pool, "lead", 5, FOLLOWS_WITHIN)).ok
        await eventually(lambda: healthy(pool), "the end of the error", 5)


async def refused(pool: Pool) -> bool:
    return any(load.error for load in await models.loads(pool, "lead"))


async def healthy(pool: Pool) -> bool:
    return all(load.error is None for load in await models.loads(pool, "lead"))


async def ended(pool: Pool) -> bool:
    """End the connection of the only scorer; it is known by what it said last, between two looks of the scorer."""
    found = await pool.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%INTO model_loads%'"
    )
    return len(found) == 1


@pytest.mark.parametrize("lost", ["the connection", "the notification"])
async def test_a_scorer_follows_although_something_is_lost(pool: Pool, database_url: str, lost: str) -> None:
    await register_lead(pool, 5)
    await register_lead(pool, 6)
    await activate(pool, 5)
    async with LiveModel(database_url, "lead", VERIFY_KEY) as live:
        if lost == "the connection":
            await eventually(lambda: ended(pool), "the end of the scorer's connection")
        else:
            await pool.execute("ALTER TABLE model_promotions DISABLE TRIGGER model_promotions_tell")
        assert live.loaded is not None
        assert live.loaded.version == 5
        await activate(pool, 6)
        assert (await models.verify_activation(pool, "lead", 6, FOLLOWS_WITHIN)).ok


class Process:
    """One `clotho lead score -`, fed at a steady rate; answers are kept with the moment they came."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.answers: list[tuple[float, dict[str, object]]] = []
        self.sent = 0

    async def feed(self, rate: float, stop: asyncio.Event) -> None:
        assert self.process.stdin is not None
        started = time.monotonic()
        while not stop.is_set():
            due = int((time.monotonic() - started) * rate) + 1
            for number in range(self.sent, due):
                lead = {"lead_id": f"{self.process.pid}-{number}", "tenant": "acme", "details": "a demo, please"}
                self.process.stdin.write(json.dumps(lead).encode() + b"\n")
            self.sent = due
            await self.process.stdin.drain()
            await asyncio.sleep(0.01)
        self.process.stdin.close()

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.answers.append((time.monotonic(), json.loads(line)))


async def scoring(database_url: str, folder: Path, *arguments: str, key: str = VERIFY_KEY) -> Process:
    settings = {"DATABASE_URL": database_url, "MODEL_VERIFY_KEY": key, "CLOTHO_IDENTITY": "anna"}
    return Process(
        await asyncio.create_subprocess_exec(
            CLOTHO, "lead", "score", "-", *arguments, env=os.environ | settings, cwd=folder,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=sys.stderr,
        )
    )  # fmt: skip


async def test_four_processes_switch_while_they_score(pool: Pool, database_url: str, tmp_path: Path) -> None:
    """500 rows a second: no call fails, none mixes versions, no process goes back, all have switched within 2 s."""
    intercepts = {5: 1.0, 6: -1.0}
    for version, intercept in intercepts.items():
        await register_lead(pool, version, intercept=intercept)
    await activate(pool, 5)
    processes = [await scoring(database_url, tmp_path, "--no-follow-up") for _ in range(4)]
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        reading = [group.create_task(one.read()) for one in processes]

        async def all_answer() -> bool:
            return all(one.answers for one in processes)

        for one in processes:
            group.create_task(one.feed(125, stop))
        await eventually(all_answer, "an answer of each process", 30)
        await asyncio.sleep(0.5)  # at full rate
        await activate(pool, 6)
        switched = time.monotonic()

        async def all_switched() -> bool:
            return all(one.answers[-1][1]["version"] == 6 for one in processes)

        await eventually(all_switched, "an answer of the new version by each process", FOLLOWS_WITHIN)
        await asyncio.sleep(0.5)  # in which nobody goes back
        stop.set()
        await asyncio.gather(*reading)
    assert [await one.process.wait() for one in processes] == [0] * 4
    for one in processes:
        said = [answer for _, answer in one.answers]
        assert [answer.get("lead_id") for answer in said] == [f"{one.process.pid}-{n}" for n in range(one.sent)]
        assert all(
            answer["probability"] == pytest.approx(probability(intercepts[int(str(answer["version"]))]), abs=1e-12)
            for answer in said
        )
        versions = [int(str(answer["version"])) for answer in said]
        assert versions == sorted(versions)
        assert set(versions) == {5, 6}
        assert max(moment for moment, answer in one.answers if answer["version"] == 5) - switched <= FOLLOWS_WITHIN
    assert await pool.fetchval("SELECT count(*) FROM scored_rows") == sum(one.sent for one in processes)
    assert await models.loads(pool, "lead") == []
