"""The schedules that start work by themselves. Commands share it."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

from domain import model, news, pii
from domain.base import Model
from domain.ids import intake_workflow_id
from domain.model import StartRequest
from domain.news import IntakeRequest
from domain.pii import BackfillRequest
from domain.steps import Role

LATE = timedelta(hours=6)
"""What fell into an outage of no more than this is made up for once it is over."""


@dataclass(frozen=True)
class Plan:
    """One schedule: what it starts, and when."""

    workflow: str
    request: Model
    id: str
    """Of its workflows; Temporal adds the time."""
    cron: str
    time_zone: str
    does: str


PLANS: dict[str, Plan] = {
    "intake": Plan(
        news.WORKFLOW, IntakeRequest(), intake_workflow_id(news.EVERY_FEED), "*/15 * * * *", "UTC",
        "Read every enabled feed, every 15 minutes",
    ),
    "retrain-lead": Plan(
        model.START_WORKFLOW, StartRequest(model="lead"), "start-retrain-lead", "17 3 * * *", "UTC",
        "Retrain the lead model, nightly",
    ),
    "retrain-transactions": Plan(
        model.START_WORKFLOW, StartRequest(model="transactions"), "start-retrain-transactions", "0 3 * * 0",
        "Africa/Lagos", "Retrain the transactions model, on Sundays",
    ),
    "drift-lead": Plan(
        model.START_WORKFLOW, StartRequest(model="lead", cause="drift"), "drift-lead", "7 * * * *", "UTC",
        "Measure the drift of the lead model, and retrain it when it lasts",
    ),
    "pii-backfill": Plan(
        pii.WORKFLOW, BackfillRequest(execute=True), "pii-backfill", "0 2 * * 0", "UTC",
        "Remove personal data from history, on Sundays",
    ),
}  # fmt: skip
"""By the schedule's id."""


async def create(temporal: Client, name: str) -> bool:
    """Have a plan carried out; one that is there already is made as it is here, and paused stays paused.

    Returns:
        Whether there was no such schedule before.
    """
    plan = PLANS[name]
    wanted = Schedule(
        action=ScheduleActionStartWorkflow(
            plan.workflow,
            plan.request,
            id=plan.id,
            task_queue=Role.ORCHESTRATOR.value,
            static_summary=plan.does,
        ),
        spec=ScheduleSpec(cron_expressions=[plan.cron], time_zone_name=plan.time_zone),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=LATE),
    )
    try:
        await temporal.create_schedule(name, wanted)
    except ScheduleAlreadyRunningError:

        def update(found: ScheduleUpdateInput) -> ScheduleUpdate:
            wanted.state = found.description.schedule.state  # paused stays paused
            return ScheduleUpdate(wanted)

        await temporal.get_schedule_handle(name).update(update)
        return False
    return True


class ScheduleState(Model):
    """One schedule, as people look at it."""

    id: str
    paused: bool
    note: str
    next: str | None
    """When it starts something next, UTC; None when it will not."""
    does: str


async def every(temporal: Client) -> list[ScheduleState]:
    """All schedules of the namespace, by id."""
    found = [await _state(temporal, one.id) async for one in await temporal.list_schedules()]
    return sorted(found, key=lambda one: one.id)


async def _state(temporal: Client, name: str) -> ScheduleState:
    # The listing lags behind; the description does not.
    described: Any = await temporal.get_schedule_handle(name).describe()
    state, coming = described.schedule.state, described.info.next_action_times
    return ScheduleState(
        id=name,
        paused=state.paused,
        note=state.note or "",
        next=f"{coming[0]:%Y-%m-%d %H:%M}" if coming and not state.paused else None,
        does=PLANS[name].does if name in PLANS else "",
    )
