"""One call to the model: rendered prompt in, validated answer out, paid for once."""

import asyncio
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import httpx2
import openai
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json
from temporalio.exceptions import ApplicationError

from activities import gen_ai
from activities.configuration import Configuration, StoredConfiguration
from db import ai_versions, experiments, llm_calls
from db.pool import Pool
from domain import ai, answers, errors
from domain.base import Model
from domain.canonical import canonical_json, sha256_hex
from domain.comparison import Answered
from domain.experiments import Arm, Experiment, arm_of
from domain.extraction import Document, text_of
from domain.rules import Source
from domain.text import clean, cut
from prompts import loader, schema

A = TypeVar("A", bound=Model)

EVIDENCE_LIMIT = 20_000
"""Characters of one document's text that a prompt carries."""


def shown_text(source: Source, document: Document) -> str:
    """What a prompt carries of a source's document."""
    return text_of(document, selector=source.selector, json_path=source.json_path)[:EVIDENCE_LIMIT]


ANSWER_LIMIT = 1_000_000
"""Bytes of a provider's reply that are read: a hundred times what the longest answer takes."""

_BYTES_OF_A_TOKEN = 3
"""Of UTF-8: fewer than English has (4) and about what Chinese has, so that an estimate is seldom too low."""

_FENCE = re.compile(r"^\s*```(?:json)?\s*\n(.*)\n\s*```\s*$", re.DOTALL)


class _Usage(BaseModel):
    prompt_tokens: Annotated[int, Field(ge=0, le=2**31 - 1)]
    completion_tokens: Annotated[int, Field(ge=0, le=2**31 - 1)]


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    """What is read of a chat completion; servers differ in the rest."""

    choices: Annotated[list[_Choice], Field(min_length=1)]
    id: str | None = None
    model: str | None = None
    usage: Any = None


@dataclass(frozen=True)
class Given(Generic[A]):
    """An answer, and the request that it was paid with, as the provider knows it; None where it tells none."""

    answer: A
    request_id: str | None


def request_ids(*given: Given[Any]) -> tuple[str, ...]:
    """What the audit log says of the calls that a decision rests on."""
    return tuple(one.request_id for one in given if one.request_id is not None)


@dataclass(frozen=True)
class _Reply(Generic[A]):
    """A reply that was paid for. `used` is None where the provider does not say."""

    answer: A | None = None
    fault: str | None = None
    """Why there is no answer."""
    refused: bool = False
    """Whether asking again cannot help."""
    model: str | None = None
    used: _Usage | None = None
    request_id: str | None = None


