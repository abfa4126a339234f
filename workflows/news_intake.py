"""News becomes markets: feeds read, items decided by rules or the model, each market started once."""

from datetime import datetime

from temporalio import workflow
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import ActivityError, ApplicationError, WorkflowAlreadyStartedError, is_cancelled_exception

from domain import market, news, search_attributes, steps
from domain.ids import market_workflow_id
from domain.market import MarketRequest
from domain.news import (
    Candidate,
    ExtractRequest,
    HandOverRequest,
    IntakeEnd,
    IntakeRequest,
    Polled,
    PollRequest,
)
from domain.status import MarketStatus
from workflows.story import Story

ROUNDS = 100
"""Goes at what waits for the model, and pages of markets, in one intake; what is left the next one does."""


@workflow.defn(name=news.WORKFLOW)
class NewsIntake(Story):
    """Poll, decide, start. Nothing is lost when it fails: what is left in Postgres the next intake takes up."""

    @workflow.init
    def __init__(self, request: IntakeRequest) -> None:
        super().__init__()
        self._stage = "Polling"

    @workflow.run
    async def run(self, request: IntakeRequest) -> IntakeEnd:
        """One intake: an idle one is a start and a single step."""
        at = workflow.now()
        polled = Polled()
        if request.poll:
            polled = await self.run_step(steps.POLL_FEEDS, PollRequest(feed_id=request.feed_id, at=at))
        decided, left = 0, ""
        if polled.waiting or not request.poll:
            decided, left = await self._extract(at)
        started = 0
        if polled.candidates or decided or not request.poll:
            started = await self._start_markets()
        return IntakeEnd(polled=polled, decided=decided, started=started, left=left)

    async def _extract(self, at: datetime) -> tuple[int, str]:
        """How many items the model decided, and why others are left; what was found is started all the same."""
        self._stage = "Asking the model"
        self.show()
        decided = 0
        for _ in range(ROUNDS):
            try:
                extracted = await self.run_step(steps.EXTRACT_NEWS, ExtractRequest(at=at))
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                return decided, error.cause.message if isinstance(error.cause, ApplicationError) else str(error.cause)
            decided += extracted.decided
            if not extracted.left or not extracted.decided:
                break
        return decided, ""

    async def _start_markets(self) -> int:
        self._stage = "Starting markets"
        self.show()
        started: list[Candidate] = []
        total = 0
        for _ in range(ROUNDS):
            request = HandOverRequest(started=tuple(candidate.market_id for candidate in started))
            started = list((await self.run_step(steps.HAND_OVER_CANDIDATES, request)).candidates)
            if not started:
                break
            for candidate in started:
                total += await self._start(candidate)
        return total

    async def _start(self, candidate: Candidate) -> bool:
        """Start a market's lifecycle, which lives on after this intake; False when it was started before."""
        try:
            await workflow.start_child_workflow(
                market.WORKFLOW,
                MarketRequest(market_id=candidate.market_id, origin="news"),
                id=market_workflow_id(candidate.market_id),
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                search_attributes=TypedSearchAttributes(
                    [SearchAttributePair(search_attributes.MARKET_STATUS, MarketStatus.DRAFT.value)]
                ),
                static_summary=candidate.question[:120],
            )
        except WorkflowAlreadyStartedError:
            return False
        return True

    def show(self) -> None:
        """Current details for the Web UI."""
        workflow.set_current_details(self._stage)
