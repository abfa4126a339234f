"""Following a table: read again after every notification, and now and then, over a connection of its own."""

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

import asyncpg

from db.pool import Connection, connect_one

_RECONNECT = 0.2
"""Seconds until the connection is tried again after it broke."""

_READ = 5.0
"""Seconds that one reading may take; a connection that is half open is noticed by it."""

LOST = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What a connection may end with; the last, when the server ends it in the moment in which a query begins."""

log = logging.getLogger(__name__)


class Follower(ABC):
    """Reads when it is entered, and again whenever something may have changed.

    Args:
        url: of the database.
        channel: whose notifications tell of changes.
        poll: seconds between readings that no notification asked for: one may be lost.
    """

    def __init__(self, url: str, channel: str, *, poll: float) -> None:
        self._url, self._channel, self._poll = url, channel, poll
        self._first = asyncio.get_running_loop().create_future()
        self._following: asyncio.Task[None] | None = None

    @abstractmethod
    async def _read(self, connection: Connection) -> None:
        """Read what is followed; what it raises but errors of the database ends the following."""

    async def __aenter__(self) -> Self:
        """Read, and follow from here on.

        Raises:
            OSError, asyncpg.PostgresError: the database cannot be used; or what the first reading raises.
        """
        self._following = asyncio.create_task(self._follow(), name=f"following {self._channel}")
        try:
            await self._first
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following

    async def _follow(self) -> None:
        while True:
            try:
                await self._follow_connected()
            except Exception as error:
                if not self._first.done():
                    self._first.set_exception(error)
                    return
                if not isinstance(error, LOST):
                    raise
                log.warning("a table is not followed", extra={"channel": self._channel, "error": repr(error)})
            await asyncio.sleep(_RECONNECT)

    async def _follow_connected(self) -> None:
        """Read after every notification, and now and then, until the connection breaks."""
        connection = await connect_one(self._url)
        try:
            wake = asyncio.Event()
            connection.add_termination_listener(lambda _: wake.set())
            # Before the first reading, so that no change falls between the two.
            await connection.add_listener(self._channel, lambda *_: wake.set())
            while not connection.is_closed():
                wake.clear()
                async with asyncio.timeout(_READ):
                    await self._read(connection)
                if not self._first.done():
                    self._first.set_result(None)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll):
                        await wake.wait()
        finally:
            connection.terminate()
