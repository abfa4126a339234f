"""What the integration tests share: an operator of the embedded stack, and workers."""

from collections.abc import AsyncIterator

import pytest

from tests.conftest import EmbeddedStack, WorkerProcess
from tests.operator import Operator, at_work


@pytest.fixture(scope="session")
async def operator(stack: EmbeddedStack) -> AsyncIterator[Operator]:
    """Acts on the stack from outside."""
    async with at_work(stack) as someone:
        yield someone


@pytest.fixture(scope="module")
async def worker(stack: EmbeddedStack) -> AsyncIterator[WorkerProcess]:
    """One worker of all roles, for the tests of a module."""
    started = await stack.start_worker()
    yield started
    await started.stop()
