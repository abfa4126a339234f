"""Starts parts as child processes in the order of their needs, keeps them running and stops them in reverse."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from logging.handlers import RotatingFileHandler
from pathlib import Path

from deploy.local import launch
from deploy.local.state import PartState, PartStatus, ProcessId, StackState, remove_state, write_state

Show = Callable[[str, str], None]
"""Shows a person one line of the log: the part's name, the line."""

START_SECONDS = 60
"""How long a part may take to be ready; a healthy one takes a few seconds even on a busy machine."""

SUPERVISOR = "supervisor"
"""The name under which the supervisor itself writes to the log."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
"""Seconds between a part's death and its restart, doubled each time."""

_STEADY = timedelta(seconds=60)
"""A part that ran this long was well: its next pause is the first again."""

_POLL_SECONDS = 0.05
_LINE_LIMIT = 2**20
_LOG_BYTES = 10 * 2**20


class StackError(Exception):
    """The stack cannot do what was asked; the text is one sentence for a person."""


@dataclass(frozen=True)
class Part:
    """One row of the table that a supervisor runs.

    Attributes:
        name: what the log and `clotho status` call it.
        command: program (absolute path) and arguments, in the foreground.
        ready: whether it answers; asked again and again until it does.
        address: where programs find it.
        web: the page that it has for people.
        ports: every TCP port that it listens on, by the setting that changes it.
        depends_on: names of the parts that must be ready first; those not in the table are passed over.
        after: what must hold once it answers, such as migrations; run after every start, so it is idempotent.
        environment: added to the supervisor's own.
        user: whom to run as, None for the present user.
        stop_signal: asks it to stop cleanly.
        stop_seconds: how long that may take before it is killed.
    """

    name: str
    command: Sequence[str]
    ready: Callable[[], Awaitable[bool]]
    address: str
    ports: Mapping[str, int]
    web: str = ""
    depends_on: tuple[str, ...] = ()
    after: Callable[[], Awaitable[None]] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10


class Supervisor:
    """Runs a table of parts; its state is in `folder`/state.json, the log of each part in `folder`/logs."""

    def __init__(self, parts: Iterable[Part], folder: Path, show: Show | None = None) -> None:
        """`show` streams the log of all parts; it is also in the files."""
        self._folder = folder
        self._show = show
        self._logs: dict[str, logging.Logger] = {}
        self._children = {
            part.name: _Child(part, self._log_file(part.name), self._log, self._write_state) for part in parts
        }
        self._ready = False
        self._supervisor = ProcessId.of(os.getpid())

    async def start(self) -> None:
        """Start every part, those that need nothing of each other at the same time; returns when all are ready.

        Raises:
            StackError: a part did not become ready; the others may run and are to be stopped.
        """
        (self._folder / "logs").mkdir(mode=0o700, exist_ok=True)
        try:
            async with asyncio.TaskGroup() as starting:
                for child in self._children.values():
                    starting.create_task(self._start_in_turn(child))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        self._ready = True
        self._write_state()

    async def stop(self) -> None:
        """Stop every part, each after those that need it, and leave no state: nothing is up any more."""
        self._ready = False
        await asyncio.gather(*(self._stop_in_turn(child) for child in self._children.values()))
        for log in self._logs.values():
            for handler in log.handlers:
                handler.close()
        self._logs.clear()
        remove_state(self._folder)

    async def start_part(self, name: str) -> None:
        """Start one part that was stopped, and wait until it is ready."""
        await self._children[name].start()

    async def stop_part(self, name: str) -> None:
        """Stop one part and leave it so, as in an outage."""
        await self._children[name].stop()

    def kill(self) -> None:
        """Kill every part at once, for somebody who will not wait for a clean stop."""
        for child in self._children.values():
            child.kill()

    def status(self) -> tuple[PartStatus, ...]:
        """Every part as it is now."""
        return tuple(child.status for child in self._children.values())

    async def _start_in_turn(self, child: "_Child") -> None:
        for need in child.part.depends_on:
            if need in self._children:
                await self._children[need].was_ready.wait()
        await child.start()

    async def _stop_in_turn(self, child: "_Child") -> None:
        for other in self._children.values():
            if child.part.name in other.part.depends_on:
                await other.stopped.wait()
        await child.stop()

    def _log_file(self, name: str) -> Path:
        return self._folder / "logs" / f"{name}.log"

    def _write_state(self) -> None:
        if self._supervisor is not None:
            state = StackState(supervisor=self._supervisor, ready=self._ready, parts=self.status())
            write_state(self._folder, state)

    def _log(self, name: str, line: str) -> None:
        if name not in self._logs:
            self._logs[name] = logging.Logger(name)
            handler = RotatingFileHandler(self._log_file(name), maxBytes=_LOG_BYTES, backupCount=1, encoding="utf-8")
            self._logs[name].addHandler(handler)
        self._logs[name].info(line)
        if self._show is not None:
            self._show(name, line)


