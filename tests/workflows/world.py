"""What tests of whole lifecycles share: workers in this process, markets about real series, faults of each part."""

import asyncio
import sysconfig
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID, uuid4

import httpx
import pytest
from solana.rpc.async_api import AsyncClient
from solders.keypair import Keypair
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, WorkflowHandle, WorkflowHistory, WorkflowUpdateFailedError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.runtime import Runtime
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import TimeSkipper, TimeSkippingConfig, WorkflowEnvironment
from temporalio.worker import Interceptor, Worker

from activities.market_chain import ChainRecord
from activities.token2022 import mint_address, read_record, wallet
from activities.transactions import connect as connect_chain
from cli.disputing import submit
from cli.proposing import propose
from db import markets, reviewers
from db.pool import Pool
from db.pool import connect as connect_database
from deploy.local import data, site_control
from deploy.local.proposals import question_proposal
from deploy.local.scripted_llm.faults import Fault as ModelFault
from deploy.local.source_site.control import Embargo, Fault, Misprint, Release
from deploy.local.trading import buy
from domain.base import Model
from domain.dispute import Dispute
from domain.ids import market_workflow_id, review_workflow_id
from domain.market import WORKFLOW as MARKET_WORKFLOW
from domain.market import Accepted, MarketDraft, MarketEnd, MarketState, Proposal
from domain.review import WORKFLOW as REVIEW_WORKFLOW
from domain.review import (
    Claim,
    Claimed,
    DecisionBy,
    ReviewEnd,
    ReviewKind,
    ReviewRequest,
    ReviewState,
    ReviewTaken,
)
from domain.rules import ResolutionRules
from domain.search_attributes import SEARCH_ATTRIBUTES
from domain.status import MarketStatus
from domain.steps import Role
from tests.drafts import draft, fred_rules
from tests.support import eventually
from workers.clients import steps_owners
from workers.registry import WORKFLOWS, activities_of, workflow_runner
from workers.settings import WorkerSettings

FRED = "api.stlouisfed.org"
"""The host of all series that `Question` asks about."""

REVIEWER = "reviewer"
"""May decide reviews in every world."""

S = TypeVar("S", bound=Model)
E = TypeVar("E", bound=Model)
M = TypeVar("M", bound=Model)

_LATER = timedelta(hours=1)
"""Longer than any run: what is withheld comes out when it is published and not by itself."""


@dataclass(frozen=True)
class Question:
    """Whether a series is higher at its last observation than at the one before; the last one is withheld."""

    series: data.Series
    site: site_control.SiteControl

    @property
    def due(self) -> date:
        return self.series.observations[-2].date

    @property
    def resolution(self) -> date:
        return self.series.observations[-1].date

    @property
    def truth(self) -> str:
        return data.truth(self.series, self.due, self.resolution)

    async def withhold(self) -> None:
        """Hide the last observation: a market about what is known already goes to a person."""
        await self.site.embargo(Embargo(id=self.series.key, date=self.resolution, until=datetime.now(UTC) + _LATER))

    async def misprint(self) -> None:
        """Have the last observation be the one before it, less than half or more than twice: the wrong way."""
        before = Decimal(self.series.observations[-2].value)
        wrong = before / 2 if (before > 0) is (self.truth == "YES") else before * 2
        await self.site.misprint(Misprint(id=self.series.key, date=self.resolution, value=str(wrong)))

    async def publish(self) -> None:
        """Let the last observation be seen."""
        await self.site.release(Release(id=self.series.key))

    def rules(self, **changes: Any) -> ResolutionRules:
        return fred_rules(self.series.id, self.due, self.resolution, **changes)

    def draft(self, **changes: Any) -> MarketDraft:
        """A draft without faults; `changes` replace its fields, `rules` among them."""
        return draft(f"{self.series.id} higher on {self.resolution}?", **{"rules": self.rules(), **changes})


