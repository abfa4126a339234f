"""Retraining while the worker is killed: it goes on elsewhere and registers one version."""

import asyncio
from typing import Any

import pytest
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import WorkflowHandle

from bench.public_leads import public_leads
from db import audit, leads, models
from domain import model, steps
from domain.model import RetrainEnd, RetrainRequest
from domain.steps import Role
from tests.conftest import EmbeddedStack
from tests.operator import Operator
from tests.support import eventually

TRAINING = (steps.TRAIN_MODEL, steps.EVALUATE_MODEL)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", TRAINING, ids=lambda step: step.name)
async def test_a_worker_killed_in_training_leaves_one_version(
    operator: Operator, stack: EmbeddedStack, step: steps.Step[Any, Any]
) -> None:
    await leads.import_outcomes(operator.pool, public_leads(), step.name, "tests")
    before = {one.version for one in await models.every(operator.pool, "lead")}
    workers = await stack.start_worker("orchestrator"), await stack.start_worker("training")
    handle = await operator.temporal.start_workflow(
        model.WORKFLOW,
        RetrainRequest(model="lead"),
        id=f"retrain-lead-{step.name}",
        task_queue=Role.ORCHESTRATOR.value,
        result_type=RetrainEnd,
    )
    await eventually(lambda: in_step(handle, step.name), f"the beginning of {step.name}")
    # A fresh process takes seconds to load scikit-learn, so that it is killed before it has trained.
    await workers[1].kill()
    assert {one.version for one in await models.every(operator.pool, "lead")} == before
    await stack.start_worker("training")
    async with asyncio.timeout(200):
        end = await handle.result()
    assert end.status == "active", end.reason
    made = {one.version for one in await models.every(operator.pool, "lead")} - before
    assert made == {end.version}
    registered = [
        entry
        for entry in await audit.entries(operator.pool, "model", "lead")
        if entry.action == "model_registered" and entry.details["version"] == end.version
    ]
    assert len(registered) == 1
    attempts = [
        event.activity_task_started_event_attributes.attempt
        for event in (await handle.fetch_history()).events
        if event.HasField("activity_task_started_event_attributes")
    ]
    assert max(attempts) == 2  # it was killed in the middle
    await workers[0].stop()


async def in_step(handle: WorkflowHandle[object, RetrainEnd], name: str) -> bool:
    """Whether a worker is at the step."""
    pending = (await handle.describe()).raw_description.pending_activities
    started = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
    return any(one.activity_type.name == name and one.state == started for one in pending)
