"""Running an intake. Commands share it."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from domain.ids import intake_workflow_id
from domain.news import WORKFLOW, IntakeEnd, IntakeRequest
from domain.steps import Role


async def start(
    temporal: Client, name: str, *, feed_id: UUID | None = None, poll: bool = True
) -> WorkflowHandle[Any, IntakeEnd]:
    """Start an intake now.

    Args:
        temporal: where.
        name: the feed's name, or what stands in its place in the workflow's id.
        feed_id: the feed to poll; None polls every enabled one.
        poll: False polls none, and only decides and starts what waits.
    """
    time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return await temporal.start_workflow(
        WORKFLOW,
        IntakeRequest(feed_id=feed_id, poll=poll),
        id=intake_workflow_id(name, time),
        task_queue=Role.ORCHESTRATOR.value,
        result_type=IntakeEnd,
        id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        static_summary=f"{name}, started by hand",
    )