@dataclass(frozen=True)
class TextQuestion:
    """A question whose answer stands in words on the page of its result, where it is withheld."""

    question: data.Question
    site: site_control.SiteControl

    @property
    def truth(self) -> str:
        return self.question.truth

    async def misprint(self) -> None:
        """Have the page say the wrong result, until the right one is published."""
        wrong = "No" if self.truth == "YES" else "Yes"
        await self.site.misprint(Misprint(id=self.question.id, value=wrong))

    async def withhold(self) -> None:
        """Have the page say that there is no result yet."""
        await self.site.embargo(Embargo(id=self.question.id, until=datetime.now(UTC) + _LATER))

    async def publish(self) -> None:
        """Have the page say the result."""
        await self.site.release(Release(id=self.question.id))

    def proposal(self, expiry: datetime) -> Proposal:
        """As a person proposes it; the model makes the draft."""
        return question_proposal(self.question, expiry=expiry, proposer="somebody")


def text_question(site: site_control.SiteControl, question_id: str = "metaculus:39771") -> TextQuestion:
    """A question of the data set; the default is one that no person has to decide anything about."""
    return TextQuestion(next(one for one in data.load_questions() if one.id == question_id), site)


@dataclass(frozen=True)
class Step:
    """One execution of a step in a history, by the workflow's clock; `completed` is None when it did not succeed."""

    name: str
    request: str
    """JSON of its input."""
    attempts: int
    scheduled: datetime
    completed: datetime | None


def _steps_of(events: Sequence[HistoryEvent]) -> list[Step]:
    """The steps of a history, in order."""
    attempts = {
        event.activity_task_started_event_attributes.scheduled_event_id: (
            event.activity_task_started_event_attributes.attempt
        )
        for event in events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED
    }
    completed = {
        event.activity_task_completed_event_attributes.scheduled_event_id: _moment(event)
        for event in events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
    }
    return [
        Step(
            name=scheduled.activity_type.name,
            request=scheduled.input.payloads[0].data.decode(),
            attempts=attempts.get(event.event_id, 0),
            scheduled=_moment(event),
            completed=completed.get(event.event_id),
        )
        for event in events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        for scheduled in [event.activity_task_scheduled_event_attributes]
    ]


async def _descendants(client: Client, history: WorkflowHistory) -> list[WorkflowHistory]:
    found = []
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
            started = event.child_workflow_execution_started_event_attributes
            if started.workflow_type.name == MARKET_WORKFLOW:
                continue  # a story of its own
            child = started.workflow_execution
            handle = client.get_workflow_handle(child.workflow_id, run_id=child.run_id)
            # A withdrawn one ends only after whoever asked.
            await handle.result()
            found.append(await handle.fetch_history())
            found += await _descendants(client, found[-1])
    return found


def _moment(event: HistoryEvent) -> datetime:
    return event.event_time.ToDatetime(UTC)


