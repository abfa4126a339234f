"""Disputing an outcome: checked, stored, and told to the market, which admits it or not. CLI and API share it."""

from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.service import RPCError, RPCStatusCode

from cli.context import ANSWER
from db import disputes, markets
from db.pool import Pool
from domain.dispute import Dispute, DisputeAdmitted, DisputeSubmission, check_dispute
from domain.ids import dispute_id, market_workflow_id


class Refused(Exception):
    """The dispute is malformed; the message is the clause that names the field. Nothing was written."""


async def submit(temporal: Client, pool: Pool, dispute: Dispute) -> DisputeAdmitted:
    """Submit a dispute; the same words by the same address about the same market are one dispute.

    Its text is stored before the market is told, since no text enters a history; what the market refuses before it
    looks at the disputant's tokens is forgotten again.

    Args:
        temporal: where the market lives.
        pool: where the dispute is stored.
        dispute: as somebody wrote it.

    Raises:
        Refused: it is malformed.
        ApplicationError: UnknownMarket.
        WorkflowUpdateFailedError: the market refuses it; the cause says why.
        RPCError: the market is over (NOT_FOUND), or nobody answers. In the latter case it is stored, and the market may
            still come to admit it.
    """
    clause = check_dispute(dispute)
    if clause is not None:
        raise Refused(clause)
    await markets.get(pool, dispute.market_id)
    id = dispute_id(dispute.market_id, dispute.disputant, dispute.reason, dispute.evidence_urls)
    await disputes.submit(pool, id, dispute)
    market = temporal.get_workflow_handle(market_workflow_id(dispute.market_id))
    submission = DisputeSubmission(dispute_id=id)
    try:
        admitted: DisputeAdmitted = await market.execute_update(
            "dispute", submission, result_type=DisputeAdmitted, rpc_timeout=ANSWER
        )
    except WorkflowUpdateFailedError:
        await disputes.withdraw_submission(pool, id)
        raise
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            await disputes.withdraw_submission(pool, id)
        raise
    return admitted
