"""Records the histories and fingerprints of all stories: `python -m tests.replay.record`, in less than a minute.

Run it on the code that is about to be released, and commit what it writes. It writes the histories into the folder of
the version in pyproject.toml; those of earlier releases stay as they are, since markets that began under them still
live. `--fingerprints` leaves the histories alone.
"""

import argparse
import asyncio
import logging
import sys

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from bench.histories import readable
from deploy.local.temporary import temporary_stack
from tests.replay.histories import FINGERPRINTS, fingerprint, release_folder, store
from tests.replay.stories import REAL, tell
from tests.workflows.world import world_on


async def record(*, histories: bool) -> None:
    """Tell the stories on an embedded stack of their own and store what is kept of them."""
    with temporary_stack(without={"workers"}) as stack:
        try:
            await stack.supervisor.start()
            client = await Client.connect(
                stack.environment["TEMPORAL_ADDRESS"],
                data_converter=pydantic_data_converter,
                identity="recorder",  # the default would be process and host
            )
            async with world_on(client, stack.environment) as world:
                told = await tell(world, REAL)
        finally:
            await stack.supervisor.stop()
    for name, value in stack.environment.items():
        if name.endswith(("_SECRET", "_KEY", "_URL")) and any(value in readable(told[story].events) for story in told):
            raise RuntimeError(f"{name} stands in a history, where no secret may be: nothing was stored")
    FINGERPRINTS.mkdir(exist_ok=True)
    for story, history in told.items():
        (FINGERPRINTS / f"{story}.txt").write_text(fingerprint(history.events), "utf-8")
        if histories:
            store(story, history)
    written = f"{release_folder()} and {FINGERPRINTS}" if histories else f"{FINGERPRINTS}"
    sys.stdout.write(f"{len(told)} stories recorded in {written}\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.replay.record", description=__doc__)
    parser.add_argument("--fingerprints", action="store_true", help="only the fingerprints")
    logging.getLogger("temporalio").setLevel(logging.ERROR)  # the story of a failing source is no news here
    asyncio.run(record(histories=not parser.parse_args().fingerprints))


if __name__ == "__main__":
    main()
