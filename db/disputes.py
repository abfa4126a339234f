"""Disputes: what somebody submitted, whether it was admitted, what was made of it."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from db import markets
from db.pool import Connection, Pool
from domain import errors
from domain.base import Model
from domain.dispute import Dispute, Opinion
from domain.rules import Answer
from domain.status import MarketStatus

Status = Literal["submitted", "refused", "open", "escalated", "upheld", "overturned"]
"""submitted: stored, not admitted yet; open and escalated keep the market from being finalised."""


class DisputantEvidence(Model):
    """A URL that the disputant named, and the stored bytes read from it; `why` says why it was not read."""

    url: str
    sha256: str | None = None
    why: str = ""


class StoredDispute(Model):
    """One row of disputes."""

    id: UUID
    market_id: UUID
    disputant: str
    reason: str
    evidence: tuple[DisputantEvidence, ...]
    status: Status
    look: int | None
    """The look that the disputed outcome followed from."""
    outcome: Answer | None
    """The disputed one."""
    admitted_at: datetime | None
    opinion: Opinion | None
    """The model's."""
    closed_by: str | None
    closed_why: str | None
    created_at: datetime
    """When it was submitted (the last time, when it was refused before)."""
    updated_at: datetime


_OPEN: tuple[Status, ...] = ("open", "escalated")


async def submit(connection: Connection | Pool, dispute_id: UUID, dispute: Dispute) -> None:
    """Store a dispute; one that is stored already stays as it is, but what was refused is submitted anew."""
    await connection.execute(
        "INSERT INTO disputes (id, market_id, disputant, reason, evidence, status)"
        " VALUES ($1, $2, $3, $4, $5, 'submitted') ON CONFLICT (id) DO UPDATE"
        " SET status = 'submitted', closed_why = NULL, created_at = now(), updated_at = now()"
        " WHERE disputes.status = 'refused'",
        dispute_id,
        dispute.market_id,
        dispute.disputant,
        dispute.reason,
        [DisputantEvidence(url=url).model_dump() for url in dispute.evidence_urls],
    )


async def withdraw_submission(connection: Connection | Pool, dispute_id: UUID) -> None:
    """Forget a dispute that was stored and never looked at; any other stays."""
    await connection.execute("DELETE FROM disputes WHERE id = $1 AND status = 'submitted'", dispute_id)


async def get(connection: Connection | Pool, dispute_id: UUID) -> StoredDispute:
    """One dispute.

    Raises:
        ApplicationError: UnknownDispute.
    """
    dispute = await get_if_stored(connection, dispute_id)
    if dispute is None:
        raise errors.failure(errors.UNKNOWN_DISPUTE, f"there is no dispute {dispute_id}")
    return dispute


async def get_if_stored(connection: Connection | Pool, dispute_id: UUID) -> StoredDispute | None:
    """One dispute, or None for one that was never stored or was withdrawn."""
    row = await connection.fetchrow("SELECT * FROM disputes WHERE id = $1", dispute_id)
    return None if row is None else StoredDispute.model_validate(dict(row))


async def of_market(connection: Connection | Pool, market_id: UUID) -> list[StoredDispute]:
    """All disputes of a market, oldest first."""
    rows = await connection.fetch("SELECT * FROM disputes WHERE market_id = $1 ORDER BY created_at, id", market_id)
    return [StoredDispute.model_validate(dict(row)) for row in rows]


async def find(
    connection: Connection | Pool, *, market_id: UUID | None = None, open_only: bool = False, limit: int
) -> list[StoredDispute]:
    """Disputes of a market (None: any), newest first."""
    rows = await connection.fetch(
        "SELECT * FROM disputes WHERE ($1::uuid IS NULL OR market_id = $1) AND (NOT $2 OR status = ANY($3))"
        " ORDER BY created_at DESC, id LIMIT $4",
        market_id,
        open_only,
        _OPEN,
        limit,
    )
    return [StoredDispute.model_validate(dict(row)) for row in rows]


async def admitted_since(connection: Connection, disputant: str) -> tuple[int, int]:
    """How many disputes of an address were admitted in the last hour and in the last day.

    Until the transaction ends nobody else counts for this address, so that two at once cannot both be the last one.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('dispute:' || $1, 0))", disputant)
    row = await connection.fetchrow(
        "SELECT count(*) FILTER (WHERE admitted_at > clock_timestamp() - interval '1 hour') AS hour, count(*) AS day"
        " FROM disputes WHERE disputant = $1 AND admitted_at > clock_timestamp() - interval '1 day'",
        disputant,
    )
    assert row is not None, "an aggregate has one row"
    return row["hour"], row["day"]


async def admit(connection: Connection, dispute_id: UUID, look: int, outcome: Answer) -> bool:
    """Open a submitted dispute, against the outcome that followed from a look; False when it was withdrawn."""
    admitted = await connection.fetchval(
        "UPDATE disputes SET status = 'open', look = $2, outcome = $3, admitted_at = clock_timestamp(),"
        " updated_at = now() WHERE id = $1 AND status = 'submitted' RETURNING true",
        dispute_id,
        look,
        outcome,
    )
    return bool(admitted)


async def refuse(connection: Connection, dispute_id: UUID, why: str) -> None:
    """Turn a submitted dispute away; it is kept, with the reason."""
    await connection.execute(
        "UPDATE disputes SET status = 'refused', closed_why = $2, updated_at = now()"
        " WHERE id = $1 AND status = 'submitted'",
        dispute_id,
        why,
    )


async def record_evidence(connection: Connection, dispute_id: UUID, evidence: tuple[DisputantEvidence, ...]) -> None:
    """Store what was read of the disputant's URLs; the bytes themselves are stored as evidence."""
    await connection.execute(
        "UPDATE disputes SET evidence = $2, updated_at = now() WHERE id = $1",
        dispute_id,
        [entry.model_dump() for entry in evidence],
    )


async def record_opinion(connection: Connection, dispute_id: UUID, opinion: Opinion) -> None:
    """Store what the model made of an open dispute; it is escalated when a person must decide."""
    await connection.execute(
        "UPDATE disputes SET opinion = $2, status = $3, updated_at = now() WHERE id = $1 AND status = ANY($4)",
        dispute_id,
        opinion.model_dump(mode="json"),
        "escalated" if opinion.verdict == "escalate" else "open",
        _OPEN,
    )


async def close(
    connection: Connection, dispute_id: UUID, status: Literal["upheld", "overturned"], by: str, why: str
) -> bool:
    """Close an open dispute; with the last open one of a market, the market is resolved again.

    Returns:
        False when it is closed already, which is then left as it is.
    """
    closed = await connection.fetchval(
        "UPDATE disputes SET status = $2, closed_by = $3, closed_why = $4, updated_at = now()"
        " WHERE id = $1 AND status = ANY($5) RETURNING true",
        dispute_id,
        status,
        by,
        why,
        _OPEN,
    )
    market_id: UUID = await connection.fetchval("SELECT market_id FROM disputes WHERE id = $1", dispute_id)
    if not await open_of_market(connection, market_id):
        await markets.move(connection, market_id, MarketStatus.RESOLVED)
    return bool(closed)


async def open_of_market(connection: Connection | Pool, market_id: UUID) -> int:
    """How many disputes of a market are admitted and not closed.

    In a transaction that goes on to move the market: until its end nobody else does, so that none is admitted unseen.
    """
    await connection.execute("SELECT FROM markets WHERE id = $1 FOR UPDATE", market_id)
    count: int = await connection.fetchval(
        "SELECT count(*) FROM disputes WHERE market_id = $1 AND status = ANY($2)", market_id, _OPEN
    )
    return count
