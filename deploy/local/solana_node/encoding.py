"""Accounts and transactions as Solana's RPC writes them in JSON."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import base58
from solders.account import Account
from solders.instruction import CompiledInstruction
from solders.message import Message, MessageV0, MessageV1
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import (
    FailedTransactionMetadata,
    SimulatedTransactionInfo,
    SimulateResult,
    TransactionMetadata,
    TransactionResult,
)

from deploy.local.solana_node.token_accounts import mint_of, parsed, token_account_of, ui_amount

AccountEncoding = Literal["binary", "base58", "base64", "jsonParsed"]
TransactionEncoding = Literal["json", "jsonParsed", "base58", "base64"]
AccountAt = Callable[[Pubkey], Account | None]

BASE58_LIMIT = 128
"""Bytes; base58 takes time that grows with the square of the length (Agave: MAX_BASE58_BYTES)."""

MESSAGES = {
    "AccountNotFound": "Attempt to debit an account but found no record of a prior credit.",
    "AddressLookupTableNotFound": "Transaction loads an address table account that doesn't exist",
    "AlreadyProcessed": "This transaction has already been processed",
    "BlockhashNotFound": "Blockhash not found",
    "InsufficientFundsForFee": "Insufficient funds for fee",
    "InvalidAccountForFee": "This account may not be used to pay transaction fees",
    "InvalidProgramForExecution": "This program may not be used for executing instructions",
    "ProgramAccountNotFound": "Attempt to load a program that does not exist",
}
"""Agave's words for the transaction errors that clients meet most."""


@dataclass(frozen=True)
class Execution:
    """What executing or simulating a transaction did, in the RPC's JSON."""

    err: Any
    logs: list[str]
    units: int
    fee: int
    return_data: dict[str, Any] | None
    inner_instructions: list[dict[str, Any]]
    post_accounts: Mapping[Pubkey, Account]
    """Of a simulation that succeeded only."""


def refused(err: str) -> Execution:
    """A transaction that was not executed at all."""
    return Execution(err, logs=[], units=0, fee=0, return_data=None, inner_instructions=[], post_accounts={})


def execution(result: TransactionResult | SimulateResult) -> Execution:
    """What LiteSVM says about a transaction."""
    meta = result if isinstance(result, TransactionMetadata) else result.meta()
    returned = meta.return_data()
    return Execution(
        # Only the whole result's JSON tags its error the way the RPC does.
        err=json.loads(result.to_json())["err"] if isinstance(result, FailedTransactionMetadata) else None,
        logs=meta.logs(),
        units=meta.compute_units_consumed(),
        fee=meta.fee(),
        return_data={
            "programId": str(returned.program_id),
            "data": [base64.b64encode(bytes(returned.data)).decode(), "base64"],
        }
        if returned.data
        else None,
        inner_instructions=[
            {
                "index": index,
                "instructions": [
                    _instruction(inner.instruction(), stack_height=inner.stack_height()) for inner in instructions
                ],
            }
            for index, instructions in enumerate(meta.inner_instructions())
            if instructions
        ],
        post_accounts=dict(result.post_accounts()) if isinstance(result, SimulatedTransactionInfo) else {},
    )


def failure_message(outcome: Execution) -> str:
    """The error in words, as Agave puts it after "Transaction simulation failed: "."""
    if isinstance(outcome.err, str):
        return MESSAGES.get(outcome.err, outcome.err)
    if "InstructionError" in outcome.err:
        index = outcome.err["InstructionError"][0]
        # The last line of the log is "Program <address> failed: <the program's error in words>".
        reason = outcome.logs[-1].partition(" failed: ")[2] if outcome.logs else ""
        return f"Error processing Instruction {index}: {reason}"
    if "InsufficientFundsForRent" in outcome.err:
        index = outcome.err["InsufficientFundsForRent"]["account_index"]
        return f"Transaction results in an account ({index}) with insufficient funds for rent"
    return json.dumps(outcome.err)


def account_json(
    account: Account, encoding: AccountEncoding, data_slice: slice, account_at: AccountAt
) -> dict[str, Any]:
    """The account as `getAccountInfo` answers it.

    Raises:
        ValueError: base58 was asked for and the data is too long for it.
    """
    return {
        "lamports": account.lamports,
        "owner": str(account.owner),
        "data": _account_data(account, encoding, data_slice, account_at),
        "executable": account.executable,
        "rentEpoch": account.rent_epoch,
        "space": len(account.data),
    }


