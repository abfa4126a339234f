"""What tests of every tier may import."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from deploy.local.temporary import free_ports

__all__ = ["eventually", "free_ports"]


async def eventually(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 60) -> None:
    """Wait until `condition` holds; fail naming `what` was awaited when it does not within `seconds`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not await condition():
                await asyncio.sleep(0.05)
            return
    pytest.fail(f"{what} did not come within {seconds:g} s")
