"""Lifecycles in skipped time: the test server moves the clock, everything else is real (Postgres, chain, model, site)."""

import sysconfig
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from cli.proposing import propose
from db.pool import Pool, connect
from deploy.local import site_control
from domain.ids import market_workflow_id
from domain.market import Accepted, MarketDraft, MarketEnd, MarketState, Proposal
from domain.steps import Role
from tests.conftest import EmbeddedStack
from workers.clients import steps_owner
from workers.registry import WORKFLOWS, activities_of, workflow_runner
from workers.settings import WorkerSettings


@dataclass
class Lifecycles:
    """Starts and steers lifecycles on the time-skipping server."""

    environment: WorkflowEnvironment
    pool: Pool
    site: site_control.SiteControl

    @property
    def client(self) -> Client:
        return self.environment.client

    async def start(self, draft: MarketDraft, *, key: str, dispute_window: int = 60) -> UUID:
        proposal = Proposal(text=draft.rules.exact_question[:500], draft=draft, proposer="operator")
        proposed = await propose(self.client, self.pool, proposal, key=key, dispute_window_seconds=dispute_window)
        return proposed.market_id

    def handle(self, market_id: UUID) -> WorkflowHandle[Any, Any]:
        return self.client.get_workflow_handle(market_workflow_id(market_id), result_type=MarketEnd)

    async def state(self, market_id: UUID) -> MarketState:
        state: MarketState = await self.handle(market_id).query("state", result_type=MarketState)
        return state

    async def tell(self, market_id: UUID, update: str, message: Any) -> Accepted:
        accepted: Accepted = await self.handle(market_id).execute_update(update, message, result_type=Accepted)
        return accepted

    async def end(self, market_id: UUID) -> MarketEnd:
        end: MarketEnd = await self.handle(market_id).result()
        return end

    async def skip(self, duration: timedelta) -> None:
        await self.environment.sleep(duration)


@pytest.fixture(scope="session")
async def lifecycles(stack: EmbeddedStack) -> AsyncIterator[Lifecycles]:
    settings = WorkerSettings.model_validate({name.lower(): value for name, value in stack.environment.items()})
    async with AsyncExitStack() as resources:
        environment = await resources.enter_async_context(
            await WorkflowEnvironment.start_time_skipping(
                test_server_existing_path=str(Path(sysconfig.get_path("scripts"), "temporal-test-server")),
                data_converter=pydantic_data_converter,
            )
        )
        pool = await resources.enter_async_context(await connect(stack.environment["DATABASE_URL"]))
        for role in Role:
            owner = await steps_owner(role, settings, pool, resources)
            worker = Worker(
                environment.client,
                task_queue=role.value,
                workflows=WORKFLOWS[role],
                activities=activities_of(role, [owner]),
                workflow_runner=workflow_runner(),
            )
            await resources.enter_async_context(worker)
        ca_file = Path(stack.environment["SOURCES_CA_FILE"])
        site = await resources.enter_async_context(
            site_control.connected(stack.environment["SOURCES_CONNECT_TO"], ca_file)
        )
        yield Lifecycles(environment, pool, site)