class Running(Generic[S, E]):
    """One workflow, as a person sees and steers it."""

    def __init__(self, world: "World", workflow_id: str, state: type[S], end: type[E]) -> None:
        self._world = world
        self._state = state
        self._handle: WorkflowHandle[Any, E] = world.client.get_workflow_handle(workflow_id, result_type=end)

    async def state(self) -> S:
        state: S = await self._handle.query("state", result_type=self._state)
        return state

    async def until(self, condition: Callable[[S], object], what: str) -> S:
        """Wait until the workflow's state is as told; returns it."""

        async def so() -> bool:
            return bool(condition(await self.state()))

        await eventually(so, what)
        return await self.state()

    async def tell(self, update: str, message: Any, gives: type[M] = Accepted) -> M:  # type: ignore[assignment]
        answer: M = await self._handle.execute_update(update, message, result_type=gives)
        return answer

    async def refuses(self, update: str, message: Any) -> str:
        """Send an update that is to be refused; returns the sentence with which it is."""
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await self.tell(update, message, Model)
        cause = refused.value.cause
        assert isinstance(cause, ApplicationError)
        assert cause.type == "Refused"
        assert cause.message.endswith(".")
        return cause.message

    async def signal(self, name: str, message: Any) -> None:
        await self._handle.signal(name, message)

    async def terminate(self) -> None:
        await self._handle.terminate()

    async def cancel_in_temporal(self) -> None:
        """As the Web UI's own button does, not the workflow's signal."""
        await self._handle.cancel()

    async def skip(self, duration: timedelta) -> None:
        """Move this workflow's clock; returns when all that falls into the time has run, or it waits for a child."""
        skipping = asyncio.create_task(self._skipper().fast_forward(self._handle, duration))
        while not skipping.done():
            if (await self._handle.describe()).raw_description.pending_children:
                skipping.cancel()
            await asyncio.wait([skipping], timeout=0.05)
        if not skipping.cancelled():
            skipping.result()

    async def end(self) -> E:
        """Skip all waiting until the workflow has ended."""
        try:
            await self._skipper().fast_forward(self._handle)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:  # it has ended already
                raise
        return await self._handle.result()

    def _skipper(self) -> TimeSkipper:
        # Children keep clocks of their own.
        return TimeSkipper(self._world.client, config=TimeSkippingConfig(disable_propagation=True))

    async def result(self) -> E:
        """Wait for the workflow's end, in real time."""
        return await self._handle.result()

    async def history(self) -> WorkflowHistory:
        return await self._handle.fetch_history()

    async def histories_of_children(self) -> list[WorkflowHistory]:
        """The histories of the workflows that were started for it, of theirs too, in order."""
        return await _descendants(self._world.client, await self.history())

    async def events(self) -> Sequence[HistoryEvent]:
        return (await self.history()).events

    async def steps(self, name: str | None = None) -> list[Step]:
        """The executions of steps so far, of one step or of all."""
        return [step for step in _steps_of(await self.events()) if name in {None, step.name}]

    async def updates(self) -> list[tuple[str, bool]]:
        """The updates that were taken, by name, and whether each was answered."""
        events = await self.events()
        answered = {event.workflow_execution_update_completed_event_attributes.accepted_event_id for event in events}
        return [
            (
                event.workflow_execution_update_accepted_event_attributes.accepted_request.input.name,
                event.event_id in answered,
            )
            for event in events
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED
        ]

    async def attributes(self) -> dict[str, Any]:
        """The search attributes by name."""
        described = await self._handle.describe()
        return {pair.key.name: pair.value for pair in described.typed_search_attributes}

    async def details(self) -> str:
        """The current details that the Web UI shows."""
        metadata = await self._handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        details: str = metadata.current_details
        return details

    async def is_listed(self, query: str) -> bool:
        """Whether a list filter finds it."""
        found = self._world.client.list_workflows(f"({query}) AND WorkflowId = '{self._handle.id}'")
        return bool([one async for one in found])


class Market(Running[MarketState, MarketEnd]):
    """One lifecycle."""

    def __init__(self, world: "World", market_id: UUID) -> None:
        super().__init__(world, market_workflow_id(market_id), MarketState, MarketEnd)
        self.id = market_id

    async def becomes(self, status: MarketStatus) -> MarketState:
        return await self.until(lambda state: state.status is status, f"status {status}")

    async def parks(self, step: str) -> MarketState:
        return await self.until(lambda state: state.parked and state.parked.step == step, f"parked {step}")

    async def review(self, kind: ReviewKind = ReviewKind.DRAFT) -> "Review":
        """The open review of the draft, or of the resolution, once a person is asked."""
        review = Review(self._world, kind, str(self.id))
        await review.opens()
        return review

    async def children(self, count: int) -> None:
        """Wait until so many workflows were started for the market: reviews, disputes."""

        async def started() -> bool:
            kind = EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED
            return sum(event.event_type == kind for event in await self.events()) == count

        await eventually(started, f"{count} child workflows")

    async def row(self) -> markets.Market:
        return await markets.get(self._world.pool, self.id)

    async def record(self) -> ChainRecord | None:
        """What everybody can read on chain."""
        return await read_record(self._world.chain, mint_address(self._world.publisher, self.id, "yes"))


