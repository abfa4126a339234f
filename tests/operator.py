"""What an operator has at hand while the stack runs: the command line, real questions, and the faults of the world."""

import asyncio
import base64
import json
import os
import sysconfig
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import httpx
import pytest
from spl.token.constants import TOKEN_2022_PROGRAM_ID
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError, RPCStatusCode

from bench.billing import Cost, cost_of
from cli.proposing import propose
from db import reviewers
from db.pool import Pool, connect
from deploy.local import site_control
from deploy.local.data import Series, load_questions, load_series, truth
from deploy.local.proposals import question_proposal, series_proposal
from deploy.local.source_site.control import Embargo
from domain.ids import market_workflow_id, review_workflow_id
from domain.market import MarketEnd, MarketState, Proposal
from domain.review import ReviewKind, ReviewState
from domain.rules import NotYetPublished
from tests.commands import Commands, commands
from tests.conftest import EmbeddedStack
from tests.drafts import draft, fred_rules
from tests.replay.histories import fingerprint
from tests.support import eventually

CLOTHO = Path(sysconfig.get_path("scripts"), "clotho")

REVIEWER = "reviewer"
"""Who acts at the command line, and may decide reviews."""

LEAD = timedelta(seconds=25)
"""From proposal to expiry: in this time a very busy machine publishes some markets."""


@dataclass(frozen=True)
class Answer:
    """How one command ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """What it printed with --json."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Question:
    """A real question, which its source answers from the proposal's expiry on, and the answer."""

    proposal: Proposal
    truth: Literal["YES", "NO"]

    def arguments(self) -> list[str]:
        """The same as arguments of `clotho market propose`."""
        given = self.proposal
        assert given.expiry is not None
        return [
            given.text, "--background", given.background, "--criteria", given.criteria,
            "--expiry", given.expiry.isoformat(),
        ]  # fmt: skip


