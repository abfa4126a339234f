"""Runtime configuration: the table ai_config."""

from typing import Any

from db.pool import Connection, Pool


async def get(connection: Connection | Pool, key: str) -> Any:
    """The value of a key that the migrations created.

    Raises:
        LookupError: there is no such key.
    """
    row = await connection.fetchrow("SELECT value FROM ai_config WHERE key = $1", key)
    if row is None:
        raise LookupError(f"ai_config has no key {key!r}: run the migrations")
    return row["value"]
