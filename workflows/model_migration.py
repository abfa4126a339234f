"""One migration to another model: both answer the stored inputs, a person reads the report and decides."""

from temporalio import workflow

from domain import migration, steps
from domain.base import Actor
from domain.migration import Compared, EndRequest, MigrationEnd, MigrationRequest
from domain.review import ReviewKind, ReviewRequest
from workflows.story import Stopped, Story

SYSTEM: Actor = "temporal"
"""Who acted, when somebody cancelled the workflow itself."""


@workflow.defn(name=migration.WORKFLOW)
class MigrateModel(Story):
    """Ends as switched, rejected or stale; nothing changes before a person approves."""

    @workflow.init
    def __init__(self, request: MigrationRequest) -> None:
        super().__init__()
        self._request = request
        self._ending = False
        self._compared: Compared | None = None
        self._end: MigrationEnd | None = None

    @workflow.run
    async def run(self, request: MigrationRequest) -> MigrationEnd:
        """The migration; cancelling it in Temporal rejects it."""
        return await self.live(self._migrate(), self._cancel)

    async def _migrate(self) -> MigrationEnd:
        try:
            self._compared = await self.run_step(steps.COMPARE_MODELS, self._request)
            self.show()
            answer = await self.ask(
                ReviewRequest(
                    kind=ReviewKind.MODEL_MIGRATION,
                    subject=self._request.id,
                    title=f"{self._request.old_version} to {self._request.new_version}",
                    why=f"{self._compared.summary}: see `clotho model-migration show {self._request.id}`",
                    proposer=self._request.by,
                )
            )
            assert answer is not None, "it is withdrawn only when the migration is stopped"
            approved, by, reason = answer.decision == "approve", answer.by, answer.reason
        except Stopped as stop:
            approved, by, reason = False, stop.by, str(stop)
        self._ending = True
        decided = EndRequest(migration=self._request, approved=approved, by=by, reason=reason)
        self._end = await self.run_step(steps.END_MIGRATION, decided)
        self.show()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._end

    def _cancel(self) -> None:
        if self.may_abort():
            self._stop = Stopped(SYSTEM, "cancellation was requested in Temporal")

    def may_abort(self) -> bool:
        """What a person has decided is done."""
        return not self._ending

    def show(self) -> None:
        """Current details for the Web UI."""
        lines = [f"### {self._request.old_version} to {self._request.new_version}"]
        if self._parked is not None:
            lines.append(f"**Parked** at `{self._parked.step}` ({self._parked.kind}): {self._parked.message}")
        if self._compared is not None:
            lines.append(self._compared.summary)
        if self._end is not None:
            lines.append(f"**{self._end.status}**: {self._end.reason}")
        lines.extend(f"Refused: {refused}" for refused in self._refused)
        workflow.set_current_details("\n\n".join(lines))
