"""Telling the embedded source site what to publish later and which hosts to fail: for demos, benchmarks and tests."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from deploy.local.source_site.control import Embargo, Fault, Misprint, Release
from domain.base import Model


class SiteControl:
    """A client of the site's /_site/ paths."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def embargo(self, embargo: Embargo) -> None:
        """Publish an observation or outcome only from a moment on."""
        await self._post("embargo", embargo)

    async def misprint(self, misprint: Misprint) -> None:
        """Publish a mistake until it is released."""
        await self._post("misprint", misprint)

    async def fault(self, fault: Fault) -> None:
        """Make a host, or all, misbehave until released."""
        await self._post("faults", fault)

    async def release(self, release: Release) -> None:
        """End embargoes, misprints and faults."""
        await self._post("release", release)

    async def _post(self, path: str, body: Model) -> None:
        (await self._client.post(f"/_site/{path}", json=body.model_dump(mode="json"))).raise_for_status()


@asynccontextmanager
async def connected(address: str, ca_file: Path) -> AsyncIterator[SiteControl]:
    """A client of the site at `address` (host:port), whose certificate `ca_file` signed."""
    trusted = ssl.create_default_context(cafile=ca_file)
    async with httpx.AsyncClient(base_url=f"https://{address}", verify=trusted, trust_env=False) as client:
        yield SiteControl(client)
