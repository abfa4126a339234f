"""Markets on chain: the state machine against a real node that misbehaves, with a real PostgreSQL behind it."""

import asyncio
import hashlib
import struct
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from solana.rpc.commitment import Confirmed
from solders.compute_budget import ID as COMPUTE_BUDGET
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction
from spl.token.constants import TOKEN_2022_PROGRAM_ID
from spl.token.instructions import set_authority
from spl.token.models import AuthorityType, SetAuthorityParams

from activities.market_chain import NewRecord, Overturn
from activities.token2022 import mint_address
from activities.transactions import connect
from db import pool as database
from deploy.local.trading import buy
from domain.errors import (
    BAD_INPUT,
    CHAIN_CONFLICT,
    CHAIN_EXPIRED,
    CHAIN_REJECTED,
    CHAIN_UNFUNDED,
    CHAIN_UNREACHABLE,
    ILLEGAL_MOVE,
)
from domain.rules import Answer
from domain.status import MarketStatus
from tests.integration.chain_world import OTHER_ROOT, ROOT, World, fails, fund, set_faults, settlement
from tests.integration.solana_node_process import SOL
from tests.support import free_ports

# One record, whatever happens.


async def test_two_publications_at_once_make_one_record(world: World) -> None:
    market_id = await world.new_market()
    one, other = await asyncio.gather(
        world.chain().publish(world.record(market_id)), world.chain().publish(world.record(market_id))
    )
    assert one == other
    assert one.record.address == world.yes(market_id)
    assert (one.record.status, one.record.immutable) == (MarketStatus.ACTIVE, False)
    assert one.record.model_dump(include=set(NewRecord.model_fields)) == world.record(market_id).model_dump()
    assert await world.rows(market_id) == [("publish", "landed")]
    assert await world.landed_on(one.record.address) == [(one.signature, True)]


async def test_two_deployments_with_the_same_publisher_make_one_record(world: World, database_url: str) -> None:
    market_id = await world.new_market()
    async with world.storing_held() as about_to_store:
        attempt = asyncio.create_task(world.chain().publish(world.record(market_id)))
        await about_to_store()
        async with await database.connect(database_url) as other_pool:
            other = replace(world, pool=other_pool)
            await other.new_market(market_id=market_id)
            other_uri = world.record(market_id).model_copy(update={"uri": "https://elsewhere.ex"})
            first = await other.chain().publish(other_uri)
    # The program refuses the second, whose sender then reads the account and finds its own market there.
    assert await attempt == first
    assert await world.rows(market_id) == [("publish", "failed")]
    (second,) = await world.signatures(market_id)
    assert await world.landed_on(world.yes(market_id)) == [(second, False), (first.signature, True)]


async def test_a_reply_lost_after_landing_is_not_sent_again(world: World) -> None:
    market_id = await world.new_market()
    await set_faults(world.node, drop_replies=1)
    await fails(CHAIN_UNREACHABLE, world.chain().publish(world.record(market_id)))
    written = await world.chain().publish(world.record(market_id))
    assert await world.rows(market_id) == [("publish", "landed")]
    assert await world.landed_on(written.record.address) == [(written.signature, True)]


async def test_a_transaction_delivered_twice_lands_once(world: World) -> None:
    market_id = await world.new_market()
    await set_faults(world.node, duplicate=1)
    written = await world.chain().publish(world.record(market_id))
    assert await world.rows(market_id) == [("publish", "landed")]
    assert await world.landed_on(written.record.address) == [(written.signature, True)]


async def test_a_dropped_transaction_is_sent_again_and_not_signed_again(world: World) -> None:
    market_id = await world.new_market()
    await set_faults(world.node, drop_transactions=1)
    written = await world.chain().publish(world.record(market_id))
    assert await world.signatures(market_id) == [written.signature]


async def test_only_after_expiry_is_a_new_transaction_signed(world: World) -> None:
    market_id = await world.new_market()
    await set_faults(world.node, drop_transactions=1_000)
    attempt = asyncio.create_task(world.chain().publish(world.record(market_id)))
    await world.becomes(market_id, "sent")
    await set_faults(world.node, drop_transactions=1_000, expire_blockhashes=True)
    await fails(CHAIN_EXPIRED, attempt, "did not land")
    assert await world.rows(market_id) == [("publish", "expired")]
    await set_faults(world.node)
    written = await world.chain().publish(world.record(market_id))
    assert await world.rows(market_id) == [("publish", "expired"), ("publish", "landed")]
    assert (await world.signatures(market_id))[1] == written.signature
    assert await world.landed_on(written.record.address) == [(written.signature, True)]


