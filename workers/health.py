"""`/health`, `/ready` and `/metrics` of a worker process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import httpx
import prometheus_client
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

CHECK_TIMEOUT = 3
"""Seconds that one readiness check may take: a probe's own time-out is usually 5."""

Check = Callable[[], Awaitable[object]]


class _Server(uvicorn.Server):
    """Leaves the signals to the worker: it decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@contextlib.asynccontextmanager
async def serving(host: str, port: int, checks: dict[str, Check], runtime_metrics_port: int) -> AsyncIterator[None]:
    """Serve for as long as the block runs.

    Args:
        host: interface to listen on.
        port: port to listen on.
        checks: by name, what must succeed for the worker to be ready.
        runtime_metrics_port: where the Temporal runtime shows its own metrics.
    """

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def ready(_: Request) -> Response:
        found = await asyncio.gather(*(_outcome(check) for check in checks.values()))
        report = dict(zip(checks, found, strict=True))
        ok = all(outcome == "ok" for outcome in found)
        return JSONResponse({"status": "ready" if ok else "not ready", "checks": report}, 200 if ok else 503)

    async def metrics(_: Request) -> Response:
        own = prometheus_client.generate_latest().decode()
        runtime = (await client.get(f"http://127.0.0.1:{runtime_metrics_port}/metrics")).text
        return Response(own + runtime, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    routes = [Route("/health", health), Route("/ready", ready), Route("/metrics", metrics)]
    config = uvicorn.Config(Starlette(routes=routes), host=host, port=port, log_config=None)
    server = _Server(config)
    async with httpx.AsyncClient(timeout=CHECK_TIMEOUT, trust_env=False) as client:
        serving_task = asyncio.create_task(server.serve())
        try:
            yield
        finally:
            server.should_exit = True
            await serving_task


async def _outcome(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            await check()
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]
    return "ok"
