"""Steps that ask the model: drafting, validation, judgement of text conditions, disputes."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from pydantic import ValidationError

from activities.base import heartbeating, implements
from activities.disputes import load
from activities.llm_client import LlmClient, request_ids, shown_text
from activities.screening import OpenedMeanwhile, Screened, Screening
from activities.store import as_draft
from db import ai_config, audit, disputes, evidence, markets, news, proposals, step_results, templates
from db.pool import Connection, Pool
from domain import errors, steps
from domain.answers import DisputeReviewAnswer, MarketGenerationAnswer, ResolutionAnswer, ValidationAnswer
from domain.dispute import Opinion, OpinionRequest
from domain.extraction import Document, quotes
from domain.ids import Origin
from domain.market import (
    CollectRequest,
    DraftRequest,
    DraftResult,
    Issue,
    MarketDraft,
    Proposal,
    Resolution,
    ValidateRequest,
    Validation,
    first_issues,
)
from domain.rehearsal import TWO_READINGS
from domain.resolver import resolve
from domain.rules import ResolutionRules, TextCondition
from domain.status import MarketStatus, ProposalStatus
from domain.templates import with_defaults
from domain.verdict import Abstention, ConditionResult, Result

LENSES = ("literal", "sceptic", "auditor")
"""Three independent ways to read the evidence. They vote and never debate."""

MANY_ISSUES = 2
"""So many issues of a draft go to a person (runbook "Markets Requiring Review": multiple validation issues)."""


class LlmSteps:
    """Steps of the role llm."""

    def __init__(self, pool: Pool, llm: LlmClient) -> None:
        self._pool = pool
        self._llm = llm
        self._screening = Screening(pool, llm)

    @implements(steps.DRAFT_MARKET)
    async def draft_market(self, request: DraftRequest) -> DraftResult:
        """Make the draft that a proposal asks for and bind it to the current ai_version.

        A text is screened first: what is not safe is rejected, what an open market asks already is matched with it.

        Idempotent because: the answer is cached by input hash (llm_calls), and the draft is committed once with the
        step's result under the market's id.
        """
        key = str(request.market_id)
        done = await step_results.stored(self._pool, steps.DRAFT_MARKET, key)
        if done is not None:
            return done
        proposal = await proposals.get(self._pool, request.market_id)
        if not await proposals.begin(self._pool, request.market_id):
            # It may have been another attempt that ended it in this moment.
            done = await step_results.stored(self._pool, steps.DRAFT_MARKET, key)
            if done is not None:
                return done
            raise errors.failure(errors.ILLEGAL_MOVE, f"the proposal of market {request.market_id} is over")
        ai_version = str(await ai_config.get(self._pool, "ai_version"))
        answer, screened = MarketGenerationAnswer(draft=proposal.draft), Screened()
        if proposal.draft is None:
            async with heartbeating():
                screened = await self._screening.screen(request.market_id, proposal, ai_version)
                if screened.refusal:
                    return await self._refuse(request, proposal, ai_version, screened)
                given = await self._llm.ask(
                    ai_version,
                    "market_generation",
                    MarketGenerationAnswer,
                    {
                        "question": proposal.text,
                        "background": proposal.background,
                        "criteria": proposal.criteria,
                        "category": proposal.category or "",
                        "expiry": proposal.expiry.isoformat() if proposal.expiry else "",
                        "today": datetime.now(UTC).date().isoformat(),
                    },
                    subject=key,
                )
            answer = given.answer
            screened = replace(screened, request_ids=(*screened.request_ids, *request_ids(given)))
        draft = (answer := as_proposed(answer, proposal)).draft
        if draft is None:
            refusal = answer.refusal or "no market can be made of the text"
            return await self._refuse(request, proposal, ai_version, replace(screened, refusal=refusal))
        template = None if proposal.draft else await templates.current(self._pool, draft.category)
        if template is not None:
            draft = draft.model_copy(update={"rules": with_defaults(template.body, draft.rules)})
        try:
            return await self._store_draft(request, proposal, draft, ai_version, screened)
        except OpenedMeanwhile:
            return await self.draft_market(request)

    async def _refuse(self, request: DraftRequest, proposal: Proposal, ai_version: str, why: Screened) -> DraftResult:
        """End a proposal without a draft: rejected, or matched with an open market."""
        key = str(request.market_id)
        status = ProposalStatus.MATCHED if why.matched else ProposalStatus.REJECTED

        async def refuse(connection: Connection) -> None:
            await proposals.close(connection, request.market_id, status, why.refusal, why.matched)
            details = {"reason": why.refusal, "llm_request_ids": why.request_ids, "ai_version": ai_version}
            details |= {"matched": str(why.matched)} if why.matched else {}
            action = "proposal_matched" if why.matched else "draft_refused"
            await audit.append(connection, action, "market", key, proposal.proposer, details)

        result = DraftResult(refusal=why.refusal, matched=why.matched)
        return await step_results.commit_once(self._pool, steps.DRAFT_MARKET, key, result, refuse)

    async def _store_draft(
        self, request: DraftRequest, proposal: Proposal, draft: MarketDraft, ai_version: str, screened: Screened
    ) -> DraftResult:
        origin: Origin = "manual" if proposal.draft else "proposal"
        if await news.caused(self._pool, request.market_id):
            origin = "news"
        row = markets.new_draft(request.market_id, origin, draft, ai_version)

        async def store(connection: Connection) -> None:
            if proposal.draft is None:
                await self._screening.check_again(connection, request.market_id, proposal, screened.compared)
            # A late attempt must not bring a market back whose proposal was cancelled meanwhile.
            if not await proposals.move(connection, request.market_id, ProposalStatus.DRAFT_CREATED):
                raise errors.failure(errors.ILLEGAL_MOVE, f"the proposal of market {request.market_id} is over")
            await markets.store_rules(connection, draft.rules)
            await markets.insert(connection, row)
            await audit.append(
                connection,
                "draft_generated",
                "market",
                str(request.market_id),
                proposal.proposer if proposal.draft else ai_version,
                {
                    "rules_sha256": row.rules_sha256,
                    "ai_version": ai_version,
                    "llm_request_ids": screened.request_ids,
                    "confidence": draft.confidence,
                },
            )

        result = DraftResult(draft=as_draft(row, draft.rules))
        return await step_results.commit_once(self._pool, steps.DRAFT_MARKET, str(request.market_id), result, store)

    @implements(steps.VALIDATE_MARKET)
    async def validate_market(self, request: ValidateRequest) -> Validation:
        """Ask for the faults of a draft and decide: approved, rejected, or needs_human when it is flagged.

        Idempotent because: the answer is cached by input hash, and the decision is committed once with the step's
        result under market and round.
        """
        key = f"{request.market_id}:{request.round}"
        done = await step_results.stored(self._pool, steps.VALIDATE_MARKET, key)
        if done is not None:
            return done
        market = await markets.get(self._pool, request.market_id)
        validation = blocked(request)
        asked_for: tuple[str, ...] = ()
        if validation is None:
            rules = await markets.load_rules(self._pool, request.rules_sha256)
            draft = markets.as_market_draft(market, rules)
            async with heartbeating():
                given = await self._llm.ask(
                    market.ai_version,
                    "validation",
                    ValidationAnswer,
                    {
                        "draft": draft.model_dump_json(by_alias=True),
                        "findings": json.dumps([note.model_dump() for note in request.rehearsal.notes]),
                        "today": datetime.now(UTC).date().isoformat(),
                    },
                    subject=str(market.id),
                )
            threshold = float(await ai_config.get(self._pool, "validation_confidence_threshold"))
            asked_for = request_ids(given)
            validation = decide(given.answer, request.rehearsal.notes, market.confidence, threshold)

        async def record(connection: Connection) -> None:
            body = validation.model_dump(mode="json")
            in_review = market.status is MarketStatus.PENDING_REVIEW
            status = MarketStatus.PENDING_REVIEW if in_review else _STATUS_AFTER[validation.decision]
            await markets.move(connection, market.id, status, validation=body)
            if not in_review:
                await proposals.move(connection, market.id, _PROPOSAL_AFTER[validation.decision])
            await audit.append(
                connection,
                "validation_completed",
                "market",
                str(market.id),
                market.ai_version,
                {
                    **body,
                    "rules_sha256": request.rules_sha256,
                    "round": request.round,
                    "llm_request_ids": asked_for,
                },
            )

        shown = validation.model_copy(update={"issues": first_issues(validation.issues)})
        return await step_results.commit_once(self._pool, steps.VALIDATE_MARKET, key, shown, record)

    @implements(steps.JUDGE_CONDITIONS)
    async def judge_conditions(self, request: CollectRequest) -> Resolution:
        """Have every text condition judged against the stored evidence, once for each lens, and resolve.

        Idempotent because: answers are cached by input hash, and the resolution is committed once with the step's
        result under market and look.
        """
        key = f"{request.market_id}:{request.look}"
        done = await step_results.stored(self._pool, steps.JUDGE_CONDITIONS, key)
        if done is not None:
            return done
        market = await markets.get(self._pool, request.market_id)
        rules = await markets.load_rules(self._pool, request.rules_sha256)
        documents = await evidence.documents_of_look(self._pool, request.market_id, request.look)
        recorded = await evidence.resolution_of_look(self._pool, request.market_id, request.look)
        threshold = float(await ai_config.get(self._pool, "validation_confidence_threshold"))
        async with heartbeating():
            judged = await asyncio.gather(
                *(self._judge(c, rules, documents, market, threshold) for c in rules.text_conditions)
            )
            results = {result.condition: result for result, _ in judged}
            verdict = await asyncio.to_thread(resolve, rules, documents, results)
        resolution = Resolution(
            outcome=verdict.outcome,
            abstention=verdict.abstention,
            evidence_root=recorded.evidence_root,
            detail=verdict.deciding_detail[:300],
        )

        async def record(connection: Connection) -> None:
            await evidence.record_resolution(
                connection, request.market_id, request.look, request.rules_sha256, verdict, recorded.evidence_root
            )
            details = {
                "look": request.look,
                "outcome": verdict.outcome,
                "reason": resolution.detail,
                "results": {condition: result.result for condition, result in results.items()},
                "llm_request_ids": [one for _, asked_for in judged for one in asked_for],
            }
            await audit.append(connection, "conditions_judged", "market", str(market.id), market.ai_version, details)

        return await step_results.commit_once(self._pool, steps.JUDGE_CONDITIONS, key, resolution, record)

    async def _judge(
        self,
        condition: TextCondition,
        rules: ResolutionRules,
        documents: dict[str, Document],
        market: markets.Market,
        threshold: float,
    ) -> tuple[ConditionResult, tuple[str, ...]]:
        """What the judgements come to, and the requests that they were paid with."""
        sources = [rules.source(name) for name in condition.sources]
        shown = json.dumps(
            [{"source": s.name, "url": s.url, "text": shown_text(s, documents[s.name])} for s in sources]
        )
        votes = await asyncio.gather(
            *(
                self._llm.ask(
                    market.ai_version,
                    "resolution",
                    ResolutionAnswer,
                    {
                        "question": rules.exact_question,
                        "condition": condition.text,
                        "evidence": shown,
                        "lens": lens,
                    },
                    subject=str(market.id),
                )
                for lens in LENSES
            )
        )
        result = count_votes(condition, [vote.answer for vote in votes], rules, documents, threshold)
        return result, request_ids(*votes)

    @implements(steps.REVIEW_DISPUTE)
    async def review_dispute(self, request: OpinionRequest) -> Opinion:
        """Ask whether a disputed outcome stands, of the market's own ai_version, and check what is answered.

        Idempotent because: the answer is cached by input hash, and the opinion is committed once with the step's
        result under the dispute's id.
        """
        dispute = request.dispute
        key = str(dispute.dispute_id)
        done = await step_results.stored(self._pool, steps.REVIEW_DISPUTE, key)
        if done is not None:
            return done
        case = await load(self._pool, request)
        ai_version = (await markets.get(self._pool, dispute.market_id)).ai_version
        threshold = float(await ai_config.get(self._pool, "validation_confidence_threshold"))
        async with heartbeating():
            # In threads: large documents take seconds, and heartbeats must go on.
            values = await asyncio.to_thread(case.values)
            given = await self._llm.ask(ai_version, "dispute_review", DisputeReviewAnswer, values)
            opinion = await asyncio.to_thread(case.opinion, given.answer, threshold, ai_version)

        async def record(connection: Connection) -> None:
            await disputes.record_opinion(connection, dispute.dispute_id, opinion)
            details = opinion.model_dump(mode="json", exclude={"by"}) | {
                "dispute_id": key,
                "look": dispute.recheck,
                "llm_request_ids": request_ids(given),
            }
            await audit.append(connection, "dispute_reviewed", "market", str(dispute.market_id), ai_version, details)

        return await step_results.commit_once(self._pool, steps.REVIEW_DISPUTE, key, opinion, record)


def as_proposed(answer: MarketGenerationAnswer, proposal: Proposal) -> MarketGenerationAnswer:
    """The model's answer with what the proposer fixed: category and expiry are not the model's to change.

    An expiry that contradicts the rules drafted makes it a refusal.
    """
    draft = answer.draft
    if draft is None or proposal.draft is not None:
        return answer
    rules = draft.rules
    if proposal.expiry is not None and rules.expiry != proposal.expiry:
        try:
            rules = ResolutionRules.model_validate({**rules.model_dump(by_alias=True), "expiry": proposal.expiry})
        except ValidationError as error:
            why = f"The expiry asked for does not fit the rules: {error.errors()[0]['msg']}."
            return MarketGenerationAnswer(draft=None, refusal=why[:300])
    draft = draft.model_copy(update={"rules": rules, "category": proposal.category or draft.category})
    return answer.model_copy(update={"draft": draft})


def blocked(request: ValidateRequest) -> Validation | None:
    """The decision when the rehearsal failed: a person, without asking the model."""
    if not request.rehearsal.blocking:
        return None
    issues = (*request.rehearsal.blocking, *request.rehearsal.notes)
    return Validation(
        decision="needs_human", reason=f"The rehearsal failed: {issues[0].field}: {issues[0].message}", issues=issues
    )


def decide(answer: ValidationAnswer, notes: tuple[Issue, ...], draft_confidence: float, threshold: float) -> Validation:
    """The decision about a draft (spec: review only when flagged)."""
    issues = (*notes, *answer.issues)
    confidence = min(draft_confidence, answer.confidence)
    flags = {
        f"confidence {confidence:.2f} is below {threshold}": confidence < threshold,
        f"{len(issues)} issues were found": len(issues) >= MANY_ISSUES,
        "the topic is sensitive": answer.sensitive,
        "the outcome may be known already": any(note.code == "already_known" for note in notes),
        "a number can be read in two ways": any(note.code == TWO_READINGS for note in notes),
        "the model asks for a person": answer.decision == "needs_human",
    }
    flagged = [flag for flag, raised in flags.items() if raised]
    if answer.decision == "rejected":
        return Validation(decision="rejected", reason=answer.summary, issues=issues)
    if flagged:
        return Validation(decision="needs_human", reason=f"{'; '.join(flagged).capitalize()}.", issues=issues)
    return Validation(decision="approved", reason=answer.summary, issues=issues)


def count_votes(
    condition: TextCondition,
    votes: Sequence[ResolutionAnswer],
    rules: ResolutionRules,
    documents: Mapping[str, Document],
    threshold: float,
) -> ConditionResult:
    """One result from independent votes: unanimous, confident and quoted, or unknown."""
    results = {vote.result for vote in votes}
    if results == {Result.UNKNOWN}:
        return ConditionResult(
            condition=condition.id,
            result=Result.UNKNOWN,
            why_unknown=Abstention.TOO_EARLY,
            detail="the evidence does not state it yet",
        )
    # Judgements of a source that the condition does not name do not count either.
    asked = set(condition.sources)
    unquoted = [
        vote
        for vote in votes
        if vote.source not in asked or not quotes(documents[vote.source], rules.source(vote.source), vote.quotation)
    ]
    doubts = {
        "judgements disagree": len(results) > 1,
        "quotations are not in the evidence": bool(unquoted),
        "judgements are not confident": min(vote.confidence for vote in votes) < threshold,
    }
    why = next((doubt for doubt, raised in doubts.items() if raised), None)
    if why is not None:
        counts = ", ".join(f"{vote.result}" for vote in votes)
        return ConditionResult(
            condition=condition.id,
            result=Result.UNKNOWN,
            why_unknown=Abstention.UNSURE,
            detail=f"{why} ({counts})",
        )
    first = votes[0]
    return ConditionResult(
        condition=condition.id,
        result=first.result,
        detail=f"{len(votes)} of {len(votes)} judgements: {first.reasoning}"[:500],
        source=first.source,
        evidence_sha256=documents[first.source].sha256,
        excerpt=first.quotation,
    )


_STATUS_AFTER = {
    "approved": MarketStatus.DRAFT,
    "rejected": MarketStatus.REJECTED,
    "needs_human": MarketStatus.PENDING_REVIEW,
}
_PROPOSAL_AFTER = {
    "approved": ProposalStatus.APPROVED,
    "rejected": ProposalStatus.REJECTED,
    "needs_human": ProposalStatus.NEEDS_HUMAN,
}
