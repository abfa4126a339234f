"""Lifecycles in skipped time on a real Temporal server; Postgres, chain, model and source site are real too.

Each market has a clock of its own, which `Market.skip` and `Market.end` move; until then it is the real one. Steps
always run in real time: a workflow's clock stands still for none of them, and the source site's embargoes do not know
of skipped time.
"""

import itertools
import sysconfig
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from deploy.local.data import Series, load_series
from domain.search_attributes import SEARCH_ATTRIBUTES
from tests.conftest import EmbeddedStack
from tests.workflows.world import Question, World, world_on


@pytest.fixture(scope="session")
async def world(stack: EmbeddedStack) -> AsyncIterator[World]:
    server = await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(Path(sysconfig.get_path("scripts"), "temporal")),
        dev_server_extra_args=[
            "--dynamic-config-value",
            "frontend.WorkflowTimeSkippingEnabled=true",
            # Timers are due one second late by default, which skipping time does not skip.
            "--dynamic-config-value",
            'history.timerProcessorMaxTimeShift="10ms"',
        ],
        dev_server_log_level="error",
        search_attributes=SEARCH_ATTRIBUTES,
        data_converter=pydantic_data_converter,
    )
    async with server, world_on(server.client, stack.environment) as world:
        yield world


@pytest.fixture(scope="session")
def series() -> Iterator[Series]:
    """One series after the other, so that no two tests in a row ask about the same."""
    return itertools.cycle(one for one in load_series() if one.source == "fred" and len(one.observations) > 1)


@pytest.fixture
async def question(world: World, series: Iterator[Series]) -> AsyncIterator[Question]:
    """A question of this test's own, whose answer is not published yet."""
    question = Question(next(series), world.site)
    await question.withhold()
    yield question
    await question.publish()
