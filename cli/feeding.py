"""Running an intake, and the schedule that runs one every 15 minutes. Commands share it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    WorkflowHandle,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from cli.scheduling import keep
from domain.ids import intake_workflow_id
from domain.news import EVERY_FEED, WORKFLOW, IntakeEnd, IntakeRequest
from domain.steps import Role

SCHEDULE = "intake"
"""Id of the schedule; its workflows are `intake-all-<time>`, with the time that Temporal adds."""

EVERY = timedelta(minutes=15)


async def schedule(temporal: Client, every: timedelta = EVERY) -> bool:
    """Have every enabled feed polled from time to time; True when there was no such schedule before."""
    wanted = Schedule(
        action=ScheduleActionStartWorkflow(
            WORKFLOW,
            IntakeRequest(),
            id=intake_workflow_id(EVERY_FEED),
            task_queue=Role.ORCHESTRATOR.value,
            static_summary="Every enabled feed",
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
        # What a poll missed, the next one finds; two at once would only wait for each other.
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=every),
    )
    return await keep(temporal, SCHEDULE, wanted)


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
