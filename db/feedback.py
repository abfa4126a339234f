"""Feedback on classifications, the patterns that are learned of it, and what a retraining has not used yet.

Row-level security for a user's own connection comes with the per-user tables of the insights.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from db.pool import Connection, Pool, insertion
from domain.classification import (
    CLASSIFIED,
    PATTERN_COUNTS,
    SIMILAR,
    Feedback,
    Pattern,
    Similar,
    StoredFeedback,
    confidence,
    feedback_id,
    pattern_of,
)


async def add(pool: Pool, given: Sequence[Feedback]) -> int:
    """Store feedback and learn from it, all or nothing; returns how much of it was new."""
    async with pool.acquire() as connection, connection.transaction():
        return sum([await _add(connection, one) for one in given])


async def _add(connection: Connection, one: Feedback) -> bool:
    fields = {"id": feedback_id(one)} | one.model_dump()
    statement = f"{insertion('ai_feedback', fields)} ON CONFLICT DO NOTHING RETURNING true"
    if not await connection.fetchval(statement, *fields.values()):
        return False
    if one.business_id is not None and one.entity_type in CLASSIFIED:
        await _learn(connection, one.business_id, one)
    return True


async def _learn(connection: Connection, business: UUID, said: Feedback) -> None:
    """Count feedback for every category of its description: right for the one it names, wrong for the others."""
    pattern = pattern_of(said.item_description)
    # One feedback of a business after the other: each counts what the one before it wrote.
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"patterns:{business}")
    known = {one.category: one for one in await patterns(connection, business, pattern)}
    # A category named for the first time was wrong for all that was said before.
    before = max((one.occurrence_count for one in known.values()), default=0)
    for category in known.keys() | {said.user_correction}:
        named = category == said.user_correction
        correct = (known[category].correct_predictions if category in known else 0) + named
        await connection.execute(
            "INSERT INTO business_classification_patterns (business_id, item_pattern, category, occurrence_count,"
            " correct_predictions, total_amount, confidence) VALUES ($1, $2, $3, $4, $5, $6, $7)"
            " ON CONFLICT (business_id, item_pattern, category) DO UPDATE SET occurrence_count = $4,"
            " correct_predictions = $5, confidence = $7, updated_at = now(),"
            " total_amount = business_classification_patterns.total_amount + $6",
            business,
            pattern,
            category,
            before + 1,
            correct,
            (said.amount or 0) if named else 0,
            confidence(correct, before + 1),
        )


async def patterns(connection: Connection | Pool, business: UUID, pattern: str) -> list[Pattern]:
    """What a business calls a description, by category."""
    rows = await connection.fetch(
        "SELECT item_pattern, category, occurrence_count, correct_predictions, total_amount, confidence"
        " FROM business_classification_patterns WHERE business_id = $1 AND item_pattern = $2 ORDER BY category",
        business,
        pattern,
    )
    return [Pattern.model_validate(dict(row)) for row in rows]


async def similar(connection: Connection | Pool, business: UUID, pattern: str) -> Similar | None:
    """The pattern of another description that says most about this one: similarity times confidence."""
    row = await connection.fetchrow(
        "SELECT item_pattern, category, occurrence_count, correct_predictions, total_amount, confidence,"
        " similarity(item_pattern, $2)::double precision AS similarity FROM business_classification_patterns"
        " WHERE business_id = $1 AND item_pattern <> $2 AND confidence > $3 AND similarity(item_pattern, $2) > $4"
        " ORDER BY similarity(item_pattern, $2) * confidence DESC, item_pattern, category LIMIT 1",
        business,
        pattern,
        PATTERN_COUNTS,
        SIMILAR,
    )
    if row is None:
        return None
    fields = dict(row)
    return Similar(similarity=fields.pop("similarity"), pattern=Pattern.model_validate(fields))


async def recent(connection: Connection | Pool, business: UUID | None, limit: int) -> list[StoredFeedback]:
    """The newest feedback, of one business or of all."""
    rows = await connection.fetch(
        "SELECT * FROM ai_feedback WHERE $1::uuid IS NULL OR business_id = $1 ORDER BY created_at DESC, id LIMIT $2",
        business,
        limit,
    )
    return [StoredFeedback.model_validate(dict(row)) for row in rows]


_FOR_TRAINING = (
    "FROM ai_feedback WHERE created_at <= $1 AND entity_type IN ('expense_category', 'transaction_classification')"
)
_UNUSED = f"{_FOR_TRAINING} AND NOT used_in_training"


async def training_set(pool: Pool, cutoff: datetime) -> list[StoredFeedback]:
    """All feedback about categories taken in up to `cutoff`, used before or not; oldest first.

    The transactions model learns `user_correction` from `item_description` and `amount`. The same cut-off, once past,
    gives the same feedback for ever: whoever is still writing is waited for, and what was said is never changed.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE ai_feedback IN SHARE MODE")
        rows = await connection.fetch(f"SELECT * {_FOR_TRAINING} ORDER BY created_at, id", cutoff)
    return [StoredFeedback.model_validate(dict(row)) for row in rows]


async def trained_from(connection: Connection | Pool, cutoff: datetime) -> datetime | None:
    """When the oldest of the training set was taken in."""
    oldest: datetime | None = await connection.fetchval(f"SELECT min(created_at) {_FOR_TRAINING}", cutoff)
    return oldest


async def unused(connection: Connection | Pool, cutoff: datetime, batch: int) -> list[StoredFeedback]:
    """What of the training set no registered model has used: oldest first, at most `batch`."""
    rows = await connection.fetch(f"SELECT * {_UNUSED} ORDER BY created_at, id LIMIT $2", cutoff, batch)
    return [StoredFeedback.model_validate(dict(row)) for row in rows]


async def count_unused(connection: Connection | Pool, cutoff: datetime) -> int:
    """How much feedback waits for a retraining; what misses a feature waits in vain, and does not count."""
    count: int = await connection.fetchval(
        f"SELECT count(*) {_UNUSED} AND amount IS NOT NULL AND item_description <> ''", cutoff
    )
    return count


async def unused_of(connection: Connection | Pool, ids: Sequence[UUID]) -> list[UUID]:
    """Those of `ids` that no registered model has used, oldest first."""
    rows = await connection.fetch(
        "SELECT id FROM ai_feedback WHERE id = ANY($1) AND NOT used_in_training ORDER BY created_at, id", list(ids)
    )
    return [row["id"] for row in rows]


async def mark_used(connection: Connection, ids: Sequence[UUID], batch: str) -> int:
    """Mark feedback as used by the training `batch`, in the transaction that registers its model; returns how much.

    What an earlier batch has used keeps that batch.
    """
    marked = await connection.fetch(
        "UPDATE ai_feedback SET used_in_training = true, training_batch_id = $2, trained_at = now()"
        " WHERE id = ANY($1) AND NOT used_in_training RETURNING id",
        list(ids),
        batch,
    )
    return len(marked)
