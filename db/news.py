"""News items, each stored once, and the candidates for markets among them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from db import audit, proposals
from db.pool import Connection, Pool
from domain.base import Model
from domain.ids import market_id
from domain.market import Proposal
from domain.news import Candidate, Extraction
from domain.news_items import RECENT, SIMILAR, NewsItem, same_event, title_key

_INTAKE_LOCK = 0x4E657773  # "News"


class Waiting(Model):
    """An item about which the rules were silent; `source` is its feed's name."""

    content_sha256: str
    source: str | None
    item: NewsItem
    since: datetime


class Stored(Model):
    """What storing items gave: those that nobody had told of before, and how many tell of a known event."""

    first: tuple[NewsItem, ...]
    duplicates: int


async def store(connection: Connection, feed_id: UUID | None, items: Sequence[NewsItem]) -> Stored:
    """Store items, each once for its hash; one that tells of a recent item's event is stored as its duplicate.

    In a transaction: until its end no other one stores items, so that of two feeds that tell of one event one is first.

    Args:
        connection: within a transaction.
        feed_id: whose items; None: an operator's.
        items: in the order in which they are to count as first.
    """
    by_hash = {item.content_sha256: item for item in items}
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _INTAKE_LOCK)
    known = await connection.fetch("SELECT content_sha256 FROM news_items WHERE content_sha256 = ANY($1)", [*by_hash])
    for row in known:
        del by_hash[row["content_sha256"]]
    if by_hash:
        # Without statistics, as in a table that has just grown, the planner would compare every title.
        await connection.execute(
            "SELECT set_config('pg_trgm.similarity_threshold', $1, true), set_config('enable_seqscan', 'off', true)",
            str(SIMILAR),
        )
    first = []
    for content_sha256, item in by_hash.items():
        original = await _same_event(connection, item)
        await connection.execute(
            "INSERT INTO news_items (content_sha256, feed_id, url, title, content, published_at, duplicate_of,"
            " title_key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            content_sha256,
            feed_id,
            item.url,
            item.title,
            item.content,
            item.published_at,
            original,
            title_key(item.title),
        )
        if original is None:
            first.append(item)
    return Stored(first=tuple(first), duplicates=len(by_hash) - len(first))


async def _same_event(connection: Connection, item: NewsItem) -> str | None:
    """The hash of the recent item that tells of the same event, the most similar one."""
    rows = await connection.fetch(
        "WITH alike AS MATERIALIZED (SELECT * FROM news_items WHERE duplicate_of IS NULL AND title_key % $1)"
        " SELECT content_sha256, title FROM alike WHERE created_at > now() - $2::interval"
        " ORDER BY similarity(title_key, $1) DESC, created_at LIMIT 100",
        title_key(item.title),
        RECENT,
    )
    return next((row["content_sha256"] for row in rows if same_event(row["title"], item.title)), None)


async def waiting(connection: Connection | Pool, at: datetime, limit: int) -> list[Waiting]:
    """Items that wait for the model, newest first: what is older than news is, seen from `at`, is left."""
    rows = await connection.fetch(
        "SELECT n.content_sha256, n.url, n.title, n.content, n.published_at, n.created_at,"
        " f.name AS source FROM news_items n"
        " LEFT JOIN rss_feeds f ON f.id = n.feed_id"
        " WHERE n.duplicate_of IS NULL AND n.created_at > $1::timestamptz - $2::interval"
        " AND NOT EXISTS (SELECT FROM candidates c WHERE c.content_sha256 = n.content_sha256)"
        " ORDER BY n.created_at DESC, n.content_sha256 LIMIT $3",
        at,
        RECENT,
        limit,
    )
    return [
        Waiting(
            content_sha256=row["content_sha256"],
            source=row["source"],
            since=row["created_at"],
            item=NewsItem(url=row["url"], title=row["title"], content=row["content"], published_at=row["published_at"]),
        )
        for row in rows
    ]


