"""The configuration as steps read it: from the table, or from a live view that a worker keeps of it."""

import logging
from typing import Protocol

from prometheus_client import Gauge

from db import ai_config
from db.following import Follower
from db.pool import Connection, Pool
from domain.config import Config, ConfigError

POLL = 60.0
"""Seconds after which the table is read although no change was notified: a notification may be lost."""

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


class LiveConfiguration(Follower):
    """The configuration in memory, kept current over a connection of its own: changes arrive when they are committed.

    A change that cannot be read (somebody wrote a bad value with SQL) is logged, and the last good state stays.

    Args:
        url: of the database.
        poll: seconds between readings that no notification asked for.

    Raises:
        ConfigError: on entering: a value is bad.
    """

    def __init__(self, url: str, *, poll: float = POLL) -> None:
        super().__init__(url, ai_config.CHANNEL, poll=poll)
        self._snapshot: ai_config.Snapshot | None = None

    async def now(self) -> Config:
        """All keys, as the last change that arrived left them."""
        assert self._snapshot is not None, "entering has read the table"
        return self._snapshot.config

    async def _read(self, connection: Connection) -> None:
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
