"""What a workflow run costs: its history events, and the actions that Temporal Cloud bills for them."""

from collections.abc import Iterable
from datetime import timedelta

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from domain.base import Model

BILLED = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
        EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
        EventType.EVENT_TYPE_TIMER_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
        EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
        EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED,
    }
)
"""Events that are an action each (design: starts, activities, timers, signals, updates, search-attribute changes)."""


class Cost(Model):
    """One run's cost. `size` in bytes as the events are stored; latencies of steps, scheduled to completed."""

    actions: int
    events: int
    size: int
    step_latencies: tuple[timedelta, ...]


def cost_of(events: Iterable[HistoryEvent]) -> Cost:
    """Count a history. A retried activity is billed once more for each retry."""
    actions = count = size = 0
    scheduled: dict[int, HistoryEvent] = {}
    latencies = []
    for event in events:
        count += 1
        size += event.ByteSize()
        actions += event.event_type in BILLED
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            scheduled[event.event_id] = event
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            actions += event.activity_task_started_event_attributes.attempt - 1
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            began = scheduled[event.activity_task_completed_event_attributes.scheduled_event_id]
            latencies.append(event.event_time.ToDatetime() - began.event_time.ToDatetime())
    return Cost(actions=actions, events=count, size=size, step_latencies=tuple(latencies))
