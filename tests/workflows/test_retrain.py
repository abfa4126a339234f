"""Retraining on a real Temporal server with a database for each test: what ends how, and what it leaves behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar, cast
from uuid import UUID, uuid4, uuid5

import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.testing import ActivityEnvironment, TimeSkipper, TimeSkippingConfig

from activities.scorer import Scorer
from activities.training import TrainingSteps
from bench.made_transactions import made_transactions
from bench.public_leads import public_leads
from cli.output import CommandError
from cli.retraining import start, start_for_feedback
from db import ai_config, audit, feedback, leads, models, reviewers
from db.leads import ScoredLead
from db.pool import Pool, connect
from domain import model, signing
from domain.classification import CorrectionType, EntityType, Feedback
from domain.ids import retrain_workflow_id
from domain.leads import LabelledLead, LeadRow, Outcome
from domain.model import (
    CollectRequest,
    EvaluateRequest,
    ModelName,
    RetrainEnd,
    RetrainRequest,
    RetrainState,
    Run,
    Started,
    StartRequest,
    TrainRequest,
)
from domain.review import Approve, Reject, RejectCode, ReviewKind
from domain.steps import Role
from tests.support import eventually
from tests.workflows.world import REVIEWER, Review, World, skipping_server, working
from workers.settings import WorkerSettings

M = TypeVar("M")
R = TypeVar("R")

REASON = "a test says so"
SIGNING_KEY = signing.draw_key()
VERIFY_KEY = signing.public_key(SIGNING_KEY)


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[Client]:
    async with skipping_server() as client:
        yield client


class Office:
    """Workers of the two roles that a retraining needs, on a database of its own."""

    def __init__(self, client: Client, pool: Pool) -> None:
        self.client, self.pool = client, pool

    async def start(
        self, name: ModelName = "lead", by: str = "tests", **fields: Any
    ) -> WorkflowHandle[Any, RetrainEnd]:
        # Not the day's id: each test has its own day.
        return await self.client.start_workflow(
            model.WORKFLOW,
            RetrainRequest(model=name, by=by, **fields),
            id=f"retrain-{name}-{uuid4().hex[:8]}",
            task_queue=Role.ORCHESTRATOR.value,
            result_type=RetrainEnd,
        )

    async def retrain(self, name: ModelName = "lead", **fields: Any) -> RetrainEnd:
        return await (await self.start(name, **fields)).result()

    async def active(self, name: ModelName = "lead") -> int | None:
        promotion = await models.active(self.pool, name)
        return promotion.version if promotion else None

    async def review(self, handle: WorkflowHandle[Any, RetrainEnd]) -> tuple[Review, int]:
        """The open review for which a retraining of the lead model waits, and the version."""

        async def asks() -> bool:
            return (await self.state(handle)).evaluated is not None

        await eventually(asks, "a registered version")
        collected = (await self.state(handle)).collected
        assert collected is not None
        review = Review(cast(World, self), ReviewKind.MODEL_ACTIVATION, f"lead-{collected.version}")
        await review.opens()
        return review, collected.version

    async def state(self, handle: WorkflowHandle[Any, RetrainEnd]) -> RetrainState:
        state: RetrainState = await handle.query("state", result_type=RetrainState)
        return state

    async def audited(self, action: str) -> int:
        return sum(entry.action == action for entry in await audit.entries(self.pool, "model"))


@pytest.fixture
async def office(client: Client, database_url: str) -> AsyncIterator[Office]:
    settings = WorkerSettings.model_validate(
        {"database_url": database_url, "model_signing_key": SIGNING_KEY, "model_verify_key": VERIFY_KEY}
    )
    async with AsyncExitStack() as resources:
        pool = await resources.enter_async_context(await connect(database_url))
        await reviewers.add(pool, REVIEWER, "tests")
        await resources.enter_async_context(working(client, settings, pool, (Role.ORCHESTRATOR, Role.TRAINING)))
        yield Office(client, pool)


async def bring(office: Office, rows: Sequence[LabelledLead]) -> None:
    await leads.import_outcomes(office.pool, rows, uuid4().hex, "tests")


SOME = public_leads()[:1_000]
"""Enough for every check, and quick."""


async def approval(office: Office) -> None:
    await ai_config.put(office.pool, "model_approval", ["lead"], "tests", REASON)


async def test_a_rejected_challenger_leaves_the_champion_and_an_equal_one_takes_its_place(office: Office) -> None:
    await bring(office, SOME)
    first = await office.retrain()
    assert first.status == "active", first.reason
    assert await office.active() == first.version
    assert first.version is not None
    registered = await models.get(office.pool, "lead", first.version)
    assert registered is not None

    # The gate demands more than there is: the documented answer, and the champion stays.
    rejected = await office.retrain(minimum=0.99)
    assert rejected.status == "rejected"
    assert rejected.version is None
    assert rejected.rejection == {
        "ok": False,
        "error": "Model AUC below threshold",
        "auc": registered.auc,
        "min_auc": 0.99,
        "rejected": True,
    }
    assert await office.active() == first.version
    assert [one.version for one in await models.every(office.pool, "lead")] == [first.version]
    assert await office.audited("model_rejected") == 1

    # The next one on the same rows is as good as the champion, and takes its place.
    second = await office.retrain()
    assert second.status == "active", second.reason
    assert second.version is not None
    registered = await models.get(office.pool, "lead", second.version)
    assert registered is not None
    compared = next(check for check in registered.gate.checks if check.name == "champion")
    assert compared.numbers["difference"] == 0
    assert [one.version for one in await models.history(office.pool, "lead")] == [first.version, second.version]


async def test_unfit_rows_are_skipped_with_reason_and_numbers(office: Office) -> None:
    nothing = await office.retrain()
    assert (nothing.status, nothing.numbers["rows"]) == ("skipped", 0)
    await bring(office, [row for row in SOME if row.label][:90])
    few = await office.retrain()
    assert (few.status, few.numbers["rows"], few.numbers["minimum"]) == ("skipped", 90, 100)
    assert "90 rows of the 100" in few.reason
    await bring(office, [row for row in SOME if row.label][90:210] + [row for row in SOME if not row.label][:5])
    unbalanced = await office.retrain()
    assert unbalanced.status == "skipped"
    assert unbalanced.numbers["rarest_share"] == pytest.approx(5 / 215, abs=1e-4)
    assert await models.every(office.pool, "lead") == []
    assert await office.audited("model_retraining_skipped") == 3


async def test_a_repeated_run_sees_the_rows_of_its_cut_off_and_registers_once(office: Office) -> None:
    await bring(office, SOME)
    steps = TrainingSteps(office.pool, SIGNING_KEY, VERIFY_KEY, threshold=50, batch=100)
    asked = CollectRequest(model="lead", cutoff=datetime.now(UTC))
    collected = await attempt(steps.collect_training_data, asked)
    assert (collected.ok, collected.rows) == (True, len(SOME))
    # Later rows, and a later opinion about an earlier one.
    await bring(office, public_leads()[1_000:1_100])
    await leads.record_outcome(office.pool, SOME[0].lead_id, Outcome.SPAM, "tests")

    run = Run(**asked.model_dump(), version=collected.version)
    train = TrainRequest(run=run, data_sha256=collected.data_sha256)
    trained = await attempt(steps.train_model, train)
    assert trained.n_train + trained.n_test == len(SOME)
    assert await attempt(steps.train_model, train) == trained
    evaluate = EvaluateRequest(run=run, data_sha256=collected.data_sha256, trained=trained, minimum=None)
    once, twice = await asyncio.gather(attempt(steps.evaluate_model, evaluate), attempt(steps.evaluate_model, evaluate))
    assert once == twice
    assert once.passed
    assert [one.version for one in await models.every(office.pool, "lead")] == [collected.version]
    assert await office.audited("model_registered") == 1

    # An opinion that somebody slipped in before the cut-off, newer than what was brought.
    await office.pool.execute(
        "INSERT INTO lead_outcomes (lead_id, outcome, recorded_by, recorded_at) VALUES ($1, 'spam', 'tests', $2)",
        next(row.lead_id for row in SOME if row.outcome is Outcome.BOOKED),
        asked.cutoff,
    )
    # What was recorded meanwhile lies after this cut-off too.
    soon = asked.cutoff + timedelta(microseconds=1)
    other = train.model_copy(update={"run": run.model_copy(update={"cutoff": soon})})
    with pytest.raises(ApplicationError, match="are not those that were checked") as changed:
        await attempt(steps.train_model, other)
    assert changed.value.type == "TrainingDataChanged"
    steps.close()


async def attempt(step: Callable[[M], Awaitable[R]], request: M) -> R:
    """One attempt of a step, outside a workflow."""
    result: R = await ActivityEnvironment().run(step, request)
    return result


async def test_a_person_decides_where_the_configuration_asks_for_it(office: Office) -> None:
    await bring(office, SOME)
    await approval(office)
    handle = await office.start()
    review, _ = await office.review(handle)
    assert await office.active() is None
    await review.decide("approve", Approve(by=REVIEWER, reason=REASON, at_once=True))
    end = await handle.result()
    assert end.status == "active"
    assert end.version is not None
    assert await office.active() == end.version
    registered = await models.get(office.pool, "lead", end.version)
    assert registered is not None
    assert registered.approved_by == REVIEWER

    handle = await office.start(by=REVIEWER)
    review, _ = await office.review(handle)
    why = await review.is_refused("approve", Approve(by=REVIEWER, reason=REASON))
    assert f"it was proposed by {REVIEWER}" in why
    await review.decide("reject", Reject(by=REVIEWER, reason="not now", at_once=True, code=RejectCode.OTHER))
    refused = await handle.result()
    assert refused.status == "registered"
    assert "not now" in refused.reason
    assert await office.active() == end.version


async def test_what_was_compared_with_another_champion_stays_inactive(office: Office) -> None:
    await bring(office, SOME)
    await approval(office)
    handle = await office.start()
    review, version = await office.review(handle)
    await ai_config.put(office.pool, "model_approval", [], "tests", REASON)
    meanwhile = await office.retrain()
    assert meanwhile.status == "active"
    await review.decide("approve", Approve(by=REVIEWER, reason=REASON, at_once=True))
    end = await handle.result()
    assert (end.status, end.version) == ("registered", version)
    assert "another version became active meanwhile" in end.reason
    assert await office.active() == meanwhile.version


async def test_a_process_that_cannot_follow_has_it_switched_back(office: Office, database_url: str) -> None:
    await bring(office, SOME)
    first = await office.retrain()
    async with Scorer(database_url, VERIFY_KEY) as good:
        second = await office.retrain()
        assert second.status == "active"
        assert second.reason == "Active: all scoring processes follow (1)."
        assert good.loaded is not None
        assert good.loaded.version == second.version
        async with Scorer(database_url, signing.public_key(signing.draw_key())):
            third = await office.retrain(verify_seconds=5)
        assert third.status == "switched_back"
        assert "1 of 2 scoring processes did not follow within" in third.reason
        assert "signature" in third.reason
        assert await office.active() == second.version
        kinds = [(one.version, one.kind) for one in await models.history(office.pool, "lead")]
        assert kinds == [
            (first.version, "activated"),
            (second.version, "activated"),
            (third.version, "activated"),
            (second.version, "switched_back"),
        ]

        async def follows() -> bool:
            return good.loaded is not None and good.loaded.version == second.version

        await eventually(follows, "the old version in the other process")


async def test_a_cancelled_retraining_changes_nothing(office: Office) -> None:
    await bring(office, SOME)
    await approval(office)
    handle = await office.start()
    review, _ = await office.review(handle)
    await handle.cancel()
    with pytest.raises(WorkflowFailureError) as failed:
        await handle.result()
    assert isinstance(failed.value.cause, CancelledError)
    assert (await review.result()).decision == "withdrawn"
    assert await office.active() is None


def corrections(count: int, first: int = 0) -> list[Feedback]:
    """Made feedback of a user of one business after the other."""
    names = UUID(int=7)
    return [
        Feedback(
            user_id=uuid5(names, "user"),
            business_id=uuid5(names, row.business or ""),
            entity_type=EntityType.TRANSACTION_CLASSIFICATION,
            entity_id=row.id,
            ai_prediction="other",
            user_correction=row.category,
            item_description=row.text,
            amount=Decimal(str(row.amount)),
            correction_type=CorrectionType.FULL_OVERRIDE,
        )
        for row in made_transactions(first + count, seed=6, wrong=0.06)[first:]
    ]


async def test_feedback_is_used_only_by_what_was_registered(office: Office) -> None:
    await feedback.add(office.pool, corrections(40))
    few = await office.retrain("transactions")
    assert (few.status, few.numbers["unused"]) == ("skipped", 40)
    await feedback.add(office.pool, corrections(110, first=40))
    rejected = await office.retrain("transactions", minimum=0.999)
    assert rejected.status == "rejected"
    assert rejected.rejection is not None
    assert rejected.rejection["error"] == "Model accuracy below threshold"
    assert await feedback.count_unused(office.pool, datetime.now(UTC)) == 150

    handle = await office.start("transactions")
    end = await handle.result()
    assert end.status == "active", end.reason
    used = await feedback.training_set(office.pool, datetime.now(UTC))
    batches = [one.training_batch_id for one in used]
    # Oldest first, a hundred at a time.
    assert batches == [f"transactions-{end.version}-{1 + place // 100}" for place in range(150)]
    # What people wrote stays where it is.
    history = (await handle.fetch_history()).to_json()
    assert not [one.item_description for one in used if one.item_description and one.item_description in history]
    # What was used is nothing new, nor is what can never be.
    await feedback.add(office.pool, [one.model_copy(update={"amount": None}) for one in corrections(1, first=150)])
    again = await office.retrain("transactions")
    assert (again.status, again.numbers["unused"], again.numbers["set_aside"]) == ("skipped", 0, 1)
    assert await feedback.count_unused(office.pool, datetime.now(UTC)) == 0


@pytest.fixture
async def one_day() -> None:
    """A day's retraining has the day in its id, here and an hour ahead: no test of it begins just before the hour."""
    now = datetime.now(UTC)
    left = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1) - now
    if left < timedelta(seconds=45):
        await asyncio.sleep(left.total_seconds())


