"""The supervisor with parts that are little Python programs: order, restarts, clean and forced ends, logs."""

import asyncio
import os
import re
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local.state import PartState, PartStatus, ProcessId, end_leftovers, read_state, running
from deploy.local.supervisor import Part, StackError, Supervisor
from tests.support import eventually

SERVE = """
    import signal, sys, time
    # Kept until it is asked for: a handler misses what comes just before `pause`.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with open("order", "a") as order: print("start", sys.argv[1], file=order)
    print("serving")
    signal.sigwait({signal.SIGTERM})
    if sys.argv[1] == "worker": time.sleep(0.3)  # it finishes what it does
    with open("order", "a") as order: print("stop", sys.argv[1], file=order)
"""
STUBBORN = """
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("serving")
    while True: signal.pause()
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Lines:
    """Collects what the supervisor shows."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, str]] = []

    def __call__(self, name: str, line: str) -> None:
        self.shown.append((name, line))

    def part(self, name: str, script: str = SERVE, **changes: Any) -> Part:
        """A part that is ready once it said "serving" since its last start."""
        starts = 0

        async def ready() -> bool:
            return self.shown.count((name, "serving")) > starts

        async def after() -> None:
            nonlocal starts
            starts += 1

        command = [sys.executable, "-c", textwrap.dedent(script), name]
        return replace(Part(name, command, ready, address="", ports={}, after=after), **changes)


@pytest.fixture
async def supervise(tmp_path: Path) -> AsyncIterator[Callable[..., Supervisor]]:
    made: list[Supervisor] = []

    def make(lines: Lines, *parts: Part) -> Supervisor:
        made.append(Supervisor(parts, tmp_path, lines))
        return made[-1]

    yield make
    for supervisor in made:
        await supervisor.stop()


def status_of(supervisor: Supervisor, name: str) -> PartStatus:
    return next(part for part in supervisor.status() if part.name == name)


def process_of(supervisor: Supervisor, name: str) -> psutil.Process:
    found = status_of(supervisor, name).process
    assert found is not None
    process = found.find()
    assert process is not None
    return process


async def test_parts_start_after_what_they_need_and_stop_before_it(supervise: Callable[..., Supervisor]) -> None:
    lines = Lines()
    supervisor = supervise(lines, lines.part("worker", depends_on=("database", "left-out")), lines.part("database"))
    await supervisor.start()
    await supervisor.stop()
    assert Path("order").read_text().splitlines() == ["start database", "start worker", "stop worker", "stop database"]


async def test_a_part_that_dies_comes_back(supervise: Callable[..., Supervisor]) -> None:
    lines = Lines()
    supervisor = supervise(lines, lines.part("chain"))
    await supervisor.start()
    first = process_of(supervisor, "chain")
    first.kill()

    async def back() -> bool:
        status = status_of(supervisor, "chain")
        return status.restarts == 1 and status.state is PartState.READY

    await eventually(back, "the restarted part")
    assert process_of(supervisor, "chain").pid != first.pid
    assert ("supervisor", "chain ended by SIGKILL and is started again in 0.5 s") in lines.shown


async def test_a_part_that_cannot_start_is_named_with_its_last_words(supervise: Callable[..., Supervisor]) -> None:
    lines = Lines()
    broken = lines.part("database", "print('reading'); raise SystemExit('the disk is full')")
    supervisor = supervise(lines, broken, lines.part("worker", depends_on=("database",)))
    with pytest.raises(StackError) as raised:
        await supervisor.start()
    log = status_of(supervisor, "database").log
    assert str(raised.value) == (
        f"the part database stopped while it was starting, with exit code 1 (last words: the disk is full): read {log}"
    )
    assert log.read_text() == "reading\nthe disk is full\n"
    assert status_of(supervisor, "worker").state is PartState.WAITING


async def test_a_part_that_will_not_stop_is_killed(supervise: Callable[..., Supervisor]) -> None:
    lines = Lines()
    supervisor = supervise(lines, lines.part("stubborn", STUBBORN, stop_seconds=0.2))
    await supervisor.start()
    process = process_of(supervisor, "stubborn")
    await supervisor.stop()
    assert not process.is_running()
    assert ("supervisor", "stubborn did not stop within 0.2 s and was killed") in lines.shown


async def test_an_endless_line_does_not_stop_a_part(supervise: Callable[..., Supervisor]) -> None:
    lines = Lines()
    supervisor = supervise(lines, lines.part("talker", "print('x' * 3_000_000)\n" + textwrap.dedent(SERVE)))
    await supervisor.start()
    assert max(len(line) for _, line in lines.shown) < 2**20


async def killed_supervisor(folder: Path, script: str) -> ProcessId:
    """Start a supervisor of one part in a process of its own, kill it when the part is ready; returns the part."""
    program = f"""
        import asyncio, os, signal, sys
        from pathlib import Path
        from deploy.local.supervisor import Part, Supervisor

        async def main():
            async def ready():
                return Path("logs/part.log").exists()

            command = [sys.executable, "-c", {textwrap.dedent(script)!r}, "part"]
            part = Part("part", command, ready, address="", ports={{}}, stop_signal=signal.SIGUSR1)
            await Supervisor([part], Path.cwd()).start()
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
    """
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", textwrap.dedent(program))
    assert await supervisor.wait() == -signal.SIGKILL
    state = read_state(folder)
    assert state is not None
    assert running(folder) is None
    assert state.parts[0].process is not None
    return state.parts[0].process


async def test_the_next_supervisor_ends_what_a_killed_one_left(tmp_path: Path) -> None:
    ignores_the_death_of_its_parent = """
        import signal
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        print("serving")
        while True: signal.pause()
    """
    part = await killed_supervisor(tmp_path, ignores_the_death_of_its_parent)
    assert part.find() is not None
    assert end_leftovers(tmp_path) == ["part"]
    assert part.find() is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
async def test_parts_end_with_a_killed_supervisor(tmp_path: Path) -> None:
    part = await killed_supervisor(tmp_path, SERVE)

    async def gone() -> bool:
        return part.find() is None

    await eventually(gone, "the end of the part")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has its clock in a file")
@pytest.mark.parametrize("seconds", [-3, 3_600])
def test_a_process_is_found_after_the_clock_was_corrected(
    seconds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ProcessId.of(os.getpid())
    assert own is not None
    stat = Path("/proc/stat").read_text()
    (tmp_path / "stat").write_text(re.sub(r"btime (\d+)", lambda found: f"btime {int(found[1]) + seconds}", stat))
    (tmp_path / str(os.getpid())).symlink_to(f"/proc/{os.getpid()}")
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    assert own.find() is not None
