"""Runtime configuration: the table ai_config. Every change is audited, and tells every worker (a trigger notifies)."""

from datetime import datetime
from typing import Any

from db import audit
from db.pool import Connection, Pool
from domain import config
from domain.base import Model
from domain.config import Config, ConfigError

CHANNEL = "ai_config"
"""What the table's trigger notifies."""


class StoredKey(Model):
    """One row of ai_config."""

    key: str
    value: Any
    updated_at: datetime
    updated_by: str


class Snapshot(Model):
    """The whole configuration; `version` counts changes."""

    config: Config
    version: int


async def get(connection: Connection | Pool, key: str) -> Any:
    """The value of a key that the migrations created.

    Raises:
        LookupError: there is no such key.
    """
    row = await connection.fetchrow("SELECT value FROM ai_config WHERE key = $1", key)
    if row is None:
        raise LookupError(f"ai_config has no key {key!r}: run the migrations")
    return row["value"]


async def load(connection: Connection | Pool) -> Snapshot:
    """All keys.

    Raises:
        ConfigError: a value is bad, which only somebody with SQL can have done.
    """
    rows = await connection.fetch("SELECT key, value, version FROM ai_config")
    if not rows:
        raise ConfigError("ai_config is empty: run the migrations")
    return Snapshot(
        config=config.parse({row["key"]: row["value"] for row in rows}), version=max(row["version"] for row in rows)
    )


async def every(connection: Connection | Pool) -> list[StoredKey]:
    """All rows whose keys this code knows, by key."""
    rows = await connection.fetch(
        "SELECT key, value, updated_at, updated_by FROM ai_config WHERE key = ANY($1) ORDER BY key", list(config.KEYS)
    )
    return [StoredKey.model_validate(dict(row)) for row in rows]


async def put(pool: Pool, key: str, value: Any, by: str, reason: str) -> Any:
    """Change a key; audited in the same transaction.

    Returns:
        The value before; equal to `value` when nothing had to be changed, and then nothing is written.

    Raises:
        ConfigError: the key is unknown, or its value bad; nothing is changed.
    """
    async with pool.acquire() as connection, connection.transaction():
        values = await locked(connection)
        after = config.changed(values, key, value).model_dump(mode="json")[key]
        old = values[key]
        if after != old:
            await write(connection, key, after, by)
            await audit.append(
                connection, "config_update", "config", key, by, {"old": old, "new": after, "reason": reason}
            )
    return old


async def locked(connection: Connection) -> dict[str, Any]:
    """All values by key; nobody else changes one until the transaction is over."""
    await connection.execute("LOCK TABLE ai_config IN SHARE ROW EXCLUSIVE MODE")
    return {row["key"]: row["value"] for row in await connection.fetch("SELECT key, value FROM ai_config")}


async def write(connection: Connection, key: str, value: Any, by: str) -> None:
    """Change a key's row; the caller has checked the value, and audits."""
    await connection.execute(
        # The driver sends None as SQL's NULL, which is no value.
        "UPDATE ai_config SET value = coalesce($2::jsonb, 'null'), updated_at = now(), updated_by = $3 WHERE key = $1",
        key,
        value,
        by,
    )
