"""What every step shares: a database that is away has a name, and an operator can have retries end earlier."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from activities.base import implements
from domain import config, errors, steps
from domain.config import Config
from domain.market import Canceled, CancelRequest
from tests.unit.test_config import VALUES
from workers.retries import RetryLimit

REQUEST = CancelRequest(market_id=uuid4(), by="somebody", reason="to test")


class Steps:
    """One step, which fails as it is told."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    @implements(steps.CANCEL_MARKET)
    async def cancel_market(self, request: CancelRequest) -> Canceled:
        raise self._error


async def failure(error: Exception) -> BaseException:
    with pytest.raises(type(error) if isinstance(error, asyncpg.DataError | KeyError) else ApplicationError) as caught:
        await Steps(error).cancel_market(REQUEST)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "refused"),
        TimeoutError(),
        asyncpg.ConnectionDoesNotExistError("closed in the middle"),
        asyncpg.CannotConnectNowError("starting up"),
        asyncpg.AdminShutdownError("going down"),
        asyncpg.TooManyConnectionsError("full"),
        asyncpg.InterfaceError("connection is closed"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_database_that_is_away_is_named_and_tried_again(error: Exception) -> None:
    named = await failure(error)
    assert isinstance(named, ApplicationError)
    assert (named.type, named.non_retryable) == (errors.DATABASE_UNAVAILABLE.type, False)
    assert "PostgreSQL" in named.message


@pytest.mark.parametrize("error", [asyncpg.DataError("too big"), KeyError("x")], ids=["DataError", "KeyError"])
async def test_a_fault_of_ours_keeps_its_own_name(error: Exception) -> None:
    assert await failure(error) is error


class Stored:
    """A configuration with so many retries."""

    def __init__(self, max_retries: int) -> None:
        self._config = config.parse({**VALUES, "max_retries": max_retries})

    async def now(self) -> Config:
        return self._config


class Failing(ActivityInboundInterceptor):
    def __init__(self, error: Exception) -> None:
        self._error = error

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("attempt", "max_retries", "ends"), [(1, 0, True), (1, 1, False), (2, 1, True), (3, 3, False), (4, 3, True)]
)
async def test_retries_end_when_the_configuration_says(attempt: int, max_retries: int, ends: bool) -> None:
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, attempt=attempt)
    error = errors.failure(errors.LLM_UNAVAILABLE, "the provider answered 500")
    limited = RetryLimit(Stored(max_retries)).intercept_activity(Failing(error))

    @activity.defn
    async def step() -> None:
        await limited.execute_activity(None)  # type: ignore[arg-type] # what it is given it only passes on

    run: Callable[..., Any] = environment.run
    with pytest.raises(ApplicationError) as caught:
        await run(step)
    assert (caught.value.type, caught.value.non_retryable) == (error.type, ends)
    assert caught.value.message == error.message
