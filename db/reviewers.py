"""Who may decide reviews; every change of the list is audited."""

from datetime import datetime

from db import audit
from db.pool import Connection, Pool
from domain.base import Actor, Model


class StoredReviewer(Model):
    """One row of reviewers."""

    name: Actor
    added_by: str
    created_at: datetime


async def is_known(connection: Connection | Pool, name: str) -> bool:
    """Whether somebody may review; names are compared letter by letter."""
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM reviewers WHERE name = $1)", name))


async def every(connection: Connection | Pool) -> list[StoredReviewer]:
    """All reviewers, by name."""
    rows = await connection.fetch("SELECT name, added_by, created_at FROM reviewers ORDER BY name")
    return [StoredReviewer.model_validate(dict(row)) for row in rows]


async def add(pool: Pool, name: str, by: str) -> bool:
    """Let somebody review; False, and nothing is written, when they may already."""
    async with pool.acquire() as connection, connection.transaction():
        added = await connection.fetchval(
            "INSERT INTO reviewers (name, added_by) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true", name, by
        )
        if added:
            await audit.append(connection, "reviewer_added", "reviewer", name, by, {})
    return bool(added)


async def remove(pool: Pool, name: str, by: str) -> bool:
    """Let somebody review no longer; False, and nothing is written, when they may not anyway."""
    async with pool.acquire() as connection, connection.transaction():
        removed = await connection.fetchval("DELETE FROM reviewers WHERE name = $1 RETURNING true", name)
        if removed:
            await audit.append(connection, "reviewer_removed", "reviewer", name, by, {})
    return bool(removed)
