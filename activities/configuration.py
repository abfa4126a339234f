"""The configuration as steps read it: from the table, or from a live view that a worker keeps of it."""

import asyncio
import contextlib
import logging
from types import TracebackType
from typing import Protocol, Self

import asyncpg
from prometheus_client import Gauge

from db import ai_config
from db.pool import Pool, connect_one
from domain.config import Config, ConfigError

POLL = 60.0
"""Seconds after which the table is read although no change was notified: a notification may be lost."""

_RECONNECT = 0.5
"""Seconds until the connection is tried again after it broke."""

_READ = 10.0
"""Seconds that one reading of the table may take; a connection that is half open is noticed by it."""

_VERSION = Gauge("clotho_config_version", "Which change of the configuration (ai_config.version) this worker has.")

log = logging.getLogger(__name__)


class Configuration(Protocol):
    """Where the configuration is read."""

    async def now(self) -> Config:
        """All keys as they are now.

        Raises:
            ConfigError: a value is bad.
        """
        ...


class StoredConfiguration:
    """The table itself, read each time: for what runs outside a worker."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def now(self) -> Config:
        """All keys as they are now."""
        return (await ai_config.load(self._pool)).config


class LiveConfiguration:
    """The configuration in memory, kept current over a connection of its own: changes arrive when they are committed.

    A change that cannot be read (somebody wrote a bad value with SQL) is logged, and the last good state stays.

    Args:
        url: of the database.
        poll: seconds between readings that no notification asked for.
    """

    def __init__(self, url: str, *, poll: float = POLL) -> None:
        self._url, self._poll = url, poll
        self._snapshot: ai_config.Snapshot | None = None
        self._first = asyncio.get_running_loop().create_future()
        self._following: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Read the table and follow it from here on.

        Raises:
            ConfigError: a value is bad.
            OSError, asyncpg.PostgresError: the database cannot be used.
        """
        self._following = asyncio.create_task(self._follow(), name="configuration")
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

    async def now(self) -> Config:
        """All keys, as the last change that arrived left them."""
        assert self._snapshot is not None, "entering has read the table"
        return self._snapshot.config

    async def _follow(self) -> None:
        while True:
            try:
                await self._follow_connected()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ConfigError) as error:
                if not self._first.done():
                    self._first.set_exception(error)
                    return
                log.warning("the configuration is not followed", extra={"error": f"{type(error).__name__}: {error}"})
            await asyncio.sleep(_RECONNECT)

    async def _follow_connected(self) -> None:
        """Read the table after every notification, and now and then, until the connection breaks."""
        connection = await connect_one(self._url)
        try:
            wake = asyncio.Event()
            connection.add_termination_listener(lambda _: wake.set())
            # Before the first reading, so that no change falls between the two.
            await connection.add_listener(ai_config.CHANNEL, lambda *_: wake.set())
            while not connection.is_closed():
                wake.clear()
                async with asyncio.timeout(_READ):
                    await self._read(connection)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll):
                        await wake.wait()
        finally:
            connection.terminate()

    async def _read(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        try:
            snapshot = await ai_config.load(connection)
        except ConfigError as error:
            if self._snapshot is None:
                raise
            log.error("the configuration in the database is bad, the last good one stays", extra={"error": str(error)})  # noqa: TRY400 - a sentence
            return
        if self._snapshot is None or snapshot.version != self._snapshot.version:
            log.info("configuration", extra={"version": snapshot.version})
        self._snapshot = snapshot
        _VERSION.set(snapshot.version)
        if not self._first.done():
            self._first.set_result(None)
