"""JSON-RPC 2.0 over HTTP: requests, batches, notifications, and the faults of the transport."""

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from deploy.local.solana_node.errors import ReplyLostError, RpcError
from deploy.local.solana_node.rpc import Rpc

SET_FAULTS = "clotho_setFaults"

logger = logging.getLogger(__name__)


class LostReply(Response):
    """Promises a body and ends without it, so that the server breaks the connection."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the headers only."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})


def build_app(rpc: Rpc, lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]]) -> Starlette:
    """The HTTP side of the node: `POST /` and `GET /health`."""

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def post(request: Request) -> Response:
        try:
            body = json.loads(await request.body())
        except ValueError:
            return JSONResponse(_failure(None, RpcError(-32700, "Parse error")))
        requests = body if isinstance(body, list) else [body]
        if not any(isinstance(one, dict) and one.get("method") == SET_FAULTS for one in requests):
            await asyncio.sleep(rpc.faults.delay_ms / 1_000)
            if refusal := _transport_fault(rpc):
                return refusal
        if not requests:
            return JSONResponse(_failure(None, RpcError(-32600, "Invalid request")))
        try:
            answers = [answer for one in requests if (answer := _answer(rpc, one)) is not None]
        except ReplyLostError:
            return LostReply()
        if not answers:
            return Response()
        return JSONResponse(answers if isinstance(body, list) else answers[0])

    return Starlette(routes=[Route("/", post, methods=["POST"]), Route("/health", health)], lifespan=lifespan)


def _transport_fault(rpc: Rpc) -> Response | None:
    status = rpc.faults.http_status
    if status is None or not rpc.take("http_requests"):
        return None
    error = RpcError(429, "Too many requests") if status == 429 else RpcError(-32005, "Node is unhealthy")
    return JSONResponse(_failure(None, error), status_code=status, headers={"Retry-After": str(rpc.faults.retry_after)})


def _answer(rpc: Rpc, request: Any) -> dict[str, Any] | None:
    """The response to one request; None for a notification, which gets none."""
    if not isinstance(request, dict) or request.get("jsonrpc") != "2.0" or not isinstance(request.get("method"), str):
        return _failure(request.get("id") if isinstance(request, dict) else None, RpcError(-32600, "Invalid request"))
    try:
        result = rpc.call(request["method"], request.get("params") or [])
        response = {"jsonrpc": "2.0", "result": result, "id": request.get("id")}
    except RpcError as error:
        response = _failure(request.get("id"), error)
    except ReplyLostError:
        raise
    except Exception:
        logger.exception("%s failed", request["method"])
        response = _failure(request.get("id"), RpcError(-32603, "Internal error"))
    return response if "id" in request else None


def _failure(request_id: Any, error: RpcError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "error": error.json(), "id": request_id}
