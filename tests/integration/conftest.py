"""What the integration tests share: an operator of the embedded stack, and workers."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.conftest import EmbeddedStack, WorkerProcess
from tests.desk import Office
from tests.integration.chain_world import World, prepared, set_faults
from tests.operator import Operator, at_work
from tests.workflows.world import world_in_skipped_time
from workers.telemetry import free_port, temporal_runtime


@pytest.fixture(scope="session")
async def operator(stack: EmbeddedStack) -> AsyncIterator[Operator]:
    """Acts on the stack from outside."""
    async with at_work(stack) as someone:
        yield someone


@pytest.fixture(scope="module")
async def worker(stack: EmbeddedStack) -> AsyncIterator[WorkerProcess]:
    """One worker of all roles, for the tests of a module."""
    await stack.end_workflows()
    started = await stack.start_worker()
    yield started
    await started.stop()


@pytest.fixture(scope="session")
async def office(stack: EmbeddedStack, operator: Operator) -> AsyncIterator[Office]:
    """Where reviewers sit: a Temporal server of its own, where time can be skipped, with workers in this process."""
    metrics_port = free_port()
    async with world_in_skipped_time(stack.environment, temporal_runtime(metrics_port)) as world:
        yield Office(operator, world, metrics_port)


@pytest.fixture(scope="module")
async def shared_chain(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> AsyncIterator[World]:
    """A node of its own, with wallets and chain, for the tests of a module."""
    async with prepared(tmp_path_factory.mktemp("solana"), postgres_url) as world:
        yield world


@pytest.fixture
async def world(shared_chain: World) -> AsyncIterator[World]:
    """A copy, of which a test may change wallets and client."""
    yield replace(shared_chain)
    await set_faults(shared_chain.node)