@pytest.mark.usefixtures("one_day")
async def test_feedback_starts_another_retraining_after_one_that_used_it_and_none_after_one_that_did_not(
    office: Office,
) -> None:
    request = RetrainRequest(model="transactions", cause="feedback", by="tests")
    today = retrain_workflow_id("transactions", datetime.now(UTC).date())
    await feedback.add(office.pool, corrections(150))
    assert await start_for_feedback(office.client, request)
    assert not await start_for_feedback(office.client, request), "one runs"
    assert (await ended(office, today)).status == "active"
    assert await start_for_feedback(office.client, request)
    assert (await ended(office, today)).status == "skipped"
    assert not await start_for_feedback(office.client, request)
    # A person may as often as they like, but not with a minimum that luck reaches.
    assert (await (await start(office.client, request)).result()).status == "skipped"
    for name, minimum in (("lead", 0.54), ("transactions", 0.69)):
        low = RetrainRequest.model_validate({"model": name, "minimum": minimum})
        with pytest.raises(CommandError, match="shuffled labels may pass by luck"):
            await start(office.client, low)


async def scored(office: Office, rows: Sequence[LeadRow]) -> None:
    """Rows as a scoring process keeps them."""
    version = await office.active()
    assert version is not None
    await leads.store_scored(
        office.pool, [ScoredLead(row=row, tenant=None, version=version, probability=0.5) for row in rows]
    )


