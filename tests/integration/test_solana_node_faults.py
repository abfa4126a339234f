"""The local Solana stand-in when it is stopped, killed, short of disk or told to misbehave."""

import asyncio
import base64
import resource
import signal
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.system_program import CreateAccountParams, create_account
from solders.sysvar import CLOCK, RENT
from spl.memo.constants import MEMO_PROGRAM_ID

from tests.integration.solana_node_process import SOL, STILL, Node, RpcFailure, create_token, end_of, launch, running


@pytest.fixture
async def still(tmp_path: Path) -> AsyncIterator[Node]:
    """A node whose time stands still."""
    async with running(tmp_path, *STILL) as node:
        yield node


# Stopping and dying.


async def test_state_survives_a_stop(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        owner, payee = await node.funded(), Keypair().pubkey()
        mint = await create_token(node, owner, 2_500_000)
        landed = await node.send(await node.payment(owner, payee, SOL // 4))
        await node.settled(landed)
        before = await node.call("getTransaction", landed, {"commitment": "confirmed"})
        info = await node.solana.get_account_info(mint)
        slot = await node.call("getSlot", {"commitment": "processed"})
        unsent = await node.payment(owner, payee, SOL // 8)
        await node.stop()
    async with running(tmp_path) as node:
        assert await node.call("getSlot", {"commitment": "processed"}) >= slot
        assert await node.call("getTransaction", landed, {"commitment": "confirmed"}) == before
        await node.settled(landed, "finalized")
        after = await node.solana.get_account_info(mint)
        assert info.value is not None
        assert after.value == info.value
        await node.send(unsent)
        assert await node.balance(payee) == SOL // 4 + SOL // 8


async def test_kill_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    payee = Keypair().pubkey()
    async with running(tmp_path) as node:
        payer = await node.funded()
        await node.stop(signal.SIGKILL)
    paid = 0
    for lamports in (SOL // 8, SOL // 16, SOL // 32):
        async with running(tmp_path) as node:
            transaction = await node.payment(payer, payee, lamports)
            await node.send(transaction)
            await node.stop(signal.SIGKILL)
        paid += lamports
        async with running(tmp_path) as node:
            status = await node.status(transaction.signatures[0])
            assert status is not None
            assert status["err"] is None
            assert await node.balance(payee) == paid
            with pytest.raises(RpcFailure, match="already been processed"):
                await node.send(transaction)
            await node.stop(signal.SIGKILL)


async def test_deployed_program_survives_a_restart(tmp_path: Path) -> None:
    loader = Pubkey.from_string("BPFLoaderUpgradeab1e11111111111111111111111")
    sysvars = [RENT, CLOCK, SYSTEM_PROGRAM]
    buffer, program = Keypair(), Keypair()
    code_address, _ = Pubkey.find_program_address([bytes(program.pubkey())], loader)

    def room(payer: Keypair, keypair: Keypair, size: int) -> Instruction:
        return create_account(
            CreateAccountParams(
                from_pubkey=payer.pubkey(), to_pubkey=keypair.pubkey(), lamports=SOL, space=size, owner=loader
            )
        )

    async with running(tmp_path) as node:
        payer = await node.funded(100 * SOL)
        bundled = (await node.call("getAccountInfo", str(MEMO_PROGRAM_ID), {"encoding": "base64"}))["value"]["data"]
        code = base64.b64decode(bundled[0])
        to_buffer, by_payer = AccountMeta(buffer.pubkey(), False, True), AccountMeta(payer.pubkey(), True, True)
        initialize = Instruction(loader, struct.pack("<I", 0), [to_buffer, by_payer])
        await node.send(await node.signed([room(payer, buffer, 37 + len(code)), initialize], payer, buffer))
        for offset in range(0, len(code), 900):
            part = code[offset : offset + 900]
            write = Instruction(loader, struct.pack("<IIQ", 1, offset, len(part)) + part, [to_buffer, by_payer])
            await node.send(await node.signed([write], payer))
        accounts = [
            by_payer,
            AccountMeta(code_address, False, True),
            AccountMeta(program.pubkey(), False, True),
            to_buffer,
            *(AccountMeta(address, False, False) for address in sysvars),
            by_payer,
        ]
        deploy = Instruction(loader, struct.pack("<IQ", 2, len(code)), accounts)
        await node.send(await node.signed([room(payer, program, 36), deploy], payer, program))
    async with running(tmp_path) as node:
        signature = await node.send(await node.signed([Instruction(program.pubkey(), b"hello", [])], payer))
        landed = await node.settled(signature)
        assert landed["err"] is None
        logs = (await node.call("getTransaction", signature, {"commitment": "confirmed"}))["meta"]["logMessages"]
        assert any("hello" in line for line in logs)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux can limit the files of another process")
async def test_transaction_that_the_disk_refuses_did_not_happen(still: Node) -> None:
    payer, payee = await still.funded(), Keypair().pubkey()
    transaction = await still.payment(payer, payee, SOL // 4)
    _, hard = resource.prlimit(still.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(still.process.pid, resource.RLIMIT_FSIZE, (1, hard))
    with pytest.raises(RpcFailure, match="Internal error"):
        await still.send(transaction)
    resource.prlimit(still.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert await still.status(transaction.signatures[0]) is None
    assert await still.balance(payer.pubkey()) == SOL
    await still.send(transaction)
    assert await still.balance(payee) == SOL // 4


async def test_second_node_on_the_same_state_says_so(still: Node, tmp_path: Path) -> None:
    second = await launch(tmp_path, stderr=asyncio.subprocess.PIPE)
    _, complaint = await end_of(second, 30)
    assert second.returncode == 1
    assert complaint.decode().strip().endswith("stop the node that uses it or set --state-dir.")
    assert complaint.count(b"\n") == 1


async def test_busy_port_says_so(still: Node, tmp_path: Path) -> None:
    port = still.url.rpartition(":")[2]
    second = await launch(tmp_path / "other", "--port", port, stderr=asyncio.subprocess.PIPE)
    _, complaint = await end_of(second, 30)
    assert second.returncode == 1
    assert complaint.decode().startswith(f"Port {port} on 127.0.0.1 cannot be used")
    assert complaint.count(b"\n") == 1


# Faults.


async def test_dropped_transaction_is_accepted_and_never_lands(still: Node) -> None:
    payer, payee = await still.funded(), Keypair().pubkey()
    assert (await still.call("clotho_setFaults", {"drop_transactions": 1}))["drop_transactions"] == 1
    dropped = await still.payment(payer, payee, SOL // 4)
    assert await still.send(dropped) == str(dropped.signatures[0])
    later = await still.payment(payer, payee, SOL // 8)
    await still.send(later)
    assert await still.status(dropped.signatures[0]) is None
    assert await still.balance(payee) == SOL // 8
    await still.send(dropped)
    assert await still.balance(payee) == SOL // 4 + SOL // 8


async def test_lost_reply_breaks_the_connection_after_the_transaction_landed(still: Node) -> None:
    payer, payee = await still.funded(), Keypair().pubkey()
    await still.call("clotho_setFaults", {"drop_replies": 1})
    transaction = await still.payment(payer, payee, SOL // 4)
    with pytest.raises(httpx.RemoteProtocolError):
        await still.send(transaction)
    assert await still.status(transaction.signatures[0]) is not None
    assert await still.balance(payee) == SOL // 4
    await still.send(await still.payment(payer, payee, SOL // 8))


async def test_duplicated_delivery_lands_once_and_answers_already_processed(still: Node) -> None:
    payer, payee = await still.funded(), Keypair().pubkey()
    await still.call("clotho_setFaults", {"duplicate": 2})
    first = await still.payment(payer, payee, SOL // 4)
    with pytest.raises(RpcFailure, match="already been processed"):
        await still.send(first)
    second = await still.payment(payer, payee, SOL // 8)
    assert await still.send(second, skipPreflight=True) == str(second.signatures[0])
    assert await still.balance(payee) == SOL // 4 + SOL // 8
    await still.send(await still.payment(payer, payee, SOL // 16))


async def test_delayed_transaction_lands_after_its_sender_gave_up(still: Node) -> None:
    payer, payee = await still.funded(), Keypair().pubkey()
    transaction = await still.payment(payer, payee, SOL // 4)
    await still.call("clotho_setFaults", {"delay_ms": 1_000})
    wire = base64.b64encode(bytes(transaction)).decode()
    with pytest.raises(httpx.ReadTimeout):
        await still.call("sendTransaction", wire, {"encoding": "base64", "skipPreflight": True}, timeout=0.2)
    await still.call("clotho_setFaults", {})
    assert (await still.settled(transaction.signatures[0], "processed"))["err"] is None
    assert await still.balance(payee) == SOL // 4


async def test_blockhashes_expire_on_demand(still: Node) -> None:
    payer, payee = await still.funded(), Keypair().pubkey()
    old = await still.payment(payer, payee, SOL // 4)
    latest = (await still.call("getLatestBlockhash", {"commitment": "processed"}))["value"]
    answer = await still.call("clotho_setFaults", {"expire_blockhashes": True})
    assert answer["expire_blockhashes"] is False, "it happened once and is over"
    assert await still.call("getBlockHeight", {"commitment": "processed"}) > latest["lastValidBlockHeight"]
    with pytest.raises(RpcFailure, match="Blockhash not found"):
        await still.send(old)
    await still.send(await still.payment(payer, payee, SOL // 8))
    assert await still.balance(payee) == SOL // 8


@pytest.mark.parametrize(("status", "code"), [(429, 429), (503, -32005)])
async def test_http_status(still: Node, status: int, code: int) -> None:
    await still.call("clotho_setFaults", {"http_status": status, "http_requests": 2, "retry_after": 7})
    body = {"jsonrpc": "2.0", "id": 1, "method": "getSlot"}
    for _ in range(2):
        answer = await still.http.post("/", json=body)
        assert (answer.status_code, answer.headers["Retry-After"]) == (status, "7")
        assert answer.json()["error"]["code"] == code
    assert (await still.http.post("/", json=body)).status_code == 200


async def test_faults_are_cleared_by_an_empty_object_and_by_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, *STILL) as node:
        await node.call("clotho_setFaults", {"http_status": 503, "http_requests": 1_000})
        await node.call("clotho_setFaults", {})
        assert await node.call("getHealth") == "ok"
        with pytest.raises(RpcFailure, match="drop_everything") as refused:
            await node.call("clotho_setFaults", {"drop_everything": 1})
        assert refused.value.code == -32602
        await node.call("clotho_setFaults", {"http_status": 503, "http_requests": 1_000})
    async with running(tmp_path, *STILL) as node:
        assert await node.call("getHealth") == "ok"
