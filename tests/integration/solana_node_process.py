"""What the tests of the local Solana stand-in share: a node in a process of its own, payments and tokens."""

import asyncio
import base64
import hashlib
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import CreateAccountParams, TransferParams, create_account, transfer
from solders.transaction import VersionedTransaction
from spl.token.constants import TOKEN_2022_PROGRAM_ID
from spl.token.instructions import (
    create_associated_token_account,
    get_associated_token_address,
    initialize_mint2,
    mint_to,
)
from spl.token.models import InitializeMint2Params, MintToParams

REPOSITORY = Path(__file__).parents[2]
SOL = 10**9
FEE = 5_000
"""Lamports for one signature on every Solana cluster."""

STILL = ("--slot-ms", "3600000")
"""No slot passes while a test runs."""


class RpcFailure(Exception):
    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.code = error["code"]
        self.message = error["message"]
        self.data: Any = error.get("data")


class Node:
    """A node in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url
        self.http = httpx.AsyncClient(base_url=url, timeout=20)
        self.solana = AsyncClient(url, Confirmed, timeout=20)

    async def call(self, method: str, *params: Any, timeout: float = 20) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = (await self.http.post("/", json=body, timeout=timeout)).raise_for_status().json()
        if "error" in answer:
            raise RpcFailure(answer["error"])
        return answer["result"]

    async def send(self, transaction: VersionedTransaction, **config: Any) -> str:
        wire = base64.b64encode(bytes(transaction)).decode()
        config = {"encoding": "base64", "preflightCommitment": "processed", **config}
        signature: str = await self.call("sendTransaction", wire, config)
        return signature

    async def status(self, signature: str | Signature) -> dict[str, Any] | None:
        config = {"searchTransactionHistory": True}
        status: dict[str, Any] | None = (await self.call("getSignatureStatuses", [str(signature)], config))["value"][0]
        return status

    async def settled(self, signature: str | Signature, wanted: str = "confirmed") -> dict[str, Any]:
        """The transaction's status once it has the commitment."""
        levels = ["processed", "confirmed", "finalized"]
        async with asyncio.timeout(60):
            while True:
                status = await self.status(signature)
                if status and levels.index(status["confirmationStatus"]) >= levels.index(wanted):
                    return status
                await asyncio.sleep(0.01)

    async def funded(self, lamports: int = SOL) -> Keypair:
        keypair = Keypair()
        signature = await self.call("requestAirdrop", str(keypair.pubkey()), lamports)
        assert (await self.status(signature)) is not None
        return keypair

    async def signed(
        self, instructions: list[Instruction], *signers: Keypair, commitment: str = "processed"
    ) -> VersionedTransaction:
        latest = await self.call("getLatestBlockhash", {"commitment": commitment})
        blockhash = Hash.from_string(latest["value"]["blockhash"])
        return VersionedTransaction(
            Message.new_with_blockhash(instructions, signers[0].pubkey(), blockhash), list(signers)
        )

    async def payment(self, payer: Keypair, to: Pubkey, lamports: int) -> VersionedTransaction:
        return await self.signed([pay(payer, to, lamports)], payer)

    async def balance(self, address: Pubkey, commitment: str = "processed") -> int:
        lamports: int = (await self.call("getBalance", str(address), {"commitment": commitment}))["value"]
        return lamports

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        await self.http.aclose()
        await self.solana.close()
        if self.process.returncode is None:
            self.process.send_signal(how)
        await asyncio.wait_for(self.process.wait(), 30)


async def launch(state: Path, *options: str, stderr: int | None = None) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy.local.solana_node", "--port", "0", "--state-dir", str(state), *options),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
    )


async def end_of(process: asyncio.subprocess.Process, seconds: float) -> tuple[bytes, bytes]:
    """What a process wrote until it ended; one that does not end in time is killed."""
    try:
        return await asyncio.wait_for(process.communicate(), seconds)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def running(state: Path, *options: str) -> AsyncIterator[Node]:
    process = await launch(state, *options)
    assert process.stdout is not None
    ready = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
    found = re.search(r"http://127\.0\.0\.1:\d+", ready)
    assert found, ready
    node = Node(process, found[0])
    try:
        yield node
    finally:
        await node.stop()


def pay(payer: Keypair, to: Pubkey, lamports: int) -> Instruction:
    return transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=to, lamports=lamports))


NAME, SYMBOL, URI = "Will it rain in Oslo on 1 May?", "YES", "https://rules.example/7"
FIELDS = {"market_id": "7", "status": "open"}


def text(value: str) -> bytes:
    return len(value.encode()).to_bytes(4, "little") + value.encode()


def metadata_instruction(name: str, body: bytes, *accounts: AccountMeta) -> Instruction:
    discriminator = hashlib.sha256(f"spl_token_metadata_interface:{name}".encode()).digest()[:8]
    return Instruction(TOKEN_2022_PROGRAM_ID, discriminator + body, list(accounts))


async def create_token(node: Node, owner: Keypair, amount: int) -> Pubkey:
    """A mint with metadata of its own, and `amount` base units of it for `owner`."""
    mint_keypair = Keypair()
    mint, authority = mint_keypair.pubkey(), owner.pubkey()
    writable, signer = AccountMeta(mint, False, True), AccountMeta(authority, True, False)
    pointer = bytes([39, 0]) + bytes(authority) + bytes(mint)
    instructions = [
        create_account(
            CreateAccountParams(
                from_pubkey=authority,
                to_pubkey=mint,
                lamports=await node.call("getMinimumBalanceForRentExemption", 1_000),
                space=165 + 1 + 68,
                owner=TOKEN_2022_PROGRAM_ID,
            )
        ),
        Instruction(TOKEN_2022_PROGRAM_ID, pointer, [writable]),
        initialize_mint2(
            InitializeMint2Params(
                decimals=6, program_id=TOKEN_2022_PROGRAM_ID, mint=mint, mint_authority=authority, freeze_authority=None
            )
        ),
        metadata_instruction(
            "initialize_account",
            text(NAME) + text(SYMBOL) + text(URI),
            *(writable, AccountMeta(authority, False, False), AccountMeta(mint, False, False), signer),
        ),
        *(
            # 3 is Field::Key, any field beside name, symbol and uri.
            metadata_instruction("updating_field", b"\x03" + text(field) + text(value), writable, signer)
            for field, value in FIELDS.items()
        ),
    ]
    await node.send(await node.signed(instructions, owner, mint_keypair))
    account = get_associated_token_address(authority, mint, TOKEN_2022_PROGRAM_ID)
    instructions = [
        create_associated_token_account(authority, authority, mint, TOKEN_2022_PROGRAM_ID),
        mint_to(
            MintToParams(
                program_id=TOKEN_2022_PROGRAM_ID, mint=mint, dest=account, mint_authority=authority, amount=amount
            )
        ),
    ]
    signature = await node.send(await node.signed(instructions, owner))
    assert (await node.settled(signature))["err"] is None
    return mint
