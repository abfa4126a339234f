"""Steps that only write to Postgres."""

import asyncio
from typing import Literal
from uuid import UUID

from activities.base import implements
from db import ai_config, audit, disputes, evidence, markets, proposals, reviewers, step_results
from db.pool import Connection, Pool
from domain import errors, steps
from domain.canonical import evidence_root
from domain.dispute import CloseRequest, DisputeEnd
from domain.market import (
    Decided,
    DecideRequest,
    Draft,
    HandResolution,
    OrderRequest,
    Recorded,
    Resolution,
    Waiting,
)
from domain.resolver import resolve
from domain.review import RecordReviewRequest, Reviewer, ReviewerRequest, ReviewTerms
from domain.rules import ResolutionRules
from domain.status import MarketStatus, ProposalStatus
from domain.verdict import ConditionResult

_ACTOR = "clotho"


def as_draft(market: markets.Market, rules: ResolutionRules) -> Draft:
    """What the lifecycle needs to know of a stored draft."""
    return Draft(
        title=market.title,
        category=market.category,
        ai_version=market.ai_version,
        rules_sha256=market.rules_sha256,
        expiry=rules.expiry,
        waiting=Waiting(
            settle_after=rules.not_yet_published.settle_after,
            check_every=rules.not_yet_published.check_every,
            give_up_after=rules.not_yet_published.give_up_after,
            then=rules.not_yet_published.then,
        ),
        has_text_conditions=bool(rules.text_conditions),
    )


