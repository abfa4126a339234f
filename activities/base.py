"""What every activity class shares: which step a method implements, and heartbeats."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
from temporalio import activity

from domain import errors
from domain.base import Model
from domain.steps import I, O, Step

S = TypeVar("S")

_STEP_ATTRIBUTE = "__clotho_step__"

_NO_DATABASE = (
    OSError,  # of connecting, a time-out too; what other outside systems raise, their clients name themselves
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # the server is starting or stopping
    asyncpg.InsufficientResourcesError,  # no connection or no disk left
    asyncpg.InterfaceError,  # the connection broke under the query
)


def implements(
    step: Step[I, O],
) -> Callable[[Callable[[S, I], Awaitable[O]]], Callable[[S, I], Awaitable[O]]]:
    """Mark a method as the implementation of a step; its name in Temporal is the step's.

    A database that cannot be reached is DatabaseUnavailable for every step.
    """

    def mark(method: Callable[[S, I], Awaitable[O]]) -> Callable[[S, I], Awaitable[O]]:
        @functools.wraps(method)
        async def run(self: S, request: I) -> O:
            try:
                return await method(self, request)
            except _NO_DATABASE as error:
                if isinstance(error, asyncpg.DataError):  # an argument of ours that Postgres cannot take
                    raise
                what = f"Postgres cannot be used ({type(error).__name__})"
                raise errors.failure(errors.DATABASE_UNAVAILABLE, what) from error

        marked = activity.defn(name=step.name)(run)
        setattr(marked, _STEP_ATTRIBUTE, step)
        return marked

    return mark


def implementations(owner: object) -> dict[str, Callable[..., Awaitable[Any]]]:
    """The bound methods of an object that implement steps, by name of the step."""
    found = {}
    for name in dir(type(owner)):
        step = getattr(getattr(type(owner), name), _STEP_ATTRIBUTE, None)
        if step is not None:
            found[step.name] = getattr(owner, name)
    return found


@contextlib.asynccontextmanager
async def heartbeating(details: Callable[[], Model | None] = lambda: None) -> AsyncIterator[None]:
    """Heartbeat in the background for as long as the block runs, three times in each heartbeat time-out.

    Only for work that awaits: a blocked event loop stops the heartbeats, as it should. `details` says how far it is.
    """
    timeout = activity.info().heartbeat_timeout
    if timeout is None:
        yield
        return

    async def beat() -> None:
        while True:
            progress = details()
            activity.heartbeat(*(() if progress is None else (progress,)))
            await asyncio.sleep(timeout.total_seconds() / 3)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating
