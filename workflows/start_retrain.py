"""Starts a retraining when one is due: at its time, or because a drift lasts."""

from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from domain import model, steps
from domain.ids import drifted_workflow_id, retrain_workflow_id
from domain.model import Cause, Drifted, DriftRequest, RetrainRequest, Started, StartRequest
from workflows.story import Story


@workflow.defn(name=model.START_WORKFLOW)
class StartRetrain(Story):
    """What a schedule runs, since a schedule puts the time into the ids of its workflows, and a retraining's has the
    day alone.
    """

    @workflow.init
    def __init__(self, request: StartRequest) -> None:
        super().__init__()
        self._request = request
        self._said = "Looking"

    @workflow.run
    async def run(self, request: StartRequest) -> Started:
        """Start the day's retraining; because of a drift another one, when it lasts."""
        self.show()
        match request.cause:
            case "schedule":
                return await self._start("schedule", "the schedule asks for it", WorkflowIDReusePolicy.REJECT_DUPLICATE)
            case "drifted":
                return await self._start("drift", "a drift lasts", WorkflowIDReusePolicy.ALLOW_DUPLICATE)
            case "drift":
                return await self._watch()

    async def _watch(self) -> Started:
        """Look at the drift, once more after an hour, and have a retraining started once a day."""
        first = await self._drift()
        if first.score <= model.DRIFT_LIMIT:
            return self._ends(False, f"The drift score is {first.score:.2f}, no more than {model.DRIFT_LIMIT:g}.")
        await workflow.sleep(model.SUSTAINED, summary="whether the drift lasts")
        again = await self._drift()
        if again.score <= model.DRIFT_LIMIT or again.version != first.version:
            return self._ends(False, f"The drift did not last: {first.score:.2f}, then {again.score:.2f}.")
        name = self._request.model
        id = drifted_workflow_id(name, workflow.now().date())
        try:
            done: Started = await workflow.execute_child_workflow(
                model.START_WORKFLOW,
                StartRequest(model=name, cause="drifted"),
                id=id,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                result_type=Started,
                static_summary=f"{name}: the drift score was {first.score:.2f} and is {again.score:.2f}",
            )
        except WorkflowAlreadyStartedError:
            return self._ends(False, f"{id} has been started before, and a day has one retraining because of a drift.")
        return self._ends(done.started, done.reason)

    async def _drift(self) -> Drifted:
        return await self.run_step(steps.MEASURE_DRIFT, DriftRequest(model=self._request.model, at=workflow.now()))

    async def _start(self, cause: Cause, reason: str, reuse: WorkflowIDReusePolicy) -> Started:
        """One at a time: whoever comes second finds the first."""
        name = self._request.model
        id = retrain_workflow_id(name, workflow.now().date())
        try:
            await workflow.start_child_workflow(
                model.WORKFLOW,
                RetrainRequest(model=name, cause=cause, by="clotho"),
                id=id,
                id_reuse_policy=reuse,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                static_summary=f"{name}: {reason}"[:120],
            )
        except WorkflowAlreadyStartedError:
            return self._ends(False, f"{id} has been started before.")
        return self._ends(True, f"{id} is started, since {reason}.")

    def _ends(self, started: bool, reason: str) -> Started:
        self._said = reason
        self.show()
        return Started(started=started, reason=reason)

    def show(self) -> None:
        """Current details for the Web UI."""
        workflow.set_current_details(f"{self._request.model}: {self._said}")
