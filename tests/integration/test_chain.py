"""Markets on chain: the state machine against a real node that misbehaves, with a real PostgreSQL behind it."""

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed
from solders.compute_budget import ID as COMPUTE_BUDGET
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction
from spl.token.constants import TOKEN_2022_PROGRAM_ID
from spl.token.instructions import (
    create_associated_token_account,
    get_associated_token_address,
    mint_to,
    set_authority,
)
from spl.token.models import AuthorityType, MintToParams, SetAuthorityParams
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.chain import ChainSteps
from activities.market_chain import NewRecord, Overturn, Settlement
from activities.token2022 import Token2022Chain, mint_address
from activities.transactions import Transactions, connect
from db import pool as database
from db.pool import Pool
from domain import market, steps
from domain.errors import (
    BAD_INPUT,
    CHAIN_CONFLICT,
    CHAIN_EXPIRED,
    CHAIN_REJECTED,
    CHAIN_UNFUNDED,
    CHAIN_UNREACHABLE,
    ILLEGAL_MOVE,
    Kind,
)
from domain.rules import Answer
from domain.status import MarketStatus
from tests.integration.solana_node_process import SOL, Node, running
from tests.support import eventually, free_ports

ROOT, OTHER_ROOT = "a" * 64, "b" * 64
MARKETS_URL = "https://markets.clotho.ex/api/v1/markets"


async def set_faults(node: Node, **faults: Any) -> None:
    """Set the faults in force; none clears them."""
    await node.call("clotho_setFaults", faults)


async def fund(node: Node, address: Pubkey, lamports: int = SOL) -> None:
    """Send lamports from the faucet; returns when they can be spent."""
    await node.settled(await node.call("requestAirdrop", str(address), lamports))


@pytest.fixture(scope="module")
async def running_node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    # Short slots, and longer from confirmed to final than between two looks, so that waiting for one shows.
    async with running(tmp_path_factory.mktemp("solana"), "--slot-ms", "200", "--finalize-after", "6") as node:
        yield node


@pytest.fixture
async def node(running_node: Node) -> AsyncIterator[Node]:
    yield running_node
    await set_faults(running_node)


@pytest.fixture(scope="module")
async def pool(postgres_url: str) -> AsyncIterator[Pool]:
    pool = await database.connect(postgres_url)
    yield pool
    await pool.close()


@pytest.fixture(scope="module")
async def wallets(running_node: Node) -> tuple[Keypair, Keypair]:
    publisher, resolver = Keypair(), Keypair()
    await asyncio.gather(*(fund(running_node, wallet.pubkey(), 10 * SOL) for wallet in (publisher, resolver)))
    return publisher, resolver


