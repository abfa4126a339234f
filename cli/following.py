"""Starting and ending the follow-ups of leads. Whoever scores leads or records outcomes calls these."""

from collections.abc import Iterable

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from db import flags, follow_ups
from db.pool import Pool
from domain.flags import Setting
from domain.follow_up import DELAYS, THRESHOLD, WORKFLOW, FollowUpRequest, OutcomeTold
from domain.ids import follow_up_workflow_id
from domain.leads import Outcome
from domain.steps import Role


async def consider(temporal: Client, pool: Pool, lead_id: str, probability: float) -> bool:
    """Follow a lead up when it was scored high enough; the flags that run may say what is enough, and when.

    Args:
        temporal: where the workflow runs.
        pool: where flags are.
        lead_id: of a stored lead.
        probability: what the active model says.

    Returns:
        Whether it was started now; False as well when it was started before, ever.
    """
    bucket = await flags.bucket_for(pool, Setting.PREDICTION_THRESHOLD, lead_id)
    if probability < (THRESHOLD if bucket is None else float(bucket.value)):
        return False
    return await begin(temporal, pool, lead_id)


async def begin(temporal: Client, pool: Pool, lead_id: str) -> bool:
    """Follow a stored lead up whatever its score; False when that was begun before."""
    bucket = await flags.bucket_for(pool, Setting.FOLLOW_UP_TIMING, lead_id)
    delays = DELAYS if bucket is None else tuple(bucket.value)
    try:
        await temporal.start_workflow(
            WORKFLOW,
            FollowUpRequest(lead_id=lead_id, delays=delays),
            id=follow_up_workflow_id(lead_id),
            task_queue=Role.ORCHESTRATOR.value,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            static_summary=f"Lead {lead_id}"[:200],
        )
    except WorkflowAlreadyStartedError:
        return False
    return True


async def outcomes_recorded(temporal: Client, pool: Pool, recorded: Iterable[tuple[str, Outcome]]) -> None:
    """Tell the follow-ups of leads that these have an outcome, once the outcomes are stored; promote what has won.

    A message looks for an outcome before it goes out as well, so that nothing is sent though nobody could be told.
    """
    for lead_id, outcome in recorded:
        await follow_ups.stop(pool, lead_id, f"The lead is {outcome}.")
        try:
            handle = temporal.get_workflow_handle(follow_up_workflow_id(lead_id))
            await handle.signal("outcome", OutcomeTold(outcome=outcome))
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:  # nobody follows it up, or no longer
                raise
    await flags.promote_winners(pool)
