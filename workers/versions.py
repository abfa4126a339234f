"""What a worker makes sure of before it takes work: it can serve every ai_version that is needed."""

import asyncio
from pathlib import Path

from db import ai_versions
from db.ai_versions import Needed
from db.pool import Pool
from domain import ai
from domain.ai import VersionError
from prompts import loader


class StartError(RuntimeError):
    """A worker must not start; the message is a sentence without a full stop."""


async def check_versions(pool: Pool, prompts: Path) -> None:
    """Make sure of the prompts, model and rules of the current version and of all that open markets are bound to.

    Prompt files that no worker has seen before are recorded with their hashes.

    Args:
        pool: where the registry is.
        prompts: folder of the prompt files.

    Raises:
        StartError: one of them cannot be served; names it, what is wrong, and the markets.
    """
    hashes = await asyncio.to_thread(loader.hashes, prompts)
    await ai_versions.fill_hashes(pool, hashes)
    for needed in await ai_versions.needed(pool):
        try:
            ai.parts_of(needed.version)
            faults = list((await ai_versions.get(pool, needed.version)).faults(hashes))
        except VersionError as error:
            faults = [str(error)]
        if faults:
            raise StartError(
                f"{needed.version}, which {_who_needs(needed)}, cannot be served: {'; '.join(faults)}: deploy the code"
                f" and the prompt files that it was made with, in {prompts}"
            )


def _who_needs(needed: Needed) -> str:
    if not needed.open_markets:
        return "new markets are bound to"
    named = ", ".join(map(str, needed.examples))
    more = needed.open_markets - len(needed.examples)
    rest = f" and {more} more" if more else ""
    return f"{'open markets' if needed.open_markets > 1 else 'an open market'} ({named}{rest}) must be able to use"
