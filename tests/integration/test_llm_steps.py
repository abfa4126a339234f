"""What the model's steps make of a provider's bad days, and that no answer is paid for twice."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import openai
import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.llm import LlmSteps
from activities.llm_client import LlmClient
from db import proposals
from domain import ai, errors
from domain.market import DraftRequest, DraftResult, Proposal, Rehearsal, ValidateRequest, Validation
from tests.drafts import draft
from tests.operator import Operator
from tests.support import free_ports

QUESTION = "Will the effective federal funds rate have increased by 2027-03-31 as compared to its value on 2027-01-15?"
SOURCE = "Resolves to the value found at https://fred.stlouisfed.org/series/DFF once the data is published."


@pytest.fixture
async def steps(operator: Operator) -> AsyncIterator[LlmSteps]:
    async with openai.AsyncOpenAI(
        api_key="for tests", base_url=operator.stack.environment["OPENAI_BASE_URL"], max_retries=0
    ) as client:
        yield LlmSteps(operator.pool, LlmClient(client, operator.pool))
    await operator.clear_llm_faults()


@pytest.fixture
async def market_id(operator: Operator) -> UUID:
    """A market that is only proposed."""
    return await new_market(operator)


async def new_market(operator: Operator) -> UUID:
    """Propose a question like no other, so that no earlier answer fits."""
    id, key = uuid4(), uuid4().hex
    asked = Proposal(text=QUESTION, background=f"Asked under {key}.", criteria=SOURCE, proposer="test")
    await proposals.insert(operator.pool, id, key, asked)
    return id


async def drafted(steps: LlmSteps, market_id: UUID) -> DraftResult:
    result: DraftResult = await ActivityEnvironment().run(steps.draft_market, DraftRequest(market_id=market_id))
    return result


async def fails(steps: LlmSteps, market_id: UUID) -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        await drafted(steps, market_id)
    return caught.value


async def calls(operator: Operator) -> list[Any]:
    """Rows of llm_calls, oldest first."""
    return await operator.pool.fetch("SELECT * FROM llm_calls ORDER BY id")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"kind": "status", "status": 429}, errors.LLM_RATE_LIMITED),
        ({"kind": "status", "status": 500}, errors.LLM_UNAVAILABLE),
        ({"kind": "status", "status": 503}, errors.LLM_UNAVAILABLE),
        ({"kind": "status", "status": 408}, errors.LLM_UNAVAILABLE),
        ({"kind": "status", "status": 400}, errors.LLM_REFUSED),
        ({"kind": "status", "status": 404}, errors.LLM_REFUSED),
        ({"kind": "status", "status": 401}, errors.LLM_UNAUTHORIZED),
        ({"kind": "status", "status": 403}, errors.LLM_UNAUTHORIZED),
        ({"kind": "wrong_schema", "count": 2}, errors.LLM_BAD_OUTPUT),
        ({"kind": "truncated_json", "count": 2}, errors.LLM_BAD_OUTPUT),
        ({"kind": "empty_answer", "count": 2}, errors.LLM_BAD_OUTPUT),
        ({"kind": "huge_answer", "count": 2}, errors.LLM_BAD_OUTPUT),
    ],
    ids=lambda value: "-".join(str(part) for part in value.values()) if isinstance(value, dict) else value.type,
)
async def test_each_fault_has_its_name_and_costs_nothing_later(
    operator: Operator, steps: LlmSteps, market_id: UUID, fault: dict[str, Any], kind: errors.Kind
) -> None:
    before = len(await calls(operator))
    await operator.llm_fault(**fault)
    error = await fails(steps, market_id)
    assert (error.type, error.non_retryable) == (kind.type, not kind.retryable)
    assert kind.next in error.message
    assert len(error.message) < 1_000
    assert await operator.llm_faults_left() == 0
    assert len(await calls(operator)) == before
    # The next attempt asks again, and succeeds.
    assert (await drafted(steps, market_id)).draft is not None
    assert len(await calls(operator)) == before + 1


async def test_the_provider_says_when_to_come_back(operator: Operator, steps: LlmSteps, market_id: UUID) -> None:
    await operator.llm_fault("status", status=429, retry_after=7)
    assert (await fails(steps, market_id)).next_retry_delay == timedelta(seconds=7)
    await operator.llm_fault("status", status=429)
    assert (await fails(steps, market_id)).next_retry_delay is None


async def test_an_answer_that_comes_too_late(
    operator: Operator, steps: LlmSteps, market_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = ai.MODELS["gpt35"].model_copy(update={"timeout": 0.3})
    monkeypatch.setitem(ai.MODELS, "gpt35", impatient)
    await operator.llm_fault("delay", seconds=5)
    error = await fails(steps, market_id)
    assert (error.type, error.non_retryable) == (errors.LLM_TIMEOUT.type, False)


async def test_a_provider_that_is_not_there(operator: Operator, market_id: UUID) -> None:
    (nobody,) = free_ports(1)
    async with openai.AsyncOpenAI(api_key="x", base_url=f"http://127.0.0.1:{nobody}/v1", max_retries=0) as client:
        error = await fails(LlmSteps(operator.pool, LlmClient(client, operator.pool)), market_id)
    assert (error.type, error.non_retryable) == (errors.LLM_UNAVAILABLE.type, False)


@pytest.mark.parametrize("kind", ["wrong_schema", "truncated_json", "empty_answer"])
async def test_a_broken_answer_is_repaired_once_and_both_are_paid_for(
    operator: Operator, steps: LlmSteps, market_id: UUID, kind: str
) -> None:
    await drafted(steps, market_id)
    paid = await calls(operator)
    await operator.llm_fault(kind)
    assert (await drafted(steps, await new_market(operator))).draft is not None
    assert await operator.llm_faults_left() == 0
    *earlier, call = await calls(operator)
    assert earlier == paid
    assert call["input_tokens"] > 2 * paid[-1]["input_tokens"]


async def test_an_attempt_whose_result_was_lost_pays_nothing(
    operator: Operator, steps: LlmSteps, market_id: UUID
) -> None:
    first = await drafted(steps, market_id)
    paid = await calls(operator)
    # As when the process dies after the answer and before the database transaction is over.
    await operator.pool.execute("DELETE FROM step_results WHERE key = $1", str(market_id))
    await operator.pool.execute("DELETE FROM markets WHERE id = $1", market_id)
    await operator.pool.execute("UPDATE proposals SET status = 'pending' WHERE market_id = $1", market_id)
    await operator.llm_fault("status", status=500)
    assert await drafted(steps, market_id) == first
    # Nor does one whose result was kept.
    assert await drafted(steps, market_id) == first
    assert await operator.llm_faults_left() == 1, "the model was asked again"
    assert await calls(operator) == paid


async def test_a_call_is_recorded_with_what_it_took(operator: Operator, steps: LlmSteps, market_id: UUID) -> None:
    result = await drafted(steps, market_id)
    assert result.draft is not None
    call = (await calls(operator))[-1]
    model = ai.model_of(result.draft.ai_version)
    assert (call["ai_version"], call["prompt_type"]) == (result.draft.ai_version, "market_generation")
    assert call["model"] == model.name
    assert call["request_id"].startswith("req_")
    assert call["input_tokens"] > 500
    assert call["output_tokens"] > 100
    dollars = call["input_tokens"] * model.input_price + call["output_tokens"] * model.output_price
    assert abs(call["cost_usd"] * 1_000_000 - dollars) <= 1


async def test_a_failed_rehearsal_asks_no_model(operator: Operator, steps: LlmSteps) -> None:
    market_id, key = uuid4(), uuid4().hex
    asked = Proposal(text=QUESTION, draft=draft(), proposer="test")
    await proposals.insert(operator.pool, market_id, key, asked)
    made = await drafted(steps, market_id)
    assert made.draft is not None
    await operator.llm_fault("status", status=500)
    broken = Rehearsal.model_validate(
        {"blocking": [{"code": "not_extracted", "field": "higher.checks.0.value", "message": "nothing is there"}]}
    )
    request = ValidateRequest(market_id=market_id, rules_sha256=made.draft.rules_sha256, round=1, rehearsal=broken)
    validation: Validation = await ActivityEnvironment().run(steps.validate_market, request)
    assert validation.decision == "needs_human"
    assert "higher.checks.0.value" in validation.reason
    assert await operator.llm_faults_left() == 1, "the model was asked"
    assert await operator.status(market_id) == "pending_review"