async def test_a_landing_that_nobody_saw_is_found_after_its_blockhash_expired(world: World) -> None:
    market_id = await world.new_market()
    await set_faults(world.node, drop_replies=1)
    await fails(CHAIN_UNREACHABLE, world.chain().publish(world.record(market_id)))
    # 150 slots later the recent cache of a node no longer knows it: only its history does.
    for _ in range(3):
        await set_faults(world.node, expire_blockhashes=True)
    written = await world.chain().publish(world.record(market_id))
    assert await world.rows(market_id) == [("publish", "landed")]
    assert await world.landed_on(written.record.address) == [(written.signature, True)]


async def test_nothing_is_sent_before_it_is_stored(world: World) -> None:
    market_id = await world.new_market()
    async with world.storing_held() as about_to_store:
        attempt = asyncio.create_task(world.chain().publish(world.record(market_id)))
        await about_to_store()
        attempt.cancel()
        await asyncio.wait([attempt])
    assert await world.rows(market_id) == []
    # Whatever was sent before this airdrop would be on chain when it is.
    await fund(world.node, Keypair().pubkey())
    assert await world.landed_on(world.yes(market_id)) == []


async def test_a_death_between_store_and_send_goes_on_with_the_same_signature(world: World) -> None:
    market_id = await world.new_market()
    async with world.storing_held() as about_to_store:
        attempt = asyncio.create_task(world.chain().publish(world.record(market_id)))
        await about_to_store()
        # Slow from here on, to die while the first request after the store is under way.
        await set_faults(world.node, delay_ms=5_000)
    await world.becomes(market_id, "signed")
    attempt.cancel()
    await asyncio.wait([attempt])
    (signature,) = await world.signatures(market_id)
    await set_faults(world.node)
    assert await world.landed_on(world.yes(market_id)) == []
    written = await world.chain().publish(world.record(market_id))
    assert written.signature == signature
    assert await world.rows(market_id) == [("publish", "landed")]


async def test_a_death_between_send_and_confirmation_goes_on_with_the_same_signature(world: World) -> None:
    market_id = await world.new_market()
    await set_faults(world.node, drop_transactions=1)
    attempt = asyncio.create_task(world.chain().publish(world.record(market_id)))
    await world.becomes(market_id, "sent")
    attempt.cancel()
    await asyncio.wait([attempt])
    (signature,) = await world.signatures(market_id)
    written = await world.chain().publish(world.record(market_id))
    assert written.signature == signature
    assert await world.rows(market_id) == [("publish", "landed")]


async def test_other_rules_at_the_address_are_a_conflict(world: World) -> None:
    market_id = await world.published()
    await fails(CHAIN_CONFLICT, world.chain().publish(world.record(market_id, OTHER_ROOT)), OTHER_ROOT)
    found = await world.chain().read(market_id)
    assert found is not None
    assert found.rules_sha256 == ROOT
    assert await world.rows(market_id) == [("publish", "landed")]


async def test_after_a_restore_the_chain_says_who_published(world: World) -> None:
    market_id = await world.new_market()
    first = await world.chain().publish(world.record(market_id))
    await world.chain().settle(settlement(market_id))
    await world.pool.execute("DELETE FROM chain_transactions WHERE market_id = $1", market_id)
    again = await world.chain().publish(world.record(market_id))
    assert (again.signature, again.slot) == (first.signature, first.slot)
    assert again.record.status is MarketStatus.RESOLVED
    assert await world.rows(market_id) == []


