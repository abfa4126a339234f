"""The worker process: settings, clients, one Temporal worker for each role, and a graceful end."""

import asyncio
import logging
import signal
import sys
from contextlib import AsyncExitStack
from datetime import timedelta

import uvloop
from temporalio.worker import Worker

from db.pool import connect
from domain.steps import Role
from workers.clients import connect_temporal, steps_owner
from workers.health import Check, serving
from workers.registry import WORKFLOWS, activities_of, workflow_runner
from workers.settings import SettingsError, WorkerSettings, load
from workers.telemetry import StepLog, configure_logging, free_port, temporal_runtime

GRACEFUL_SHUTDOWN = timedelta(seconds=20)
"""How long running steps may finish after SIGTERM; then they are cancelled and tried again elsewhere."""

log = logging.getLogger(__name__)


async def work(roles: tuple[Role, ...], settings: WorkerSettings, stop: asyncio.Event) -> None:
    """Run workers of `roles` until `stop` is set, then end gracefully."""
    metrics_port = free_port()
    async with AsyncExitStack() as resources:
        client = await connect_temporal(
            settings.temporal_address, settings.temporal_namespace, runtime=temporal_runtime(metrics_port)
        )
        pool = await resources.enter_async_context(await connect(settings.database_url.get_secret_value()))
        await pool.fetchval("SELECT 1")
        workers = []
        for role in roles:
            owner = await steps_owner(role, settings, pool, resources)
            workers.append(
                Worker(
                    client,
                    task_queue=role.value,
                    workflows=WORKFLOWS[role],
                    activities=activities_of(role, [owner]),
                    workflow_runner=workflow_runner(),
                    interceptors=[StepLog()],
                    graceful_shutdown_timeout=GRACEFUL_SHUTDOWN,
                )
            )
        checks: dict[str, Check] = {
            "temporal": client.service_client.check_health,
            "database": lambda: pool.fetchval("SELECT 1"),
        }
        await resources.enter_async_context(serving(settings.health_host, settings.health_port, checks, metrics_port))
        # A worker that fails ends the group, and with it the process: the platform starts another.
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker.run())
            log.info("ready", extra={"roles": [role.value for role in roles], "health_port": settings.health_port})
            await stop.wait()
            log.info("stopping", extra={"grace_seconds": GRACEFUL_SHUTDOWN.total_seconds()})
            await asyncio.gather(*(worker.shutdown() for worker in workers))


def main(roles: tuple[Role, ...], settings: WorkerSettings) -> None:
    """Run workers until SIGTERM or ctrl-C."""
    configure_logging(settings.log_level)

    async def until_signal() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await work(roles, settings, stop)

    uvloop.run(until_signal())


if __name__ == "__main__":
    try:
        main(tuple(Role), load(tuple(Role)))
    except SettingsError as error:
        sys.exit(f"{error}.")
