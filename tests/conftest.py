"""What the tiers share: an embedded PostgreSQL with clean databases, and the embedded stack without its workers."""

import asyncio
import os
import secrets
import signal
import sys
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import httpx
import pytest
from temporalio.client import Client
from temporalio.service import RPCError

from deploy.local import launch
from deploy.local.stack import PARTS, Stack
from deploy.local.temporary import temporary_stack
from tests.support import eventually, free_ports

_TEMPLATE = "clotho_template"

for name in (
    "CI", "COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "LINES", "NO_COLOR", "PY_COLORS", "TERMINAL_WIDTH",
    "TTY_COMPATIBLE", "TTY_INTERACTIVE",
):  # fmt: skip
    # How whoever runs the tests wants programs to look; here the programs under test would look so.
    os.environ.pop(name, None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So a shell starts what it puts into the background; the programs under test would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Database:
    """The server behind `postgres_url`: makes and drops databases."""

    def __init__(self, stack: Stack) -> None:
        self.url = stack.postgres.url
        self.superuser_url = stack.postgres.superuser_url

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[str]:
        """A migrated database that nobody else uses; gives its URL."""
        name = f"test_{secrets.token_hex(6)}"
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} OWNER clotho")
        yield self.url(name)
        await self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def execute(self, statement: str) -> None:
        """Run one statement as the cluster's owner."""
        connection = await asyncpg.connect(self.superuser_url(), timeout=5)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@pytest.fixture(scope="session")
async def database() -> AsyncIterator[Database]:
    with temporary_stack(without=set(PARTS) - {"postgres"}) as stack:
        try:
            await stack.supervisor.start()
            database = Database(stack)
            await database.execute(f"CREATE DATABASE {_TEMPLATE} TEMPLATE clotho")
            yield database
        finally:
            await stack.supervisor.stop()


@pytest.fixture(scope="session")
async def postgres_url(database: Database) -> str:
    """A migrated database that the whole session shares, for tests that keep to rows of their own."""
    return database.url()


@pytest.fixture
async def database_url(database: Database) -> AsyncIterator[str]:
    """A migrated database for one test alone."""
    async with database.fresh() as url:
        yield url


@pytest.fixture
async def superuser_url(database: Database, database_url: str) -> str:
    """The test's own database, for the cluster's owner: whoever got hold of the server itself."""
    return database.superuser_url(database_url.rpartition("/")[2])


class WorkerProcess:
    """One `clotho worker`, started by `EmbeddedStack.start_worker`."""

    def __init__(self, process: asyncio.subprocess.Process, health: str, log: Path) -> None:
        self.process, self.health, self.log = process, health, log

    async def ready(self) -> bool:
        """Whether it polls its queues; fails when it has ended instead."""
        if self.process.returncode is not None:
            pytest.fail(f"the worker ended with {self.process.returncode}: {self.log.read_text('utf-8')[-2000:]}")
        # Plain HTTP: to load certificate authorities at every look costs more than the worker's own start.
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            try:
                return (await client.get(f"{self.health}/ready")).is_success
            except httpx.HTTPError:
                return False

    async def stop(self) -> int:
        """Ask it to end gracefully; returns its exit code."""
        if self.process.returncode is None:
            self.process.terminate()
        return await self.process.wait()

    async def kill(self) -> None:
        """End it with no warning, as a crash of the machine does."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


class EmbeddedStack:
    """The embedded stack without its workers, for the whole session; whoever stops a part starts it again."""

    def __init__(self, stack: Stack) -> None:
        self.environment = stack.environment
        """Settings by name, as `clotho up` writes them into `.clotho/env`."""
        self.folder = stack.folder
        self._supervisor = stack.supervisor
        self._workers: list[WorkerProcess] = []

    async def stop(self, part: str) -> None:
        """Stop one part, as in an outage."""
        await self._supervisor.stop_part(part)

    async def start(self, part: str) -> None:
        """Start a part that was stopped; returns when it is ready."""
        await self._supervisor.start_part(part)

    async def start_worker(self, *roles: str, environment: dict[str, str] | None = None) -> WorkerProcess:
        """Start a worker of `roles` (none: all), with `environment` over the stack's; returns when it is ready."""
        (port,) = free_ports(1)
        log = self.folder / "logs" / f"worker-{port}.log"
        with log.open("w") as output:
            process = await asyncio.create_subprocess_exec(
                # As the supervisor starts its parts: the worker ends with the tests, however these end.
                sys.executable, launch.__file__, str(os.getpid()), str(int(signal.SIGKILL)), "",
                str(Path(sysconfig.get_path("scripts"), "clotho")), "worker",
                *(argument for role in roles for argument in ("--role", role)),
                env=os.environ | self.environment | {"HEALTH_PORT": str(port)} | (environment or {}),
                stdout=output, stderr=output,
            )  # fmt: skip
        worker = WorkerProcess(process, f"http://127.0.0.1:{port}", log)
        self._workers.append(worker)
        await eventually(worker.ready, "a ready worker")
        return worker

    async def end_workflows(self) -> None:
        """End what earlier tests have left running: workers of this one would take it up."""
        temporal = await Client.connect(self.environment["TEMPORAL_ADDRESS"])

        async def none_runs() -> bool:
            left = [run async for run in temporal.list_workflows("ExecutionStatus = 'Running'")]
            for run in left:
                with suppress(RPCError):  # it has ended, and the list lags behind
                    await temporal.get_workflow_handle(run.id, run_id=run.run_id).terminate("its tests are over")
            return not left

        await eventually(none_runs, "the end of earlier tests' workflows")

    async def kill_workers(self) -> None:
        """End all that `start_worker` started."""
        for worker in self._workers:
            await worker.kill()


@pytest.fixture(scope="session")
async def stack() -> AsyncIterator[EmbeddedStack]:
    """Postgres, Valkey, Temporal, the chain, the scripted model and the source site, running and empty."""
    with temporary_stack(without={"workers"}) as started:
        embedded = EmbeddedStack(started)
        try:
            await started.supervisor.start()
            yield embedded
        finally:
            await embedded.kill_workers()
            await started.supervisor.stop()
