"""What the tests of the chain share: a node that misbehaves on demand, funded wallets, markets in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from temporalio.exceptions import ApplicationError

from activities.chain import ChainSteps
from activities.market_chain import NewRecord, Settlement
from activities.token2022 import Token2022Chain, mint_address
from activities.transactions import Transactions, connect
from db import pool as database
from db.pool import Pool
from domain.errors import Kind
from domain.rules import Answer
from tests.integration.solana_node_process import SOL, Node, running
from tests.support import eventually

ROOT, OTHER_ROOT = "a" * 64, "b" * 64
MARKETS_URL = "https://markets.clotho.ex/api/v1/markets"
EXPIRY = datetime(datetime.now(UTC).year + 1, 7, 1, tzinfo=UTC)


async def set_faults(node: Node, **faults: Any) -> None:
    """Set the faults in force; none clears them."""
    await node.call("clotho_setFaults", faults)


async def fund(node: Node, address: Pubkey, lamports: int = SOL) -> None:
    """Send lamports from the faucet; returns when they can be spent."""
    await node.settled(await node.call("requestAirdrop", str(address), lamports))


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
            title=f"Will it rain in Reykjavik on 1 July {EXPIRY.year}?",
            uri=f"{MARKETS_URL}/{market_id}/metadata",
            expiry=EXPIRY,
            ai_version="ai_v1.0.0_gpt35_20240601",
        )

    async def new_market(self, status: str = "draft", market_id: UUID | None = None) -> UUID:
        market_id = market_id or uuid4()
        await self.pool.execute("INSERT INTO rules VALUES ($1, '{}') ON CONFLICT DO NOTHING", ROOT)
        await self.pool.execute(
            "INSERT INTO markets (id, origin, status, title, description, category, rules_sha256, ai_version,"
            " initial_yes_prob, confidence, expiry)"
            " VALUES ($1, 'manual', $2, 'Will it rain?', '', 'misc', $3, 'ai_v1.0.0_gpt35_20240601', 5000, 0.9,"
            " $4)",
            market_id,
            status,
            ROOT,
            EXPIRY,
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


@asynccontextmanager
async def prepared(folder: Path, postgres_url: str) -> AsyncIterator[World]:
    """A node of the tests' own, with two wallets that are funded."""
    pool = await database.connect(postgres_url)
    # Short slots, and longer from confirmed to final than between two looks, so that waiting for one shows.
    async with running(folder, "--slot-ms", "200", "--finalize-after", "6") as node:
        publisher, resolver = Keypair(), Keypair()
        await asyncio.gather(*(fund(node, wallet.pubkey(), 10 * SOL) for wallet in (publisher, resolver)))
        async with connect(node.url) as client:
            yield World(node, pool, client, publisher, resolver)
    await pool.close()


async def fails(kind: Kind, call: Awaitable[Any], text: str = "") -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        await call
    assert (caught.value.type, caught.value.non_retryable) == (kind.type, not kind.retryable), caught.value
    assert text in caught.value.message
    return caught.value


def settlement(market_id: UUID, outcome: Answer = Answer.YES, root: str = ROOT, look: int = 1) -> Settlement:
    return Settlement(market_id=market_id, look=look, outcome=outcome, evidence_sha256=root)
