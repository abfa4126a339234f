"""One call to the model: rendered prompt in, validated answer out, paid for once."""

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

import openai
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam
from pydantic import ValidationError
from temporalio.exceptions import ApplicationError

from db import llm_calls
from db.pool import Pool
from domain import ai, errors
from domain.base import Model
from domain.canonical import canonical_json, sha256_hex
from prompts.loader import load

A = TypeVar("A", bound=Model)

EVIDENCE_LIMIT = 20_000
"""Characters of one document's text that a prompt carries."""


@dataclass(frozen=True)
class _Answered(Generic[A]):
    """An answer with its price: the tokens of what had to be repaired are paid for too."""

    answer: A
    model: str
    request_id: str | None
    input_tokens: int
    output_tokens: int


class LlmClient:
    """Asks prompts of the model that an ai_version names, through the OpenAI API.

    Args:
        client: built with `max_retries=0`: Temporal owns retries.
        pool: where calls are recorded and answers cached.
    """

    def __init__(self, client: openai.AsyncOpenAI, pool: Pool) -> None:
        self._client = client
        self._pool = pool

    async def ask(self, ai_version: str, prompt_type: str, answer_type: type[A], values: dict[str, str]) -> A:
        """The model's answer to a prompt, validated; the same input under the same version is paid for once.

        Args:
            ai_version: names the model; its prompts are those of this code.
            prompt_type: folder under prompts/.
            answer_type: what the answer must parse as.
            values: the prompt's variables; data, never instructions.

        Raises:
            ApplicationError: Llm… of the error catalogue.
        """
        prompt = load(prompt_type)
        model = ai.model_of(ai_version)
        messages: list[ChatCompletionMessageParam] = [*prompt.render(**values)]
        input_sha256 = sha256_hex(canonical_json({"model": model.name, "messages": messages}))
        cached = await llm_calls.cached(self._pool, ai_version, prompt_type, input_sha256)
        if cached is not None:
            return answer_type.model_validate(cached)
        started = time.perf_counter()
        answered = await self._answer(model, prompt.max_tokens, messages, answer_type)
        await llm_calls.record(
            self._pool,
            llm_calls.LlmCall(
                ai_version=ai_version,
                prompt_type=prompt_type,
                prompt_sha256=prompt.sha256,
                input_sha256=input_sha256,
                model=answered.model,
                request_id=answered.request_id,
                answer=answered.answer.model_dump(mode="json", by_alias=True),
                input_tokens=answered.input_tokens,
                output_tokens=answered.output_tokens,
                cost_usd=model.cost(answered.input_tokens, answered.output_tokens),
                latency_ms=round((time.perf_counter() - started) * 1000),
            ),
        )
        return answered.answer

    async def _answer(
        self, model: ai.ModelConfig, max_tokens: int, messages: list[ChatCompletionMessageParam], answer_type: type[A]
    ) -> _Answered[A]:
        """The answer; one that does not fit the schema gets one chance of repair."""
        repair: list[ChatCompletionMessageParam] = []
        used: list[CompletionUsage] = []
        while True:
            try:
                response = await self._client.chat.completions.with_raw_response.parse(
                    model=model.name,
                    messages=[*messages, *repair],
                    response_format=answer_type,
                    temperature=model.temperature,
                    max_tokens=min(max_tokens, model.max_tokens),
                    timeout=model.timeout,
                )
                # From the raw response: parsing raises when the content breaks the schema.
                if usage := ChatCompletion.construct(**response.http_response.json()).usage:
                    used.append(usage)
                completion = response.parse()
                message = completion.choices[0].message
            except ValidationError as error:
                faults = _faults(error)
            except (openai.OpenAIError, ValueError, TypeError, IndexError) as error:
                raise _failure(error) from None
            else:
                if message.parsed is not None:
                    return _Answered(
                        message.parsed,
                        completion.model,
                        response.request_id,
                        sum(usage.prompt_tokens for usage in used),
                        sum(usage.completion_tokens for usage in used),
                    )
                if message.refusal:
                    raise errors.failure(errors.LLM_REFUSED, f"the model refused to answer: {message.refusal[:200]}")
                faults = "it is empty"
            if repair:
                raise errors.failure(errors.LLM_BAD_OUTPUT, f"the answer breaks its schema: {faults}")
            order = f"Your answer broke the schema: {faults}. Answer again, by the schema."
            repair = [{"role": "user", "content": order}]


def _faults(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'answer'}: {e['msg']}" for e in error.errors()[:3])[:300]


def _failure(error: Exception) -> ApplicationError:
    """The catalogue's entry for what the client library raised."""
    match error:
        case openai.APITimeoutError():
            return errors.failure(errors.LLM_TIMEOUT, "the model did not answer in time")
        case openai.RateLimitError():
            after = error.response.headers.get("retry-after", "")
            delay = timedelta(seconds=min(int(after), 3_600)) if after.isdigit() else None
            return errors.failure(errors.LLM_RATE_LIMITED, "the model's provider limits the rate", retry_after=delay)
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            return errors.failure(errors.LLM_UNAUTHORIZED, f"the provider answered {error.status_code}")
        case openai.APIStatusError() if error.status_code >= 500 or error.status_code in {408, 409}:
            return errors.failure(errors.LLM_UNAVAILABLE, f"the provider answered {error.status_code}")
        case openai.APIStatusError():
            return errors.failure(errors.LLM_REFUSED, f"the provider answered {error.status_code}")
        case openai.APIConnectionError():
            return errors.failure(errors.LLM_UNAVAILABLE, "the provider cannot be reached")
        case openai.LengthFinishReasonError():
            return errors.failure(errors.LLM_BAD_OUTPUT, "the answer was cut off at the token limit")
        case openai.ContentFilterFinishReasonError():
            return errors.failure(errors.LLM_REFUSED, "the provider's content filter stopped the answer")
        case _:
            return errors.failure(errors.LLM_BAD_OUTPUT, "the provider's answer is not what its API promises")
