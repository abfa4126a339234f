"""The scripted LLM server as a process, asked by the client that the workers use."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import TypeVar

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from pydantic import ValidationError

from domain.answers import MarketGenerationAnswer, ResolutionAnswer, ValidationAnswer
from domain.base import Model
from prompts import loader
from prompts.loader import load
from tests.support import eventually, free_ports

QUESTION = "Will the yield be higher on 2026-01-15 than on 2025-10-16?"
CRITERIA = "Resolves to the value found at https://fred.stlouisfed.org/series/DGS10 once the data is published."


class Server:
    """The running server: its address, and a client for its control paths."""

    def __init__(self, port: int, control: httpx.AsyncClient) -> None:
        self.port = port
        self.control = control

    async def fault(self, **fault: object) -> None:
        (await self.control.post("/_llm/faults", json=fault)).raise_for_status()


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[Server]:
    [port] = free_ports(1)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploy.local.scripted_llm", "--port", str(port), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as control:

            async def listens() -> bool:
                try:
                    return (await control.get("/v1/models")).is_success
                except httpx.TransportError:
                    return False

            await eventually(listens, "the server")
            assert "a script and no model" in (await process.stderr.readline()).decode()
            yield Server(port, control)
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncOpenAI]:
    await server.control.delete("/_llm/faults")
    # Without the environment's proxies, which do not lead to this machine.
    http = openai.DefaultAsyncHttpxClient(trust_env=False)
    async with AsyncOpenAI(
        base_url=f"http://127.0.0.1:{server.port}/v1", api_key="embedded", max_retries=0, http_client=http
    ) as made:
        yield made


def generation(question: str = QUESTION) -> list[loader.ChatMessage]:
    return load("market_generation").render(
        question=question, background="", criteria=CRITERIA, category="", expiry="", today="2025-10-01"
    )


A = TypeVar("A", bound=Model)


async def parsed(client: AsyncOpenAI, messages: list[loader.ChatMessage], answer: type[A]) -> A:
    completion = await client.chat.completions.parse(model="gpt-4.1-mini", messages=messages, response_format=answer)
    assert completion.choices[0].message.parsed is not None
    return completion.choices[0].message.parsed


async def test_the_three_prompts_go_round_through_the_client(client: AsyncOpenAI) -> None:
    drafted = await parsed(client, generation(), MarketGenerationAnswer)
    assert drafted.draft is not None
    assert drafted.draft.rules.exact_question == QUESTION
    assert len(drafted.draft.rules.resolver_program) == 1

    draft = drafted.draft.model_dump_json(by_alias=True)
    checked = await parsed(
        client, load("validation").render(draft=draft, findings="[]", today="2025-10-01"), ValidationAnswer
    )
    assert (checked.decision, checked.issues) == ("approved", ())

    evidence = json.dumps([{"source": "court", "url": "https://www.example-court.gov", "text": "Resolution: Yes"}])
    judged = await parsed(
        client,
        load("resolution").render(
            question="Will it?", condition="The page says yes.", evidence=evidence, lens="literal"
        ),
        ResolutionAnswer,
    )
    assert (judged.result, judged.quotation, judged.source) == ("met", "Resolution: Yes", "court")


async def test_refusal_comes_back_as_an_answer(client: AsyncOpenAI) -> None:
    answer = await parsed(client, generation("Who will win?"), MarketGenerationAnswer)
    assert answer.draft is None
    assert "yes/no" in answer.refusal


async def test_completion_says_what_it_cost_and_that_it_is_scripted(client: AsyncOpenAI) -> None:
    first = await client.chat.completions.create(model="gpt-4.1-mini", messages=generation(), max_tokens=2000)
    again = await client.chat.completions.create(model="gpt-4.1-mini", messages=generation(), max_tokens=2000)
    assert (first.model, first.system_fingerprint) == ("gpt-4.1-mini", "clotho-scripted")
    assert first.choices[0].finish_reason == "stop"
    assert first.usage is not None
    assert 0 < first.usage.completion_tokens < 2000
    assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens
    assert first._request_id != again._request_id
    assert first.choices[0].message.content == again.choices[0].message.content


async def test_repair_request_is_answered_like_the_first(client: AsyncOpenAI) -> None:
    again = [*generation(), {"role": "user", "content": "Your answer broke the schema. Answer again."}]
    answer = await parsed(client, again, MarketGenerationAnswer)  # type: ignore[arg-type]
    assert answer.draft is not None


async def test_answer_over_the_token_limit_is_cut_and_says_so(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        await client.chat.completions.parse(
            model="gpt-4.1-mini", messages=generation(), response_format=MarketGenerationAnswer, max_tokens=20
        )


async def test_models_say_that_they_are_none(client: AsyncOpenAI) -> None:
    [model] = (await client.models.list()).data
    assert model.owned_by == "clotho"
    assert "no model" in str(model.model_extra)


async def test_what_is_no_prompt_is_refused_in_the_shape_of_the_api(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="a script and no model") as caught:
        await client.chat.completions.create(model="gpt-4.1-mini", messages=[{"role": "user", "content": "Hello"}])
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id


@pytest.mark.parametrize("change", [{"messages": []}, {"model": ""}, {"stream": True}, {"n": 3}, {"max_tokens": 0}])
async def test_bad_request_names_the_parameter(server: Server, change: dict[str, object]) -> None:
    body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "x"}], **change}
    answer = await server.control.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == next(iter(change))


async def test_unknown_route_is_404(server: Server) -> None:
    answer = await server.control.post("/v1/embeddings", json={})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "unknown_url"
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
async def test_status_fault_hits_the_next_requests_only(
    server: Server, client: AsyncOpenAI, status: int, raised: type[openai.APIStatusError]
) -> None:
    await server.fault(kind="status", status=status, retry_after=7, count=2)
    for _ in range(2):
        with pytest.raises(raised) as caught:
            await parsed(client, generation(), MarketGenerationAnswer)
        assert caught.value.response.headers["retry-after"] == "7"
    assert (await parsed(client, generation(), MarketGenerationAnswer)).draft is not None


async def test_delay_fault_runs_into_the_clients_timeout(server: Server, client: AsyncOpenAI) -> None:
    await server.fault(kind="delay", seconds=30)
    with pytest.raises(openai.APITimeoutError):
        await client.with_options(timeout=0.2).chat.completions.create(model="m", messages=generation())
    assert (await parsed(client, generation(), MarketGenerationAnswer)).draft is not None


@pytest.mark.parametrize("kind", ["truncated_json", "wrong_schema", "huge_answer"])
async def test_spoiled_answer_breaks_the_schema(server: Server, client: AsyncOpenAI, kind: str) -> None:
    await server.fault(kind=kind)
    with pytest.raises(ValidationError):
        await parsed(client, generation(), MarketGenerationAnswer)


async def test_empty_answer_holds_nothing(server: Server, client: AsyncOpenAI) -> None:
    await server.fault(kind="empty_answer")
    completion = await client.chat.completions.parse(
        model="m", messages=generation(), response_format=MarketGenerationAnswer
    )
    assert completion.choices[0].message.parsed is None


async def test_huge_answer_is_huge(server: Server, client: AsyncOpenAI) -> None:
    await server.fault(kind="huge_answer")
    completion = await client.chat.completions.create(model="m", messages=generation(), max_tokens=2000)
    assert len(completion.choices[0].message.content or "") > 2_000_000


async def test_faults_are_listed_refused_and_cleared(server: Server) -> None:
    await server.fault(kind="status", count=3)
    assert [f["count"] for f in (await server.control.get("/_llm/faults")).json()["faults"]] == [3]
    refused = await server.control.post("/_llm/faults", json={"kind": "earthquake"})
    assert refused.status_code == 400
    assert "kind" in refused.json()["error"]["message"]
    assert (await server.control.delete("/_llm/faults")).json() == {"faults": []}