def _account_data(account: Account, encoding: AccountEncoding, data_slice: slice, account_at: AccountAt) -> Any:
    if encoding == "jsonParsed" and (decoded := parsed(account, account_at)):
        return decoded
    data = account.data[data_slice]
    if encoding in ("binary", "base58"):
        if len(data) > BASE58_LIMIT:
            raise ValueError(
                f"Encoded binary (base 58) data should be less than {BASE58_LIMIT} bytes, please use Base64 encoding."
            )
        text = base58.b58encode(data).decode()
        return text if encoding == "binary" else [text, "base58"]
    return [base64.b64encode(data).decode(), "base64"]


def transaction_meta(
    outcome: Execution,
    addresses: Sequence[Pubkey],
    before: Mapping[Pubkey, Account | None],
    after: Mapping[Pubkey, Account | None],
    account_at: AccountAt,
) -> dict[str, Any]:
    """A landed transaction's `meta` as `getTransaction` answers it."""
    meta: dict[str, Any] = {
        "err": outcome.err,
        "status": status(outcome.err),
        "fee": outcome.fee,
        "preBalances": [_lamports(before[address]) for address in addresses],
        "postBalances": [_lamports(after[address]) for address in addresses],
        "innerInstructions": outcome.inner_instructions,
        "logMessages": outcome.logs,
        "preTokenBalances": _token_balances(addresses, before, account_at),
        "postTokenBalances": _token_balances(addresses, after, account_at),
        "rewards": [],
        "loadedAddresses": {"readonly": [], "writable": []},
        "computeUnitsConsumed": outcome.units,
    }
    if outcome.return_data:
        meta["returnData"] = outcome.return_data
    return meta


def status(err: Any) -> dict[str, Any]:
    """The older form of `err`, which clients still read."""
    return {"Ok": None} if err is None else {"Err": err}


def _lamports(account: Account | None) -> int:
    return account.lamports if account else 0


def _token_balances(
    addresses: Sequence[Pubkey], accounts: Mapping[Pubkey, Account | None], account_at: AccountAt
) -> list[dict[str, Any]]:
    balances = []
    for index, address in enumerate(addresses):
        account = accounts[address]
        token = token_account_of(account)
        mint = token and mint_of(account_at(token.mint))
        if account and token and mint:
            balances.append(
                {
                    "accountIndex": index,
                    "mint": str(token.mint),
                    "owner": str(token.owner),
                    "programId": str(account.owner),
                    "uiTokenAmount": ui_amount(token.amount, mint.decimals),
                }
            )
    return balances


def version(transaction: VersionedTransaction) -> int | Literal["legacy"]:
    """The transaction's version as the RPC names it."""
    number = transaction.version()
    return number if isinstance(number, int) else "legacy"


def transaction_json(transaction: VersionedTransaction, encoding: TransactionEncoding) -> Any:
    """The transaction as `getTransaction` answers it; `jsonParsed` leaves instructions undecoded, as for any program
    that an RPC node has no parser for.
    """
    if encoding == "base64":
        return [base64.b64encode(bytes(transaction)).decode(), encoding]
    if encoding == "base58":
        return [base58.b58encode(bytes(transaction)).decode(), encoding]
    message = transaction.message
    body: dict[str, Any] = {
        "accountKeys": [str(address) for address in message.account_keys],
        "recentBlockhash": str(message.recent_blockhash),
        "instructions": [_instruction(instruction, stack_height=1) for instruction in message.instructions],
    }
    if encoding == "jsonParsed":
        body["accountKeys"] = [
            {
                "pubkey": str(address),
                "signer": message.is_signer(index),
                "writable": _is_writable(message, index),
                "source": "transaction",
            }
            for index, address in enumerate(message.account_keys)
        ]
        body["instructions"] = [
            {
                "programId": str(message.account_keys[instruction.program_id_index]),
                "accounts": [str(message.account_keys[index]) for index in instruction.accounts],
                "data": base58.b58encode(instruction.data).decode(),
                "stackHeight": 1,
            }
            for instruction in message.instructions
        ]
    else:
        body["header"] = {
            "numRequiredSignatures": message.header.num_required_signatures,
            "numReadonlySignedAccounts": message.header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": message.header.num_readonly_unsigned_accounts,
        }
    if not isinstance(message, Message):
        body["addressTableLookups"] = []
    return {"signatures": [str(signature) for signature in transaction.signatures], "message": body}


def _instruction(instruction: CompiledInstruction, *, stack_height: int | None) -> dict[str, Any]:
    return {
        "programIdIndex": instruction.program_id_index,
        "accounts": list(instruction.accounts),
        "data": base58.b58encode(instruction.data).decode(),
        "stackHeight": stack_height,
    }


def _is_writable(message: Message | MessageV0 | MessageV1, index: int) -> bool:
    header = message.header
    if index < header.num_required_signatures:
        return index < header.num_required_signatures - header.num_readonly_signed_accounts
    return index < len(message.account_keys) - header.num_readonly_unsigned_accounts