class Review(Running[ReviewState, ReviewEnd]):
    """One review."""

    def __init__(self, world: "World", kind: ReviewKind, subject: str) -> None:
        super().__init__(world, review_workflow_id(kind, subject), ReviewState, ReviewEnd)

    async def opens(self) -> None:
        """Wait until it takes claims."""

        async def open_() -> bool:
            try:
                state = await self.state()
            except RPCError as error:
                # It is not there, or has not begun.
                if error.status not in {RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION}:
                    raise
                return False
            return state.ready and state.decision is None

        await eventually(open_, f"the review {self._handle.id}")

    async def claim(self, by: str = REVIEWER) -> Claimed:
        return await self.tell("claim", Claim(by=by), Claimed)

    async def decide(self, update: str, made: DecisionBy) -> ReviewTaken:
        """Claim it and decide."""
        claimed = await self.claim(made.by)
        return await self.tell(update, made.model_copy(update={"lease": claimed.lease}), ReviewTaken)

    async def is_refused(self, update: str, made: DecisionBy) -> str:
        """Claim it and decide what is to be refused; returns the sentence."""
        claimed = await self.claim(made.by)
        return await self.refuses(update, made.model_copy(update={"lease": claimed.lease}))


class World:
    """The embedded stack seen from one Temporal server, on which workers of all roles run in this process."""

    def __init__(
        self, client: Client, pool: Pool, chain: AsyncClient, site: site_control.SiteControl, settings: WorkerSettings
    ) -> None:
        self.client, self.pool, self.chain, self.site = client, pool, chain, site
        assert settings.publisher_wallet_secret is not None
        self._wallet = wallet(settings.publisher_wallet_secret, "PUBLISHER_WALLET_SECRET")
        self.publisher = self._wallet.pubkey()
        self._model = settings.openai_base_url.removesuffix("/v1")
        self._chain_url = settings.solana_rpc_url or ""

    async def start(self, asked: MarketDraft | Proposal, *, dispute_window: int = 3_600) -> Market:
        """Propose a market as an operator with a full draft, or as a person with a text."""
        if isinstance(asked, MarketDraft):
            asked = Proposal(text=asked.rules.exact_question[:500], draft=asked, proposer="operator")
        proposed = await propose(self.client, self.pool, asked, key=uuid4().hex, dispute_window_seconds=dispute_window)
        return Market(self, proposed.market_id)

    async def add_reviewer(self, name: str) -> None:
        await reviewers.add(self.pool, name, "tests")

    async def review(self, kind: ReviewKind = ReviewKind.TAX_PROFILE, **fields: Any) -> Review:
        """A review that no market asks for; returns once it takes claims."""
        request = ReviewRequest.model_validate(
            {"kind": kind, "subject": uuid4().hex, "title": "A profile", "why": "it is new", **fields}
        )
        await self.client.start_workflow(
            REVIEW_WORKFLOW,
            request,
            id=review_workflow_id(kind, request.subject),
            task_queue=Role.ORCHESTRATOR.value,
        )
        review = Review(self, kind, request.subject)
        await review.opens()
        return review

    async def holder(self, market: Market, side: Literal["yes", "no"] = "no") -> str:
        """The address of somebody new who holds a token of the market."""
        owner = Keypair().pubkey()
        await buy(self.chain, self._wallet, market.id, owner, side=side)
        return str(owner)

    async def dispute(self, market: Market, disputant: str, reason: str = "The source says otherwise.") -> UUID:
        """Submit a dispute as a person does; returns its id.

        Raises:
            WorkflowUpdateFailedError: it is refused.
        """
        dispute = Dispute(market_id=market.id, disputant=disputant, reason=reason)
        return (await submit(self.client, self.pool, dispute)).dispute_id

    @asynccontextmanager
    async def failing_source(self, **how: Any) -> AsyncIterator[None]:
        """Inside, the host of all series misbehaves as a `Fault` says."""
        await self.site.fault(Fault.model_validate({"host": FRED, **how}))
        try:
            yield
        finally:
            await self.site.release(Release(host=FRED))

    @asynccontextmanager
    async def failing_model(self) -> AsyncIterator[None]:
        """Inside, the model's provider refuses the key."""
        async with httpx.AsyncClient(base_url=self._model, trust_env=False) as provider:
            fault = ModelFault(kind="status", status=401, count=1_000)
            (await provider.post("/_llm/faults", json=fault.model_dump())).raise_for_status()
            try:
                yield
            finally:
                (await provider.delete("/_llm/faults")).raise_for_status()

    @asynccontextmanager
    async def failing_chain(self) -> AsyncIterator[None]:
        """Inside, the chain's RPC answers 503."""
        async with httpx.AsyncClient(base_url=self._chain_url, trust_env=False) as node:

            async def set_faults(**faults: int) -> None:
                body = {"jsonrpc": "2.0", "id": 1, "method": "clotho_setFaults", "params": [faults]}
                (await node.post("/", json=body)).raise_for_status()

            await set_faults(http_status=503, http_requests=10_000)
            try:
                yield
            finally:
                await set_faults()