class LlmClient:
    """Asks prompts of the model that an ai_version names, through the OpenAI API.

    Args:
        client: built with `max_retries=0`: Temporal owns retries.
        pool: where calls are recorded and answers cached.
        configuration: where the daily budget is read; None: from the table each time.
        prompts: folder of the prompt files.
    """

    def __init__(
        self,
        client: openai.AsyncOpenAI,
        pool: Pool,
        configuration: Configuration | None = None,
        prompts: Path = loader.BUNDLED,
    ) -> None:
        self._client = client
        self._pool = pool
        self._configuration = configuration or StoredConfiguration(pool)
        self._prompts = prompts
        self._versions: dict[str, ai.AiVersion] = {}

    async def ask(
        self, ai_version: str, prompt_type: str, answer_type: type[A], values: dict[str, str], *, subject: str = ""
    ) -> Given[A]:
        """The model's answer to a prompt, validated; the same input under the same version is paid for once.

        Every reply that was paid for is recorded, also one of no use. One that breaks the schema gets one chance of
        repair.

        Args:
            ai_version: names the model, and the prompts as they are registered under it.
            prompt_type: folder under prompts/.
            answer_type: what the answer must parse as.
            values: the prompt's variables; data, never instructions.
            subject: the market on whose behalf it is asked, which decides its arm where the prompt is under test.

        Raises:
            ApplicationError: Llm… or AiVersionUnusable of the error catalogue.
        """
        test = await experiments.running(self._pool, prompt_type) if subject else None
        if test is not None and test.ai_version != ai_version:
            test = None
        variant = test if test is not None and arm_of(test, subject) is Arm.VARIANT else None
        call = self._compose(ai_version, await self._prompt(ai_version, prompt_type, variant), answer_type, values)
        given = await self._answer(call, answer_type)
        if test is not None:
            await experiments.log(
                self._pool,
                experiments.ExperimentCall(
                    experiment=test.id,
                    subject=subject,
                    arm=arm_of(test, subject),
                    input_sha256=call.input_sha256,
                    confidence=answers.confidence_of(given.answer.model_dump()),
                ),
            )
        return given

    async def try_out(self, ai_version: str, prompt_type: str, values: dict[str, str]) -> Answered:
        """Ask as `ask` does, for a comparison of models: what was answered, and what it took.

        Raises:
            ApplicationError: as `ask`; but a reply that cannot be used is a result here.
        """
        prompt = await self._prompt(ai_version, prompt_type)
        call = self._compose(ai_version, prompt, prompt.output, values)
        try:
            await self._answer(call, prompt.output)
        except ApplicationError as error:
            if error.type not in {errors.LLM_BAD_OUTPUT.type, errors.LLM_REFUSED.type}:
                raise
        return await llm_calls.of_input(self._pool, ai_version, prompt_type, call.input_sha256)

    def _compose(
        self, ai_version: str, prompt: loader.Prompt, answer_type: type[Model], values: dict[str, str]
    ) -> "_Call":
        model = ai.model_of(ai_version)
        system, user = prompt.render(**values)
        instructions = f"{system['content']}{schema.in_words(model, answer_type)}"
        messages: list[ChatCompletionMessageParam] = [{"role": "system", "content": instructions}, user]
        input_sha256 = sha256_hex(canonical_json({"model": model.name, "messages": messages}))
        return _Call(ai_version, prompt, input_sha256, model, messages)

    async def _answer(self, call: "_Call", answer_type: type[A]) -> Given[A]:
        cached = await llm_calls.cached(self._pool, call.ai_version, call.prompt.type, call.input_sha256)
        if cached is not None:
            return Given(answer_type.model_validate(cached.answer), cached.request_id)
        reply = await self._paid(call, call.messages, answer_type)
        if reply.answer is None and not reply.refused:
            order = f"Your answer broke the schema: {reply.fault}. Answer again, by the schema."
            reply = await self._paid(call, [*call.messages, {"role": "user", "content": order}], answer_type)
        if reply.refused:
            raise errors.failure(errors.LLM_REFUSED, f"{reply.fault}")
        if reply.answer is None:
            raise errors.failure(errors.LLM_BAD_OUTPUT, f"the answer breaks its schema: {reply.fault}")
        return Given(reply.answer, reply.request_id)

    async def _prompt(self, ai_version: str, type: str, variant: Experiment | None = None) -> loader.Prompt:
        """The prompt that is registered under a version, or the variant that is tried in its place."""
        version = self._versions.get(ai_version)
        try:
            if version is None:
                version = await ai_versions.get(self._pool, ai_version)
                if version.fixed:
                    self._versions[ai_version] = version
            ref = version.ref(type)
            if variant is not None:
                ref = ai.PromptRef(version=variant.variant, sha256=variant.variant_sha256)
            prompt = loader.load(type, ref.version, self._prompts)
        except (ai.VersionError, loader.PromptError) as error:
            raise errors.failure(errors.AI_VERSION_UNUSABLE, str(error)) from None
        if ref.sha256 not in {None, prompt.sha256}:
            bound = variant.id if variant is not None else ai_version
            why = f"{bound} is bound to another text of prompts/{type}/{ref.version}.md"
            raise errors.failure(errors.AI_VERSION_UNUSABLE, why)
        return prompt

    async def _paid(self, call: "_Call", messages: list[ChatCompletionMessageParam], answer_type: type[A]) -> _Reply[A]:
        """One request, on the bill before it is sent; with the answer that stands when another attempt was faster."""
        begun = await self._begin(call, messages)
        started = time.perf_counter()
        with gen_ai.calling(call.model.name, call.prompt.type, call.ai_version) as measured:
            try:
                reply = await self._request(call, messages, answer_type)
            except _Unpaid as unpaid:
                await llm_calls.refused(self._pool, begun)
                raise unpaid.failure from None
            except ApplicationError as lost:
                # Nobody says whether it was paid for: the budget counts what was asked.
                await self._answered(begun, call, _Reply[A](fault=lost.message[:300]), messages, started)
                raise
            if reply.used is not None:
                measured.used(reply.used.prompt_tokens, reply.used.completion_tokens)
            if reply.answer is None:
                measured.error_type = (errors.LLM_REFUSED if reply.refused else errors.LLM_BAD_OUTPUT).type
            standing = await self._answered(begun, call, reply, messages, started)
        if standing is None or reply.answer is None:
            return reply
        return _Reply(answer=answer_type.model_validate(standing.answer), request_id=standing.request_id)

    async def _begin(self, call: "_Call", messages: list[ChatCompletionMessageParam]) -> int:
        """Put a request on the bill, or raise when that might overstep the budget."""
        most = call.taking(_Reply[Model](), messages, 0)
        budget = (await self._configuration.now()).llm_daily_budget_usd
        try:
            return await llm_calls.begin(self._pool, most, budget)
        except llm_calls.BudgetReached as reached:
            midnight = (datetime.now(UTC) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
            raise errors.failure(
                errors.LLM_BUDGET_SPENT,
                f"{reached.spent:.2f} US dollars of today's {budget:.2f} are spent or under way, this call may take"
                f" {most.cost_usd:.4f}, and the next day's begin at {midnight:%Y-%m-%d %H:%M} UTC",
            ) from None

    async def _answered(
        self, begun: int, call: "_Call", reply: _Reply[A], messages: list[ChatCompletionMessageParam], started: float
    ) -> llm_calls.Standing | None:
        taken = call.taking(reply, messages, round((time.perf_counter() - started) * 1000))
        return await llm_calls.answered(self._pool, begun, taken)

    async def _request(
        self, call: "_Call", messages: list[ChatCompletionMessageParam], answer_type: type[A]
    ) -> _Reply[A]:
        model = call.model
        try:
            # The client's own time-out is for each read: a reply that trickles would never end.
            async with (
                asyncio.timeout(model.timeout),
                self._client.chat.completions.with_streaming_response.create(
                    model=model.name,
                    messages=messages,
                    response_format=schema.response_format(model, answer_type),
                    temperature=model.temperature,
                    max_tokens=call.max_tokens,
                    timeout=model.timeout,
                ) as response,
            ):
                body = bytearray()
                async for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > ANSWER_LIMIT:
                        break
                request_id = response.request_id
        except (openai.OpenAIError, httpx2.HTTPError, TimeoutError) as error:
            raise _failure(error) from None
        if len(body) > ANSWER_LIMIT:
            return _Reply(fault=f"it was cut off at {ANSWER_LIMIT:,} bytes", request_id=request_id)
        return _read(bytes(body), answer_type, request_id)


@dataclass(frozen=True)
class _Call:
    """What is asked, under which name."""

    ai_version: str
    prompt: loader.Prompt
    input_sha256: str
    model: ai.ModelConfig
    messages: list[ChatCompletionMessageParam]

    @property
    def max_tokens(self) -> int:
        return min(self.prompt.max_tokens, self.model.max_tokens)

    def taking(
        self, reply: _Reply[A], messages: list[ChatCompletionMessageParam], latency_ms: int
    ) -> llm_calls.LlmCall:
        """The row of a request and its reply."""
        used = reply.used or _estimate(messages, self.max_tokens)
        return llm_calls.LlmCall(
            ai_version=self.ai_version,
            prompt_type=self.prompt.type,
            prompt_sha256=self.prompt.sha256,
            input_sha256=self.input_sha256,
            model=cut(clean(reply.model or self.model.name), 200),
            request_id=reply.request_id,
            answer=None if reply.answer is None else reply.answer.model_dump(mode="json", by_alias=True),
            fault=reply.fault,
            input_tokens=used.prompt_tokens,
            output_tokens=used.completion_tokens,
            estimated=reply.used is None,
            cost_usd=self.model.cost(used.prompt_tokens, used.completion_tokens),
            latency_ms=latency_ms,
        )


class _Unpaid(Exception):
    """The provider did not take the request, so it costs nothing."""

    def __init__(self, failure: ApplicationError) -> None:
        super().__init__()
        self.failure = failure


def _estimate(messages: list[ChatCompletionMessageParam], max_tokens: int) -> _Usage:
    """The most that a call may take, where nobody says what it took."""
    size = sum(len(str(message.get("content")).encode()) for message in messages)
    return _Usage(prompt_tokens=size // _BYTES_OF_A_TOKEN, completion_tokens=max_tokens)


def _read(body: bytes, answer_type: type[A], request_id: str | None) -> _Reply[A]:
    """What a provider's reply holds.

    Raises:
        ApplicationError: LlmBadOutput: it is no chat completion, as of a proxy that shows a page of its own.
    """
    try:
        completion = _Completion.model_validate(from_json(body))
    except ValueError:
        what = "the provider's answer is not what its API promises"
        raise errors.failure(errors.LLM_BAD_OUTPUT, what) from None
    try:
        used = _Usage.model_validate(completion.usage)
    except ValidationError:
        used = None
    # Of one's own, a server names its answers alone.
    named = request_id or (cut(clean(completion.id), 200) if completion.id else None)
    choice = completion.choices[0]
    answer, fault, refused = None, None, False
    if choice.message.refusal:
        fault, refused = f"the model refused to answer: {cut(clean(choice.message.refusal), 200)}", True
    elif choice.finish_reason == "content_filter":
        fault, refused = "the provider's content filter stopped the answer", True
    elif choice.finish_reason == "length":
        fault = "it was cut off at the token limit"
    else:
        try:
            answer = _parsed(choice.message.content or "", answer_type)
        except ValueError as error:
            fault = str(error)
    return _Reply(answer, fault, refused, completion.model, used, named)


def _parsed(content: str, answer_type: type[A]) -> A:
    """The answer that a model's text holds, cleaned of what cannot be stored.

    Raises:
        ValueError: it holds none; the message is a clause about it.
    """
    if not content.strip():
        raise ValueError("it is empty")
    fenced = _FENCE.match(content)
    try:
        data = _storable(from_json(fenced[1] if fenced else content, allow_inf_nan=False))
    except ValueError as error:
        raise ValueError(f"it is no JSON: {cut(clean(str(error)), 200)}") from None
    try:
        return answer_type.model_validate(data)
    except ValidationError as error:
        raise ValueError(_faults(error)) from None


def _storable(data: Any) -> Any:
    match data:
        case str():
            return clean(data)
        case list():
            return [_storable(one) for one in data]
        case dict():
            return {clean(key): _storable(value) for key, value in data.items()}
    return data


def _faults(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'answer'}: {e['msg']}" for e in error.errors()[:3])[:300]


def _failure(error: Exception) -> ApplicationError | _Unpaid:
    """The catalogue's entry for what the client library raised; as unpaid, where it is sure that nothing was done."""
    never_sent = isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
    match error:
        case openai.APITimeoutError() | httpx2.TimeoutException() | TimeoutError():
            failure = errors.failure(errors.LLM_TIMEOUT, "the model did not answer in time")
            return _Unpaid(failure) if never_sent else failure
        case openai.RateLimitError():
            after = _retry_after(error.response.headers.get("retry-after", ""))
            what = "the model's provider limits the rate"
            return _Unpaid(errors.failure(errors.LLM_RATE_LIMITED, what, retry_after=after))
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            return _Unpaid(errors.failure(errors.LLM_UNAUTHORIZED, f"the provider answered {error.status_code}"))
        case openai.APIStatusError() if error.status_code >= 500 or error.status_code in {408, 409}:
            failure = errors.failure(errors.LLM_UNAVAILABLE, f"the provider answered {error.status_code}")
            # A gateway that lost patience: what is behind it may go on.
            return failure if error.status_code == HTTPStatus.GATEWAY_TIMEOUT else _Unpaid(failure)
        case openai.APIStatusError():
            return _Unpaid(errors.failure(errors.LLM_REFUSED, f"the provider answered {error.status_code}"))
        case openai.APIConnectionError() if never_sent:
            return _Unpaid(errors.failure(errors.LLM_UNAVAILABLE, "the provider cannot be reached"))
        case openai.APIConnectionError() | httpx2.HTTPError():
            return errors.failure(errors.LLM_UNAVAILABLE, "the provider broke its answer off")
        case _:
            return errors.failure(errors.LLM_BAD_OUTPUT, "the provider's answer is not what its API promises")


def _retry_after(header: str) -> timedelta | None:
    """What a Retry-After header asks for, an hour at most: seconds, or a date (RFC 9110, 10.2.3)."""
    if header.isascii() and header.isdigit():
        seconds = float(header[:9])
    else:
        try:
            seconds = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # no date, or one without a time zone
            return None
    return timedelta(seconds=min(max(seconds, 0), 3_600))
