"""Proposing a market: checked, counted, stored once, its lifecycle started once. CLI, demo and benchmarks share it."""

import asyncio
import contextlib
from datetime import UTC, datetime
from uuid import UUID

from temporalio.client import Client
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError

from db import ai_config, audit, proposals, rate_limits
from db.pool import Pool
from db.rate_limits import LimitReached
from domain import ids, search_attributes
from domain.base import Model
from domain.canonical import model_sha256
from domain.intake import check_key, check_proposal
from domain.market import WORKFLOW, Issue, MarketRequest, Proposal
from domain.status import MarketStatus, ProposalStatus
from domain.steps import Role

POLL = 0.2
"""Seconds between two looks at a proposal that somebody waits for."""

_IN_WORK = (ProposalStatus.PENDING, ProposalStatus.PROCESSING)


class Proposed(Model):
    """What became of a proposal; `known` when the same one had been sent before."""

    market_id: UUID
    workflow_id: str
    known: bool
    status: ProposalStatus = ProposalStatus.PENDING
    matched: UUID | None = None
    """The open market that asks the same."""
    reason: str = ""
    """Why it was matched or rejected."""


class Refused(Exception):
    """The proposal is refused; every issue names its field. Nothing was written."""

    def __init__(self, issues: list[Issue]) -> None:
        super().__init__("; ".join(f"{issue.field}: {issue.message}" for issue in issues))
        self.issues = issues


class TooOften(Exception):
    """Whoever proposes has used up a limit. Nothing was written."""

    def __init__(self, subject: str, reached: LimitReached) -> None:
        seconds = max(1, round((reached.again - reached.now).total_seconds()))
        super().__init__(
            f"{subject} has sent {reached.limit} proposals within a {reached.period}, which is the limit: try again in"
            f" {seconds} s, at {reached.again:%Y-%m-%d %H:%M:%S} UTC."
        )
        self.again = reached.again


async def propose(
    temporal: Client,
    pool: Pool,
    proposal: Proposal,
    *,
    key: str | None = None,
    dispute_window_seconds: int | None = None,
    subject: str | None = None,
) -> Proposed:
    """Store a proposal and start its market's lifecycle, each once for the same key however often it is sent.

    Args:
        temporal: where the lifecycle starts.
        pool: where the proposal is stored, before the start: a start that fails is made up for by sending it again.
        proposal: well-formed; what the door refuses is refused here.
        key: the idempotency key, of texts and full drafts alike; None takes the hash of the proposal.
        dispute_window_seconds: instead of the configured window.
        subject: who is held to the limits of ai_config: a user, or an IP address where there is none. None: nobody,
            as for the demo and benchmarks, which send many.

    Raises:
        Refused: names the fields.
        TooOften: says when to try again; what was sent before under the same key is answered all the same.
    """
    issues = [] if key is None else check_key(key)
    key = key or model_sha256(proposal)
    market_id = ids.market_id("proposal", key)
    workflow_id = ids.market_workflow_id(market_id)
    # The same key gives the same answer, whatever comes with it now and however long ago its market ended: Temporal
    # forgets lifecycles, and an expiry passes.
    stored = None if issues else await proposals.find(pool, market_id)
    if stored is None:
        issues += check_proposal(proposal, datetime.now(UTC))
        if issues:
            raise Refused(issues)
        new = await _store(pool, market_id, key, proposal, subject)
    if stored is None or stored.status in _IN_WORK:
        # Even when it is not new: who sent it first may have died before the start.
        first = proposal if stored is None else stored.proposal
        request = MarketRequest(
            market_id=market_id,
            origin="manual" if first.draft else "proposal",
            dispute_window_seconds=dispute_window_seconds,
        )
        await _start(temporal, request, first.text)
    return Proposed(market_id=market_id, workflow_id=workflow_id, known=stored is not None or not new)


async def wait(pool: Pool, proposed: Proposed, seconds: float) -> Proposed:
    """What became of a proposal, once nobody works on its draft any more, or after so many seconds."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    while True:
        stored = await proposals.find(pool, proposed.market_id)
        assert stored is not None, "propose has stored it"
        if stored.status not in _IN_WORK or loop.time() >= ends:
            return proposed.model_copy(
                update={"status": stored.status, "matched": stored.matched, "reason": stored.reason or ""}
            )
        await asyncio.sleep(min(POLL, max(0.0, ends - loop.time())))


async def _store(pool: Pool, market_id: UUID, key: str, proposal: Proposal, subject: str | None) -> bool:
    """Store a new proposal and count it, both or neither; False when it is stored already, which does not count."""
    async with pool.acquire() as connection, connection.transaction():
        if not await proposals.insert(connection, market_id, key, proposal):
            return False
        if subject is not None:
            limits = (await ai_config.get(connection, "rate_limits"))["propose"]
            try:
                await rate_limits.use(connection, "propose", subject, limits)
            except LimitReached as reached:
                raise TooOften(subject, reached) from None
        details = {"origin": "manual" if proposal.draft else "proposal"}
        await audit.append(connection, "proposal_submitted", "proposal", str(market_id), proposal.proposer, details)
    return True


async def _start(temporal: Client, request: MarketRequest, text: str) -> None:
    """Start the lifecycle, unless it was started before."""
    with contextlib.suppress(WorkflowAlreadyStartedError):
        await temporal.start_workflow(
            WORKFLOW,
            request,
            id=ids.market_workflow_id(request.market_id),
            task_queue=Role.ORCHESTRATOR.value,
            # The default would start a second run after the first has ended.
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            search_attributes=TypedSearchAttributes(
                [SearchAttributePair(search_attributes.MARKET_STATUS, MarketStatus.DRAFT.value)]
            ),
            static_summary=text[:120],
        )
