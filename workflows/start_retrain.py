"""Starts a retraining when one is due: at its time, or because a drift lasts."""

from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from domain import model, steps
from domain.ids import retrain_workflow_id
from domain.model import Drifted, DriftRequest, RetrainRequest, Started, StartRequest
from workflows.story import Story


@workflow.defn(name=model.START_WORKFLOW)
class StartRetrain(Story):
    """What a schedule runs, since a schedule puts the time into the ids of its workflows, and a day has one run."""

    @workflow.init
    def __init__(self, request: StartRequest) -> None:
        super().__init__()
        self._request = request
        self._said = "Looking"

    @workflow.run
    async def run(self, request: StartRequest) -> Started:
        """Start the day's retraining, of a drift only when it lasts."""
        self.show()
        reason = "the schedule asks for it"
        if request.cause == "drift":
            first = await self._drift()
            if first.score <= model.DRIFT_LIMIT:
                return self._ends(False, f"The drift score is {first.score:.2f}, no more than {model.DRIFT_LIMIT:g}.")
            await workflow.sleep(model.SUSTAINED, summary="whether the drift lasts")
            again = await self._drift()
            if again.score <= model.DRIFT_LIMIT or again.version != first.version:
                return self._ends(False, f"The drift did not last: {first.score:.2f}, then {again.score:.2f}.")
            reason = f"the drift score was {first.score:.2f} and is {again.score:.2f}"
        return await self._start(reason)

    async def _drift(self) -> Drifted:
        return await self.run_step(steps.MEASURE_DRIFT, DriftRequest(model=self._request.model, at=workflow.now()))

    async def _start(self, reason: str) -> Started:
        """One a day: whoever comes second finds the first."""
        name, cause = self._request.model, self._request.cause
        id = retrain_workflow_id(name, workflow.now().date())
        try:
            await workflow.start_child_workflow(
                model.WORKFLOW,
                RetrainRequest(model=name, cause=cause, by="clotho"),
                id=id,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                static_summary=f"{name}: {reason}"[:120],
            )
        except WorkflowAlreadyStartedError:
            return self._ends(False, f"{id} has been started before, and a day has one.")
        return self._ends(True, f"{id} is started, since {reason}.")

    def _ends(self, started: bool, reason: str) -> Started:
        self._said = reason
        self.show()
        return Started(started=started, reason=reason)

    def show(self) -> None:
        """Current details for the Web UI."""
        workflow.set_current_details(f"{self._request.model}: {self._said}")