class _Child:
    """One part and the process that is it at the moment."""

    def __init__(self, part: Part, log_file: Path, log: Show, changed: Callable[[], None]) -> None:
        self.part = part
        self.was_ready = asyncio.Event()
        self.stopped = asyncio.Event()
        self._log_file = log_file
        self._log = log
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._pipe: asyncio.ReadTransport | None = None
        self._reading: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._last_line = ""
        self.status = self._status(PartState.WAITING, restarts=0)

    async def start(self) -> None:
        """Start the part, wait until it is ready, and keep it running from then on."""
        self.stopped.clear()
        await self._launch()
        self._keeping = asyncio.create_task(self._keep_running())

    async def stop(self) -> None:
        """Ask the process to stop, and kill it when it does not."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
            self._keeping = None
        await self._end_process()
        self._become(PartState.STOPPED)
        self.stopped.set()

    def kill(self) -> None:
        """Kill the process and all that it started, at once."""
        if self._process is not None and self._alive():
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _launch(self) -> None:
        await self._spawn()
        try:
            async with asyncio.timeout(START_SECONDS):
                while self._alive() and not await self.part.ready():  # noqa: ASYNC110 - of another process
                    await asyncio.sleep(_POLL_SECONDS)
                if self._alive() and self.part.after is not None:
                    await self.part.after()
        except TimeoutError as error:
            raise StackError(
                f"{self.part.name} was not ready within {START_SECONDS} s: read {self._log_file}"
            ) from error
        except Exception as error:
            raise StackError(f"the part {self.part.name} answers but could not be set up: {error}") from error
        if not self._alive():
            await self._drain()
            raise StackError(
                f"the part {self.part.name} stopped while it was starting, {self._end()}: read {self._log_file}"
            )
        self._become(PartState.READY)
        self._log(SUPERVISOR, f"{self.part.name} is ready at {self.part.web or self.part.address}")
        self.was_ready.set()

    async def _keep_running(self) -> None:
        pause = _FIRST_PAUSE
        while self._process is not None:
            await self._process.wait()
            await self._drain()
            if self.status.state is PartState.READY and datetime.now(UTC) - self.status.since > _STEADY:
                pause = _FIRST_PAUSE
            self._log(SUPERVISOR, f"{self.part.name} ended {self._end()} and is started again in {pause:g} s")
            self._become(PartState.RESTARTING)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            try:
                await self._launch()
            except StackError as error:
                self._log(SUPERVISOR, str(error))
                self.kill()

    async def _spawn(self) -> None:
        reader = asyncio.StreamReader(limit=_LINE_LIMIT)
        read_end, write_end = os.pipe()
        self._pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb")
        )
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", launch.__file__,
                str(os.getpid()), str(int(self.part.stop_signal)), self.part.user or "", *self.part.command,
                stdin=asyncio.subprocess.DEVNULL, stdout=write_end, stderr=write_end,
                env=os.environ | {"PYTHONUNBUFFERED": "1"} | dict(self.part.environment),
                # Out of the terminal's process group: ctrl-C reaches the supervisor, which stops the parts in order.
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise StackError(f"the part {self.part.name} could not be started: {error}") from error
        finally:
            os.close(write_end)
        self._reading = asyncio.create_task(self._read(reader))
        self._become(PartState.STARTING)

    async def _end_process(self) -> None:
        if self._process is None:
            return
        if self._alive():
            with suppress(ProcessLookupError):
                self._process.send_signal(self.part.stop_signal)
        try:
            async with asyncio.timeout(self.part.stop_seconds):
                await self._process.wait()
        except TimeoutError:
            self._log(SUPERVISOR, f"{self.part.name} did not stop within {self.part.stop_seconds:g} s and was killed")
            self.kill()
            await self._process.wait()
        await self._drain()
        self._process = None

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await reader.readline()
            except ValueError:
                line = b"(a line of more than 1 MiB is left out)"
            if not line:
                return
            if text := line.decode("utf-8", "replace").rstrip():
                self._last_line = text
                self._log(self.part.name, text)

    async def _drain(self) -> None:
        """Read the last words of a process that has ended; one that it started may hold the pipe open for longer."""
        if self._reading is not None and self._pipe is not None:
            await asyncio.wait([self._reading], timeout=1)
            self._pipe.close()
            await self._reading

    def _alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def _end(self) -> str:
        code = self._process.returncode if self._process else None
        if code is not None and code < 0:
            return f"by {signal.Signals(-code).name}"
        return f"with exit code {code} (last words: {self._last_line[:200] or 'none'})"

    def _become(self, state: PartState) -> None:
        self.status = self._status(state, self.status.restarts + (state is PartState.RESTARTING))
        self._changed()

    def _status(self, state: PartState, restarts: int) -> PartStatus:
        return PartStatus(
            name=self.part.name,
            state=state,
            since=datetime.now(UTC),
            restarts=restarts,
            address=self.part.address,
            web=self.part.web,
            log=self._log_file,
            process=ProcessId.of(self._process.pid) if self._process is not None and self._alive() else None,
        )
