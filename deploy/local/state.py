"""What the supervisor writes down about itself and its parts, for `clotho status`, `down` and the next `up`."""

import time
from collections.abc import Iterable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

import psutil
from pydantic import AwareDatetime, ValidationError

from domain.base import Model

CONTENTS = (
    "env", "lock", "logs", "postgres", "secrets.json", "sinks", "site", "solana", "state.json", "temporal", "valkey",
)  # fmt: skip
"""All that the stack makes in its data folder."""

_LEAVE_SECONDS = 10
_POLL_SECONDS = 0.05


class PartState(StrEnum):
    """Where a part is in its life."""

    WAITING = "waiting"
    """For the parts that it needs."""
    STARTING = "starting"
    """Its process runs and does not answer yet."""
    READY = "ready"
    RESTARTING = "restarting"
    """It died and is started again after a pause."""
    STOPPED = "stopped"


class ProcessId(Model):
    """A process, safe against its number being given to another one later.

    Attributes:
        created: seconds from the system's start to the process's own; the time of day at which it started is another
            one whenever the clock is corrected.
    """

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        """The process that has number `pid` now, or None when there is none."""
        try:
            return cls(pid=pid, created=_created(psutil.Process(pid)))
        except psutil.NoSuchProcess:
            return None

    def find(self) -> psutil.Process | None:
        """The living process, or None when it has ended."""
        try:
            process = psutil.Process(self.pid)
            alive = _created(process) == self.created and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if alive else None


def _created(process: psutil.Process) -> float:
    # Both are told by the clock, from the same count of hundredths of a second.
    return round(process.create_time() - psutil.boot_time(), 2)


class PartStatus(Model):
    """One part as `clotho status` shows it.

    Attributes:
        address: where programs find it.
        web: the page that it has for people; empty when it has none.
    """

    name: str
    state: PartState
    since: AwareDatetime
    restarts: int
    address: str
    web: str
    log: Path
    process: ProcessId | None


class StackState(Model):
    """The whole stack; `ready` once every part has been ready."""

    supervisor: ProcessId
    ready: bool
    parts: tuple[PartStatus, ...]


def write_state(folder: Path, state: StackState) -> None:
    """Replace the state in the data folder, whole or not at all."""
    partial = folder / "state.json.partial"
    partial.write_text(state.model_dump_json(indent=2), "utf-8")
    partial.replace(folder / "state.json")


def remove_state(folder: Path) -> None:
    """Say that nothing is up."""
    (folder / "state.json").unlink(missing_ok=True)


def read_state(folder: Path) -> StackState | None:
    """The last state written, or None when there is none that can be read."""
    try:
        return StackState.model_validate_json((folder / "state.json").read_text("utf-8"))
    except (OSError, ValidationError):
        return None


def running(folder: Path) -> StackState | None:
    """The state of the stack whose supervisor lives, or None."""
    state = read_state(folder)
    return state if state is not None and state.supervisor.find() is not None else None


def wait_for_end(processes: Iterable[ProcessId], seconds: float) -> list[ProcessId]:
    """Wait until all have ended, at most so long; returns those that have not.

    One that ended counts even where nobody reaps it, as in a container whose first process does not.
    """
    deadline = time.monotonic() + seconds
    living = list(processes)
    while (living := [process for process in living if process.find()]) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return living


def end_leftovers(folder: Path) -> list[str]:
    """End the parts that outlived a supervisor which was killed; returns their names."""
    state = read_state(folder)
    if state is None or state.supervisor.find() is not None:
        return []
    left = {part.name: part.process for part in state.parts if part.process and part.process.find()}
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        for process in left.values():
            if (found := process.find()) is not None:
                with suppress(psutil.NoSuchProcess):
                    ask(found)
        wait_for_end(left.values(), _LEAVE_SECONDS)
    return list(left)
