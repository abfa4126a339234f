"""Evidence, content-addressed and compressed, and the resolutions that rest on it."""

from datetime import datetime
from typing import Any
from uuid import UUID

import zstandard

from db.pool import Connection, Pool
from domain.base import Model
from domain.extraction import Document
from domain.verdict import Verdict

MAX_SIZE = 5 * 1024 * 1024
"""Bytes of one document; the fetcher takes no more, so a stored body never expands beyond it."""


class EvidenceEntry(Model):
    """One document of one look, with its stored bytes; `body` is None when they cannot be decompressed."""

    source: str
    url: str
    sha256: str
    content_type: str
    fetched_at: datetime
    body: bytes | None

    def document(self) -> Document:
        """As the resolver reads it."""
        return Document(sha256=self.sha256, content_type=self.content_type, body=self.body or b"")


class StoredResolution(Model):
    """One row of resolutions."""

    market_id: UUID
    look: int
    rules_sha256: str
    outcome: str | None
    abstention: str | None
    results: tuple[Any, ...]
    """JSON of a ConditionResult for each condition, as stored: verification must see what reading would mend."""
    evidence_root: str
    created_at: datetime


async def store(
    connection: Connection, market_id: UUID, look: int, source: str, url: str, document: Document, fetched_at: datetime
) -> None:
    """Store a document once, and that this look at this source gave it."""
    await connection.execute(
        "INSERT INTO evidence (sha256, content_type, size, body) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        document.sha256,
        document.content_type,
        len(document.body),
        zstandard.compress(document.body),
    )
    await connection.execute(
        "INSERT INTO market_evidence (market_id, look, source, url, sha256, fetched_at)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        market_id,
        look,
        source,
        url,
        document.sha256,
        fetched_at,
    )


async def of_look(connection: Connection | Pool, market_id: UUID, look: int) -> list[EvidenceEntry]:
    """The documents of one look, by source."""
    rows = await connection.fetch(
        "SELECT source, url, sha256, content_type, fetched_at, body FROM market_evidence JOIN evidence USING (sha256)"
        " WHERE market_id = $1 AND look = $2 ORDER BY source",
        market_id,
        look,
    )
    return [EvidenceEntry.model_validate({**row, "body": _decompressed(row["body"])}) for row in rows]


def _decompressed(stored: bytes) -> bytes | None:
    try:
        return zstandard.decompress(stored, max_output_size=MAX_SIZE)
    except zstandard.ZstdError:
        return None


async def record_resolution(
    connection: Connection, market_id: UUID, look: int, rules_sha256: str, verdict: Verdict, evidence_root: str
) -> None:
    """Store what one look led to; the judgement of text conditions replaces what the machine left open."""
    await connection.execute(
        "INSERT INTO resolutions (market_id, look, rules_sha256, outcome, abstention, results, evidence_root)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (market_id, look) DO UPDATE"
        " SET outcome = excluded.outcome, abstention = excluded.abstention, results = excluded.results",
        market_id,
        look,
        rules_sha256,
        verdict.outcome,
        verdict.abstention,
        [result.model_dump(mode="json") for result in verdict.results],
        evidence_root,
    )


async def resolution_of_look(connection: Connection | Pool, market_id: UUID, look: int) -> StoredResolution:
    """What one look led to.

    Raises:
        LookupError: the sources were not looked at so often.
    """
    row = await connection.fetchrow("SELECT * FROM resolutions WHERE market_id = $1 AND look = $2", market_id, look)
    if row is None:
        raise LookupError(f"market {market_id} has no resolution of look {look}")
    return StoredResolution.model_validate(dict(row))


async def latest_resolution(connection: Connection | Pool, market_id: UUID) -> StoredResolution | None:
    """The resolution of the last look, if the sources were looked at."""
    row: Any = await connection.fetchrow(
        "SELECT * FROM resolutions WHERE market_id = $1 ORDER BY look DESC LIMIT 1", market_id
    )
    return None if row is None else StoredResolution.model_validate(dict(row))
