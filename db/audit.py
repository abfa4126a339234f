"""The audit log: one entry for every change of state, written in the transaction of its effect, and hash-chained."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

from db.pool import Connection, Pool, insertion
from domain.audit import AuditEntry, AuditHead, entry_after


async def append(
    connection: Connection, action: str, entity_type: str, entity_id: str, actor: str, details: Mapping[str, Any]
) -> None:
    """Add an entry. `details` is JSON of short values: ids, hashes, reasons; never personal data.

    Call it last in a transaction: from here until the commit no other transaction can add its entry.
    """
    last = await head(connection, to_append=True)
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    entry = entry_after(
        last,
        action=action,
        entity_type=entity_type,
        entity_id=entity_id,
        actor=actor,
        details=dict(details),
        created_at=now,
    )
    fields = entry.model_dump()
    await connection.execute(insertion("audit_logs", fields), *fields.values())
    await connection.execute("UPDATE audit_head SET entries = $1, sha256 = $2", entry.id, entry.sha256)


async def head(connection: Connection | Pool, *, to_append: bool = False) -> AuditHead:
    """How many entries there are, and the hash of the last; `to_append` keeps other writers off until the commit."""
    query = "SELECT entries, sha256 FROM audit_head"
    row = await connection.fetchrow(f"{query} FOR UPDATE" if to_append else query)
    if row is None and not to_append:
        return AuditHead()  # somebody has removed it, so that every entry is one too many
    assert row is not None, "the migration made the head"
    return AuditHead(entries=row["entries"], sha256=row["sha256"])


async def entries(
    connection: Connection | Pool, entity_type: str | None = None, entity_id: str | None = None, *, last: int = 1_000
) -> list[AuditEntry]:
    """The last entries about one thing (None: about anything), oldest first."""
    rows = await connection.fetch(
        "SELECT * FROM (SELECT * FROM audit_logs WHERE ($1::text IS NULL OR entity_type = $1)"
        " AND ($2::text IS NULL OR entity_id = $2) ORDER BY id DESC LIMIT $3) newest ORDER BY id",
        entity_type,
        entity_id,
        last,
    )
    return [AuditEntry.model_validate(dict(row)) for row in rows]


async def every(connection: Connection) -> AsyncIterator[AuditEntry]:
    """All entries in order of their ids, a few at a time; within a transaction."""
    async for row in connection.cursor("SELECT * FROM audit_logs ORDER BY id", prefetch=500):
        fields = dict(row)
        if not isinstance(fields["details"], dict):
            # Changed by somebody: still an entry to be checked, which no hash of ours fits.
            fields["details"] = {"": fields["details"]}
        yield AuditEntry.model_validate(fields)
