"""The part of the OpenAI HTTP API that Clotho speaks: chat completions and models, with its shapes of errors.

Source: https://platform.openai.com/docs/api-reference/chat. Streaming, tools, images and several choices are refused.
"""

import asyncio
import hashlib
import time
import uuid
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from deploy.local.scripted_llm import script
from deploy.local.scripted_llm.faults import Fault, Faults, spoil

FINGERPRINT = "clotho-scripted"
MODEL_ID = "clotho-scripted"
NOTICE = "a script and no model: it answers Clotho's prompts by parsing them, and knows nothing"
_CHARACTERS_OF_A_TOKEN = 4
"""A rule of thumb for English; there is no tokenizer here, so all token counts are approximate."""
_STARTED = int(time.time())


class _Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str


class _ResponseFormat(BaseModel):
    type: Literal["text", "json_object", "json_schema"]


class _Request(BaseModel):
    """Other parameters (temperature, seed …) change nothing in a script and are let pass."""

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[_Message], Field(min_length=1)]
    response_format: _ResponseFormat = _ResponseFormat(type="text")
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Literal[1] | None = None
    stream: Literal[False] | None = None


def create_app() -> ASGIApp:
    """The ASGI application, with its own faults."""
    server = _Server()
    return Starlette(
        routes=[
            Route("/v1/chat/completions", server.complete, methods=["POST"]),
            Route("/v1/models", server.models),
            Route("/v1/models/{model:path}", server.model),
            Route("/_llm/faults", server.list_faults, methods=["GET"]),
            Route("/_llm/faults", server.add_fault, methods=["POST"]),
            Route("/_llm/faults", server.clear_faults, methods=["DELETE"]),
        ],
        exception_handlers={HTTPException: _unknown_route},
    )


class _Server:
    def __init__(self) -> None:
        self._faults = Faults()

    async def complete(self, request: Request) -> Response:
        body = await request.body()
        try:
            asked = _Request.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or None
            return _error(400, f"Invalid request: {where}: {first['msg']}", param=where)
        fault = self._faults.take()
        if fault is not None and fault.kind == "status":
            return _failure(fault)
        if fault is not None and fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
        try:
            # Pure computation of some milliseconds on a loop that has nothing else to do.
            content = script.answer(m.content for m in asked.messages if m.role == "user").model_dump_json(
                by_alias=True
            )
        except ValueError as error:
            return _error(400, f"The messages cannot be answered: {str(error)[:500]}", param="messages")
        if fault is not None:
            content = spoil(fault.kind, content)
        completion = _completion(asked, body, content, limited=fault is None)
        if fault is not None and fault.kind == "no_usage":
            del completion["usage"]
        return JSONResponse(completion, headers=_request_id())

    async def models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_model(MODEL_ID)]}, headers=_request_id())

    async def model(self, request: Request) -> Response:
        return JSONResponse(_model(request.path_params["model"]), headers=_request_id())

    async def list_faults(self, _: Request) -> Response:
        return JSONResponse(self._faults.coming().model_dump(mode="json"))

    async def add_fault(self, request: Request) -> Response:
        try:
            self._faults.add(Fault.model_validate_json(await request.body()))
        except ValidationError as error:
            first = error.errors()[0]
            return _error(400, f"The fault cannot be read: {'.'.join(map(str, first['loc']))}: {first['msg']}")
        return await self.list_faults(request)

    async def clear_faults(self, request: Request) -> Response:
        self._faults.clear()
        return await self.list_faults(request)


def _completion(asked: _Request, body: bytes, content: str, *, limited: bool) -> dict[str, Any]:
    """A completion object; `limited` keeps to the request's token limit, as a provider in good order does."""
    finish_reason = "stop"
    limit = asked.max_completion_tokens or asked.max_tokens
    if limited and limit is not None and _tokens(content) > limit:
        content, finish_reason = content[: limit * _CHARACTERS_OF_A_TOKEN], "length"
    prompt_tokens = sum(_tokens(message.content) for message in asked.messages)
    completion_tokens = _tokens(content)
    return {
        # Of the request: the same question has the same answer, and so the same id.
        "id": f"chatcmpl-{hashlib.sha256(body).hexdigest()[:29]}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": asked.model,
        "system_fingerprint": FINGERPRINT,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": finish_reason,
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }


def _tokens(text: str) -> int:
    return -(-len(text) // _CHARACTERS_OF_A_TOKEN)


def _model(model: str) -> dict[str, Any]:
    return {"id": model, "object": "model", "created": _STARTED, "owned_by": "clotho", "description": NOTICE}


_TYPES = {401: "authentication_error", 403: "permission_error", 404: "invalid_request_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key", 403: "unsupported_country_region_territory", 429: "rate_limit_exceeded"}


def _failure(fault: Fault) -> Response:
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return _error(fault.status, f"This request fails with status {fault.status}, as a test asked.", headers=headers)


def _error(
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    error = {"message": message, "type": kind, "param": param, "code": code or _CODES.get(status)}
    return JSONResponse({"error": error}, status, headers={**_request_id(), **(headers or {})})


def _request_id() -> dict[str, str]:
    return {"x-request-id": f"req_{uuid.uuid4().hex}"}


async def _unknown_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, f"Invalid URL ({request.method} {request.url.path})", code="unknown_url")
