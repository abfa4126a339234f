"""What the model's steps make of a provider's bad days, and that no answer is paid for twice."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import openai
import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.llm import LlmSteps
from activities.llm_client import LlmClient
from activities.news import NewsSteps
from db import ai_config, markets, news, proposals, templates
from domain import ai, errors
from domain.answers import MarketGenerationAnswer
from domain.market import (
    Category,
    DraftRequest,
    DraftResult,
    MarketDraft,
    Proposal,
    Rehearsal,
    ValidateRequest,
    Validation,
)
from domain.news import Extracted, ExtractRequest
from domain.news_items import item_of
from domain.rules import TextCondition
from domain.templates import RuleTemplate
from tests.drafts import draft
from tests.operator import Operator
from tests.support import eventually, free_ports

NEXT_YEAR = datetime.now(UTC).year + 1
QUESTION = (
    f"Will the effective federal funds rate have increased by {NEXT_YEAR}-03-31 as compared to its value on"
    f" {NEXT_YEAR}-01-15?"
)
_NUMBERS = itertools.count()
SOURCE = "Resolves to the value found at https://fred.stlouisfed.org/series/DFF once the data is published."


VERSION = "ai_v1.0.0_gpt35_20240601"


@pytest.fixture
async def llm(operator: Operator) -> AsyncIterator[LlmClient]:
    async with client_of(operator.stack.environment["OPENAI_BASE_URL"]) as client:
        yield LlmClient(client, operator.pool)
    await operator.clear_llm_faults()


@pytest.fixture
def steps(operator: Operator, llm: LlmClient) -> LlmSteps:
    return LlmSteps(operator.pool, llm)


@pytest.fixture
def asked() -> dict[str, str]:
    return new_question()


def client_of(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key="for tests", base_url=url, max_retries=0)


def new_question() -> dict[str, str]:
    """A question like no other, so that no earlier answer fits."""
    unlike = f"Asked under {uuid4().hex}."
    return {
        "question": QUESTION, "background": unlike, "criteria": SOURCE, "category": "", "expiry": "",
        "today": "2026-07-01",
    }  # fmt: skip


async def answered(llm: LlmClient, asked: dict[str, str]) -> MarketDraft:
    answer = (await llm.ask(VERSION, "market_generation", MarketGenerationAnswer, asked)).answer
    assert answer.draft is not None, answer.refusal
    return answer.draft


async def fails(llm: LlmClient, asked: dict[str, str]) -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        await llm.ask(VERSION, "market_generation", MarketGenerationAnswer, asked)
    return caught.value


async def new_market(operator: Operator, question: str = QUESTION) -> UUID:
    """Propose a question like no other."""
    id, key = uuid4(), uuid4().hex
    asked = Proposal(text=question, background=f"Asked under {key}.", criteria=SOURCE, proposer="test")
    await proposals.insert(operator.pool, id, key, asked)
    return id


async def drafted(steps: LlmSteps, market_id: UUID) -> DraftResult:
    result: DraftResult = await ActivityEnvironment().run(steps.draft_market, DraftRequest(market_id=market_id))
    return result


async def calls(operator: Operator) -> list[Any]:
    """Rows of llm_calls, oldest first."""
    return await operator.pool.fetch("SELECT * FROM llm_calls ORDER BY id")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"kind": "status", "status": 429}, errors.LLM_RATE_LIMITED),
        ({"kind": "status", "status": 500}, errors.LLM_UNAVAILABLE),
        ({"kind": "status", "status": 503}, errors.LLM_UNAVAILABLE),
        ({"kind": "status", "status": 504}, errors.LLM_UNAVAILABLE),
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
async def test_each_fault_has_its_name_and_what_was_paid_is_recorded(
    operator: Operator, llm: LlmClient, asked: dict[str, str], fault: dict[str, Any], kind: errors.Kind
) -> None:
    before = len(await calls(operator))
    await operator.llm_fault(**fault)
    error = await fails(llm, asked)
    assert (error.type, error.non_retryable) == (kind.type, not kind.retryable)
    assert kind.next in error.message
    assert len(error.message) < 1_000
    assert await operator.llm_faults_left() == 0
    useless = (await calls(operator))[before:]
    # The first answer and its repair; what the provider refused to do costs nothing, and of a gateway nobody knows.
    assert len(useless) == (2 if kind is errors.LLM_BAD_OUTPUT else 1 if fault.get("status") == 504 else 0)
    assert all(call["answer"] is None and call["fault"] and call["cost_usd"] > 0 for call in useless)
    # The next attempt asks once more, and from then on nothing is paid.
    await answered(llm, asked)
    assert len(await calls(operator)) == before + len(useless) + 1


async def test_the_provider_says_when_to_come_back(operator: Operator, llm: LlmClient, asked: dict[str, str]) -> None:
    await operator.llm_fault("status", status=429, retry_after=7)
    assert (await fails(llm, asked)).next_retry_delay == timedelta(seconds=7)
    await operator.llm_fault("status", status=429)
    assert (await fails(llm, asked)).next_retry_delay is None


async def test_an_answer_that_comes_too_late_may_have_been_paid_for(
    operator: Operator, llm: LlmClient, asked: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = ai.MODELS["gpt35"].model_copy(update={"timeout": 1.0})
    monkeypatch.setitem(ai.MODELS, "gpt35", impatient)
    before = len(await calls(operator))
    await operator.llm_fault("delay", seconds=5)
    error = await fails(llm, asked)
    assert (error.type, error.non_retryable) == (errors.LLM_TIMEOUT.type, False)
    (lost,) = (await calls(operator))[before:]
    assert (lost["answer"], lost["estimated"], lost["output_tokens"]) == (None, True, 2_000)
    assert lost["cost_usd"] > 0


async def test_a_reply_of_five_megabytes_is_recorded_as_paid(
    operator: Operator, llm: LlmClient, asked: dict[str, str]
) -> None:
    before = len(await calls(operator))
    await operator.llm_fault("huge_answer", count=2)
    assert "cut off at 1,000,000 bytes" in (await fails(llm, asked)).message
    useless = (await calls(operator))[before:]
    assert [(call["estimated"], call["output_tokens"]) for call in useless] == [(True, 2_000)] * 2


async def test_a_reply_without_end_is_cut_off(operator: Operator, asked: dict[str, str]) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b" " * 65_536)
                await writer.drain()

    async with await asyncio.start_server(endless, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(10), client_of(f"http://127.0.0.1:{port}/v1") as client:
            error = await fails(LlmClient(client, operator.pool), asked)
    assert error.type == errors.LLM_BAD_OUTPUT.type


async def test_an_answer_with_what_postgres_cannot_hold_is_cleaned(
    operator: Operator, llm: LlmClient, asked: dict[str, str]
) -> None:
    await operator.llm_fault("nul_character")
    draft = await answered(llm, asked)
    assert draft.title.startswith("\ufffd")
    assert (await calls(operator))[-1]["answer"]["draft"]["title"] == draft.title


async def test_a_provider_that_tells_no_usage_is_estimated(
    operator: Operator, llm: LlmClient, asked: dict[str, str]
) -> None:
    await answered(llm, asked)
    told = (await calls(operator))[-1]
    await operator.llm_fault("no_usage")
    await answered(llm, new_question())
    guessed = (await calls(operator))[-1]
    assert (told["estimated"], guessed["estimated"]) == (False, True)
    assert told["input_tokens"] <= guessed["input_tokens"] < 1.5 * told["input_tokens"]
    assert guessed["output_tokens"] >= told["output_tokens"]


async def test_of_two_attempts_at_once_both_payments_are_recorded_and_one_answer_counts(
    operator: Operator, llm: LlmClient, asked: dict[str, str]
) -> None:
    before = len(await calls(operator))
    await operator.llm_fault("delay", seconds=2, count=2)  # both have asked before one is answered
    one, other = await asyncio.gather(answered(llm, asked), answered(llm, asked))
    assert one == other
    first, second = sorted((await calls(operator))[before:], key=lambda call: call["answer"] is None)
    assert (first["fault"], second["fault"]) == (None, "another attempt was answered first")
    assert second["cost_usd"] == first["cost_usd"] > 0


async def test_beyond_the_daily_budget_nothing_is_asked(
    operator: Operator, llm: LlmClient, asked: dict[str, str]
) -> None:
    await ai_config.put(operator.pool, "llm_daily_budget_usd", 0.000001, "tests", "to spend it")
    try:
        await operator.llm_fault("status", status=500)
        await operator.pool.execute("UPDATE llm_calls SET cost_usd = 0.01 WHERE id = (SELECT max(id) FROM llm_calls)")
        began = datetime.now(UTC)
        error = await fails(llm, asked)
        assert (error.type, error.non_retryable) == (errors.LLM_BUDGET_SPENT.type, True)
        days = {(moment + timedelta(days=1)).date() for moment in (began, datetime.now(UTC))}
        assert any(f"{day} 00:00 UTC" in error.message for day in days)
        assert await operator.llm_faults_left() == 1, "the model was asked"
    finally:
        await ai_config.put(operator.pool, "llm_daily_budget_usd", None, "tests", "no limit again")
    await operator.clear_llm_faults()
    await answered(llm, asked)


async def test_calls_under_way_count_for_the_budget(operator: Operator, llm: LlmClient) -> None:
    await operator.llm_fault("no_usage")
    await answered(llm, new_question())
    most = (await calls(operator))[-1]["cost_usd"]
    await operator.pool.execute("UPDATE llm_calls SET created_at = created_at - interval '2 days'")
    await ai_config.put(operator.pool, "llm_daily_budget_usd", 1.9 * float(most), "tests", "not for two at once")
    try:
        await operator.llm_fault("delay", seconds=2, count=2)  # both are under way at once
        both = await asyncio.gather(
            answered(llm, new_question()), answered(llm, new_question()), return_exceptions=True
        )
        (refused,) = (one for one in both if isinstance(one, ApplicationError))
        assert refused.type == errors.LLM_BUDGET_SPENT.type
        assert "under way" in refused.message
        # The first one is over, and has cost less than it might have.
        await answered(llm, new_question())
    finally:
        await ai_config.put(operator.pool, "llm_daily_budget_usd", None, "tests", "no limit again")


async def test_a_call_whose_worker_dies_stays_on_the_bill(
    operator: Operator, llm: LlmClient, asked: dict[str, str]
) -> None:
    before = len(await calls(operator))
    await operator.llm_fault("delay", seconds=5)
    call = asyncio.create_task(answered(llm, asked))

    async def sent() -> bool:
        return await operator.llm_faults_left() == 0

    await eventually(sent, "the question to the model")
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call
    (lost,) = (await calls(operator))[before:]
    assert (lost["answer"], lost["estimated"], lost["output_tokens"]) == (None, True, 2_000)
    assert lost["cost_usd"] > 0
    assert "may have been paid for" in lost["fault"]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"", errors.LLM_UNAVAILABLE),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"choices": [', errors.LLM_UNAVAILABLE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>", errors.LLM_BAD_OUTPUT),
    ],
    ids=["no reply", "half a reply", "a page"],
)
async def test_a_reply_that_cannot_be_read_may_have_been_paid_for(
    operator: Operator, asked: dict[str, str], reply: bytes, kind: errors.Kind
) -> None:
    async def replies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    before = len(await calls(operator))
    async with await asyncio.start_server(replies, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(10), client_of(f"http://127.0.0.1:{port}/v1") as client:
            error = await fails(LlmClient(client, operator.pool), asked)
    assert error.type == kind.type
    (lost,) = (await calls(operator))[before:]
    assert (lost["answer"], lost["estimated"]) == (None, True)
    assert lost["cost_usd"] > 0


async def test_a_provider_that_is_not_there(operator: Operator, asked: dict[str, str]) -> None:
    (nobody,) = free_ports(1)
    before = len(await calls(operator))
    async with client_of(f"http://127.0.0.1:{nobody}/v1") as client:
        error = await fails(LlmClient(client, operator.pool), asked)
    assert (error.type, error.non_retryable) == (errors.LLM_UNAVAILABLE.type, False)
    assert len(await calls(operator)) == before


@pytest.mark.parametrize("kind", ["wrong_schema", "truncated_json", "empty_answer"])
async def test_a_broken_answer_is_repaired_once_and_both_are_paid_for(
    operator: Operator, llm: LlmClient, asked: dict[str, str], kind: str
) -> None:
    await answered(llm, asked)
    paid = await calls(operator)
    await operator.llm_fault(kind)
    await answered(llm, new_question())
    assert await operator.llm_faults_left() == 0
    *earlier, useless, call = await calls(operator)
    assert earlier == paid
    assert useless["answer"] is None
    assert useless["fault"]
    assert (call["fault"], useless["input_sha256"]) == (None, call["input_sha256"])
    assert call["input_tokens"] > useless["input_tokens"] > 0
    assert call["request_id"] != useless["request_id"]


async def test_an_attempt_whose_result_was_lost_pays_nothing(operator: Operator, steps: LlmSteps) -> None:
    market_id = await new_market(operator)
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


async def test_a_call_is_recorded_with_what_it_took(operator: Operator, llm: LlmClient, asked: dict[str, str]) -> None:
    await answered(llm, asked)
    call = (await calls(operator))[-1]
    model = ai.model_of(VERSION)
    assert (call["ai_version"], call["prompt_type"]) == (VERSION, "market_generation")
    assert call["model"] == model.name
    assert call["request_id"].startswith("req_")
    assert call["input_tokens"] > 500
    assert call["output_tokens"] > 100
    assert not call["estimated"]
    dollars = call["input_tokens"] * model.input_price + call["output_tokens"] * model.output_price
    assert abs(call["cost_usd"] * 1_000_000 - dollars) <= 1


async def test_a_draft_of_the_model_holds_what_its_category_asks_for(operator: Operator, steps: LlmSteps) -> None:
    never = TextCondition(id="preliminary", text="Only a preliminary value was published.", sources=("ministry",))
    asked = RuleTemplate(category=Category.FINANCE, must_not_count=(never,))
    await templates.put(operator.pool, asked, "tests", "to have it")
    try:
        made = await drafted(steps, await new_market(operator, QUESTION.replace("03-31", "04-30")))
    finally:
        await templates.put(operator.pool, RuleTemplate(category=Category.FINANCE), "tests", "the test is over")
    assert made.draft is not None
    assert made.draft.category is Category.FINANCE
    rules = await markets.load_rules(operator.pool, made.draft.rules_sha256)
    (added,) = rules.criteria.must_not_count
    assert added.text == never.text
    # Another market of the category, after the template has gone.
    later = (await drafted(steps, await new_market(operator, QUESTION.replace("03-31", "05-31")))).draft
    assert later is not None
    assert (await markets.load_rules(operator.pool, later.rules_sha256)).criteria.must_not_count == ()


async def extracted(operator: Operator, llm: LlmClient) -> Extracted:
    request = ExtractRequest(at=datetime.now(UTC))
    result: Extracted = await ActivityEnvironment().run(NewsSteps(operator.pool, llm).extract_news, request)
    return result


async def test_an_item_that_the_model_cannot_answer_does_not_cost_for_ever(operator: Operator, llm: LlmClient) -> None:
    # Unlike what other tests read: of two that tell the same, the model is asked about the first alone.
    item = item_of(url="https://news.example.org/1", title="A comet is to be seen again", content="In time.")
    assert item is not None
    async with operator.pool.acquire() as connection, connection.transaction():
        await news.store(connection, None, [item])
    # It may be the model's fault.
    await operator.llm_fault("wrong_schema", count=2)
    with pytest.raises(ApplicationError) as caught:
        await extracted(operator, llm)
    assert caught.value.type == errors.LLM_BAD_OUTPUT.type
    assert await news.count_waiting(operator.pool, datetime.now(UTC)) == 1
    # After an hour of it, it is the item's.
    await operator.pool.execute(
        "UPDATE news_items SET created_at = created_at - interval '2 hours' WHERE content_sha256 = $1",
        item.content_sha256,
    )
    await operator.llm_fault("wrong_schema", count=2)
    assert (await extracted(operator, llm)).decided == 1
    fate = await news.fate(operator.pool, item.content_sha256)
    assert fate is not None
    assert fate.extraction is not None
    assert "no usable answer" in fate.extraction.reason
    paid = len(await calls(operator))
    assert await extracted(operator, llm) == Extracted()
    assert len(await calls(operator)) == paid


async def test_a_version_that_nobody_registered_is_asked_nothing(llm: LlmClient, asked: dict[str, str]) -> None:
    with pytest.raises(ApplicationError, match="is not registered") as caught:
        await llm.ask("ai_v7.7.7_gpt35_20240601", "market_generation", MarketGenerationAnswer, asked)
    assert (caught.value.type, caught.value.non_retryable) == (errors.AI_VERSION_UNUSABLE.type, True)


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