def far(rows: Sequence[LabelledLead], sigmas: float) -> list[LeadRow]:
    """New leads whose details are so many standard deviations longer than those of the training."""
    lengths = [row.details_len or 0 for row in rows]
    mean = sum(lengths) / len(lengths)
    std = (sum((length - mean) ** 2 for length in lengths) / len(lengths)) ** 0.5
    return [
        LeadRow(**row.model_dump(exclude={"outcome", "lead_id", "details_len"}), lead_id=f"new-{sigmas}-{place}",
                details_len=round((row.details_len or 0) + sigmas * std))
        for place, row in enumerate(rows[:1_000])
    ]  # fmt: skip


async def watch(office: Office) -> WorkflowHandle[Any, Started]:
    """What the hourly schedule starts."""
    return await office.client.start_workflow(
        model.START_WORKFLOW,
        StartRequest(model="lead", cause="drift"),
        id=f"drift-lead-{uuid4().hex[:8]}",
        task_queue=Role.ORCHESTRATOR.value,
        result_type=Started,
    )


@pytest.mark.usefixtures("one_day")
async def test_a_drift_that_lasts_starts_one_retraining_and_a_passing_one_none(office: Office) -> None:
    await bring(office, SOME)
    assert (await office.retrain()).status == "active"
    skipper = TimeSkipper(office.client, config=TimeSkippingConfig(disable_propagation=True))
    await scored(office, far(SOME, 0))
    calm = await (await watch(office)).result()
    assert not calm.started
    assert "no more than 3" in calm.reason

    await scored(office, far(SOME, 4))
    passing = await watch(office)
    await waits(passing)
    await scored(office, [row.model_copy(update={"lead_id": f"calm-{row.lead_id}"}) for row in far(SOME, 0)])
    await skipper.fast_forward(passing)
    assert "did not last" in (await passing.result()).reason

    await scored(office, [row.model_copy(update={"lead_id": f"far-{row.lead_id}"}) for row in far(SOME, 4)])
    # The night's has been, and leaves the drift as it is: its model was trained on the same rows.
    assert (await nightly(office)).started
    today = retrain_workflow_id("lead", datetime.now(UTC).date())
    before = await ended(office, today)
    both = [await watch(office), await watch(office)]
    for one in both:
        await waits(one)
    await asyncio.gather(*(skipper.fast_forward(one) for one in both))
    assert sorted([(await one.result()).started for one in both]) == [False, True]
    end = await ended(office, retrain_workflow_id("lead", (datetime.now(UTC) + timedelta(hours=1)).date()))
    assert end.status == "active"
    assert (end.version or 0) > (before.version or 0)
    assert [one.version for one in await models.every(office.pool, "lead")][:2] == [end.version, before.version]
    # The drift is still there, and has had the day's one; the schedule has had its own.
    again = await watch(office)
    await waits(again)
    await skipper.fast_forward(again)
    assert "a day has one retraining because of a drift" in (await again.result()).reason
    assert not (await nightly(office)).started
    assert (await models.every(office.pool, "lead"))[0].version == end.version


async def ended(office: Office, id: str) -> RetrainEnd:
    end: RetrainEnd = await office.client.get_workflow_handle(id, result_type=RetrainEnd).result()
    return end


async def nightly(office: Office) -> Started:
    """What the nightly schedule starts."""
    said: Started = await office.client.execute_workflow(
        model.START_WORKFLOW,
        StartRequest(model="lead"),
        id=f"start-{uuid4().hex[:8]}",
        task_queue=Role.ORCHESTRATOR.value,
        result_type=Started,
    )
    return said


async def waits(handle: WorkflowHandle[Any, Started]) -> None:
    """Until the first look is done and a timer runs."""

    async def timer() -> bool:
        return any(event.HasField("timer_started_event_attributes") for event in (await handle.fetch_history()).events)

    await eventually(timer, "the hour's wait")