class StoreSteps:
    """Steps of the role orchestrator."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @implements(steps.RECORD_DECISION)
    async def record_decision(self, request: DecideRequest) -> Decided:
        """Record a reviewer's decision; changed rules become the draft's rules.

        Idempotent because: keyed by market and round, committed once with its result (step_results).
        """
        market = await markets.get(self._pool, request.market_id)
        rules = await markets.load_rules(self._pool, request.rules_sha256)
        decided = market.model_copy(update={"rules_sha256": request.rules_sha256, "expiry": rules.expiry})

        async def effect(connection: Connection) -> None:
            if request.decision == "reject":
                await markets.move(connection, request.market_id, MarketStatus.REJECTED)
                await proposals.move(connection, request.market_id, ProposalStatus.REJECTED)
            elif request.decision == "approve":
                await proposals.move(connection, request.market_id, ProposalStatus.APPROVED)
            else:
                await markets.move(
                    connection,
                    request.market_id,
                    MarketStatus.PENDING_REVIEW,
                    rules_sha256=request.rules_sha256,
                    expiry=rules.expiry,
                )
            await _audit_decision(connection, request.market_id, request)

        key = f"{request.market_id}:{request.round}"
        result = Decided(draft=as_draft(decided, rules))
        return await step_results.commit_once(self._pool, steps.RECORD_DECISION, key, result, effect)

    @implements(steps.RECORD_ORDER)
    async def record_order(self, request: OrderRequest) -> Recorded:
        """Record in the audit log what somebody ordered of a market.

        Idempotent because: keyed by the market and the order's number, committed once with its result.
        """

        async def effect(connection: Connection) -> None:
            details = {"reason": request.reason}
            await audit.append(connection, request.order, "market", str(request.market_id), request.by, details)

        key = f"{request.market_id}:{request.number}"
        return await step_results.commit_once(self._pool, steps.RECORD_ORDER, key, Recorded(), effect)

    @implements(steps.RECORD_REVIEW)
    async def record_review(self, request: RecordReviewRequest) -> ReviewTerms:
        """Record in the audit log what happened to a review, and tell it the terms that hold for it.

        Idempotent because: keyed by the review, its number and the moment, committed once with its result.
        """
        terms = ReviewTerms(
            undo_seconds=float(await ai_config.get(self._pool, "review_undo_seconds")),
            proposer=(await proposals.get(self._pool, request.market_id)).proposer if request.market_id else None,
        )
        entity = ("market", str(request.market_id)) if request.market_id else (request.kind.value, request.subject)
        details = request.model_dump(mode="json", include={"kind", "subject", "number", "priority"})

        async def effect(connection: Connection) -> None:
            action = f"review_{request.moment}"
            await audit.append(connection, action, *entity, _ACTOR, details | {"reason": request.why})

        key = f"{request.kind}:{request.subject}:{request.number}:{request.moment}"
        return await step_results.commit_once(self._pool, steps.RECORD_REVIEW, key, terms, effect)

    @implements(steps.LOOK_UP_REVIEWER)
    async def look_up_reviewer(self, request: ReviewerRequest) -> Reviewer:
        """Look up whether somebody may review.

        Idempotent because: it only reads.
        """
        return Reviewer(known=await reviewers.is_known(self._pool, request.name))

    @implements(steps.RESOLVE_BY_HAND)
    async def resolve_by_hand(self, request: HandResolution) -> Resolution:
        """Record the outcome that a person decided, over whatever evidence the look has.

        Idempotent because: keyed by market and look, committed once with its result.

        Raises:
            ApplicationError: EvidenceChanged when an attempt that everybody had given up added to the look meanwhile.
        """
        rules = await markets.load_rules(self._pool, request.rules_sha256)
        documents = await evidence.documents_of_look(self._pool, request.market_id, request.look)
        try:
            # With the judgements of text conditions, which cannot be made again.
            recorded = await evidence.resolution_of_look(self._pool, request.market_id, request.look)
            results = tuple(ConditionResult.model_validate(result) for result in recorded.results)
        except LookupError:
            # In a thread, as everywhere: a large document takes seconds.
            results = (await asyncio.to_thread(resolve, rules, documents)).results
        root = evidence_root(document.sha256 for document in documents.values())
        resolution = Resolution(
            outcome=request.outcome, evidence_root=root, detail=f"decided by {request.by}: {request.reason}"[:300]
        )

        async def effect(connection: Connection) -> None:
            await markets.move(connection, request.market_id, MarketStatus.RESOLVING)
            # From here on nobody adds to the look; what was read of it before must still be all there is.
            if evidence_root(await evidence.hashes_of_look(connection, request.market_id, request.look)) != root:
                raise errors.failure(errors.EVIDENCE_CHANGED, f"a source has answered look {request.look} meanwhile")
            await evidence.record_decided(
                connection,
                request.market_id,
                request.look,
                request.rules_sha256,
                request.outcome,
                results,
                root,
                request.by,
                request.reason,
            )
            details = request.model_dump(mode="json", exclude={"market_id", "by"}) | {"evidence_root": root}
            await audit.append(connection, "resolution_by_hand", "market", str(request.market_id), request.by, details)

        key = f"{request.market_id}:{request.look}"
        return await step_results.commit_once(self._pool, steps.RESOLVE_BY_HAND, key, resolution, effect)

    @implements(steps.CLOSE_DISPUTE)
    async def close_dispute(self, request: CloseRequest) -> DisputeEnd:
        """Close a dispute after which nothing changes on chain: its outcome stands, or has been overturned before.

        Idempotent because: keyed by the dispute, committed once with its result.
        """
        disputed, opinion = request.dispute, request.opinion
        status: Literal["upheld", "overturned"] = "upheld" if opinion.outcome is disputed.outcome else "overturned"
        end = DisputeEnd(status=status, outcome=opinion.outcome, look=disputed.look, reason=opinion.reason)

        async def effect(connection: Connection) -> None:
            await disputes.close(connection, disputed.dispute_id, status, opinion.by, opinion.reason)
            details: dict[str, object] = {
                "dispute_id": str(disputed.dispute_id),
                "status": status,
                "reason": opinion.reason,
            }
            details |= {"look": disputed.look, "outcome": opinion.outcome}
            await audit.append(connection, "dispute_resolved", "market", str(disputed.market_id), opinion.by, details)

        key = str(disputed.dispute_id)
        return await step_results.commit_once(self._pool, steps.CLOSE_DISPUTE, key, end, effect)


async def _audit_decision(connection: Connection, market_id: UUID, request: DecideRequest) -> None:
    await audit.append(
        connection,
        f"review_{request.decision}",
        "market",
        str(market_id),
        request.by,
        request.model_dump(include={"reason", "rules_sha256", "round", "code"}, exclude_none=True),
    )
