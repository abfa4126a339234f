"""Calls to the model: the record of what was paid for, and the cache that makes a repeated attempt free."""

from decimal import Decimal
from typing import Any

from db.pool import Pool, insertion
from domain.base import Model


class LlmCall(Model):
    """One answered call. `input_sha256` is of everything that was sent; `cost_usd` by the model's price table."""

    ai_version: str
    prompt_type: str
    prompt_sha256: str
    input_sha256: str
    model: str
    request_id: str | None
    answer: dict[str, Any]
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal
    latency_ms: int


async def cached(pool: Pool, ai_version: str, prompt_type: str, input_sha256: str) -> dict[str, Any] | None:
    """The answer that the same input was given before under the same version, if any."""
    answer: dict[str, Any] | None = await pool.fetchval(
        "SELECT answer FROM llm_calls WHERE ai_version = $1 AND prompt_type = $2 AND input_sha256 = $3",
        ai_version,
        prompt_type,
        input_sha256,
    )
    return answer


async def record(pool: Pool, call: LlmCall) -> None:
    """Store a call; of two attempts that both paid, the first one's answer stays."""
    fields = call.model_dump()
    await pool.execute(f"{insertion('llm_calls', fields)} ON CONFLICT DO NOTHING", *fields.values())
