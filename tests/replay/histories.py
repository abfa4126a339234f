"""Stored histories and fingerprints: where they are, how they are read, and what is in them."""

import json
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

HISTORIES = Path(__file__).parent / "histories"
"""One folder for each release, one JSON file for each story. A release's folder is never changed afterwards."""

FINGERPRINTS = Path(__file__).parent / "fingerprints"
"""One text file for each story: what today's code commands."""

PAYLOAD_LIMIT = 2_048
"""Bytes of one payload (source: the design's "What may enter a history")."""


def release_folder() -> Path:
    """Where the histories of this code's version belong."""
    return HISTORIES / version("clotho")


def stored() -> dict[str, WorkflowHistory]:
    """All stored histories, by release and story."""
    return {
        f"{path.parent.name}/{path.stem}": WorkflowHistory.from_json(path.stem, path.read_text("utf-8"))
        for path in sorted(HISTORIES.glob("*/*.json"))
    }


def store(story: str, history: WorkflowHistory) -> None:
    """Write a history, one event a line, without what tells about the machine: the stack traces of failures."""
    folder = release_folder()
    folder.mkdir(parents=True, exist_ok=True)
    events = [json.dumps(_without_traces(event)) for event in history.to_json_dict()["events"]]
    (folder / f"{story}.json").write_text('{"events": [\n' + ",\n".join(events) + "\n]}\n", "utf-8")


def _without_traces(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: _without_traces(value) for name, value in part.items() if name != "stackTrace"}
    return [_without_traces(value) for value in part] if isinstance(part, list) else part


_COMMANDS = {
    EventType.EVENT_TYPE_TIMER_STARTED: "start timer",
    EventType.EVENT_TYPE_TIMER_CANCELED: "cancel timer",
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED: "cancel activity",
    EventType.EVENT_TYPE_MARKER_RECORDED: "record marker",
    EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED: "start child",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: "continue as new",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: "complete",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: "fail",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: "be canceled",
}


def fingerprint(events: Iterable[HistoryEvent]) -> str:
    """What the story commanded, in order, one command a line; answers to updates are left out, people cause them."""
    return "".join(f"{command}\n" for command in _commands(events))


def _commands(events: Iterable[HistoryEvent]) -> Iterator[str]:
    for event in events:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            scheduled = event.activity_task_scheduled_event_attributes
            yield f"activity {scheduled.activity_type.name} on {scheduled.task_queue.name}"
        elif event.event_type == EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:
            upserted = event.upsert_workflow_search_attributes_event_attributes.search_attributes
            yield f"search attributes {', '.join(sorted(upserted.indexed_fields))}"
        elif event.event_type in _COMMANDS:
            yield _COMMANDS[event.event_type]
