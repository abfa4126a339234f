"""What today's code commands, story by story, against what was written down: a change of order is never a surprise."""

import difflib

import pytest
from temporalio.client import WorkflowHistory

from tests.conftest import Database, EmbeddedStack
from tests.replay.histories import FINGERPRINTS, fingerprint
from tests.replay.stories import SKIPPED, STORIES, tell
from tests.workflows.world import world_in_skipped_time


@pytest.fixture(scope="module")
async def told(stack: EmbeddedStack, database: Database) -> dict[str, WorkflowHistory]:
    """All stories, told by today's code, over a database that no other test has written to."""
    async with (
        database.fresh() as url,
        world_in_skipped_time(stack.environment | {"DATABASE_URL": url}) as world,
    ):
        return await tell(world, SKIPPED)


@pytest.mark.timeout(300)  # the first one tells all stories, a minute on a busy machine
@pytest.mark.parametrize("story", STORIES)
def test_a_story_commands_what_was_written_down(story: str, told: dict[str, WorkflowHistory]) -> None:
    # With the reviews and disputes that it led to.
    before = "".join(f"{file.stem}\n{file.read_text('utf-8')}" for file in sorted(FINGERPRINTS.glob(f"{story}.*txt")))
    files = sorted(f"{name}.txt" for name in told if name.partition(".")[0] == story)
    now = "".join(f"{file[:-4]}\n{fingerprint(told[file[:-4]].events)}" for file in files)
    if now != before:
        difference = "".join(difflib.unified_diff(before.splitlines(True), now.splitlines(True), "before", "now"))
        pytest.fail(
            f"The story {story} commands something else, or in another order:\n{difference}\n"
            "Markets that began under released code would be lost on this. If it is meant, guard it with"
            " workflow.patched, see that tests/replay/test_replay.py passes, then write the new order down:"
            " python -m tests.replay.record --fingerprints",
            pytrace=False,
        )


def test_no_fingerprint_is_of_a_story_that_is_no_more() -> None:
    assert {file.name.partition(".")[0] for file in FINGERPRINTS.glob("*.txt")} == STORIES.keys()
