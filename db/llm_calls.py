"""Calls to the model: the record of what was paid for, and the cache that makes a repeated attempt free."""

from decimal import Decimal
from typing import Any

from db.pool import Pool, insertion
from domain.base import Model
from domain.comparison import Answered

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


async def cached(pool: Pool, ai_version: str, prompt_type: str, input_sha256: str) -> dict[str, Any] | None:
    """The answer that the same input was given before under the same version, if any."""
    answer: dict[str, Any] | None = await pool.fetchval(
        "SELECT answer FROM llm_calls"
        " WHERE ai_version = $1 AND prompt_type = $2 AND input_sha256 = $3 AND answer IS NOT NULL",
        ai_version,
        prompt_type,
        input_sha256,
    )
    return answer


async def record(pool: Pool, call: LlmCall) -> dict[str, Any] | None:
    """Store a call; returns the answer that stands.

    Of two attempts that both paid, the first one's answer stays and the second is stored as spent for nothing.
    """
    if await _insert(pool, call):
        return call.answer
    await _insert(pool, call.model_copy(update={"answer": None, "fault": _LATE}))
    return await cached(pool, call.ai_version, call.prompt_type, call.input_sha256)


async def _insert(pool: Pool, call: LlmCall) -> bool:
    fields = call.model_dump()
    statement = f"{insertion('llm_calls', fields)} ON CONFLICT DO NOTHING RETURNING true"
    return bool(await pool.fetchval(statement, *fields.values()))


async def spent_today(pool: Pool) -> Decimal:
    """US dollars since midnight UTC."""
    spent: Decimal = await pool.fetchval(
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
    answer = await cached(pool, ai_version, prompt_type, input_sha256)
    return Answered(answer=answer, latency_ms=row["latency_ms"], cost_usd=float(row["cost_usd"]))
