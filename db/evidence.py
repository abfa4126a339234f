"""Evidence, content-addressed and compressed, and the resolutions that rest on it."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import zstandard

from db.pool import Connection, Pool
from domain.base import Model
from domain.extraction import Document
from domain.rules import Answer
from domain.verdict import ConditionResult, Verdict

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
    decided_by: str | None = None
    """Who decided where the rules alone did not: a person, or what settled a dispute."""
    reason: str | None = None
    dispute_id: UUID | None = None
    """The dispute that overturned the outcome before."""
    created_at: datetime


async def is_open(connection: Connection, market_id: UUID, look: int) -> bool:
    """Whether nothing follows from a look yet; until the transaction ends nobody else adds to or decides the market.

    An attempt that everybody has given up may still be running, and must not change what a later one or a person
    has decided from.
    """
    await connection.execute("SELECT FROM markets WHERE id = $1 FOR NO KEY UPDATE", market_id)
    decided = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM resolutions WHERE market_id = $1 AND look = $2)", market_id, look
    )
    return not decided


async def store_bytes(connection: Connection, document: Document) -> None:
    """Store a document under its hash, once."""
    await connection.execute(
        "INSERT INTO evidence (sha256, content_type, size, body) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        document.sha256,
        document.content_type,
        len(document.body),
        zstandard.compress(document.body),
    )


async def store(
    connection: Connection, market_id: UUID, look: int, source: str, url: str, document: Document, fetched_at: datetime
) -> None:
    """Store a document, and that this look at this source gave it, in place of what an earlier attempt got there."""
    await store_bytes(connection, document)
    await connection.execute(
        "INSERT INTO market_evidence (market_id, look, source, url, sha256, fetched_at)"
        " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (market_id, look, source) DO UPDATE"
        " SET url = excluded.url, sha256 = excluded.sha256, fetched_at = excluded.fetched_at",
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


async def by_hash(connection: Connection | Pool, hashes: Iterable[str]) -> dict[str, Document]:
    """Stored documents by their hashes; one that is missing or cannot be decompressed is left out."""
    rows = await connection.fetch(
        "SELECT sha256, content_type, body FROM evidence WHERE sha256 = ANY($1) ORDER BY sha256", list(hashes)
    )
    return {
        row["sha256"]: Document(sha256=row["sha256"], content_type=row["content_type"], body=body)
        for row in rows
        if (body := _decompressed(row["body"])) is not None
    }


async def latest_look(connection: Connection | Pool, market_id: UUID) -> int | None:
    """The number of the last look in which a source gave something."""
    look: int | None = await connection.fetchval(
        "SELECT max(look) FROM market_evidence WHERE market_id = $1", market_id
    )
    return look


async def hashes_of_look(connection: Connection | Pool, market_id: UUID, look: int) -> list[str]:
    """The hashes of one look's documents."""
    rows = await connection.fetch(
        "SELECT sha256 FROM market_evidence WHERE market_id = $1 AND look = $2", market_id, look
    )
    return [row["sha256"] for row in rows]


async def documents_of_look(connection: Connection | Pool, market_id: UUID, look: int) -> dict[str, Document]:
    """The same as the resolver reads them, by name of the source."""
    return {entry.source: entry.document() for entry in await of_look(connection, market_id, look)}


def _decompressed(stored: bytes) -> bytes | None:
    try:
        return zstandard.decompress(stored, max_output_size=MAX_SIZE)
    except zstandard.ZstdError:
        return None


async def record_resolution(
    connection: Connection, market_id: UUID, look: int, rules_sha256: str, verdict: Verdict, evidence_root: str
) -> None:
    """Store what one look led to; the judgement of text conditions replaces what the machine left open.

    What somebody has decided by hand stays.
    """
    await connection.execute(
        "INSERT INTO resolutions (market_id, look, rules_sha256, outcome, abstention, results, evidence_root)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (market_id, look) DO UPDATE"
        " SET outcome = excluded.outcome, abstention = excluded.abstention, results = excluded.results"
        " WHERE resolutions.decided_by IS NULL",
        market_id,
        look,
        rules_sha256,
        verdict.outcome,
        verdict.abstention,
        [result.model_dump(mode="json") for result in verdict.results],
        evidence_root,
    )


async def record_decided(
    connection: Connection,
    market_id: UUID,
    look: int,
    rules_sha256: str,
    outcome: Answer,
    results: Sequence[ConditionResult],
    evidence_root: str,
    by: str,
    reason: str,
    dispute_id: UUID | None = None,
) -> None:
    """Store the outcome that somebody decided about a look, in place of what the rules alone led to.

    Args:
        connection: the transaction of the step that records it.
        market_id: the market.
        look: the look at the sources whose evidence lay before them.
        rules_sha256: the market's rules.
        outcome: what was decided.
        results: of every condition, as the rules give them from that evidence.
        evidence_root: over the evidence of the look.
        by: who decided.
        reason: why.
        dispute_id: the dispute that it ended, where it did.
    """
    await connection.execute(
        "INSERT INTO resolutions (market_id, look, rules_sha256, outcome, results, evidence_root, decided_by, reason,"
        " dispute_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (market_id, look) DO UPDATE"
        " SET outcome = excluded.outcome, abstention = NULL, results = excluded.results,"
        " evidence_root = excluded.evidence_root, decided_by = excluded.decided_by, reason = excluded.reason,"
        " dispute_id = excluded.dispute_id",
        market_id,
        look,
        rules_sha256,
        outcome,
        [result.model_dump(mode="json") for result in results],
        evidence_root,
        by,
        reason,
        dispute_id,
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
