"""Proposing a market: checked, stored once, its lifecycle started once. CLI, demo and benchmarks share it."""

from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from temporalio.client import Client
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError

from db import proposals
from db.pool import Pool
from domain import ids, search_attributes
from domain.base import Model
from domain.canonical import model_sha256
from domain.intake import check_proposal
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
        key: the idempotency key; None takes the hash of the proposal.
        dispute_window_seconds: instead of the configured window.

    Raises:
        Refused: names the fields.
    """
    issues = check_proposal(proposal, datetime.now(UTC))
    if issues:
        raise Refused(issues)
    origin: Literal["manual", "proposal"] = "manual" if proposal.draft else "proposal"
    key = key or model_sha256(proposal)
    market_id = ids.market_id(origin, key)
    new = await proposals.insert(pool, market_id, key, proposal)
    known = not await _start(temporal, proposal, origin, market_id, dispute_window_seconds)
    return Proposed(market_id=market_id, workflow_id=ids.market_workflow_id(market_id), known=known or not new)


async def _start(
    temporal: Client, proposal: Proposal, origin: ids.Origin, market_id: UUID, dispute_window_seconds: int | None
) -> bool:
    """Start the lifecycle; False when it was started before, whether it runs or has ended."""
    try:
        await temporal.start_workflow(
            WORKFLOW,
            MarketRequest(market_id=market_id, origin=origin, dispute_window_seconds=dispute_window_seconds),
            id=ids.market_workflow_id(market_id),
            task_queue=Role.ORCHESTRATOR.value,
            # The default would start a second run after the first has ended.
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            search_attributes=TypedSearchAttributes(
                [SearchAttributePair(search_attributes.MARKET_STATUS, MarketStatus.DRAFT.value)]
            ),
            static_summary=proposal.text[:120],
        )
    except WorkflowAlreadyStartedError:
        return False
    return True