class Operator:
    """Acts on the stack from outside, as people do; of our own code it uses `propose` and clients alone."""

    def __init__(
        self,
        stack: EmbeddedStack,
        temporal: Client,
        pool: Pool,
        site: site_control.SiteControl,
        node: httpx.AsyncClient,
        llm: httpx.AsyncClient,
        commands: Commands,
    ) -> None:
        self.stack, self.temporal, self.pool, self.site = stack, temporal, pool, site
        self._node, self._llm, self._commands = node, llm, commands
        self._unused = {
            source: iter([s for s in load_series() if s.source == source and len(s.observations) > 1])
            for source in ("fred", "dbnomics", "yfinance", "wikipedia")
        }

    # The command line.

    async def clotho(self, *arguments: str, stdin: bytes = b"", settings: Mapping[str, str] | None = None) -> Answer:
        """Run `clotho` to its end, with `settings` over the stack's; an empty value takes one away."""
        environment = os.environ | self.stack.environment | {"CLOTHO_IDENTITY": REVIEWER} | dict(settings or {})
        environment = {name: value for name, value in environment.items() if value}
        # Where no .clotho lies, so that these settings are all.
        status, out, err = await self._commands.run(arguments, environment, self.stack.folder / "logs", stdin)
        return Answer(status, out.decode(), err.decode())

    # Questions.

    async def question(self, source: str, expiry: datetime) -> Question:
        """A question about the next series of a source that no test has asked about yet.

        Args:
            source: fred, dbnomics, yfinance or wikipedia.
            expiry: when trading ends and the value is published; of Wikipedia the same for all, as its series share
                articles, which are published whole.
        """
        series, due, resolution = await self._next_series(source, expiry)
        proposal = series_proposal(series, due, resolution, expiry=expiry, proposer="test")
        return Question(proposal, truth(series, due, resolution))

    async def drafted_question(
        self, expiry: datetime, *, published: datetime | None = None, confidence: float = 0.95
    ) -> Question:
        """The same of FRED with a full draft, as an operator writes it; it looks at its source every second.

        Args:
            expiry: when trading ends.
            published: when the value is published, if not at expiry.
            confidence: of the draft; below 0.6 a reviewer is asked.
        """
        series, due, resolution = await self._next_series("fred", published or expiry)
        waiting = NotYetPublished(settle_after=0, check_every=1, give_up_after=86_400, then="void")
        rules = fred_rules(series.id, due, resolution, expiry=expiry, not_yet_published=waiting)
        made = draft(f"{series.id} higher on {resolution}?", rules=rules, confidence=confidence)
        proposal = Proposal(text=rules.exact_question, draft=made, expiry=expiry, proposer="test")
        return Question(proposal, truth(series, due, resolution))

    async def _next_series(self, source: str, published: datetime) -> tuple[Series, date, date]:
        """A series with the two days to ask about; the second day's value is published at the moment given."""
        series = next(self._unused[source])
        due, resolution = series.observations[-2].date, series.observations[-1].date
        await self.site.embargo(Embargo(id=series.key, date=resolution, until=published))
        return series, due, resolution

    async def text_question(self, id: str, expiry: datetime) -> Question:
        """A question that no series answers: its results page has to be judged."""
        question = next(one for one in load_questions() if one.id == id)
        await self.site.embargo(Embargo(id=id, until=expiry))
        return Question(question_proposal(question, expiry=expiry, proposer="test"), question.truth)

    async def propose(self, question: Question | Proposal, *, key: str | None = None, window: int = 1) -> UUID:
        """Propose in this process; returns the market's id."""
        proposal = question.proposal if isinstance(question, Question) else question
        proposed = await propose(self.temporal, self.pool, proposal, key=key, dispute_window_seconds=window)
        return proposed.market_id

    # Lifecycles.

    def lifecycle(self, market_id: UUID) -> WorkflowHandle[Any, MarketEnd]:
        """The handle of a market's workflow."""
        return self.temporal.get_workflow_handle(market_workflow_id(market_id), result_type=MarketEnd)

    async def state(self, market_id: UUID) -> MarketState:
        """What the lifecycle says of itself; needs a worker."""
        state: MarketState = await self.lifecycle(market_id).query("state", result_type=MarketState)
        return state

    async def status(self, market_id: UUID) -> str | None:
        """The status in Postgres; None before there is a draft."""
        status: str | None = await self.pool.fetchval("SELECT status FROM markets WHERE id = $1", market_id)
        return status

    async def becomes(self, market_id: UUID, status: str) -> None:
        """Wait until Postgres says that the market has the status."""

        async def reached() -> bool:
            return await self.status(market_id) == status

        await eventually(reached, f"status {status} of market {market_id}")

    async def shows(self, market_id: UUID, condition: Callable[[MarketState], bool], what: str) -> MarketState:
        """Wait until the lifecycle's state is as wanted; returns it. Needs a worker."""
        states: list[MarketState] = []

        async def reached() -> bool:
            states.append(await self.state(market_id))
            return condition(states[-1])

        await eventually(reached, f"market {market_id} {what}")
        return states[-1]

    async def under_review(self, market_id: UUID) -> None:
        """Wait until a reviewer is asked about the market's draft. Needs a worker."""

        async def asked() -> bool:
            review = self.temporal.get_workflow_handle(review_workflow_id(ReviewKind.DRAFT, str(market_id)))
            try:
                state: ReviewState = await review.query("state", result_type=ReviewState)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                return False
            return state.ready and state.decision is None

        await eventually(asked, f"the review of market {market_id}")

    async def ends(self, market_ids: Iterable[UUID], seconds: float = 90) -> list[MarketEnd]:
        """How the lifecycles ended, once all have; fails with what each of the others did last."""
        handles = [self.lifecycle(market_id) for market_id in market_ids]
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.gather(*(handle.result() for handle in handles))
        except TimeoutError:
            pytest.fail("\n".join([await self._standing(handle) for handle in handles]))

    async def _standing(self, handle: WorkflowHandle[Any, MarketEnd]) -> str:
        described = await handle.describe()
        pending = [
            f"{one.activity_type.name} attempt {one.attempt} {one.last_failure.message}"
            for one in described.raw_description.pending_activities
        ]
        events = (await handle.fetch_history()).events
        broken = [event.workflow_task_failed_event_attributes.failure.message for event in events]
        told = "; ".join(fingerprint(events).splitlines()[-8:])
        waits, failed = ", ".join(pending) or "nothing", ", ".join(filter(None, broken)) or "none"
        return f"{handle.id}: {told}; pending steps: {waits}; broken workflow tasks: {failed}"

    async def cancel(self, *market_ids: UUID) -> list[MarketEnd]:
        """Cancel what is not over, again while a busy worker is late with its answer; returns how the markets ended."""
        for market_id in market_ids:

            async def taken(market_id: UUID = market_id) -> bool:
                if (await self.lifecycle(market_id).describe()).status is not WorkflowExecutionStatus.RUNNING:
                    return True
                return (await self.clotho("market", "cancel", str(market_id), "--reason", "no longer needed")).code == 0

            await eventually(taken, f"the cancellation of {market_id}")
        return await self.ends(market_ids)

    async def cost(self, market_id: UUID) -> Cost:
        """Actions and events of a lifecycle."""
        return cost_of((await self.lifecycle(market_id).fetch_history()).events)

    async def runs(self, market_id: UUID) -> int:
        """How many runs Temporal knows of a market's workflow."""
        return (await self.temporal.count_workflows(f"WorkflowId = '{market_workflow_id(market_id)}'")).count

    # The chain, asked as anyone would.

    async def rpc(self, method: str, *parameters: Any) -> Any:
        """The result of a call of the Solana node."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        answer = (await self._node.post("/", json=body)).raise_for_status().json()
        assert "error" not in answer, answer
        return answer["result"]

    async def records(self, market_id: UUID) -> list[str]:
        """Addresses of all accounts of the token program that carry the market's id: its records on chain."""
        encoding = {"encoding": "base64", "commitment": "confirmed"}
        accounts = await self.rpc("getProgramAccounts", str(TOKEN_2022_PROGRAM_ID), encoding)
        wanted = str(market_id).encode()
        return [one["pubkey"] for one in accounts if wanted in base64_bytes(one["account"]["data"])]

    async def written(self, address: str) -> list[str]:
        """Signatures of the transactions that changed a record, oldest first."""
        found = await self.rpc("getSignaturesForAddress", address, {"commitment": "confirmed"})
        return [one["signature"] for one in reversed(found) if one["err"] is None]

    async def purposes(self, market_id: UUID) -> list[tuple[str, str]]:
        """Purpose and state of every transaction that was ever signed for a market."""
        rows = await self.pool.fetch(
            "SELECT purpose, state FROM chain_transactions WHERE market_id = $1 ORDER BY id", market_id
        )
        return [(row["purpose"], row["state"]) for row in rows]

    # Faults; whoever asks for one takes it back.

    async def node_faults(self, **faults: Any) -> None:
        """Make the Solana node misbehave; without an argument it behaves again."""
        await self.rpc("clotho_setFaults", faults)

    async def llm_fault(self, kind: str, **fields: Any) -> None:
        """Have the next answers of the model fail."""
        (await self._llm.post("/_llm/faults", json={"kind": kind, **fields})).raise_for_status()

    async def llm_faults_left(self) -> int:
        """How many answers are still to fail."""
        faults = (await self._llm.get("/_llm/faults")).raise_for_status().json()["faults"]
        return sum(fault["count"] for fault in faults)

    async def clear_llm_faults(self) -> None:
        """Have none fail any more."""
        (await self._llm.delete("/_llm/faults")).raise_for_status()


