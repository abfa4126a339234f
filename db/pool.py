"""The connection pool, with JSON columns as Python objects."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:  # generic in the stubs alone
    Connection = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Connection = asyncpg.Connection
    Pool = asyncpg.Pool


async def _prepare(connection: Any) -> None:
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)


def insertion(table: str, fields: Mapping[str, object]) -> str:
    """The statement that inserts one row; its arguments are the values of `fields`. Names are our own, never input."""
    places = ", ".join(f"${place}" for place in range(1, len(fields) + 1))
    return f"INSERT INTO {table} ({', '.join(fields)}) VALUES ({places})"  # noqa: S608 - table and columns are ours


async def connect_one(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection of its own, for what must stay on one: listening to notifications."""
    connection = await asyncpg.connect(url, timeout=5)
    await _prepare(connection)
    return connection


async def connect(url: str, *, max_size: int = 10) -> Pool:
    """A pool on `url`, with the runbooks' limits: 10 connections a worker, idle 30 s, 5 s to connect."""
    return await asyncpg.create_pool(
        url, min_size=0, max_size=max_size, max_inactive_connection_lifetime=30, timeout=5, init=_prepare
    )
