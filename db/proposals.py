"""Proposals: what asked for a market, stored once for each idempotency key."""

from datetime import datetime
from uuid import UUID

from db.pool import Connection, Pool
from domain import errors
from domain.base import Model
from domain.market import Proposal
from domain.status import PROPOSAL_MOVES, ProposalStatus


class StoredProposal(Model):
    """One row of proposals. `reason` says why it was matched or rejected before there was a draft."""

    market_id: UUID
    idempotency_key: str
    status: ProposalStatus
    proposal: Proposal
    matched: UUID | None
    reason: str | None
    created_at: datetime
    updated_at: datetime


async def insert(connection: Connection | Pool, market_id: UUID, idempotency_key: str, proposal: Proposal) -> bool:
    """Store a proposal; False when this key's proposal is stored already, which is then left as it is."""
    inserted = await connection.fetchval(
        "INSERT INTO proposals (market_id, idempotency_key, status, proposal) VALUES ($1, $2, 'pending', $3)"
        " ON CONFLICT DO NOTHING RETURNING true",
        market_id,
        idempotency_key,
        proposal.model_dump(mode="json", by_alias=True),
    )
    return bool(inserted)


async def get(connection: Connection | Pool, market_id: UUID) -> Proposal:
    """The proposal that asked for a market.

    Raises:
        ApplicationError: UnknownMarket.
    """
    body = await connection.fetchval("SELECT proposal FROM proposals WHERE market_id = $1", market_id)
    if body is None:
        raise errors.failure(errors.UNKNOWN_MARKET, f"no proposal asked for a market {market_id}")
    return Proposal.model_validate(body)


async def find(connection: Connection | Pool, market_id: UUID) -> StoredProposal | None:
    """The proposal that asked for a market, with what became of it, if one did."""
    row = await connection.fetchrow("SELECT * FROM proposals WHERE market_id = $1", market_id)
    return None if row is None else StoredProposal.model_validate(dict(row))


async def begin(connection: Connection | Pool, market_id: UUID) -> bool:
    """Somebody works on a proposal; False when it is over. To begin again is no change."""
    begun = await connection.fetchval(
        "UPDATE proposals SET status = 'processing', updated_at = now()"
        " WHERE market_id = $1 AND status IN ('pending', 'processing') RETURNING true",
        market_id,
    )
    return bool(begun)


async def close(
    connection: Connection, market_id: UUID, to: ProposalStatus, reason: str, matched: UUID | None = None
) -> bool:
    """End a proposal of which no draft is made: rejected, or matched with an open market; False when it is over."""
    closed = await connection.fetchval(
        "UPDATE proposals SET status = $2, reason = $3, matched = $4, updated_at = now()"
        " WHERE market_id = $1 AND status = 'processing' RETURNING true",
        market_id,
        to,
        reason[:500],
        matched,
    )
    return bool(closed)


async def move(connection: Connection, market_id: UUID, to: ProposalStatus) -> bool:
    """Change the status of a market's proposal; False when it has none, or the table of moves has no such move."""
    sources = [old for old, targets in PROPOSAL_MOVES.items() if to in targets]
    moved = await connection.fetchval(
        "UPDATE proposals SET status = $2, updated_at = now() WHERE market_id = $1 AND status = ANY($3) RETURNING true",
        market_id,
        to,
        sources,
    )
    return bool(moved)
