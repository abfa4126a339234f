"""What the chaos tests share: an operator of the embedded stack. They start their workers themselves, to kill them."""

from collections.abc import AsyncIterator

import pytest

from tests.conftest import EmbeddedStack
from tests.operator import Operator, at_work


@pytest.fixture(scope="session")
async def operator(stack: EmbeddedStack) -> AsyncIterator[Operator]:
    """Acts on the stack from outside."""
    async with at_work(stack) as someone:
        yield someone


@pytest.fixture(autouse=True)
async def _nothing_runs(stack: EmbeddedStack) -> None:
    await stack.kill_workers()  # one of another test could take the step whose worker is to be killed
    await stack.end_workflows()
