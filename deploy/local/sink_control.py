"""Looking at what the embedded channel sinks got, and making them fail: for tests and benchmarks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from deploy.local.channel_sinks.sinks import Delivery, Fault, Sink


class SinkControl:
    """A client of the sinks' /_sinks/ paths."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def deliveries(self, to: str) -> list[Delivery]:
        """What was delivered to an address, in order."""
        found = (await self._client.get("/_sinks/deliveries")).raise_for_status().json()
        return [Delivery.model_validate(one) for one in found if one["to"] == to]

    async def tries(self) -> dict[Sink, int]:
        """How many messages each sink was offered, taken or not."""
        tries: dict[Sink, int] = (await self._client.get("/_sinks/tries")).raise_for_status().json()
        return tries

    async def fail(self, fault: Fault) -> None:
        """Make a sink fail."""
        (await self._client.post("/_sinks/faults", content=fault.model_dump_json())).raise_for_status()

    async def mend(self) -> None:
        """End all faults."""
        (await self._client.delete("/_sinks/faults")).raise_for_status()


@asynccontextmanager
async def connected(environment: dict[str, str]) -> AsyncIterator[SinkControl]:
    """A client of the sinks of an embedded stack, whose settings are given by name."""
    base = environment["SMS_API_URL"].removesuffix("/sms")
    async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
        yield SinkControl(client)
