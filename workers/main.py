"""The worker process: settings, clients, one Temporal worker for each role, and a graceful end."""

import asyncio
import logging
import signal
import sys
from contextlib import AsyncExitStack
from datetime import timedelta

import uvloop
from temporalio.worker import Worker

from activities.configuration import LiveConfiguration
from activities.scorer import LiveModel, Scorer
from db.pool import connect
from domain.config import ConfigError
from domain.signing import SigningError
from domain.steps import Role
from workers.clients import connect_temporal, steps_owners
from workers.health import Check, serving
from workers.registry import WORKFLOWS, activities_of, workflow_runner
from workers.retries import RetryLimit
from workers.settings import SettingsError, WorkerSettings, load
from workers.telemetry import StepLog, configure_logging, free_port, temporal_runtime
from workers.versions import StartError, check_versions

GRACEFUL_SHUTDOWN = timedelta(seconds=20)
"""How long running steps may finish after SIGTERM; then they are cancelled and tried again elsewhere."""

log = logging.getLogger(__name__)


async def work(roles: tuple[Role, ...], settings: WorkerSettings, stop: asyncio.Event) -> None:
    """Run workers of `roles` until `stop` is set, then end gracefully.

    Raises:
        StartError: an ai_version that is needed cannot be served, or the configuration or a key is bad.
    """
    metrics_port = free_port()
    async with AsyncExitStack() as resources:
        client = await connect_temporal(
            settings.temporal_address, settings.temporal_namespace, runtime=temporal_runtime(metrics_port)
        )
        database = settings.database_url.get_secret_value()
        pool = await resources.enter_async_context(await connect(database))
        if Role.LLM in roles:
            await check_versions(pool, settings.prompts_dir)
        try:
            configuration = await resources.enter_async_context(LiveConfiguration(database))
        except ConfigError as error:
            raise StartError(f"the configuration is bad: {error}") from None
        if settings.model_verify_key is not None:
            try:
                # Both, so that a version which this code or key cannot load is switched back.
                await resources.enter_async_context(Scorer(database, settings.model_verify_key))
                await resources.enter_async_context(LiveModel(database, "transactions", settings.model_verify_key))
            except SigningError as error:
                raise StartError(f"{error}") from None
        workers = []
        for role in roles:
            owners = await steps_owners(role, settings, pool, resources, configuration)
            workers.append(
                Worker(
                    client,
                    task_queue=role.value,
                    workflows=WORKFLOWS[role],
                    activities=activities_of(role, owners),
                    workflow_runner=workflow_runner(),
                    interceptors=[StepLog(), RetryLimit(configuration)],
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
    except (SettingsError, StartError) as error:
        sys.exit(f"{error}.")
