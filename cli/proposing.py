"""Proposing a market: checked, stored once, its lifecycle started once. CLI, demo and benchmarks share it."""

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

from db import markets, proposals
from db.pool import Pool
from domain import ids, search_attributes
from domain.base import Model
from domain.canonical import model_sha256
from domain.intake import check_key, check_proposal
from domain.market import WORKFLOW, Issue, MarketRequest, Proposal
from domain.status import MarketStatus
from domain.steps import Role


class Proposed(Model):
    """What became of a proposal; `known` when the same one had been sent before."""

    market_id: UUID
    workflow_id: str
    known: bool


class Refused(Exception):
    """The proposal is refused; every issue names its field. Nothing was written."""

    def __init__(self, issues: list[Issue]) -> None:
        super().__init__("; ".join(f"{issue.field}: {issue.message}" for issue in issues))
        self.issues = issues


async def propose(
    temporal: Client,
    pool: Pool,
    proposal: Proposal,
    *,
    key: str | None = None,
    dispute_window_seconds: int | None = None,
) -> Proposed:
    """Store a proposal and start its market's lifecycle, each once for the same key however often it is sent.

    Args:
        temporal: where the lifecycle starts.
        pool: where the proposal is stored, before the start: a start that fails is made up for by sending it again.
        proposal: well-formed; what the door refuses is refused here.
        key: the idempotency key, of texts and full drafts alike; None takes the hash of the proposal.
        dispute_window_seconds: instead of the configured window.

    Raises:
        Refused: names the fields.
    """
    issues = [] if key is None else check_key(key)
    key = key or model_sha256(proposal)
    market_id = ids.market_id("proposal", key)
    workflow_id = ids.market_workflow_id(market_id)
    # The same key gives the same answer, whatever comes with it now and however long ago its market ended: Temporal
    # forgets lifecycles, and an expiry passes.
    if not issues and await markets.get_if_drafted(pool, market_id) is not None:
        return Proposed(market_id=market_id, workflow_id=workflow_id, known=True)
    issues += check_proposal(proposal, datetime.now(UTC))
    if issues:
        raise Refused(issues)
    request = MarketRequest(
        market_id=market_id,
        origin="manual" if proposal.draft else "proposal",
        dispute_window_seconds=dispute_window_seconds,
    )
    new = await proposals.insert(pool, market_id, key, proposal)
    # Even when it is not new: who sent it first may have died before the start.
    await _start(temporal, request, proposal.text)
    return Proposed(market_id=market_id, workflow_id=workflow_id, known=not new)


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