def base64_bytes(data: list[str]) -> bytes:
    """The bytes of an account as an RPC node writes them."""
    return base64.b64decode(data[0])


def soon(lead: timedelta = LEAD) -> datetime:
    """An expiry so far from now."""
    return (datetime.now(UTC) + lead + timedelta(seconds=1)).replace(microsecond=0)


@asynccontextmanager
async def at_work(stack: EmbeddedStack) -> AsyncIterator[Operator]:
    """An operator of the stack."""
    settings = stack.environment
    async with AsyncExitStack() as open_until_the_end:
        enter = open_until_the_end.enter_async_context
        pool = await enter(await connect(settings["DATABASE_URL"]))
        await reviewers.add(pool, REVIEWER, "tests")
        # One person proposes here what many do elsewhere.
        await pool.execute(
            "UPDATE ai_config SET value = jsonb_set(value, '{propose}', '{\"minute\": 1000}') WHERE key = 'rate_limits'"
        )
        yield Operator(
            stack,
            await Client.connect(settings["TEMPORAL_ADDRESS"], data_converter=pydantic_data_converter),
            pool,
            await enter(site_control.connected(settings["SOURCES_CONNECT_TO"], Path(settings["SOURCES_CA_FILE"]))),
            await enter(httpx.AsyncClient(base_url=settings["SOLANA_RPC_URL"], trust_env=False, timeout=30)),
            await enter(httpx.AsyncClient(base_url=settings["OPENAI_BASE_URL"].removesuffix("/v1"), trust_env=False)),
            await enter(commands()),
        )
