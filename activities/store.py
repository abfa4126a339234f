"""Steps that only write to Postgres."""

from uuid import UUID

from activities.base import implements
from db import audit, markets, proposals, step_results
from db.pool import Connection, Pool
from domain import steps
from domain.market import Decided, DecideRequest, Draft, Waiting
from domain.rules import ResolutionRules
from domain.status import MarketStatus, ProposalStatus


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


async def _audit_decision(connection: Connection, market_id: UUID, request: DecideRequest) -> None:
    await audit.append(
        connection,
        f"review_{request.decision}",
        "market",
        str(market_id),
        request.by,
        {"reason": request.reason, "rules_sha256": request.rules_sha256, "round": request.round},
    )
