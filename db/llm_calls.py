"""Calls to the model: the record of what was paid for, and the cache that makes a repeated attempt free.

A call is on the bill before it is made, at the most that it may cost, and is corrected once it is answered. So it stays
there when whoever made it dies, and of calls that are under way at once none oversteps the budget.
"""

from decimal import Decimal
from typing import Any

import asyncpg

from db.pool import Connection, Pool, insertion
from domain.base import Model
from domain.comparison import Answered

_BUDGET_LOCK = 0x4C6C6D  # "Llm"
_NO_REPLY = "no reply was seen, so it may have been paid for"
_LATE = "another attempt was answered first"


class LlmCall(Model):
    """One call that was, or may have been, paid for: an answer, or the fault that made it useless.

    `input_sha256` is of everything that was sent, repairs left out; `cost_usd` by the model's price table.
    """

    ai_version: str
    prompt_type: str
    prompt_sha256: str
    input_sha256: str
    model: str
    request_id: str | None
    answer: dict[str, Any] | None
    fault: str | None
    input_tokens: int
    output_tokens: int
    estimated: bool
    cost_usd: Decimal
    latency_ms: int


class Standing(Model):
    """The answer to an input that counts, and the request that it was paid with, as the provider knows it."""

    answer: dict[str, Any]
    request_id: str | None


async def cached(pool: Pool, ai_version: str, prompt_type: str, input_sha256: str) -> Standing | None:
    """The answer that the same input was given before under the same version, if any."""
    row = await pool.fetchrow(
        "SELECT answer, request_id FROM llm_calls"
        " WHERE ai_version = $1 AND prompt_type = $2 AND input_sha256 = $3 AND answer IS NOT NULL",
        ai_version,
        prompt_type,
        input_sha256,
    )
    return None if row is None else Standing.model_validate(dict(row))


class BudgetReached(Exception):
    """A call might overstep the budget. Nothing is written."""

    def __init__(self, spent: Decimal) -> None:
        super().__init__(f"{spent} US dollars are spent or under way")
        self.spent = spent


async def begin(pool: Pool, call: LlmCall, budget: float | None) -> int:
    """Put a call on the bill, before it is made.

    Args:
        pool: where.
        call: what is asked, with the most that it may cost.
        budget: US dollars of a day (UTC), calls under way included; None: any.

    Returns:
        Its id.

    Raises:
        BudgetReached: the call may cost more than is left.
    """
    fields = call.model_dump() | {"answer": None, "fault": _NO_REPLY, "estimated": True}
    async with pool.acquire() as connection, connection.transaction():
        if budget is not None:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _BUDGET_LOCK)
            spent = await _spent_today(connection)
            if spent + call.cost_usd > budget:
                raise BudgetReached(spent)
        id: int = await connection.fetchval(f"{insertion('llm_calls', fields)} RETURNING id", *fields.values())
    return id


async def answered(pool: Pool, id: int, call: LlmCall) -> Standing | None:
    """Correct a call by what was answered; returns the answer that stands.

    Of two attempts that both paid, the first one's answer stays and the second is stored as spent for nothing.
    """
    try:
        await _correct(pool, id, call)
    except asyncpg.UniqueViolationError:
        await _correct(pool, id, call.model_copy(update={"answer": None, "fault": _LATE}))
        return await cached(pool, call.ai_version, call.prompt_type, call.input_sha256)
    return None if call.answer is None else Standing(answer=call.answer, request_id=call.request_id)


async def refused(pool: Pool, id: int) -> None:
    """Take a call off the bill that the provider did not take."""
    await pool.execute("DELETE FROM llm_calls WHERE id = $1", id)


async def _correct(pool: Pool, id: int, call: LlmCall) -> None:
    fields = call.model_dump()
    values = ", ".join(f"{name} = ${place}" for place, name in enumerate(fields, 2))
    await pool.execute(f"UPDATE llm_calls SET {values} WHERE id = $1", id, *fields.values())  # noqa: S608 - names are ours


async def _spent_today(connection: Connection) -> Decimal:
    """US dollars since midnight UTC."""
    spent: Decimal = await connection.fetchval(
        "SELECT coalesce(sum(cost_usd), 0) FROM llm_calls"
        " WHERE created_at >= date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"
    )
    return spent


async def of_input(pool: Pool, ai_version: str, prompt_type: str, input_sha256: str) -> Answered:
    """What an input was answered, and what it took: all that was paid for it, and the latency of the last reply."""
    row = await pool.fetchrow(
        "SELECT coalesce(sum(cost_usd), 0) AS cost_usd,"
        " (array_agg(latency_ms ORDER BY answer IS NULL, id DESC))[1] AS latency_ms"
        " FROM llm_calls WHERE ai_version = $1 AND prompt_type = $2 AND input_sha256 = $3",
        ai_version,
        prompt_type,
        input_sha256,
    )
    assert row is not None, "an aggregate has a row"
    standing = await cached(pool, ai_version, prompt_type, input_sha256)
    return Answered(answer=standing and standing.answer, latency_ms=row["latency_ms"], cost_usd=float(row["cost_usd"]))
