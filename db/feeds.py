"""News feeds: which are polled, and how the last poll of each went."""

from datetime import datetime
from uuid import UUID, uuid4

from db import audit
from db.pool import Connection, Pool
from domain.base import Model


class StoredFeed(Model):
    """One row of rss_feeds; `failures` counts the polls that failed in a row."""

    id: UUID
    url: str
    name: str
    enabled: bool
    etag: str | None
    last_modified: str | None
    last_polled: datetime | None
    last_error: str | None
    failures: int


async def every(connection: Connection | Pool) -> list[StoredFeed]:
    """All feeds, by name."""
    rows = await connection.fetch("SELECT * FROM rss_feeds ORDER BY name")
    return [StoredFeed.model_validate(dict(row)) for row in rows]


async def find(connection: Connection | Pool, name: str) -> StoredFeed | None:
    """The feed of that name, or with that address."""
    row = await connection.fetchrow("SELECT * FROM rss_feeds WHERE name = $1 OR url = $1", name)
    return None if row is None else StoredFeed.model_validate(dict(row))


async def due(connection: Connection | Pool, feed_id: UUID | None, at: datetime) -> list[StoredFeed]:
    """The feeds that a poll begun at `at` has still to read, longest unread first: one, or every enabled one."""
    rows = await connection.fetch(
        "SELECT * FROM rss_feeds WHERE CASE WHEN $1::uuid IS NULL THEN enabled ELSE id = $1 END"
        " AND (last_polled IS NULL OR last_polled < $2) ORDER BY last_polled NULLS FIRST, name",
        feed_id,
        at,
    )
    return [StoredFeed.model_validate(dict(row)) for row in rows]


async def add(pool: Pool, url: str, name: str, by: str) -> StoredFeed | None:
    """Add a feed; None, and nothing is written, when its address or name is taken."""
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(
            "INSERT INTO rss_feeds (id, url, name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING *",
            uuid4(),
            url,
            name,
        )
        if row is None:
            return None
        await audit.append(connection, "feed_added", "feed", name, by, {"url": url})
    return StoredFeed.model_validate(dict(row))


async def remove(pool: Pool, feed: StoredFeed, by: str) -> None:
    """Remove a feed; its items stay, and are then of no feed."""
    async with pool.acquire() as connection, connection.transaction():
        if await connection.fetchval("DELETE FROM rss_feeds WHERE id = $1 RETURNING true", feed.id):
            await audit.append(connection, "feed_removed", "feed", feed.name, by, {"url": feed.url})


async def enable(pool: Pool, feed: StoredFeed, enabled: bool, by: str) -> None:
    """Have a feed polled or not."""
    async with pool.acquire() as connection, connection.transaction():
        changed = await connection.fetchval(
            "UPDATE rss_feeds SET enabled = $2 WHERE id = $1 AND enabled <> $2 RETURNING true", feed.id, enabled
        )
        if changed:
            action = "feed_enabled" if enabled else "feed_disabled"
            await audit.append(connection, action, "feed", feed.name, by, {"url": feed.url})


async def record_read(
    connection: Connection | Pool, feed_id: UUID, at: datetime, etag: str | None, last_modified: str | None
) -> None:
    """Record that a feed was read, and by what its next answer is known as unchanged."""
    await connection.execute(
        "UPDATE rss_feeds SET last_polled = $2, etag = $3, last_modified = $4, last_error = NULL, failures = 0"
        " WHERE id = $1",
        feed_id,
        at,
        etag,
        last_modified,
    )


async def record_failure(connection: Connection | Pool, feed_id: UUID, at: datetime, error: str) -> None:
    """Record why a feed could not be read."""
    await connection.execute(
        "UPDATE rss_feeds SET last_polled = $2, last_error = $3, failures = failures + 1 WHERE id = $1",
        feed_id,
        at,
        error,
    )
