"""A/B tests of prompts in the database: outcomes out of the audit log, one test at a time, promotion in one piece."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from db import ai_config, ai_versions, audit, experiments
from db.experiments import ExperimentCall
from db.pool import Pool, connect
from domain.ai import VersionError
from domain.experiments import Arm, Experiment, Metric, Outcome, arm_of, report
from prompts import loader

CURRENT = "ai_v1.0.0_gpt35_20240601"
NEXT = "ai_v1.0.1_gpt35_20260701"
REASON = "a test says so"
HASHES = {**loader.hashes(), "resolution/v2": "2" * 64}


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with await connect(database_url) as opened:
        yield opened


async def defined(pool: Pool, id: str = "ties", metric: Metric = Metric.UNDISPUTED) -> Experiment:
    wanted = Experiment(
        id=id,
        prompt_type="resolution",
        ai_version=CURRENT,
        control="v1",
        variant="v2",
        variant_sha256="2" * 64,
        share=0.5,
        metric=metric,
        minimum=10,
        start=datetime.now(UTC) - timedelta(seconds=1),
        created_by="anna",
    )
    assert await experiments.define(pool, wanted, REASON)
    return wanted


async def happened(pool: Pool, market: UUID, *actions: str, **details: object) -> None:
    for action in actions:
        async with pool.acquire() as connection, connection.transaction():
            await audit.append(connection, action, "market", str(market), "clotho", details)


async def asked(pool: Pool, test: Experiment, market: UUID, confidence: float | None = 0.5) -> Arm:
    """Two calls on behalf of a market, one of them repeated."""
    arm = arm_of(test, str(market))
    for input in ("a", "b", "b"):
        call = ExperimentCall(
            experiment=test.id, subject=str(market), arm=arm, input_sha256=input * 64, confidence=confidence
        )
        await experiments.log(pool, call)
    return arm


async def test_one_test_of_a_prompt_type_runs_at_a_time(pool: Pool) -> None:
    first = await defined(pool)
    assert await experiments.running(pool, "resolution") == first
    assert await experiments.running(pool, "validation") is None
    assert not await experiments.define(pool, first.model_copy(update={"id": "other"}), REASON)
    assert not await experiments.define(pool, first, REASON)
    assert await experiments.stop(pool, first.id, "anna", REASON)
    assert not await experiments.stop(pool, first.id, "anna", REASON)
    assert await experiments.running(pool, "resolution") is None
    await defined(pool, "other")
    trail = [entry.action for entry in await audit.entries(pool, "experiment", first.id)]
    assert trail == ["experiment_defined", "experiment_stopped"]


async def test_a_test_that_starts_later_concerns_nobody_yet(pool: Pool) -> None:
    test = await defined(pool)
    await experiments.stop(pool, test.id, "anna", REASON)
    later = test.model_copy(update={"id": "later", "start": datetime.now(UTC) + timedelta(hours=1)})
    assert await experiments.define(pool, later, REASON)
    assert await experiments.running(pool, "resolution") is None


async def test_a_market_counts_once_it_is_finalised_and_a_dispute_spoils_it(pool: Pool) -> None:
    test = await defined(pool)
    smooth, disputed, open_still, stranger = (UUID(int=number) for number in range(4))
    arms = {market: await asked(pool, test, market) for market in (smooth, disputed, open_still)}
    await happened(pool, disputed, "resolution_completed", "dispute_submitted", "dispute_resolved")
    await happened(pool, open_still, "resolution_completed", "dispute_submitted")
    assert await experiments.outcomes(pool, test) == []
    for market in (smooth, stranger, disputed):
        await happened(pool, market, "market_finalized")
    assert await experiments.outcomes(pool, test) == [
        Outcome(arm=arms[smooth], success=True),
        Outcome(arm=arms[disputed], success=False),
    ]
    subjects, confidence = await experiments.asked(pool, test)
    assert sum(subjects.values()) == 3
    assert set(confidence.values()) == {0.5}


async def test_the_first_validation_decides_whether_a_person_was_needed(pool: Pool) -> None:
    test = await defined(pool, metric=Metric.APPROVED_WITHOUT_PERSON)
    smooth, flagged, refused, rejected, skipped = markets = [UUID(int=number) for number in range(5)]
    arms = [await asked(pool, test, market, None) for market in markets]
    await happened(pool, refused, "draft_refused", reason="no question")
    await happened(pool, flagged, "validation_completed", decision="needs_human")
    await happened(pool, flagged, "review_opened", kind="draft")
    await happened(pool, flagged, "validation_completed", decision="approved")
    await happened(pool, rejected, "validation_completed", decision="rejected")
    await happened(pool, smooth, "validation_completed", decision="approved")
    await happened(pool, smooth, "market_published")
    await happened(pool, smooth, "review_opened", kind="dispute")
    await happened(pool, skipped, "review_opened", kind="draft")
    order = [(2, False), (1, False), (3, False), (0, True), (4, False)]
    assert await experiments.outcomes(pool, test) == [Outcome(arm=arms[i], success=good) for i, good in order]


async def won(pool: Pool, test: Experiment) -> None:
    """Every market of the variant ends well, and none of the control."""
    for number in range(80):
        market = UUID(int=number)
        if await asked(pool, test, market) is Arm.CONTROL:
            await happened(pool, market, "dispute_submitted")
        await happened(pool, market, "market_finalized")


async def test_a_winner_becomes_the_current_version(pool: Pool) -> None:
    test = await defined(pool)
    await won(pool, test)
    subjects, confidence = await experiments.asked(pool, test)
    assert report(test, await experiments.outcomes(pool, test), subjects, confidence).winner is Arm.VARIANT
    done = await asyncio.gather(
        *(experiments.promote(pool, test, NEXT, HASHES, "anna", REASON) for _ in range(2)), return_exceptions=True
    )
    assert sorted(str(type(one).__name__) for one in done) == ["VersionError", "bool"]
    made = await ai_versions.get(pool, NEXT)
    before = await ai_versions.get(pool, CURRENT)
    changed = {type for type, ref in made.prompts.items() if ref.version != before.prompts[type].version}
    assert (changed, made.prompts["resolution"].version) == ({"resolution"}, "v2")
    assert await ai_config.get(pool, "ai_version") == NEXT
    stored = await experiments.get(pool, test.id)
    assert stored is not None
    assert stored.status == "promoted"


@pytest.mark.parametrize("fault", ["another text", "another version is current"])
async def test_what_was_not_tested_is_not_promoted(pool: Pool, fault: str) -> None:
    test = await defined(pool)
    hashes = HASHES
    if fault == "another text":
        hashes = {**HASHES, "resolution/v2": "3" * 64}
    else:
        await ai_versions.create(pool, "ai_v1.0.9_gpt35_20260701", {}, HASHES, "ben", REASON)
        await ai_versions.make_current(pool, "ai_v1.0.9_gpt35_20260701", "ben", REASON)
    current = await ai_config.get(pool, "ai_version")
    with pytest.raises(VersionError):
        await experiments.promote(pool, test, NEXT, hashes, "anna", REASON)
    assert await ai_config.get(pool, "ai_version") == current
    assert await ai_versions.find(pool, NEXT) is None
    assert await experiments.running(pool, "resolution") == test