async def test_lamports_sent_to_the_address_beforehand_do_not_block_it(world: World) -> None:
    market_id = await world.new_market()
    await fund(world.node, Pubkey.from_string(world.yes(market_id)), SOL // 1_000)
    assert await world.chain().read(market_id) is None
    written = await world.chain().publish(world.record(market_id))
    assert written.record.market_id == market_id


async def test_a_market_that_has_ended_is_not_published_by_a_late_attempt(world: World) -> None:
    market_id = await world.new_market("canceled")
    await fails(ILLEGAL_MOVE, world.chain().publish(world.record(market_id)), "has ended")
    assert await world.rows(market_id) == []
    assert await world.chain().read(market_id) is None


# The life of a record.


def raw(data: bytes, market_yes: Pubkey, authority: Keypair) -> Instruction:
    accounts = [AccountMeta(market_yes, False, True), AccountMeta(authority.pubkey(), True, False)]
    return Instruction(TOKEN_2022_PROGRAM_ID, data, accounts)


def changes(world: World, market_id: UUID) -> dict[str, tuple[Instruction, Keypair]]:
    """Every way to change the two mints that the program knows, by who once had the authority."""
    yes, no = (mint_address(world.publisher.pubkey(), market_id, side) for side in ("yes", "no"))
    update = hashlib.sha256(b"spl_token_metadata_interface:updating_field").digest()[:8]
    authority = hashlib.sha256(b"spl_token_metadata_interface:update_the_authority").digest()[:8]
    remove = hashlib.sha256(b"spl_token_metadata_interface:remove_key_ix").digest()[:8]
    text = [struct.pack("<I", len(part)) + part for part in (b"outcome", b"NO")]
    found = {
        "field": (raw(update + b"\x03" + text[0] + text[1], yes, world.resolver), world.resolver),
        "name": (raw(update + b"\x00" + text[1], yes, world.resolver), world.resolver),
        "removal": (raw(remove + b"\x01" + text[0], yes, world.resolver), world.resolver),
        "update authority": (raw(authority + bytes(world.resolver.pubkey()), yes, world.resolver), world.resolver),
        "pointer": (raw(bytes([39, 1]) + bytes(32), yes, world.resolver), world.resolver),
    }
    for name, mint in (("YES", yes), ("NO", no)):
        for kind in AuthorityType.MINT_TOKENS, AuthorityType.FREEZE_ACCOUNT, AuthorityType.CLOSE_ACCOUNT:
            params = SetAuthorityParams(
                program_id=TOKEN_2022_PROGRAM_ID,
                account=mint,
                authority=kind,
                current_authority=world.publisher.pubkey(),
                new_authority=world.publisher.pubkey(),
            )
            found[f"{kind.name} of {name}"] = (set_authority(params), world.publisher)
    return found


async def test_a_record_from_publication_to_finality(world: World) -> None:
    market_id = await world.published()
    assert await world.try_out([changes(world, market_id)["field"][0]], world.resolver) is None

    before = datetime.now(UTC) - timedelta(seconds=1)
    settled = (await world.chain().settle(settlement(market_id, Answer.NO))).record
    assert (settled.status, settled.outcome, settled.evidence_sha256) == (MarketStatus.RESOLVED, "NO", ROOT)
    assert settled.resolved_at is not None
    assert before <= settled.resolved_at <= datetime.now(UTC)
    assert settled.dispute_id is None

    dispute = uuid4()
    won = Overturn(market_id=market_id, dispute_id=dispute, outcome=Answer.YES, evidence_sha256=OTHER_ROOT)
    overturned = (await world.chain().overturn(won)).record
    assert (overturned.outcome, overturned.evidence_sha256, overturned.dispute_id) == ("YES", OTHER_ROOT, dispute)
    assert (await world.chain().overturn(won)).record == overturned
    await fails(CHAIN_CONFLICT, world.chain().settle(settlement(market_id, Answer.NO)))
    await fails(CHAIN_CONFLICT, world.chain().cancel(market_id))

    final = await world.chain().finalize(market_id)
    assert (final.record.status, final.record.outcome, final.record.immutable) == (MarketStatus.FINALIZED, "YES", True)
    status = (await world.client.get_signature_statuses([Signature.from_string(final.signature)])).value[0]
    assert status is not None
    assert str(status.confirmation_status).endswith("Finalized")
    assert await world.chain().finalize(market_id) == final
    for purpose, state in await world.rows(market_id):
        assert state == "landed", purpose

    for name, (instruction, signer) in changes(world, market_id).items():
        refused = await world.try_out([instruction], signer)
        assert refused is not None, f"{name} can still be changed"
        assert "custom program error" in refused, name
    late = Overturn(market_id=market_id, dispute_id=uuid4(), outcome=Answer.NO, evidence_sha256=ROOT)
    await fails(CHAIN_CONFLICT, world.chain().overturn(late), "finalized")
    await fails(CHAIN_CONFLICT, world.chain().settle(settlement(market_id, Answer.NO, look=2)), "finalized")
    assert await world.chain().read(market_id) == final.record


async def test_the_publisher_pays_rent_for_the_longest_life(world: World) -> None:
    market_id = await world.published()
    before = (await world.client.get_balance(world.resolver.pubkey(), Confirmed)).value
    await world.chain().settle(settlement(market_id))
    won = Overturn(market_id=market_id, dispute_id=uuid4(), outcome=Answer.NO, evidence_sha256=ROOT)
    await world.chain().overturn(won)
    await world.chain().finalize(market_id)
    after = (await world.client.get_balance(world.resolver.pubkey(), Confirmed)).value
    assert before - after == 4 * 5_000  # lamports for each signature: one, one, and two of the finalisation
    account = (await world.client.get_account_info(Pubkey.from_string(world.yes(market_id)), Confirmed)).value
    assert account is not None
    exempt = (await world.client.get_minimum_balance_for_rent_exemption(len(account.data))).value
    # Only "VOID" is longer than the outcome that is there, by two characters.
    longer = (await world.client.get_minimum_balance_for_rent_exemption(len(account.data) + 2)).value
    assert exempt < account.lamports == longer


async def test_a_cancelled_record_is_void_and_stays_so(world: World) -> None:
    market_id = await world.published()
    written = await world.chain().cancel(market_id)
    assert written is not None
    assert (written.record.status, written.record.outcome) == (MarketStatus.CANCELED, "VOID")
    assert await world.chain().cancel(market_id) == written
    await fails(CHAIN_CONFLICT, world.chain().settle(settlement(market_id)), "canceled")
    await fails(CHAIN_CONFLICT, world.chain().finalize(market_id), "canceled")


async def test_what_has_no_record_cannot_be_settled(world: World) -> None:
    market_id = await world.new_market()
    await fails(CHAIN_CONFLICT, world.chain().settle(settlement(market_id)), "no record")
    assert await world.chain().cancel(market_id) is None
    assert await world.rows(market_id) == []


async def test_nothing_is_signed_for_a_market_while_an_earlier_transaction_can_land(world: World) -> None:
    market_id = await world.published()
    await set_faults(world.node, drop_transactions=1)
    attempt = asyncio.create_task(world.chain().settle(settlement(market_id)))
    await world.becomes(market_id, "landed", "sent")
    attempt.cancel()
    await asyncio.wait([attempt])
    # The cancellation finds the settlement on its way, sees it land, and then has nothing to cancel any more.
    await fails(CHAIN_CONFLICT, world.chain().cancel(market_id), "resolved")
    assert await world.rows(market_id) == [("publish", "landed"), ("settle:1", "landed")]


async def test_an_outcome_is_not_written_over_a_cancellation_on_its_way(world: World) -> None:
    market_id = await world.published()
    await set_faults(world.node, drop_transactions=1)
    attempt = asyncio.create_task(world.chain().cancel(market_id))
    await world.becomes(market_id, "landed", "sent")
    attempt.cancel()
    await asyncio.wait([attempt])
    await fails(CHAIN_CONFLICT, world.chain().settle(settlement(market_id)), "canceled")
    assert await world.rows(market_id) == [("publish", "landed"), ("cancel", "landed")]


async def test_holdings_are_the_tokens_of_one_owner(world: World) -> None:
    market_id = await world.published()
    owner, stranger = Keypair().pubkey(), Keypair().pubkey()
    await buy(world.client, world.publisher, market_id, owner, side="yes", millionths=2_500_000)
    held = await world.chain().holdings(market_id, str(owner))
    assert (held.yes, held.no) == (2_500_000, 0)
    none = await world.chain().holdings(market_id, str(stranger))
    assert (none.yes, none.no) == (0, 0)
    await fails(BAD_INPUT, world.chain().holdings(market_id, "nobody"), "'nobody' is not a Solana address")


# What stands in the way, in words.


@pytest.mark.parametrize("lamports", [0, SOL // 1_000], ids=["empty", "too little"])
async def test_an_unfunded_wallet_is_named(world: World, lamports: int) -> None:
    world.publisher = Keypair()
    if lamports:
        await fund(world.node, world.publisher.pubkey(), lamports)
    market_id = await world.new_market()
    error = await fails(CHAIN_UNFUNDED, world.chain().publish(world.record(market_id)))
    assert f"wallet {world.publisher.pubkey()} cannot pay for publish of market {market_id}" in error.message
    assert await world.rows(market_id) == []
    await fund(world.node, world.publisher.pubkey())
    assert (await world.chain().publish(world.record(market_id))).record.market_id == market_id


async def test_a_failure_on_chain_is_decoded_and_may_be_tried_anew(world: World) -> None:
    world.publisher = Keypair()
    await fund(world.node, world.publisher.pubkey())
    market_id = await world.new_market()
    await set_faults(world.node, drop_transactions=1_000)
    attempt = asyncio.create_task(world.chain().publish(world.record(market_id)))
    await world.becomes(market_id, "sent")
    attempt.cancel()
    await asyncio.wait([attempt])
    await set_faults(world.node)
    # Between the simulation and the landing the wallet is emptied but for the fee.
    publisher = world.publisher.pubkey()
    away = TransferParams(from_pubkey=publisher, to_pubkey=world.resolver.pubkey(), lamports=SOL - SOL // 1_000)
    await world.send([transfer(away)], world.publisher)
    error = await fails(CHAIN_UNFUNDED, world.chain().publish(world.record(market_id)), "insufficient lamports")
    assert str(publisher) in error.message
    assert await world.rows(market_id) == [("publish", "failed")]
    stored = await world.pool.fetchval("SELECT error FROM chain_transactions WHERE market_id = $1", market_id)
    assert stored == error.message
    await fund(world.node, publisher)
    written = await world.chain().publish(world.record(market_id))
    assert await world.rows(market_id) == [("publish", "failed"), ("publish", "landed")]
    assert [succeeded for _, succeeded in await world.landed_on(written.record.address)] == [True, False]


async def test_what_the_program_refuses_is_said_in_its_words(world: World) -> None:
    market_id = await world.published()
    world.resolver = Keypair()
    await fund(world.node, world.resolver.pubkey())
    await fails(
        CHAIN_REJECTED,
        world.chain().settle(settlement(market_id)),
        f"refused settle:1 of market {market_id} (incorrect metadata update authority has signed)",
    )
    assert await world.rows(market_id) == [("publish", "landed")]


@pytest.mark.parametrize("status", [503, 429])
async def test_a_node_that_will_not_answer_says_when_to_ask_again(world: World, status: int) -> None:
    market_id = await world.new_market()
    await set_faults(world.node, http_status=status, http_requests=1, retry_after=7)
    error = await fails(CHAIN_UNREACHABLE, world.chain().publish(world.record(market_id)), f"HTTP {status}")
    assert error.next_retry_delay == timedelta(seconds=7)
    assert (await world.chain().publish(world.record(market_id))).record.market_id == market_id


async def test_a_node_that_is_not_there_or_none_at_all(world: World) -> None:
    (port,) = free_ports(1)

    async def web_page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    market_id = await world.new_market()
    world.client = connect(f"http://127.0.0.1:{port}/?api-key=hidden")
    try:
        error = await fails(CHAIN_UNREACHABLE, world.chain().publish(world.record(market_id)), "cannot be reached")
        assert "hidden" not in error.message
        async with await asyncio.start_server(web_page, "127.0.0.1", port):
            await fails(CHAIN_UNREACHABLE, world.chain().publish(world.record(market_id)), "is not a Solana node")
    finally:
        await world.client.close()


async def test_a_record_that_is_too_long_is_refused_with_its_size(world: World) -> None:
    market_id = await world.new_market()
    record = world.record(market_id).model_copy(update={"uri": "https://" + "u" * 300})
    await fails(BAD_INPUT, world.chain().publish(record), "and a transaction holds 1232")
    assert await world.rows(market_id) == []


async def test_a_priority_fee_rides_along_when_there_is_room(world: World) -> None:
    short, long = await world.new_market(), await world.new_market()
    await world.chain().publish(world.record(short).model_copy(update={"title": "Rain?"}))
    await world.chain().publish(world.record(long).model_copy(update={"title": "R" * 64}))

    async def budget(market_id: UUID) -> list[bytes]:
        wire = await world.pool.fetchval("SELECT wire FROM chain_transactions WHERE market_id = $1", market_id)
        message = VersionedTransaction.from_bytes(wire).message
        return [i.data for i in message.instructions if message.account_keys[i.program_id_index] == COMPUTE_BUDGET]

    limit, price = await budget(short)
    assert (limit[0], price[0]) == (2, 3)
    used = struct.unpack("<I", limit[1:])[0]
    landed = await world.client.get_transaction(
        Signature.from_string((await world.signatures(short))[0]), "base64", Confirmed, 0
    )
    assert landed.value is not None
    meta = landed.value.transaction.meta
    assert meta is not None
    assert meta.compute_units_consumed is not None
    assert meta.compute_units_consumed < used < 2 * meta.compute_units_consumed
    assert await budget(long) == []
