"""Starting a retraining by hand or because of feedback. Commands share it."""

from datetime import UTC, datetime
from typing import Any

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from cli.output import CommandError, Exit
from domain import model
from domain.ids import retrain_workflow_id
from domain.model import RetrainEnd, RetrainRequest
from domain.steps import Role


async def start(temporal: Client, request: RetrainRequest) -> WorkflowHandle[Any, RetrainEnd]:
    """Start the day's retraining for an operator, or join the one that runs.

    After one that registered nothing, or failed, another may run on the same day.

    Raises:
        CommandError: the day's retraining has registered a version, or runs with another minimum.
    """
    id = retrain_workflow_id(request.model, datetime.now(UTC).date())
    handle = temporal.get_workflow_handle(id, result_type=RetrainEnd)
    try:
        status = (await handle.describe()).status
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        status = None
    if status is WorkflowExecutionStatus.RUNNING and request.minimum is not None:
        why = f"--min-auc: {request.model} is being retrained, with a minimum of its own: wait for its end."
        raise CommandError(why, Exit.FAILED, field="--min-auc")
    if status is WorkflowExecutionStatus.COMPLETED and (end := await handle.result()).version is not None:
        raise CommandError(
            f"MODEL: {request.model} was retrained today, and version {end.version} registered: see it with `clotho"
            f" model card {end.version}`, or try again tomorrow.",
            Exit.FAILED,
            field="MODEL",
        )
    return await _start(temporal, request, id, WorkflowIDReusePolicy.ALLOW_DUPLICATE)


async def start_once(temporal: Client, request: RetrainRequest) -> bool:
    """Start the day's retraining unless it was started before, however it ended; whether it was started now."""
    id = retrain_workflow_id(request.model, datetime.now(UTC).date())
    try:
        await _start(temporal, request, id, WorkflowIDReusePolicy.REJECT_DUPLICATE, WorkflowIDConflictPolicy.FAIL)
    except WorkflowAlreadyStartedError:
        return False
    return True


async def _start(
    temporal: Client,
    request: RetrainRequest,
    id: str,
    reuse: WorkflowIDReusePolicy,
    conflict: WorkflowIDConflictPolicy = WorkflowIDConflictPolicy.USE_EXISTING,
) -> WorkflowHandle[Any, RetrainEnd]:
    return await temporal.start_workflow(
        model.WORKFLOW,
        request,
        id=id,
        task_queue=Role.ORCHESTRATOR.value,
        result_type=RetrainEnd,
        id_reuse_policy=reuse,
        id_conflict_policy=conflict,
        static_summary=f"{request.model}, {request.cause} of {request.by}"[:120],
    )
