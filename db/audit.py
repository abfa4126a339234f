"""The audit log: one entry for every change of state, written in the transaction of its effect."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from db.pool import Connection, Pool
from domain.base import Model


class AuditEntry(Model):
    """One entry as stored."""

    id: int
    action: str
    entity_type: str
    entity_id: str
    actor: str
    details: dict[str, Any]
    created_at: datetime


async def append(
    connection: Connection, action: str, entity_type: str, entity_id: str, actor: str, details: Mapping[str, Any]
) -> None:
    """Add an entry. `details` is JSON of short values: ids, hashes, reasons; never personal data."""
    await connection.execute(
        "INSERT INTO audit_logs (action, entity_type, entity_id, actor, details) VALUES ($1, $2, $3, $4, $5)",
        action,
        entity_type,
        entity_id,
        actor,
        dict(details),
    )


async def entries(connection: Connection | Pool, entity_type: str, entity_id: str) -> list[AuditEntry]:
    """All entries about one thing, oldest first."""
    rows = await connection.fetch(
        "SELECT * FROM audit_logs WHERE entity_type = $1 AND entity_id = $2 ORDER BY id", entity_type, entity_id
    )
    return [AuditEntry.model_validate(dict(row)) for row in rows]
