"""Retraining of a model: rows as of a cut-off, a candidate, the gate, a person where one is asked, a watched switch."""

from temporalio import workflow

from domain import model, steps
from domain.model import (
    ActivateRequest,
    Collected,
    CollectRequest,
    Evaluated,
    EvaluateRequest,
    RetrainEnd,
    RetrainRequest,
    RetrainState,
    Run,
    Status,
    Trained,
    TrainRequest,
    VerifyRequest,
)
from domain.review import ReviewKind, ReviewRequest
from workflows.story import Story


@workflow.defn(name=model.WORKFLOW)
class Retrain(Story):
    """Nothing changes for those who score before the switch; cancelling it before leaves the old version active."""

    @workflow.init
    def __init__(self, request: RetrainRequest) -> None:
        super().__init__()
        self._request = request
        # The cut-off is the start, which is in the history: whoever runs it again sees the same rows.
        self._asked = CollectRequest(model=request.model, cutoff=workflow.now())
        self._stage = "Collecting rows"
        self._collected: Collected | None = None
        self._trained: Trained | None = None
        self._evaluated: Evaluated | None = None
        self._end: RetrainEnd | None = None

    @workflow.run
    async def run(self, request: RetrainRequest) -> RetrainEnd:
        """One retraining."""
        self._end = await self._retrain()
        self._at(self._end.status)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._end

    async def _retrain(self) -> RetrainEnd:
        self.show()
        collected = self._collected = await self.run_step(steps.COLLECT_TRAINING_DATA, self._asked)
        if not collected.ok:
            return self._ends("skipped", collected.reason)
        run = Run(**self._asked.model_dump(), version=collected.version)
        evaluated = self._evaluated = await self._train(run, collected)
        if not evaluated.passed:
            return self._ends("rejected", evaluated.reason)
        approved_by, why = None, self._why
        if evaluated.needs_approval:
            self._at("Waiting for approval")
            answer = await self.ask(self._review(run, evaluated))
            assert answer is not None, "it is withdrawn only with the retraining"
            if answer.decision != "approve":
                return self._ends("registered", f"{answer.by} rejected it: {answer.reason}")
            approved_by, why = answer.by, answer.reason
        # From here on it is not broken off: a switch that nobody watches is what must not be.
        return await self.live(self._switch(run, evaluated, approved_by, why), lambda: None)

    async def _train(self, run: Run, collected: Collected) -> Evaluated:
        self._at("Training")
        train = TrainRequest(run=run, data_sha256=collected.data_sha256)
        trained = self._trained = await self.run_step(
            steps.TRAIN_MODEL, train, summary=f"{self._request.model}, {collected.rows} rows"
        )
        self._at("Evaluating")
        request = EvaluateRequest(
            run=run, data_sha256=collected.data_sha256, trained=trained, minimum=self._request.minimum
        )
        return await self.run_step(steps.EVALUATE_MODEL, request)

    async def _switch(self, run: Run, evaluated: Evaluated, approved_by: str | None, why: str) -> RetrainEnd:
        self._at("Switching")
        activate = ActivateRequest(run=run, champion=evaluated.champion, approved_by=approved_by, reason=why)
        activated = await self.run_step(steps.ACTIVATE_MODEL, activate)
        if not activated.active:
            return self._ends("registered", activated.reason)
        self._at("Verifying that every process follows")
        verify = VerifyRequest(run=run, within=self._request.verify_seconds)
        verified = await self.run_step(steps.VERIFY_ACTIVATION, verify)
        return self._ends(verified.status, verified.reason)

    def _review(self, run: Run, evaluated: Evaluated) -> ReviewRequest:
        name, version = run.model, run.version
        return ReviewRequest(
            kind=ReviewKind.MODEL_ACTIVATION,
            subject=f"{name}-{version}",
            title=f"Activate {name} {version}",
            why=f"{evaluated.reason}: see `clotho model card {version}`",
            proposer=self._request.by,
        )

    def _ends(self, status: Status, reason: str) -> RetrainEnd:
        collected = self._collected
        return RetrainEnd(
            status=status,
            model=self._request.model,
            version=collected.version if collected and self._evaluated and self._evaluated.passed else None,
            reason=reason,
            numbers=collected.numbers if collected and not collected.ok else {},
            rejection=self._evaluated.rejection if self._evaluated is not None else None,
        )

    @property
    def _why(self) -> str:
        return f"retrained, {self._request.cause} of {self._request.by}"

    def _at(self, stage: str) -> None:
        self._stage = stage
        self.show()

    def may_abort(self) -> bool:
        """What parks here is half active: it is brought to its end."""
        return False

    @workflow.query(description="How far the retraining is, and what came of each stage")
    def state(self) -> RetrainState:
        """A look at it."""
        return RetrainState(
            stage=self._stage,
            cutoff=self._asked.cutoff,
            collected=self._collected,
            trained=self._trained,
            evaluated=self._evaluated,
            end=self._end,
        )

    def show(self) -> None:
        """Current details for the Web UI."""
        lines = [f"### {self._request.model}: {self._stage}", f"Rows up to {self._asked.cutoff:%Y-%m-%d %H:%M:%S} UTC"]
        if self._parked is not None:
            lines.append(f"**Parked** at `{self._parked.step}` ({self._parked.kind}): {self._parked.message}")
        if self._collected is not None:
            lines.append(f"{self._collected.rows} rows, data `{self._collected.data_sha256[:12]}`")
        if self._evaluated is not None:
            lines.append(self._evaluated.reason)
        if self._end is not None:
            lines.append(f"**{self._end.status}**: {self._end.reason}")
        lines.extend(f"Refused: {refused}" for refused in self._refused)
        workflow.set_current_details("\n\n".join(lines))
