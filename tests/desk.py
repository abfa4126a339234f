"""Reviewers at the command line, in a pipe and at a terminal, on a Temporal server where time can be skipped."""

import asyncio
import codecs
import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.cells import cell_len
from temporalio.common import SearchAttributePair, TypedSearchAttributes

from domain.ids import review_workflow_id
from domain.review import KINDS, TERM, WORKFLOW, ReviewKind, ReviewRequest
from domain.search_attributes import REVIEW_DEADLINE, REVIEW_KIND, REVIEW_PRIORITY
from domain.steps import Role
from tests.operator import CLOTHO, Answer, Operator
from tests.support import eventually
from tests.workflows.world import Review, World

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Terminal:
    """A program on a terminal of 100 columns, of which it is the only one."""

    def __init__(self, ours: int, process: asyncio.subprocess.Process) -> None:
        self._ours, self._process = ours, process
        self._shown, self._seen = "", 0
        # A character of several bytes may come in two parts.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._more = asyncio.Event()
        asyncio.get_running_loop().add_reader(ours, self._read)

    def _read(self) -> None:
        try:
            part = os.read(self._ours, 65_536)
        except OSError:  # EIO: nobody has the terminal open any more
            part = b""
        if not part:
            asyncio.get_running_loop().remove_reader(self._ours)
        self._shown += self._decoder.decode(part)
        self._more.set()

    async def shows(self, text: str, seconds: float = 30) -> str:
        """Wait until it shows a text after what was waited for last; returns what it showed up to there."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    shown = ESCAPE.sub("", self._shown)
                    place = shown.find(text, self._seen)
                    if place >= 0:
                        before, self._seen = self._seen, place + len(text)
                        return shown[before : self._seen]
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            pytest.fail(f"{text!r} is not shown: {ESCAPE.sub('', self._shown)[self._seen :]}")

    def types(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    async def ends(self) -> int:
        """Wait for its end; returns its exit status."""
        async with asyncio.timeout(30):
            return await self._process.wait()

    async def is_interrupted(self) -> int:
        """Press ctrl-C until it ends, as people do; returns its exit status.

        Python forgets a signal that comes between its last look for one and the reading that blocks: microseconds,
        but just those in which the text that the test waits for appears.
        """
        while True:
            self.types("\x03")
            with suppress(TimeoutError):
                async with asyncio.timeout(5):
                    return await self._process.wait()

    async def leave(self) -> None:
        """End it, however far it is."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        asyncio.get_running_loop().remove_reader(self._ours)
        os.close(self._ours)

    @property
    def width(self) -> int:
        """Of the widest line that it has shown, without the commands to copy, which nobody breaks into lines."""
        return max(cell_len(line) for line in self.lines if not line.startswith("  clotho "))

    @property
    def lines(self) -> list[str]:
        """All that it has shown."""
        return ESCAPE.sub("", self._shown).split("\n")


async def is_listed(review: Review, query: str) -> None:
    """Wait until Temporal's lists, which lag behind, show the review as a list filter describes it."""
    await eventually(lambda: review.is_listed(query), f"a review in the list of {query}")


@dataclass(frozen=True)
class Office:
    """The server with its workers, whose metrics are read at `metrics_port`; `operator` runs the command line."""

    operator: Operator
    world: World
    metrics_port: int

    async def reviewer(self, name: str) -> "Reviewer":
        """Somebody who may decide reviews."""
        await self.world.add_reviewer(name)
        return Reviewer(self, name)

    async def asks(self, kind: ReviewKind = ReviewKind.TAX_PROFILE, **fields: Any) -> Review:
        """A review that the queue shows and that no market asks for."""
        request = ReviewRequest.model_validate(
            {"kind": kind, "subject": uuid4().hex, "title": "A profile", "why": "it is new"} | fields
        )
        priority = KINDS[kind].priority
        found: list[SearchAttributePair[Any]] = [
            SearchAttributePair(REVIEW_KIND, kind.value),
            SearchAttributePair(REVIEW_PRIORITY, priority.value),
            SearchAttributePair(REVIEW_DEADLINE, datetime.now(UTC) + TERM[priority]),
        ]
        await self.world.client.start_workflow(
            WORKFLOW,
            request,
            id=review_workflow_id(kind, request.subject),
            task_queue=Role.ORCHESTRATOR.value,
            search_attributes=TypedSearchAttributes(found),
        )
        review = Review(self.world, kind, request.subject)
        await review.opens()
        await is_listed(review, f"ReviewKind = '{kind}' AND ReviewPriority = '{priority}'")
        return review

    async def counted(self, metric: str) -> float:
        """The sum of a counter over all its labels, as Prometheus would read it."""
        async with httpx.AsyncClient(trust_env=False) as http:
            text = (await http.get(f"http://127.0.0.1:{self.metrics_port}/metrics")).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(sample.value for sample in samples if sample.name == metric)


@dataclass(frozen=True)
class Reviewer:
    """Somebody at the command line."""

    office: Office
    name: str

    @property
    def settings(self) -> dict[str, str]:
        """What makes the command line theirs."""
        address = self.office.world.client.service_client.config.target_host
        return {"TEMPORAL_ADDRESS": address, "CLOTHO_IDENTITY": self.name}

    async def clotho(self, *arguments: str, **settings: str) -> Answer:
        """Run a command to its end."""
        return await self.office.operator.clotho(*arguments, settings=self.settings | settings)

    async def ok(self, *arguments: str, **settings: str) -> Any:
        """What a command that must succeed prints as JSON."""
        answer = await self.clotho(*arguments, "--json", **settings)
        assert (answer.code, answer.err) == (0, ""), answer
        return answer.data

    async def refused(self, *arguments: str, code: int = 1, **settings: str) -> str:
        """The one sentence with which a command is refused."""
        answer = await self.clotho(*arguments, **settings)
        assert (answer.code, answer.out) == (code, ""), answer
        (sentence,) = answer.err.splitlines()
        return sentence

    @asynccontextmanager
    async def terminal(self, *arguments: str, **settings: str) -> AsyncIterator[Terminal]:
        """Run a command on a terminal."""
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        environment = os.environ | self.office.operator.stack.environment | self.settings | settings
        for name in ("COLUMNS", "LINES", "NO_COLOR", "CI"):
            environment.pop(name, None)
        process = await asyncio.create_subprocess_exec(
            CLOTHO, *arguments, env=environment | {"TERM": "xterm-256color"}, stdin=its, stdout=its, stderr=its,
            # With a terminal of its own, which sends it what ctrl-C means.
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(its)
        terminal = Terminal(ours, process)
        try:
            yield terminal
        finally:
            await terminal.leave()
