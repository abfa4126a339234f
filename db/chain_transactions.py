"""Signed transactions, from before the first send to their end; see `activities/transactions.py` for the states."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from db.pool import Connection, Pool
from domain.base import Model


class State(StrEnum):
    """Where a signed transaction is. `signed` and `sent` can still land; the others never change."""

    SIGNED = "signed"
    SENT = "sent"
    LANDED = "landed"
    FAILED = "failed"
    EXPIRED = "expired"


class ChainTransaction(Model):
    """One row of chain_transactions."""

    id: int
    market_id: UUID
    purpose: str
    state: State
    signature: str
    wire: bytes
    """The transaction as it is sent; never signed again."""
    last_valid_block_height: int
    slot: int | None = None
    error: str | None = None
    created_at: datetime
    updated_at: datetime


async def current(connection: Connection | Pool, market_id: UUID, purpose: str) -> ChainTransaction | None:
    """The one transaction for a purpose that has landed or still can, if there is one."""
    row = await connection.fetchrow(
        "SELECT * FROM chain_transactions"
        " WHERE market_id = $1 AND purpose = $2 AND state IN ('signed', 'sent', 'landed')",
        market_id,
        purpose,
    )
    return None if row is None else ChainTransaction.model_validate(dict(row))


async def in_flight(connection: Connection | Pool, market_id: UUID) -> list[ChainTransaction]:
    """The transactions of a market that can still land, whatever their purpose, oldest first."""
    rows = await connection.fetch(
        "SELECT * FROM chain_transactions WHERE market_id = $1 AND state IN ('signed', 'sent') ORDER BY id",
        market_id,
    )
    return [ChainTransaction.model_validate(dict(row)) for row in rows]


async def landed(connection: Connection | Pool, market_id: UUID) -> list[ChainTransaction]:
    """The transactions of a market that are on chain, oldest first."""
    rows = await connection.fetch(
        "SELECT * FROM chain_transactions WHERE market_id = $1 AND state = 'landed' ORDER BY id", market_id
    )
    return [ChainTransaction.model_validate(dict(row)) for row in rows]


async def any_signed(connection: Connection | Pool, market_id: UUID) -> bool:
    """Whether a transaction of this market was ever signed."""
    return bool(
        await connection.fetchval("SELECT EXISTS (SELECT FROM chain_transactions WHERE market_id = $1)", market_id)
    )


async def insert_signed(
    connection: Connection | Pool,
    market_id: UUID,
    purpose: str,
    signature: str,
    wire: bytes,
    last_valid_block_height: int,
) -> bool:
    """Store a signed transaction before it is sent.

    Returns:
        False, and nothing is stored, when another transaction for this purpose has landed or still can, or when the
        market has ended (a worker that was suspended must not publish a market that was cancelled meanwhile).
    """
    inserted = await connection.fetchval(
        "INSERT INTO chain_transactions (market_id, purpose, state, signature, wire, last_valid_block_height)"
        " SELECT id, $2, 'signed', $3, $4, $5 FROM markets"
        " WHERE id = $1 AND status NOT IN ('rejected', 'canceled', 'finalized')"
        " ON CONFLICT (market_id, purpose) WHERE state IN ('signed', 'sent', 'landed') DO NOTHING RETURNING true",
        market_id,
        purpose,
        signature,
        wire,
        last_valid_block_height,
    )
    return bool(inserted)


async def move(
    connection: Connection | Pool,
    transaction: ChainTransaction,
    to: State,
    *,
    slot: int | None = None,
    error: str | None = None,
) -> ChainTransaction:
    """Record where a transaction got to. One whose end is known keeps it: another attempt saw it first."""
    row = await connection.fetchrow(
        "UPDATE chain_transactions SET state = $2, slot = $3, error = $4, updated_at = now()"
        " WHERE id = $1 AND state IN ('signed', 'sent') RETURNING *",
        transaction.id,
        to,
        slot,
        error,
    ) or await connection.fetchrow("SELECT * FROM chain_transactions WHERE id = $1", transaction.id)
    assert row is not None, "rows of signed transactions are never deleted"
    return ChainTransaction.model_validate(dict(row))
