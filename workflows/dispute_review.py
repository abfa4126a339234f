"""One dispute of a settled outcome: the sources looked at again, the model asked, a person where it is unsure."""

from temporalio import workflow

from domain import dispute, steps
from domain.dispute import CloseRequest, DisputeEnd, DisputeRequest, Opinion, OpinionRequest
from domain.review import ReviewKind, ReviewRequest
from domain.rules import Answer
from workflows.story import Story


@workflow.defn(name=dispute.WORKFLOW)
class DisputeReview(Story):
    """Ends as upheld or overturned, never without an answer: the market is not finalised before."""

    @workflow.init
    def __init__(self, request: DisputeRequest) -> None:
        super().__init__()
        self._request = request
        self._opinion: Opinion | None = None

    @workflow.run
    async def run(self, request: DisputeRequest) -> DisputeEnd:
        """The review of the dispute; Temporal's own cancellation is refused, since somebody is owed an answer."""
        return await self.live(self._review(), self._refuse_cancellation)

    async def _review(self) -> DisputeEnd:
        recheck = await self.run_step(steps.RECHECK_SOURCES, self._request)
        opinion = await self.run_step(steps.REVIEW_DISPUTE, OpinionRequest(dispute=self._request, recheck=recheck))
        self._opinion = opinion
        self.show()
        if opinion.verdict == "escalate":
            opinion = await self._ask_person(opinion)
        close = CloseRequest(dispute=self._request, opinion=opinion, evidence_root=recheck.evidence_root)
        step = steps.CLOSE_DISPUTE if opinion.verdict == "upheld" else steps.OVERTURN_OUTCOME
        end = await self.run_step(step, close, summary=f"{opinion.outcome} by {opinion.by}")
        self._opinion = opinion
        self.show()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return end

    async def _ask_person(self, opinion: Opinion) -> Opinion:
        """The person names the outcome: the disputed one is upheld by it, the other one overturns it."""
        answer = await self.ask(
            ReviewRequest(
                kind=ReviewKind.DISPUTE,
                subject=str(self._request.dispute_id),
                market_id=self._request.market_id,
                title=self._request.title,
                why=opinion.reason,
                version=self._request.rules_sha256,
                outcome=self._request.outcome.value,
            )
        )
        assert answer is not None, "it is never withdrawn"
        outcome = Answer(answer.outcome or "")
        return Opinion(
            verdict="upheld" if outcome is self._request.outcome else "overturned",
            outcome=outcome,
            confidence=1.0,
            reason=answer.reason,
            by=answer.by,
        )

    def _refuse_cancellation(self) -> None:
        self.keep_refusal("cancel: a dispute ends with an answer")

    def may_abort(self) -> bool:
        """A step of a dispute is retried until it is done."""
        return False

    def show(self) -> None:
        """Current details for the Web UI."""
        lines = [f"### {self._request.title}", f"Disputed outcome: **{self._request.outcome}**"]
        if self._parked is not None:
            lines.append(f"**Parked** at `{self._parked.step}` ({self._parked.kind}): {self._parked.message}")
        if self._opinion is not None:
            lines.append(f"**{self._opinion.verdict}** by {self._opinion.by}: {self._opinion.reason}")
        lines.extend(f"Refused: {refused}" for refused in self._refused)
        workflow.set_current_details("\n\n".join(lines))