@dataclass
class World:
    """Two funded wallets, and one of our own markets in the database."""

    node: Node
    pool: Pool
    client: AsyncClient
    publisher: Keypair
    resolver: Keypair

    def chain(self) -> Token2022Chain:
        """A new instance, as after a restart: it knows nothing but wallets, node and database."""
        return Token2022Chain(self.client, Transactions(self.pool, self.client), self.publisher, self.resolver)

    def steps(self) -> ChainSteps:
        return ChainSteps(self.pool, self.chain(), MARKETS_URL)

    def record(self, market_id: UUID, rules_sha256: str = ROOT) -> NewRecord:
        return NewRecord(
            market_id=market_id,
            rules_sha256=rules_sha256,
            title="Will it rain in Reykjavik on 1 July 2027?",
            uri=f"{MARKETS_URL}/{market_id}/metadata",
            expiry=datetime(2027, 7, 1, tzinfo=UTC),
            ai_version="ai_v1.0.0_gpt35_20240601",
        )

    async def new_market(self, status: str = "draft", market_id: UUID | None = None) -> UUID:
        market_id = market_id or uuid4()
        await self.pool.execute("INSERT INTO rules VALUES ($1, '{}') ON CONFLICT DO NOTHING", ROOT)
        await self.pool.execute(
            "INSERT INTO markets (id, origin, status, title, description, category, rules_sha256, ai_version,"
            " initial_yes_prob, confidence, expiry)"
            " VALUES ($1, 'manual', $2, 'Will it rain?', '', 'misc', $3, 'ai_v1.0.0_gpt35_20240601', 5000, 0.9,"
            " '2027-07-01Z')",
            market_id,
            status,
            ROOT,
        )
        return market_id

    async def published(self) -> UUID:
        market_id = await self.new_market()
        await self.chain().publish(self.record(market_id))
        return market_id

    async def rows(self, market_id: UUID) -> list[tuple[str, str]]:
        found = await self.pool.fetch(
            "SELECT purpose, state FROM chain_transactions WHERE market_id = $1 ORDER BY id", market_id
        )
        return [(row["purpose"], row["state"]) for row in found]

    async def signatures(self, market_id: UUID) -> list[str]:
        found = await self.pool.fetch(
            "SELECT signature FROM chain_transactions WHERE market_id = $1 ORDER BY id", market_id
        )
        return [row["signature"] for row in found]

    async def becomes(self, market_id: UUID, *states: str) -> None:
        """Wait until the market's transactions are in these states."""

        async def so() -> bool:
            return [state for _, state in await self.rows(market_id)] == list(states)

        await eventually(so, f"transactions in the states {states}")

    async def landed_on(self, address: str) -> list[tuple[str, bool]]:
        """Signature and success of every transaction that names the address, newest first."""
        found = await self.client.get_signatures_for_address(Pubkey.from_string(address), commitment=Confirmed)
        return [(str(one.signature), one.err is None) for one in found.value]

    def yes(self, market_id: UUID) -> str:
        return str(mint_address(self.publisher.pubkey(), market_id, "yes"))

    async def try_out(self, instructions: Iterable[Instruction], *signers: Keypair) -> str | None:
        """What the program says against a transaction; None when it would accept it."""
        blockhash = (await self.client.get_latest_blockhash(Confirmed)).value.blockhash
        message = Message.new_with_blockhash(list(instructions), signers[0].pubkey(), blockhash)
        simulated = (
            await self.client.simulate_transaction(
                VersionedTransaction(message, signers), sig_verify=True, commitment=Confirmed
            )
        ).value
        return None if simulated.err is None else f"{simulated.err} {simulated.logs}"

    async def send(self, instructions: Iterable[Instruction], *signers: Keypair) -> None:
        """Send a transaction of the test's own and wait until it has landed."""
        blockhash = (await self.client.get_latest_blockhash(Confirmed)).value.blockhash
        message = Message.new_with_blockhash(list(instructions), signers[0].pubkey(), blockhash)
        await self.node.settled((await self.client.send_transaction(VersionedTransaction(message, signers))).value)

    @asynccontextmanager
    async def storing_held(self) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Inside, no transaction can be stored; what it gives waits until one is about to be."""

        async def waits() -> bool:
            return bool(
                await self.pool.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    " AND datname = current_database() AND query LIKE 'INSERT INTO chain_transactions%')"
                )
            )

        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE chain_transactions IN EXCLUSIVE MODE")
            yield lambda: eventually(waits, "the attempt to store a transaction")


@pytest.fixture
async def world(node: Node, pool: Pool, wallets: tuple[Keypair, Keypair]) -> AsyncIterator[World]:
    client = connect(node.url)
    yield World(node, pool, client, *wallets)
    await client.close()


async def fails(kind: Kind, call: Awaitable[Any], text: str = "") -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        await call
    assert (caught.value.type, caught.value.non_retryable) == (kind.type, not kind.retryable), caught.value
    assert text in caught.value.message
    return caught.value


def settlement(market_id: UUID, outcome: Answer = Answer.YES, root: str = ROOT, look: int = 1) -> Settlement:
    return Settlement(market_id=market_id, look=look, outcome=outcome, evidence_sha256=root)


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
    yes = mint_address(world.publisher.pubkey(), market_id, "yes")
    publisher = world.publisher.pubkey()
    account = get_associated_token_address(owner, yes, TOKEN_2022_PROGRAM_ID)
    await world.send(
        [
            create_associated_token_account(publisher, owner, yes, TOKEN_2022_PROGRAM_ID),
            mint_to(
                MintToParams(
                    program_id=TOKEN_2022_PROGRAM_ID, mint=yes, dest=account, mint_authority=publisher, amount=2_500_000
                )
            ),
        ],
        world.publisher,
    )
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


# The steps.


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


def test_each_step_of_the_chain_has_its_implementation() -> None:
    names = {getattr(ChainSteps, name).__name__ for name in dir(ChainSteps) if name.endswith("_market")}
    assert names == {step.name for step in steps.steps_of(steps.Role.CHAIN)}
