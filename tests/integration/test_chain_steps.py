"""The chain's steps: what they write on chain, in PostgreSQL and in the audit log."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from temporalio.testing import ActivityEnvironment

from activities.transactions import connect
from domain import market
from domain.errors import CHAIN_UNREACHABLE, ILLEGAL_MOVE, MARKET_EXPIRED
from domain.rules import Answer
from domain.status import MarketStatus
from tests.integration.chain_world import MARKETS_URL, OTHER_ROOT, ROOT, World, fails, set_faults
from tests.support import eventually, free_ports


async def run(step: Callable[[Any], Awaitable[Any]], request: Any) -> Any:
    return await ActivityEnvironment().run(step, request)


async def row(world: World, market_id: UUID) -> tuple[str, str | None, str | None, int | None]:
    found = await world.pool.fetchrow(
        "SELECT status, address, outcome, dispute_window_seconds FROM markets WHERE id = $1", market_id
    )
    assert found is not None
    return tuple(found)


async def audited(world: World, market_id: UUID) -> list[tuple[str, str]]:
    found = await world.pool.fetch(
        "SELECT action, actor FROM audit_logs WHERE entity_type = 'market' AND entity_id = $1 ORDER BY id",
        str(market_id),
    )
    return [(entry["action"], entry["actor"]) for entry in found]


def publication(market_id: UUID, window: int | None = 60) -> market.PublishRequest:
    return market.PublishRequest(market_id=market_id, rules_sha256=ROOT, dispute_window_seconds=window)


async def test_the_steps_of_a_happy_market(world: World) -> None:
    market_id = await world.new_market()
    published = await run(world.steps().publish_market, publication(market_id))
    address = world.yes(market_id)
    assert published == market.Published(
        address=address, signature=published.signature, slot=published.slot, dispute_window_seconds=60
    )
    assert await row(world, market_id) == ("active", address, None, 60)
    found = await world.chain().read(market_id)
    assert found is not None
    assert found.uri == f"{MARKETS_URL}/{market_id}/metadata"
    assert await run(world.steps().publish_market, publication(market_id, window=5)) == published

    await world.pool.execute("UPDATE markets SET status = 'resolving' WHERE id = $1", market_id)
    outcome = market.SettleRequest(market_id=market_id, look=2, outcome=Answer.NO, evidence_root=OTHER_ROOT)
    settled = await run(world.steps().settle_market, outcome)
    found = await world.chain().read(market_id)
    assert found is not None
    assert (found.outcome, found.evidence_sha256, found.resolved_at) == ("NO", OTHER_ROOT, settled.resolved_at)
    assert await row(world, market_id) == ("resolved", address, "NO", 60)
    assert await run(world.steps().settle_market, outcome) == settled

    final = await run(world.steps().finalize_market, market.FinalizeRequest(market_id=market_id))
    assert await row(world, market_id) == ("finalized", address, "NO", 60)
    assert await run(world.steps().finalize_market, market.FinalizeRequest(market_id=market_id)) == final
    assert await audited(world, market_id) == [
        ("market_published", "chain"),
        ("resolution_completed", "chain"),
        ("market_finalized", "chain"),
    ]
    assert await world.signatures(market_id) == [published.signature, settled.signature, final.signature]


async def test_the_same_step_twice_at_once_gives_one_result(world: World) -> None:
    market_id = await world.new_market()
    requests = [publication(market_id), publication(market_id)]
    one, other = await asyncio.gather(*(run(world.steps().publish_market, request) for request in requests))
    assert one == other
    assert await audited(world, market_id) == [("market_published", "chain")]


async def test_a_step_whose_record_was_not_kept_gives_the_same_result(world: World) -> None:
    market_id = await world.new_market()
    published = await run(world.steps().publish_market, publication(market_id))
    # As when the process dies after the transaction landed and before the database transaction is over.
    await world.pool.execute("DELETE FROM step_results WHERE key = $1", str(market_id))
    await world.pool.execute("UPDATE markets SET status = 'draft', address = NULL WHERE id = $1", market_id)
    assert await run(world.steps().publish_market, publication(market_id)) == published
    assert (await row(world, market_id))[:2] == ("active", published.address)


async def test_the_window_comes_from_the_configuration(world: World) -> None:
    market_id = await world.new_market()
    published = await run(world.steps().publish_market, publication(market_id, window=None))
    assert published.dispute_window_seconds == 24 * 3_600
    assert (await row(world, market_id))[3] == 24 * 3_600


async def test_rules_that_were_not_approved_are_not_published(world: World) -> None:
    market_id = await world.new_market()
    request = publication(market_id).model_copy(update={"rules_sha256": OTHER_ROOT})
    await fails(ILLEGAL_MOVE, run(world.steps().publish_market, request), OTHER_ROOT)
    assert await world.rows(market_id) == []


async def expire(world: World, market_id: UUID) -> None:
    await world.pool.execute("UPDATE markets SET expiry = now() WHERE id = $1", market_id)


async def test_a_draft_that_has_expired_is_not_published(world: World) -> None:
    market_id = await world.new_market()
    await expire(world, market_id)
    await fails(MARKET_EXPIRED, run(world.steps().publish_market, publication(market_id)), "before it was published")
    assert await world.rows(market_id) == []
    assert await row(world, market_id) == ("draft", None, None, None)
    assert await world.chain().read(market_id) is None


async def test_what_was_published_in_time_is_recorded_after_expiry_too(world: World) -> None:
    market_id = await world.new_market()
    await set_faults(world.node, drop_replies=1)
    await fails(CHAIN_UNREACHABLE, run(world.steps().publish_market, publication(market_id)))

    async def landed() -> bool:
        return await world.chain().read(market_id) is not None

    await eventually(landed, "the record that nobody has told us of")
    await expire(world, market_id)
    published = await run(world.steps().publish_market, publication(market_id))
    assert await row(world, market_id) == ("active", published.address, None, 60)
    assert await world.signatures(market_id) == [published.signature]


def cancellation(market_id: UUID) -> market.CancelRequest:
    return market.CancelRequest(market_id=market_id, by="ops", reason="The event was called off.")


async def test_a_published_market_is_cancelled_with_outcome_void(world: World) -> None:
    market_id = await world.new_market()
    published = await run(world.steps().publish_market, publication(market_id))
    canceled = await run(world.steps().cancel_market, cancellation(market_id))
    assert await row(world, market_id) == ("canceled", published.address, "VOID", 60)
    assert await world.signatures(market_id) == [published.signature, canceled.signature]
    assert await run(world.steps().cancel_market, cancellation(market_id)) == canceled
    assert await audited(world, market_id) == [("market_published", "chain"), ("market_canceled", "ops")]


async def test_a_draft_is_cancelled_without_the_chain(world: World) -> None:
    (nobody,) = free_ports(1)
    world.client = connect(f"http://127.0.0.1:{nobody}")
    try:
        market_id = await world.new_market()
        canceled = await run(world.steps().cancel_market, cancellation(market_id))
    finally:
        await world.client.close()
    assert canceled == market.Canceled(signature=None)
    assert await row(world, market_id) == ("canceled", None, None, None)


async def test_a_publication_that_lands_behind_our_back_is_cancelled_on_chain_too(world: World) -> None:
    market_id = await world.new_market()
    await set_faults(world.node, drop_replies=1)
    await fails(CHAIN_UNREACHABLE, run(world.steps().publish_market, publication(market_id)))
    canceled = await run(world.steps().cancel_market, cancellation(market_id))
    assert canceled.signature is not None
    assert await row(world, market_id) == ("canceled", world.yes(market_id), "VOID", None)
    found = await world.chain().read(market_id)
    assert found is not None
    assert (found.status, found.outcome) == (MarketStatus.CANCELED, "VOID")
