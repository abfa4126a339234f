"""The local Solana stand-in, seen by Solana's Python and JavaScript clients and by plain JSON-RPC."""

import asyncio
import base64
import json
import shutil
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Processed
from solana.rpc.core import RPCException
from solana.rpc.models import TokenAccountOpts, TxOpts
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.rpc.errors import SendTransactionPreflightFailureMessage
from solders.signature import Signature
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.transaction import VersionedTransaction
from solders.transaction_status import TransactionConfirmationStatus, TransactionErrorFieldless
from spl.token.constants import TOKEN_2022_PROGRAM_ID
from spl.token.instructions import (
    get_associated_token_address,
)

from tests.integration.solana_node_process import (
    FEE,
    FIELDS,
    NAME,
    SOL,
    STILL,
    SYMBOL,
    URI,
    Node,
    RpcFailure,
    create_token,
    end_of,
    pay,
    running,
)

WEB3JS = Path(__file__).parent / "web3js"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node whose slots pass quickly, and blockhashes with them: they live for 15 seconds."""
    async with running(tmp_path, "--slot-ms", "100") as node:
        yield node


@pytest.fixture
async def still(tmp_path: Path) -> AsyncIterator[Node]:
    """A node whose time stands still."""
    async with running(tmp_path, *STILL) as node:
        yield node


# Money and transactions, with Solana's Python client.


async def test_airdrop_and_transfer(node: Node) -> None:
    client = node.solana
    payer, payee = Keypair(), Keypair().pubkey()
    airdrop = (await client.request_airdrop(payer.pubkey(), SOL)).value
    await node.settled(airdrop)
    assert (await client.get_balance(payer.pubkey())).value == SOL

    latest = (await client.get_latest_blockhash()).value
    message = MessageV0.try_compile(payer.pubkey(), [pay(payer, payee, SOL // 4)], [], latest.blockhash)
    transaction = VersionedTransaction(message, [payer])
    assert (await client.get_fee_for_message(message)).value == FEE
    assert (await client.simulate_transaction(transaction)).value.err is None
    assert (await client.get_account_info(payee)).value is None

    signature = (await client.send_transaction(transaction)).value
    assert signature == transaction.signatures[0]
    await node.settled(signature, "finalized")
    status = (await client.get_signature_statuses([signature])).value[0]
    assert status is not None
    assert (status.confirmation_status, status.err) == (TransactionConfirmationStatus.Finalized, None)
    assert (await client.get_balance(payee)).value == SOL // 4
    assert (await client.get_balance(payer.pubkey())).value == SOL - SOL // 4 - FEE

    with pytest.raises(RPCException, match="maxSupportedTransactionVersion"):
        await client.get_transaction(signature)
    for encoding in ("json", "jsonParsed", "base64"):
        found = await client.get_transaction(signature, encoding=encoding, max_supported_transaction_version=0)
        assert found.value is not None
        meta = found.value.transaction.meta
        assert meta is not None
        assert (found.value.slot, meta.fee, meta.err) == (status.slot, FEE, None)
        assert meta.pre_balances[:2] == [SOL, 0]
        assert meta.post_balances[:2] == [SOL - SOL // 4 - FEE, SOL // 4]
    history = (await client.get_signatures_for_address(payer.pubkey())).value
    assert [entry.signature for entry in history] == [signature, airdrop]
    assert [e.signature for e in (await client.get_signatures_for_address(payer.pubkey(), before=signature)).value] == [
        airdrop
    ]


async def test_failing_transaction_is_refused_by_preflight_and_lands_with_its_error_without(node: Node) -> None:
    payer = await node.funded()
    transaction = await node.payment(payer, Keypair().pubkey(), 2 * SOL)
    with pytest.raises(RPCException) as refused:
        await node.solana.send_transaction(transaction, TxOpts(preflight_commitment=Processed))
    failure = refused.value.args[0]
    assert isinstance(failure, SendTransactionPreflightFailureMessage)
    assert failure.message == "Transaction simulation failed: Error processing Instruction 0: custom program error: 0x1"
    with pytest.raises(RpcFailure) as refused_raw:
        await node.send(transaction)
    assert refused_raw.value.code == -32002
    assert refused_raw.value.data["err"] == {"InstructionError": [0, {"Custom": 1}]}
    assert any("insufficient lamports" in line for line in refused_raw.value.data["logs"])
    assert await node.balance(payer.pubkey()) == SOL, "what preflight refuses costs nothing"

    signature = await node.send(transaction, skipPreflight=True)
    status = await node.settled(signature)
    assert status["err"] == {"InstructionError": [0, {"Custom": 1}]}
    assert status["status"] == {"Err": status["err"]}
    assert await node.balance(payer.pubkey()) == SOL - FEE


async def test_same_transaction_twice_lands_once(node: Node) -> None:
    payer, payee = await node.funded(), Keypair().pubkey()
    transaction = await node.payment(payer, payee, SOL // 4)
    signature = await node.send(transaction)
    assert await node.send(transaction, skipPreflight=True) == signature
    await node.settled(signature)
    with pytest.raises(RpcFailure, match="This transaction has already been processed") as refused:
        await node.send(transaction, preflightCommitment="confirmed")
    assert (refused.value.code, refused.value.data["err"]) == (-32002, "AlreadyProcessed")
    assert await node.balance(payee) == SOL // 4


async def test_reads_and_preflight_keep_to_their_commitment(still: Node) -> None:
    payer, payee = await still.funded(), Keypair().pubkey()
    for commitment, lamports in (("processed", SOL), ("confirmed", 0), ("finalized", 0)):
        assert await still.balance(payer.pubkey(), commitment) == lamports
    transaction = await still.payment(payer, payee, SOL // 4)
    with pytest.raises(RpcFailure) as unknown_blockhash:
        await still.send(transaction, preflightCommitment="finalized")
    assert unknown_blockhash.value.data["err"] == "BlockhashNotFound"
    older = await still.signed([pay(payer, payee, SOL // 4)], payer, commitment="finalized")
    with pytest.raises(RpcFailure) as unknown_payer:
        await still.send(older, preflightCommitment="finalized")
    assert unknown_payer.value.data["err"] == "AccountNotFound"

    signature = await still.send(transaction)
    status = await still.status(signature)
    assert status is not None
    assert (status["confirmationStatus"], status["confirmations"]) == ("processed", 0)
    assert await still.call("getTransaction", signature, {"commitment": "confirmed"}) is None
    slots = [await still.call("getSlot", {"commitment": level}) for level in ("processed", "confirmed", "finalized")]
    assert slots == [status["slot"], status["slot"] - 1, status["slot"] - 4]

    await still.call("clotho_setFaults", {"expire_blockhashes": True})  # 151 slots at once
    status = await still.status(signature)
    assert status is not None
    assert (status["confirmationStatus"], status["confirmations"]) == ("finalized", None)
    assert await still.balance(payee, "finalized") == SOL // 4

    assert (await still.call("getSignatureStatuses", [signature]))["value"][0]["slot"] == status["slot"]
    await still.call("clotho_setFaults", {"expire_blockhashes": True})
    assert (await still.call("getSignatureStatuses", [signature]))["value"] == [None], "forgotten after 300 slots"
    assert await still.status(signature) == status, "unless the history is searched"


async def test_blockhash_is_valid_for_150_blocks_and_not_one_longer(tmp_path: Path) -> None:
    async with running(tmp_path, "--slot-ms", "10") as node:
        payer = await node.funded()
        latest = await node.call("getLatestBlockhash", {"commitment": "processed"})
        blockhash, last_valid = latest["value"]["blockhash"], latest["value"]["lastValidBlockHeight"]
        last_slot = latest["context"]["slot"] + 150
        message = Message.new_with_blockhash(
            [pay(payer, Keypair().pubkey(), SOL // 4)], payer.pubkey(), Hash.from_string(blockhash)
        )
        async with asyncio.timeout(60):
            valid = True
            while valid:
                answer = await node.call("isBlockhashValid", blockhash, {"commitment": "processed"})
                valid = answer["value"]
                assert valid == (answer["context"]["slot"] <= last_slot)
        assert await node.call("getBlockHeight", {"commitment": "processed"}) > last_valid
        transaction = VersionedTransaction(message, [payer])
        with pytest.raises(RpcFailure, match="Blockhash not found") as refused:
            await node.send(transaction)
        assert refused.value.data["err"] == "BlockhashNotFound"
        signature = await node.send(transaction, skipPreflight=True)
        assert await node.status(signature) is None
        fee = await node.call(
            "getFeeForMessage", base64.b64encode(bytes(message)).decode(), {"commitment": "processed"}
        )
        assert fee["value"] is None
        assert await node.balance(payer.pubkey()) == SOL


async def test_transaction_with_an_unknown_blockhash_or_a_false_signature_does_not_land(still: Node) -> None:
    payer, payee = await still.funded(), Keypair().pubkey()
    unknown = VersionedTransaction(
        Message.new_with_blockhash([pay(payer, payee, SOL // 4)], payer.pubkey(), Hash.new_unique()), [payer]
    )
    false = await still.payment(payer, payee, SOL // 4)
    false = VersionedTransaction.populate(false.message, [Keypair().sign_message(b"something else")])
    with pytest.raises(RpcFailure) as refused:
        await still.send(false)
    assert (refused.value.code, refused.value.message) == (-32003, "Transaction signature verification failure")
    for transaction in (unknown, false):
        assert await still.status(await still.send(transaction, skipPreflight=True)) is None
    assert await still.balance(payer.pubkey()) == SOL


async def test_simulation_changes_nothing_and_shows_what_would_be(still: Node) -> None:
    payer, payee = await still.funded(), Keypair().pubkey()
    message = Message.new_with_blockhash([pay(payer, payee, SOL // 4)], payer.pubkey(), Hash.new_unique())
    unsigned = VersionedTransaction.populate(message, [Signature.default()])
    async with AsyncClient(still.url, Processed) as client:
        assert (await client.simulate_transaction(unsigned)).value.err == TransactionErrorFieldless.BlockhashNotFound
        with pytest.raises(RPCException, match="TransactionSignatureVerificationFailure"):
            await client.simulate_transaction(unsigned, sig_verify=True)
        shown = (
            await client.simulate_transaction(unsigned, replace_recent_blockhash=True, accounts_addresses=[payee])
        ).value
    assert (shown.err, shown.fee) == (None, FEE)
    assert shown.accounts is not None
    assert [account and account.lamports for account in shown.accounts] == [SOL // 4]
    assert shown.units_consumed
    assert await still.balance(payee) == 0
    assert await still.balance(payer.pubkey()) == SOL


async def test_address_lookup_table_is_refused_rather_than_half_supported(node: Node) -> None:
    program = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
    slot_hashes = Pubkey.from_string("SysvarS1otHashes111111111111111111111111111")
    payer, payee = await node.funded(), Keypair().pubkey()
    recent = (await node.call("getAccountInfo", str(slot_hashes), {"encoding": "base64"}))["value"]["data"][0]
    recent_slot = base64.b64decode(recent)[8:16]
    table, bump = Pubkey.find_program_address([bytes(payer.pubkey()), recent_slot], program)
    accounts = [
        AccountMeta(table, False, True),
        AccountMeta(payer.pubkey(), True, False),
        AccountMeta(payer.pubkey(), True, True),
        AccountMeta(SYSTEM_PROGRAM, False, False),
    ]
    create = Instruction(program, struct.pack("<I", 0) + recent_slot + bytes([bump]), accounts)
    extend = Instruction(program, struct.pack("<IQ", 2, 1) + bytes(payee), accounts)
    await node.settled(await node.send(await node.signed([create, extend], payer)))

    message = MessageV0.try_compile(
        payer.pubkey(),
        [pay(payer, payee, SOL // 4)],
        [AddressLookupTableAccount(table, [payee])],
        (await node.solana.get_latest_blockhash(Processed)).value.blockhash,
    )
    assert message.address_table_lookups
    transaction = VersionedTransaction(message, [payer])
    with pytest.raises(RpcFailure) as refused:
        await node.send(transaction)
    assert refused.value.data["err"] == "AddressLookupTableNotFound"
    assert await node.status(await node.send(transaction, skipPreflight=True)) is None
    assert await node.balance(payee) == 0


# Tokens.


async def test_token_2022_mint_and_account(node: Node) -> None:
    owner = await node.funded()
    mint = await create_token(node, owner, 2_500_000)
    account = get_associated_token_address(owner.pubkey(), mint, TOKEN_2022_PROGRAM_ID)
    client = node.solana

    supply = (await client.get_token_supply(mint)).value
    assert (supply.amount, supply.decimals, supply.ui_amount, supply.ui_amount_string) == ("2500000", 6, 2.5, "2.5")
    assert (await client.get_token_account_balance(account)).value.amount == "2500000"

    for wanted in (TokenAccountOpts(mint=mint), TokenAccountOpts(program_id=TOKEN_2022_PROGRAM_ID)):
        held = (await client.get_token_accounts_by_owner_json_parsed(owner.pubkey(), wanted)).value
        assert [str(one.pubkey) for one in held] == [str(account)]
        decoded: Any = held[0].account.data.parsed
        info = decoded["info"]
        assert (info["mint"], info["owner"]) == (str(mint), str(owner.pubkey()))
        assert info["tokenAmount"]["uiAmountString"] == "2.5"
        assert (info["state"], info["extensions"]) == ("initialized", [{"extension": "immutableOwner"}])
        assert [
            len(one.account.data) for one in (await client.get_token_accounts_by_owner(owner.pubkey(), wanted)).value
        ]
    other = Keypair().pubkey()
    assert (await client.get_token_accounts_by_owner(other, TokenAccountOpts(mint=mint))).value == []

    parsed: Any = (await client.get_account_info_json_parsed(mint)).value
    assert parsed.data.program == "spl-token-2022"
    info = parsed.data.parsed["info"]
    assert (info["supply"], info["decimals"], info["isInitialized"]) == ("2500000", 6, True)
    assert (info["mintAuthority"], info["freezeAuthority"]) == (str(owner.pubkey()), None)
    authority = str(owner.pubkey())
    assert info["extensions"] == [
        {"extension": "metadataPointer", "state": {"authority": authority, "metadataAddress": str(mint)}},
        {
            "extension": "tokenMetadata",
            "state": {
                "updateAuthority": authority,
                "mint": str(mint),
                "name": NAME,
                "symbol": SYMBOL,
                "uri": URI,
                "additionalMetadata": [list(field) for field in FIELDS.items()],
            },
        },
    ]
    raw = (await client.get_account_info(mint)).value
    assert raw is not None
    assert raw.owner == TOKEN_2022_PROGRAM_ID
    assert NAME.encode() in raw.data
    part = await node.call(
        "getAccountInfo",
        str(mint),
        {"encoding": "base64", "dataSlice": {"offset": 36, "length": 8}, "commitment": "confirmed"},
    )
    assert int.from_bytes(base64.b64decode(part["value"]["data"][0]), "little") == 2_500_000
    of_mint = {"memcmp": {"offset": 0, "bytes": str(mint)}}
    config = {"encoding": "base64", "commitment": "confirmed", "filters": [of_mint]}
    found = await node.call("getProgramAccounts", str(TOKEN_2022_PROGRAM_ID), config)
    assert [one["pubkey"] for one in found] == [str(account)]
    landed = (await client.get_signatures_for_address(account)).value[0].signature
    transaction = await node.call("getTransaction", str(landed), {"commitment": "confirmed"})
    assert transaction["meta"]["preTokenBalances"] == []
    assert [one["uiTokenAmount"]["amount"] for one in transaction["meta"]["postTokenBalances"]] == ["2500000"]


@pytest.fixture(scope="session")
async def web3js(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The independent client with its packages installed."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not on PATH, so Solana's JavaScript client cannot be installed")
    folder = tmp_path_factory.mktemp("web3js")
    for name in ("package.json", "package-lock.json", ".npmrc", "read_market.mjs"):
        shutil.copy(WEB3JS / name, folder)
    install = await asyncio.create_subprocess_exec(
        *("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"),
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, complaint = await end_of(install, 60)
    except TimeoutError:
        complaint = b"it took more than 60 s"
    assert b"EUSAGE" not in complaint, "package.json and its lock differ"
    assert b"EINTEGRITY" not in complaint, "a package is not what the lock says"
    if install.returncode != 0:
        pytest.skip(f"npm cannot install Solana's JavaScript client here: {complaint.decode()[:500]}")
    return folder


async def test_javascript_client_reads_what_python_wrote(web3js: Path, node: Node) -> None:
    owner = await node.funded()
    mint = await create_token(node, owner, 2_500_000)
    reader = await asyncio.create_subprocess_exec(
        *("node", "read_market.mjs", node.url, str(mint), str(owner.pubkey())),
        cwd=web3js,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await end_of(reader, 60)
    account = get_associated_token_address(owner.pubkey(), mint, TOKEN_2022_PROGRAM_ID)
    assert json.loads(output) == {
        "decimals": 6,
        "supply": "2500000",
        "mintAuthority": str(owner.pubkey()),
        "metadata": {
            "updateAuthority": str(owner.pubkey()),
            "name": NAME,
            "symbol": SYMBOL,
            "uri": URI,
            "fields": FIELDS,
        },
        "balances": [{"account": str(account), "amount": "2500000"}],
    }


# JSON-RPC.


async def test_says_what_it_is(still: Node) -> None:
    assert (await still.call("getVersion"))["clotho-local"] is True
    health = await still.http.get("/health")
    assert (health.status_code, health.text) == (200, "ok")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("{", -32700),
        ("[]", -32600),
        ("1", -32600),
        ('{"id": 1, "method": "getSlot"}', -32600),
        ('{"jsonrpc": "2.0", "id": 1, "method": "getBlock", "params": [1]}', -32601),
        ('{"jsonrpc": "2.0", "id": 1, "method": "getBalance"}', -32602),
        ('{"jsonrpc": "2.0", "id": 1, "method": "getBalance", "params": {}}', -32602),
        ('{"jsonrpc": "2.0", "id": 1, "method": "getBalance", "params": ["not an address"]}', -32602),
        ('{"jsonrpc": "2.0", "id": 1, "method": "getSlot", "params": [{"commitment": "sure"}]}', -32602),
        ('{"jsonrpc": "2.0", "id": 1, "method": "getSlot", "params": [{}, {}]}', -32602),
        ('{"jsonrpc": "2.0", "id": 1, "method": "getSlot", "params": [{"minContextSlot": 999999999}]}', -32016),
        ('{"jsonrpc": "2.0", "id": 1, "method": "sendTransaction", "params": ["%", {"encoding": "base64"}]}', -32602),
        ('{"jsonrpc": "2.0", "id": 1, "method": "sendTransaction", "params": ["AA", {"encoding": "base64"}]}', -32602),
        ('{"jsonrpc": "2.0", "id": 1, "method": "sendTransaction", "params": ["%s", {"encoding": "base64"}]}'
         % ("A" * 1_644), -32602),
        ('{"jsonrpc": "2.0", "id": 1, "method": "sendTransaction", "params": ["", {"encoding": "base64"}]}', -32602),
        ('{"jsonrpc": "2.0", "id": 1, "method": "getFeeForMessage", "params": [""]}', -32602),
        ('{"jsonrpc": "2.0", "id": 1, "method": "getFeeForMessage", "params": ["gA=="]}', -32602),
        ('{"jsonrpc": "2.0", "id": 1, "method": "getProgramAccounts", "params": ["11111111111111111111111111111111", '
         '{"filters": [{"memcmp": {"offset": 0, "bytes": "0OIl"}}]}]}', -32602),
        ('{"jsonrpc": "2.0", "id": 1, "method": "getTokenSupply", "params": ["11111111111111111111111111111111"]}',
         -32602),
    ],
)  # fmt: skip
async def test_request_that_cannot_be_served(still: Node, body: str, code: int) -> None:
    answer = await still.http.post("/", content=body)
    assert answer.status_code == 200
    assert answer.json()["jsonrpc"] == "2.0"
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["message"]


async def test_batch_answers_each_request_and_no_notification(still: Node) -> None:
    batch = [
        {"jsonrpc": "2.0", "id": "a", "method": "getHealth"},
        {"jsonrpc": "2.0", "method": "getHealth"},
        {"jsonrpc": "2.0", "id": 2, "method": "nothing"},
    ]
    answer = (await still.http.post("/", json=batch)).json()
    assert [one["id"] for one in answer] == ["a", 2]
    assert answer[0]["result"] == "ok"
    assert answer[1]["error"]["code"] == -32601
