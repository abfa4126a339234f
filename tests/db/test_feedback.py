"""Feedback in the database: taken in once, learned from, and handed to a training oldest first."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from db import feedback
from db.pool import Pool, connect
from domain.classification import Feedback, Pattern, confidence


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[Pool]:
    async with await connect(postgres_url) as opened:
        yield opened


@pytest.fixture
async def own_pool(database_url: str) -> AsyncIterator[Pool]:
    """A database of the test's own, where nobody else's feedback is."""
    async with await connect(database_url) as opened:
        yield opened


def said(business: UUID, category: str = "transport", **changes: Any) -> Feedback:
    fields = {
        "user_id": UUID(int=1), "business_id": business, "entity_type": "transaction_classification",
        "entity_id": uuid4().hex, "ai_prediction": "other", "user_correction": category,
        "item_description": "Uber to client", "amount": "1000.50", "correction_type": "full_override",
    }  # fmt: skip
    return Feedback.model_validate({**fields, **changes})


async def patterns(pool: Pool, business: UUID, pattern: str = "uber to client") -> dict[str, Pattern]:
    return {one.category: one for one in await feedback.patterns(pool, business, pattern)}


async def test_what_is_said_twice_counts_once(pool: Pool) -> None:
    business = uuid4()
    one = said(business)
    assert await feedback.add(pool, [one, one, said(business)]) == 2
    assert await feedback.add(pool, [one]) == 0
    assert (await patterns(pool, business))["transport"].occurrence_count == 2
    stored = await feedback.recent(pool, business, 10)
    assert len(stored) == 2
    assert {(row.amount, row.user_correction, row.used_in_training) for row in stored} == {
        (Decimal("1000.50"), "transport", False)
    }


async def test_a_pattern_counts_what_agrees_with_it(pool: Pool) -> None:
    business = uuid4()
    spellings = ("Uber to client", "  UBER TO CLIENT ", "uber to client")
    await feedback.add(pool, [said(business, item_description=text) for text in spellings])
    await feedback.add(pool, [said(business, "meals", amount=None)])
    found = await patterns(pool, business)
    transport, meals = found["transport"], found["meals"]
    assert (transport.occurrence_count, transport.correct_predictions) == (4, 3)
    assert (meals.occurrence_count, meals.correct_predictions) == (4, 1)
    assert transport.confidence == pytest.approx(confidence(3, 4))
    assert (transport.total_amount, meals.total_amount) == (Decimal("3001.50"), Decimal(0))
    assert await patterns(pool, uuid4()) == {}, "another business has learned nothing"


async def test_many_at_once_are_all_counted(pool: Pool) -> None:
    business = uuid4()
    await asyncio.gather(*(feedback.add(pool, [said(business)]) for _ in range(20)))
    assert (await patterns(pool, business))["transport"].occurrence_count == 20


async def test_what_is_no_category_of_a_business_teaches_no_pattern(pool: Pool) -> None:
    business = uuid4()
    await feedback.add(pool, [said(business, entity_type="supplier", entity_id="s1")])
    assert await patterns(pool, business) == {}
    assert await feedback.add(pool, [said(business, business_id=None)]) == 1


async def test_the_best_similar_description_of_the_business_is_found(pool: Pool) -> None:
    business = uuid4()
    for text, category in (("uber to client lagos", "transport"), ("office rent march", "rent"), ("ube", "sweets")):
        await feedback.add(pool, [said(business, category, item_description=text) for _ in range(12)])
    await feedback.add(pool, [said(business, "meals", item_description="uber to the client")])  # one says little
    found = await feedback.similar(pool, business, "uber to client abuja")
    assert found is not None
    assert (found.pattern.category, found.pattern.item_pattern) == ("transport", "uber to client lagos")
    assert 0.4 < found.similarity < 1
    assert await feedback.similar(pool, business, "electricity") is None
    hardly_known = uuid4()
    await feedback.add(pool, [said(hardly_known, item_description="uber to client lagos")])
    assert await feedback.similar(pool, hardly_known, "uber to client abuja") is None
    assert await feedback.similar(pool, uuid4(), "uber to client abuja") is None


async def test_a_training_gets_what_is_unused_oldest_first_and_uses_it_once(own_pool: Pool) -> None:
    pool, business = own_pool, uuid4()
    given = [said(business, entity_id=f"e{number}") for number in range(6)]
    for one in given:
        await feedback.add(pool, [one])
    await feedback.add(pool, [said(business, entity_type="supplier", entity_id="s")])
    cutoff = datetime.now(UTC)
    await feedback.add(pool, [said(business, entity_id="late")])
    first = await feedback.unused(pool, cutoff, 4)
    assert [one.entity_id for one in first] == ["e0", "e1", "e2", "e3"]
    async with pool.acquire() as connection, connection.transaction():
        assert await feedback.mark_used(connection, [one.id for one in first], "transactions-1-1") == 4
        assert await feedback.mark_used(connection, [one.id for one in first], "transactions-2-1") == 0
    assert await feedback.count_unused(pool, cutoff) == 2
    everything = await feedback.training_set(pool, cutoff)
    assert [one.entity_id for one in everything] == [f"e{number}" for number in range(6)]
    assert await feedback.unused_of(pool, [one.id for one in everything]) == [one.id for one in everything[4:]]
    assert {one.training_batch_id for one in everything[:4]} == {"transactions-1-1"}
    assert await feedback.trained_from(pool, cutoff) == everything[0].created_at


async def test_the_training_query_uses_its_index(own_pool: Pool) -> None:
    async with own_pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO ai_feedback (id, user_id, entity_type, entity_id, ai_prediction, user_correction,"
            " correction_type, used_in_training, training_batch_id, trained_at, created_at)"
            " SELECT gen_random_uuid(), gen_random_uuid(), 'expense_category', n::text, '\"a\"', '\"b\"',"
            " 'full_override', n % 50 <> 0, CASE WHEN n % 50 <> 0 THEN 'b' END, CASE WHEN n % 50 <> 0 THEN now() END,"
            " now() - n * interval '1 minute' FROM generate_series(1, 20000) n"
        )
        await connection.execute("ANALYZE ai_feedback")
        seen: list[str] = []
        connection.add_query_logger(lambda record: seen.append(record.query))
        assert len(await feedback.unused(connection, datetime.now(UTC), 100)) == 100
        await connection.fetchval("SELECT 1")  # loggers run a moment after their query
        plan = await connection.fetch(f"EXPLAIN (FORMAT TEXT) {seen[0]}", datetime.now(UTC), 100)
    text = "\n".join(row[0] for row in plan)
    assert "ai_feedback_for_training" in text
    assert "(used_in_training = false) AND (created_at <=" in text
    assert "Seq Scan" not in text
