"""Lifecycles in skipped time on a real Temporal server; Postgres, chain, model and source site are real too."""

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from deploy.local.data import Series, load_series
from tests.conftest import EmbeddedStack
from tests.workflows.world import Question, World, world_in_skipped_time


@pytest.fixture(scope="session")
async def world(stack: EmbeddedStack) -> AsyncIterator[World]:
    async with world_in_skipped_time(stack.environment) as world:
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
