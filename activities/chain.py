"""The steps that change a market on chain, each with its database effect in one transaction."""

import asyncio
from datetime import UTC, datetime

from activities.base import heartbeating, implements
from activities.market_chain import MarketChain, NewRecord, Overturn, Settlement
from db import ai_config, audit, chain_transactions, disputes, evidence, markets, proposals, step_results
from db.pool import Connection, Pool
from domain import errors, steps
from domain.canonical import sha256_hex
from domain.dispute import Admission, AdmitRequest, CloseRequest, DisputeEnd
from domain.errors import failure
from domain.market import (
    Canceled,
    CancelRequest,
    Finalized,
    FinalizeRequest,
    Published,
    PublishRequest,
    Settled,
    SettleRequest,
)
from domain.resolver import resolve
from domain.status import MarketStatus, ProposalStatus

_ACTOR = "chain"
_HOUR = 3_600


class _Unadmitted(Exception):
    """A dispute is turned away; the message is the clause why."""


class ChainSteps:
    """Publishes, settles, cancels and finalises markets; admits disputes, and overturns outcomes.

    Each step that writes first does its effect on chain, which happens once however often it is asked for, and then
    records it.
    """

    def __init__(self, pool: Pool, chain: MarketChain, markets_url: str) -> None:
        """`markets_url` is the public URL under which the API serves markets, without a slash at its end."""
        self._pool = pool
        self._chain = chain
        self._markets_url = markets_url

    @implements(steps.PUBLISH_MARKET)
    async def publish_market(self, request: PublishRequest) -> Published:
        """Create the market's record on chain; from then on the market is active.

        Idempotent because: the record's address is derived from the market's id, and the result is stored under it.

        Raises:
            ApplicationError: MarketExpired when nobody could trade in it any more; IllegalMove for other rules.
        """
        key = str(request.market_id)
        if stored := await step_results.stored(self._pool, steps.PUBLISH_MARKET, key):
            return stored
        market = await markets.get(self._pool, request.market_id)
        if market.rules_sha256 != request.rules_sha256:
            raise failure(
                errors.ILLEGAL_MOVE,
                f"market {market.id} has other rules ({market.rules_sha256}) than those approved"
                f" ({request.rules_sha256})",
            )
        async with heartbeating():
            # What was held up is published too late; what is on chain already was not, and is only recorded.
            if market.expiry <= datetime.now(UTC) and await self._chain.read(market.id) is None:
                expired = f"the draft expired at {market.expiry:%Y-%m-%d %H:%M:%S} UTC, before it was published"
                raise failure(errors.MARKET_EXPIRED, expired)
            written = await self._chain.publish(
                NewRecord(
                    market_id=market.id,
                    rules_sha256=market.rules_sha256,
                    title=market.title,
                    uri=f"{self._markets_url}/{market.id}/metadata",
                    expiry=market.expiry,
                    ai_version=market.ai_version,
                )
            )
        window = request.dispute_window_seconds
        if window is None:
            window = round(await ai_config.get(self._pool, "dispute_window_hours") * _HOUR)
        published = Published(
            address=written.record.address,
            signature=written.signature,
            slot=written.slot,
            dispute_window_seconds=window,
        )

        async def effect(connection: Connection) -> None:
            await markets.move(
                connection,
                market.id,
                MarketStatus.ACTIVE,
                address=published.address,
                dispute_window_seconds=published.dispute_window_seconds,
            )
            await proposals.move(connection, market.id, ProposalStatus.PUBLISHED)
            details = published.model_dump() | {"rules_sha256": market.rules_sha256}
            await audit.append(connection, "market_published", "market", key, _ACTOR, details)

        return await step_results.commit_once(self._pool, steps.PUBLISH_MARKET, key, published, effect)

    @implements(steps.SETTLE_MARKET)
    async def settle_market(self, request: SettleRequest) -> Settled:
        """Write outcome and evidence root on chain; from then on the market is resolved.

        Idempotent because: a record that has this outcome and root is left as it is, and the result is stored under
        the market and the look.
        """
        key = f"{request.market_id}:{request.look}"
        if stored := await step_results.stored(self._pool, steps.SETTLE_MARKET, key):
            return stored
        async with heartbeating():
            written = await self._chain.settle(
                Settlement(
                    market_id=request.market_id,
                    look=request.look,
                    outcome=request.outcome,
                    evidence_sha256=request.evidence_root,
                )
            )
        resolved_at = written.record.resolved_at
        assert resolved_at is not None, "a settled record says when"
        settled = Settled(signature=written.signature, slot=written.slot, resolved_at=resolved_at)

        async def effect(connection: Connection) -> None:
            await markets.move(connection, request.market_id, MarketStatus.RESOLVED, outcome=request.outcome.value)
            details = request.model_dump(mode="json", exclude={"market_id"}) | settled.model_dump(mode="json")
            await audit.append(connection, "resolution_completed", "market", str(request.market_id), _ACTOR, details)

        return await step_results.commit_once(self._pool, steps.SETTLE_MARKET, key, settled, effect)

    @implements(steps.CANCEL_MARKET)
    async def cancel_market(self, request: CancelRequest) -> Canceled:
        """Cancel the market, with outcome VOID when it has a record on chain.

        Idempotent because: a record that is canceled is left as it is, and the result is stored under the market's id.
        """
        key = str(request.market_id)
        if stored := await step_results.stored(self._pool, steps.CANCEL_MARKET, key):
            return stored
        market = await markets.get_if_drafted(self._pool, request.market_id)
        written = None
        # A publication whose end nobody saw may be on chain although the market has no address yet.
        if market and (market.address is not None or await chain_transactions.any_signed(self._pool, market.id)):
            async with heartbeating():
                written = await self._chain.cancel(market.id)
        canceled = Canceled(signature=None if written is None else written.signature)

        async def effect(connection: Connection) -> None:
            facts = {} if written is None else {"outcome": "VOID", "address": written.record.address}
            if market is not None:
                await markets.move(connection, market.id, MarketStatus.CANCELED, **facts)
            await proposals.move(connection, request.market_id, ProposalStatus.REJECTED)
            details = {"reason": request.reason, "signature": canceled.signature}
            await audit.append(connection, "market_canceled", "market", key, request.by, details)

        return await step_results.commit_once(self._pool, steps.CANCEL_MARKET, key, canceled, effect)

    @implements(steps.FINALIZE_MARKET)
    async def finalize_market(self, request: FinalizeRequest) -> Finalized:
        """Make the record on chain immutable, for good; the market is over.

        Idempotent because: an immutable record is left as it is, and the result is stored under the market's id.
        """
        key = str(request.market_id)
        if stored := await step_results.stored(self._pool, steps.FINALIZE_MARKET, key):
            return stored
        async with heartbeating():
            written = await self._chain.finalize(request.market_id)
        finalized = Finalized(signature=written.signature, slot=written.slot)

        async def effect(connection: Connection) -> None:
            await markets.move(connection, request.market_id, MarketStatus.FINALIZED)
            details = finalized.model_dump() | {"outcome": written.record.outcome}
            await audit.append(connection, "market_finalized", "market", key, _ACTOR, details)

        return await step_results.commit_once(self._pool, steps.FINALIZE_MARKET, key, finalized, effect)

    @implements(steps.ADMIT_DISPUTE)
    async def admit_dispute(self, request: AdmitRequest) -> Admission:
        """Open a dispute, or turn it away: who holds no token of the market, or disputes too often.

        Idempotent because: keyed by the dispute and the moment it was submitted, committed once with its result; of
        two disputes at once of the same disputant the second counts after the first one's transaction.
        """
        dispute = await disputes.get_if_stored(self._pool, request.dispute_id)
        if dispute is None or dispute.market_id != request.market_id:
            return Admission(refusal="no such dispute of this market is stored")
        if dispute.status in {"upheld", "overturned"}:
            return Admission(known=True)
        market = str(request.market_id)
        # What was refused may be submitted again, and is then looked at anew.
        key = f"{dispute.id}:{dispute.created_at.isoformat()}"
        if stored := await step_results.stored(self._pool, steps.ADMIT_DISPUTE, key):
            return stored
        async with heartbeating():
            held = await self._chain.holdings(request.market_id, dispute.disputant)
        limits: dict[str, int] = (await ai_config.get(self._pool, "rate_limits"))["dispute"]

        async def admit(connection: Connection) -> None:
            if not held.yes and not held.no:
                raise _Unadmitted(f"{dispute.disputant} holds no YES or NO token of this market")
            hour, day = await disputes.admitted_since(connection, dispute.disputant)
            for count, period in ((hour, "hour"), (day, "day")):
                if count >= limits[period]:
                    raise _Unadmitted(
                        f"{dispute.disputant} has disputed {count} times within the last {period}, and at most"
                        f" {limits[period]} disputes are admitted"
                    )
            if not await disputes.admit(connection, dispute.id, request.look, request.outcome):
                raise _Unadmitted("the dispute was withdrawn meanwhile")
            await markets.move(connection, request.market_id, MarketStatus.DISPUTED)
            details = request.model_dump(mode="json", exclude={"market_id"})
            details |= {"reason_sha256": sha256_hex(dispute.reason.encode())}
            await audit.append(connection, "dispute_submitted", "market", market, dispute.disputant, details)

        try:
            return await step_results.commit_once(self._pool, steps.ADMIT_DISPUTE, key, Admission(), admit)
        except _Unadmitted as why:
            refused = Admission(refusal=str(why))

        async def refuse(connection: Connection) -> None:
            await disputes.refuse(connection, dispute.id, refused.refusal)
            details = {"dispute_id": str(dispute.id), "reason": refused.refusal}
            await audit.append(connection, "dispute_refused", "market", market, dispute.disputant, details)

        return await step_results.commit_once(self._pool, steps.ADMIT_DISPUTE, key, refused, refuse)

    @implements(steps.OVERTURN_OUTCOME)
    async def overturn_outcome(self, request: CloseRequest) -> DisputeEnd:
        """Write the outcome that a dispute won on chain, record what it rests on, and close the dispute.

        Idempotent because: a record that names this dispute is left as it is, and the result is stored under the
        dispute's id.
        """
        dispute, opinion = request.dispute, request.opinion
        key = str(dispute.dispute_id)
        if stored := await step_results.stored(self._pool, steps.OVERTURN_OUTCOME, key):
            return stored
        root = request.evidence_root
        assert root is not None, "an outcome is overturned after its sources were fetched again"
        rules = await markets.load_rules(self._pool, dispute.rules_sha256)
        documents = await evidence.documents_of_look(self._pool, dispute.market_id, dispute.recheck)
        async with heartbeating():
            verdict = await asyncio.to_thread(resolve, rules, documents)
            written = await self._chain.overturn(
                Overturn(
                    market_id=dispute.market_id,
                    dispute_id=dispute.dispute_id,
                    outcome=opinion.outcome,
                    evidence_sha256=root,
                )
            )
        end = DisputeEnd(
            status="overturned",
            outcome=opinion.outcome,
            look=dispute.recheck,
            evidence_root=root,
            reason=opinion.reason,
        )

        async def effect(connection: Connection) -> None:
            # Still disputed, as far as this statement goes; whether it stays so depends on the other disputes.
            await markets.move(connection, dispute.market_id, MarketStatus.DISPUTED, outcome=opinion.outcome.value)
            await disputes.close(connection, dispute.dispute_id, "overturned", opinion.by, opinion.reason)
            await evidence.record_decided(
                connection,
                dispute.market_id,
                dispute.recheck,
                dispute.rules_sha256,
                opinion.outcome,
                verdict.results,
                root,
                opinion.by,
                opinion.reason,
                dispute.dispute_id,
            )
            details = end.model_dump(mode="json") | {"dispute_id": key}
            details |= {"signature": written.signature, "slot": written.slot}
            await audit.append(connection, "dispute_resolved", "market", str(dispute.market_id), opinion.by, details)

        return await step_results.commit_once(self._pool, steps.OVERTURN_OUTCOME, key, end, effect)
