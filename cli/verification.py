"""Gathering what a verification compares: Postgres, the chain, the workflow's own history; `domain.verify` decides."""

from datetime import UTC, datetime
from uuid import UUID

from solders.pubkey import Pubkey
from temporalio.client import WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode

from activities.token2022 import read_record
from activities.transactions import connect
from cli.context import Context
from cli.output import CommandError, Exit
from db import audit, chain_transactions, evidence, markets
from domain import dispute, steps
from domain.bundle import Bundle, BundledEvidence, BundledTransaction
from domain.dispute import DisputeEnd
from domain.market import Canceled, PublishRequest, SettleRequest
from domain.verify import Check, RecordedMarket, RecordedResolution, VerifiedRecord, WorkflowFacts


async def verification_of(context: Context, market_id: UUID) -> tuple[Check, ...]:
    """All checks of one market."""
    return (await bundle_of(context, market_id)).checks()


async def bundle_of(context: Context, market_id: UUID) -> Bundle:
    """Everything that a verification compares, in one piece."""
    market = await markets.get(context.pool, market_id)
    resolution = await evidence.latest_resolution(context.pool, market_id)
    entries = await evidence.of_look(context.pool, market_id, resolution.look) if resolution else []
    landed = await chain_transactions.landed(context.pool, market_id)
    return Bundle(
        market_id=market_id,
        title=market.title,
        ai_version=market.ai_version,
        exported_at=datetime.now(UTC),
        rules=await markets.rules_json(context.pool, market.rules_sha256),
        market=RecordedMarket(status=market.status, rules_sha256=market.rules_sha256, outcome=market.outcome),
        evidence=tuple(
            BundledEvidence(
                source=entry.source,
                url=entry.url,
                sha256=entry.sha256,
                content_type=entry.content_type,
                fetched_at=entry.fetched_at,
                body=entry.body,
            )
            for entry in entries
        ),
        resolution=None
        if resolution is None
        else RecordedResolution(
            rules_sha256=resolution.rules_sha256,
            outcome=resolution.outcome,
            abstention=resolution.abstention,
            evidence_root=resolution.evidence_root,
            results=resolution.results,
            look=resolution.look,
            decided_by=resolution.decided_by,
            reason=resolution.reason,
            dispute_id=resolution.dispute_id,
        ),
        record=await _chain_record(context, market.address),
        workflow=await _workflow_facts(context, market_id),
        transactions=tuple(
            BundledTransaction(purpose=one.purpose, signature=one.signature, slot=one.slot) for one in landed
        ),
        audit=tuple(await audit.entries(context.pool, "market", str(market_id))),
    )


async def _chain_record(context: Context, address: str | None) -> VerifiedRecord | None:
    if address is None:
        return None
    if context.settings.solana_rpc_url is None:
        raise CommandError("SOLANA_RPC_URL is missing: the record on chain cannot be compared without it.", Exit.USAGE)
    async with connect(context.settings.solana_rpc_url) as client:
        record = await read_record(client, Pubkey.from_string(address))
    if record is None:
        return None
    return VerifiedRecord(
        rules_sha256=record.rules_sha256,
        status=record.status,
        outcome=record.outcome,
        evidence_sha256=record.evidence_sha256,
        expiry=record.expiry,
        immutable=record.immutable,
    )


async def _workflow_facts(context: Context, market_id: UUID) -> WorkflowFacts | None:
    """None when the history is no longer kept: Temporal removes it some time after the end."""
    try:
        history = await context.market(market_id).fetch_history()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    return facts_of(history)


def facts_of(history: WorkflowHistory) -> WorkflowFacts:
    """What the lifecycle's history says: the rules published, and outcome and evidence after the last dispute."""
    facts = WorkflowFacts(rules_sha256=None, outcome=None, evidence_root=None)
    canceling: set[int] = set()
    for event in history.events:
        scheduled = event.activity_task_scheduled_event_attributes
        completed = event.activity_task_completed_event_attributes
        child = event.child_workflow_execution_completed_event_attributes
        changed: dict[str, str | None] = {}
        if completed.scheduled_event_id in canceling:
            canceled = Canceled.model_validate_json(completed.result.payloads[0].data)
            changed = {"outcome": "VOID"} if canceled.signature is not None else {}
        elif scheduled.activity_type.name == steps.CANCEL_MARKET.name:
            canceling.add(event.event_id)
        elif scheduled.activity_type.name == steps.PUBLISH_MARKET.name:
            published = PublishRequest.model_validate_json(scheduled.input.payloads[0].data)
            changed = {"rules_sha256": published.rules_sha256}
        elif scheduled.activity_type.name == steps.SETTLE_MARKET.name:
            settled = SettleRequest.model_validate_json(scheduled.input.payloads[0].data)
            changed = {"outcome": settled.outcome.value, "evidence_root": settled.evidence_root}
        elif child.workflow_type.name == dispute.WORKFLOW:
            end = DisputeEnd.model_validate_json(child.result.payloads[0].data)
            if end.status == "overturned":
                changed = {"outcome": end.outcome.value, "evidence_root": end.evidence_root}
        facts = facts.model_copy(update=changed)
    return facts