async def count_waiting(connection: Connection | Pool, at: datetime) -> int:
    """How many items wait for the model."""
    count: int = await connection.fetchval(
        "SELECT count(*) FROM news_items n WHERE n.duplicate_of IS NULL"
        " AND n.created_at > $1::timestamptz - $2::interval"
        " AND NOT EXISTS (SELECT FROM candidates c WHERE c.content_sha256 = n.content_sha256)",
        at,
        RECENT,
    )
    return count


class Decision(Model):
    """What was made of an item, by the rules or by an ai_version, and the proposal when it is worth a market."""

    content_sha256: str
    extraction: Extraction
    decided_by: str
    proposal: Proposal | None
    request_ids: tuple[str, ...] = ()
    """Of the model's answer."""


async def decide(connection: Connection, decisions: Sequence[Decision]) -> int:
    """Record what was made of items, each once, with the proposals that they cause; returns how many are new.

    Last in a transaction, because it appends to the audit log.
    """
    entries = []
    new = 0
    for made in decisions:
        market = None if made.proposal is None else market_id("news", made.content_sha256)
        first = await connection.fetchval(
            "INSERT INTO candidates (content_sha256, extraction, worth_it, decided_by, market_id)"
            " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING true",
            made.content_sha256,
            made.extraction.model_dump(mode="json"),
            made.proposal is not None,
            made.decided_by,
            market,
        )
        new += bool(first)
        if first and market is not None and made.proposal is not None:
            await proposals.insert(connection, market, f"news:{made.content_sha256}", made.proposal)
            entries.append((market, made))
    for market, made in entries:
        details: dict[str, Any] = {"content_sha256": made.content_sha256, "decided_by": made.decided_by}
        if made.request_ids:
            details["llm_request_ids"] = made.request_ids
        proposer = made.proposal.proposer if made.proposal else made.decided_by
        await audit.append(connection, "candidate_found", "market", str(market), proposer, details)
    return new


async def to_start(connection: Connection | Pool, limit: int) -> list[Candidate]:
    """Markets that are still to be started, oldest first."""
    rows = await connection.fetch(
        "SELECT market_id, extraction ->> 'question' AS question FROM candidates"
        " WHERE worth_it AND started_at IS NULL ORDER BY created_at, market_id LIMIT $1",
        limit,
    )
    return [Candidate.model_validate(dict(row)) for row in rows]


async def count_to_start(connection: Connection | Pool) -> int:
    """How many markets are still to be started."""
    count: int = await connection.fetchval("SELECT count(*) FROM candidates WHERE worth_it AND started_at IS NULL")
    return count


async def record_started(connection: Connection | Pool, market_ids: Sequence[UUID]) -> None:
    """Record that markets were started."""
    await connection.execute(
        "UPDATE candidates SET started_at = now() WHERE market_id = ANY($1) AND started_at IS NULL", [*market_ids]
    )


class Fate(Model):
    """What became of one item."""

    duplicate_of: str | None
    extraction: Extraction | None
    decided_by: str | None
    market_id: UUID | None


async def fate(connection: Connection | Pool, content_sha256: str) -> Fate | None:
    """What became of an item so far; None when it was never stored."""
    row = await connection.fetchrow(
        "SELECT n.duplicate_of, c.extraction, c.decided_by, c.market_id FROM news_items n"
        " LEFT JOIN candidates c USING (content_sha256) WHERE n.content_sha256 = $1",
        content_sha256,
    )
    return None if row is None else Fate.model_validate(dict(row))


async def count_by_feed(connection: Connection | Pool) -> dict[UUID, int]:
    """How many items of each feed are stored."""
    rows = await connection.fetch(
        "SELECT feed_id, count(*) AS items FROM news_items WHERE feed_id IS NOT NULL GROUP BY feed_id"
    )
    return {row["feed_id"]: row["items"] for row in rows}


async def caused(connection: Connection | Pool, market_id: UUID) -> bool:
    """Whether a news item caused a market."""
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM candidates WHERE market_id = $1)", market_id))