@asynccontextmanager
async def working(
    client: Client,
    settings: WorkerSettings,
    pool: Pool,
    roles: Iterable[Role],
    interceptors: Sequence[Interceptor] = (),
) -> AsyncIterator[None]:
    """Workers of some roles in this process, for as long as the block runs."""
    async with AsyncExitStack() as resources:
        for role in roles:
            owners = await steps_owners(role, settings, pool, resources)
            worker = Worker(
                client,
                task_queue=role.value,
                workflows=WORKFLOWS[role],
                activities=activities_of(role, owners),
                workflow_runner=workflow_runner(),
                interceptors=interceptors,
            )
            await resources.enter_async_context(worker)
        yield


@asynccontextmanager
async def world_on(client: Client, environment: dict[str, str]) -> AsyncIterator[World]:
    """Workers of all roles on `client`, with the settings of an embedded stack."""
    settings = WorkerSettings.model_validate({name.lower(): value for name, value in environment.items()})
    async with AsyncExitStack() as resources:
        pool = await resources.enter_async_context(await connect_database(environment["DATABASE_URL"]))
        ca_file = Path(environment["SOURCES_CA_FILE"])
        site = await resources.enter_async_context(site_control.connected(environment["SOURCES_CONNECT_TO"], ca_file))
        chain = await resources.enter_async_context(connect_chain(environment["SOLANA_RPC_URL"]))
        await resources.enter_async_context(working(client, settings, pool, Role))
        await reviewers.add(pool, REVIEWER, "tests")
        yield World(client, pool, chain, site, settings)


@asynccontextmanager
async def world_in_skipped_time(environment: dict[str, str], runtime: Runtime | None = None) -> AsyncIterator[World]:
    """The same on a Temporal server of its own, where each market has a clock that `skip` and `end` move.

    Steps run in real time, while the market's clock goes as fast as the real one; chain and source site know of no
    skipped time at all.
    """
    async with skipping_server(runtime) as client, world_on(client, environment) as world:
        yield world


@asynccontextmanager
async def skipping_server(runtime: Runtime | None = None) -> AsyncIterator[Client]:
    """A client of a Temporal server of its own, where each workflow has a clock that can be moved."""
    server = await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(Path(sysconfig.get_path("scripts"), "temporal")),
        dev_server_extra_args=[
            "--dynamic-config-value", "frontend.WorkflowTimeSkippingEnabled=true",
            # By default timers may be one second late, and that second cannot be skipped.
            "--dynamic-config-value", 'history.timerProcessorMaxTimeShift="10ms"',
        ],
        dev_server_log_level="error",
        search_attributes=SEARCH_ATTRIBUTES,
        data_converter=pydantic_data_converter,
        runtime=runtime,
    )  # fmt: skip
    async with server:
        yield server.client
