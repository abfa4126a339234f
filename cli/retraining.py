"""Starting a retraining by hand or because of feedback. Commands share it."""

from datetime import UTC, datetime
from typing import Any

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from cli.output import CommandError, Exit
from domain import model
from domain.gate import SLICE_FLOOR
from domain.ids import retrain_workflow_id
from domain.model import QUALITY, ModelName, RetrainEnd, RetrainRequest
from domain.steps import Role


async def start(temporal: Client, request: RetrainRequest) -> WorkflowHandle[Any, RetrainEnd]:
    """Start a retraining for an operator, however often there was one today, or join the one that runs.

    Raises:
        CommandError: the minimum proves nothing, or one runs with another minimum.
    """
    least = SLICE_FLOOR[QUALITY[request.model]]
    if request.minimum is not None and request.minimum < least:
        why = f"--min-auc: below {least:g} a model of shuffled labels may pass by luck: name {least:g} or more."
        raise CommandError(why, field="--min-auc")
    handle = _of_today(temporal, request.model)
    if request.minimum is not None and await _status(handle) is WorkflowExecutionStatus.RUNNING:
        why = f"--min-auc: {request.model} is being retrained, with a minimum of its own: wait for its end."
        raise CommandError(why, Exit.FAILED, field="--min-auc")
    return await _start(temporal, request, handle.id, WorkflowIDConflictPolicy.USE_EXISTING)


async def start_for_feedback(temporal: Client, request: RetrainRequest) -> bool:
    """Start a retraining, unless one runs, or today's last one registered nothing: with the same feedback and a little
    more the next would not either. Whether it was started.
    """
    handle = _of_today(temporal, request.model)
    status = await _status(handle)
    if status is not None and (
        status is not WorkflowExecutionStatus.COMPLETED or (await handle.result()).version is None
    ):
        return False
    try:
        await _start(temporal, request, handle.id, WorkflowIDConflictPolicy.FAIL)
    except WorkflowAlreadyStartedError:
        return False
    return True


def _of_today(temporal: Client, name: ModelName) -> WorkflowHandle[Any, RetrainEnd]:
    id = retrain_workflow_id(name, datetime.now(UTC).date())
    return temporal.get_workflow_handle(id, result_type=RetrainEnd)


async def _status(handle: WorkflowHandle[Any, RetrainEnd]) -> WorkflowExecutionStatus | None:
    """Of the last retraining of this id; None: there was none."""
    try:
        return (await handle.describe()).status
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return None


async def _start(
    temporal: Client, request: RetrainRequest, id: str, conflict: WorkflowIDConflictPolicy
) -> WorkflowHandle[Any, RetrainEnd]:
    return await temporal.start_workflow(
        model.WORKFLOW,
        request,
        id=id,
        task_queue=Role.ORCHESTRATOR.value,
        result_type=RetrainEnd,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        id_conflict_policy=conflict,
        static_summary=f"{request.model}, {request.cause} of {request.by}"[:120],
    )
