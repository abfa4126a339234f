"""Faults of hosts, as ASGI middleware around the whole site."""

import asyncio
import gzip
from functools import cache

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from deploy.local.source_site.control import Control, Fault

HUGE_BYTES = 20_000_000
BOMB_BYTES = 100_000_000


class ClosableProtocol(H11Protocol):
    """HTTP/1.1 that hands each request its connection, so that a fault can close it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Keep the transport where ASGI keeps the state of a request."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class Faults:
    """Answers as the host's fault says; a host without one is left alone."""

    def __init__(self, app: ASGIApp, control: Control, spared: frozenset[str]) -> None:
        self._app = app
        self._control = control
        self._spared = spared

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        host = Request(scope).url.hostname or ""
        fault = None if host in self._spared else self._control.fault_of(host)
        if fault is None:
            await self._app(scope, receive, send)
            return
        await asyncio.sleep(fault.delay_ms / 1000)
        if fault.down:
            await _close(scope, receive, at_once=True)
        elif fault.body == "truncated":
            await self._app(scope, receive, _Half(send))
            await _close(scope, receive, at_once=False)
        else:
            app = _answer(fault) or self._app
            await app(scope, receive, _typed(send, fault.content_type) if fault.content_type else send)


def _answer(fault: Fault) -> Response | None:
    """What is answered instead of the right thing; None when the right thing is."""
    if fault.status is not None:
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        return PlainTextResponse(f"This host fails by request with status {fault.status}.", fault.status, headers)
    if fault.redirect_to is not None:
        return RedirectResponse(fault.redirect_to, 302)
    if fault.body == "huge":
        return PlainTextResponse(b" " * HUGE_BYTES)
    if fault.body == "gzip_bomb":
        return PlainTextResponse(_bomb(), headers={"Content-Encoding": "gzip"})
    return None


@cache
def _bomb() -> bytes:
    return gzip.compress(bytes(BOMB_BYTES))


def _typed(send: Send, content_type: str) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["content-type"] = content_type
        await send(message)

    return sent


class _Half:
    """Sends the head of an answer, and half of its body as if more came."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            body = message["body"]
            message = {**message, "body": body[: len(body) // 2], "more_body": True}
        await self._send(message)


async def _close(scope: Scope, receive: Receive, *, at_once: bool) -> None:
    """Close the request's connection, and wait until it is: only then the server takes a missing answer for granted."""
    transport: asyncio.Transport = scope["state"]["transport"]
    if at_once:
        transport.abort()
    else:
        transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass
