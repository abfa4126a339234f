"""The RPC methods."""

import base64
import binascii
from collections.abc import Callable
from functools import partial
from importlib.metadata import version as package_version
from inspect import signature as parameters_of
from typing import Annotated, Any

import base58
from pydantic import Field, ValidationError, validate_call
from pydantic.alias_generators import to_camel
from solders.account import Account
from solders.message import from_bytes_versioned
from solders.pubkey import Pubkey
from solders.transaction import SanitizeError, VersionedTransaction

from deploy.local.solana_node.bank import Bank, Commitment
from deploy.local.solana_node.encoding import (
    Execution,
    account_json,
    failure_message,
    refused,
    status,
    transaction_json,
    version,
)
from deploy.local.solana_node.errors import ReplyLostError, RpcError, invalid_params
from deploy.local.solana_node.faults import Faults
from deploy.local.solana_node.ledger import Landed
from deploy.local.solana_node.params import (
    AccountConfig,
    Address,
    Blockhash,
    Config,
    ProgramAccountsConfig,
    SendConfig,
    SignaturesConfig,
    SimulateConfig,
    StatusConfig,
    TokenAccountsFilter,
    TransactionConfig,
    TransactionSignature,
    Unsigned,
)
from deploy.local.solana_node.token_accounts import PROGRAMS, mint_of, token_account_of, ui_amount

PACKET_SIZE = 1_232
"""Bytes that a transaction may have on the wire (Agave: PACKET_DATA_SIZE)."""

STATUS_CACHE_SLOTS = 300
"""getSignatureStatuses forgets after so many slots unless it searches the history (Agave: MAX_CACHE_ENTRIES)."""

FEE_SLOTS = 150
"""getRecentPrioritizationFees looks back so many slots (Agave: MAX_RECENT_PRIORITIZATION_FEES)."""


class Rpc:
    """The methods by name, on a bank; what a method may be given is in its signature."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self.faults = Faults()
        methods: dict[str, Callable[..., Any]] = {
            to_camel(method.__name__): method
            for method in (
                self.get_account_info,
                self.get_balance,
                self.get_block_height,
                self.get_fee_for_message,
                self.get_health,
                self.get_latest_blockhash,
                self.get_minimum_balance_for_rent_exemption,
                self.get_multiple_accounts,
                self.get_program_accounts,
                self.get_recent_prioritization_fees,
                self.get_signature_statuses,
                self.get_signatures_for_address,
                self.get_slot,
                self.get_token_account_balance,
                self.get_token_accounts_by_owner,
                self.get_token_supply,
                self.get_transaction,
                self.get_version,
                self.is_blockhash_valid,
                self.request_airdrop,
                self.send_transaction,
                self.simulate_transaction,
            )
        }
        methods["clotho_setFaults"] = self.set_faults
        self._methods = {
            name: (validate_call(method), len(parameters_of(method).parameters)) for name, method in methods.items()
        }

    def call(self, name: str, params: Any) -> Any:
        """The method's result; parameters that are left out at the end count as null.

        Raises:
            RpcError: unknown method, parameters that cannot be used, or what the method itself refuses.
            ReplyLostError: carried out, and the caller must not hear of it.
        """
        if name not in self._methods:
            raise RpcError(-32601, "Method not found")
        if not isinstance(params, list):
            raise invalid_params("Invalid params: they must be a list.")
        method, arity = self._methods[name]
        try:
            return method(*params, *[None] * (arity - len(params)))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in problem["loc"])
            raise invalid_params(f"Invalid params: {where}: {problem['msg']}.") from error

    def set_faults(self, faults: Faults) -> dict[str, Any]:
        """Misbehave from now on as told; answers the faults in force."""
        if faults.expire_blockhashes:
            self._bank.expire_blockhashes()
        self.faults = faults.model_copy(update={"expire_blockhashes": False})
        return self.faults.model_dump()

    def take(self, fault: str) -> bool:
        """Whether a counted fault is to happen now; it counts down."""
        left: int = getattr(self.faults, fault)
        if left:
            self.faults = self.faults.model_copy(update={fault: left - 1})
        return left > 0

    # The node and its clock.

    def get_health(self) -> str:
        """Always well: a node that cannot serve does not answer."""
        return "ok"

    def get_version(self) -> dict[str, Any]:
        """What runs here; `clotho-local` says that this is no validator."""
        return {"solana-core": f"litesvm-{package_version('solders')}", "feature-set": 0, "clotho-local": True}

    def get_slot(self, config: Config) -> int:
        """The newest slot with the commitment."""
        return self._slot(config)

    def get_block_height(self, config: Config) -> int:
        """The height of the newest block with the commitment."""
        return self._bank.block_height(self._slot(config))

    def get_latest_blockhash(self, config: Config) -> dict[str, Any]:
        """A blockhash to sign with, and the last height at which it can land."""
        slot = self._slot(config)
        return _in_context(slot, self._blockhash(slot))

    def is_blockhash_valid(self, blockhash: Blockhash, config: Config) -> dict[str, Any]:
        """Whether a transaction with the blockhash can still land."""
        slot = self._slot(config)
        return _in_context(slot, self._bank.is_valid(blockhash, slot))

    def get_minimum_balance_for_rent_exemption(self, size: Unsigned, config: Config) -> int:
        """Lamports that an account of `size` bytes must hold."""
        self._slot(config)
        return self._bank.rent_exempt_minimum(size)

    def get_recent_prioritization_fees(self, addresses: list[Address] | None) -> list[dict[str, int]]:  # noqa: ARG002
        """Zero for every recent slot: blocks here are never full, so nobody has to pay for a place."""
        slot = self._bank.slot
        return [{"slot": past, "prioritizationFee": 0} for past in range(slot - FEE_SLOTS, slot)]

    # Accounts.

    def get_balance(self, address: Address, config: Config) -> dict[str, Any]:
        """The lamports of an account; 0 when it does not exist."""
        slot = self._slot(config)
        account = self._bank.account(address, slot)
        return _in_context(slot, account.lamports if account else 0)

    def get_account_info(self, address: Address, config: AccountConfig) -> dict[str, Any]:
        """One account, or null."""
        slot = self._slot(config)
        return _in_context(slot, self._account(address, self._bank.account(address, slot), slot, config))

    def get_multiple_accounts(
        self, addresses: Annotated[list[Address], Field(max_length=100)], config: AccountConfig
    ) -> dict[str, Any]:
        """Several accounts in the order asked, null for those that do not exist."""
        slot = self._slot(config)
        return _in_context(
            slot,
            [self._account(address, self._bank.account(address, slot), slot, config) for address in addresses],
        )

    def get_program_accounts(self, program: Address, config: ProgramAccountsConfig) -> Any:
        """The accounts that a program owns and that pass all filters."""
        slot = self._slot(config)
        accounts = [
            self._keyed(address, account, slot, config)
            for address, account in self._bank.owned_by(program, slot)
            if all(condition.accepts(account.data) for condition in config.filters)
        ]
        return _in_context(slot, accounts) if config.with_context else accounts

    def get_token_accounts_by_owner(
        self, owner: Address, wanted: TokenAccountsFilter, config: AccountConfig
    ) -> dict[str, Any]:
        """The token accounts of an owner, of one mint or one token program."""
        slot = self._slot(config)
        program = wanted.program_id
        if wanted.mint:
            mint = self._bank.account(wanted.mint, slot)
            if mint is None or mint_of(mint) is None:
                raise invalid_params("Invalid param: could not find mint")
            program = mint.owner
        if program is None or program not in PROGRAMS:
            raise invalid_params("Invalid param: unrecognized Token program id")
        return _in_context(
            slot,
            [
                self._keyed(address, account, slot, config)
                for address, account in self._bank.owned_by(program, slot)
                if (token := token_account_of(account)) and token.owner == owner and wanted.mint in (None, token.mint)
            ],
        )

    def get_token_supply(self, address: Address, config: Config) -> dict[str, Any]:
        """How many tokens of a mint there are."""
        slot = self._slot(config)
        mint = mint_of(self._existing(address, slot))
        if mint is None:
            raise invalid_params("Invalid param: not a Token mint")
        return _in_context(slot, ui_amount(mint.supply, mint.decimals))

    def get_token_account_balance(self, address: Address, config: Config) -> dict[str, Any]:
        """How many tokens a token account holds."""
        slot = self._slot(config)
        token = token_account_of(self._existing(address, slot))
        mint = mint_of(self._bank.account(token.mint, slot)) if token else None
        if token is None or mint is None:
            raise invalid_params("Invalid param: not a Token account")
        return _in_context(slot, ui_amount(token.amount, mint.decimals))

    # Transactions.

    def get_fee_for_message(self, message: str, config: Config) -> dict[str, Any]:
        """Lamports that a transaction with this message pays, or null when its blockhash is no longer valid."""
        slot = self._slot(config)
        try:
            decoded = from_bytes_versioned(_decode(message, "base64"))
        except ValueError as error:
            raise invalid_params(f"failed to deserialize message: {error}") from error
        valid = self._bank.is_valid(decoded.recent_blockhash, slot)
        return _in_context(slot, self._bank.fee(decoded) if valid else None)

    def request_airdrop(self, address: Address, lamports: Unsigned, config: Config) -> str:
        """Lamports out of nowhere; answers the signature of the transfer."""
        self._slot(config)
        return str(self._bank.airdrop(address, lamports))

    def simulate_transaction(self, wire: str, config: SimulateConfig) -> dict[str, Any]:
        """What a transaction would do."""
        slot = self._slot(config)
        transaction = _transaction(wire, config.encoding)
        if config.sig_verify:
            _verify(transaction)
        outcome = self._bank.simulate(transaction, slot, replace_blockhash=config.replace_recent_blockhash)
        value = _simulation_json(outcome)
        if config.replace_recent_blockhash:
            value["replacementBlockhash"] = self._blockhash(slot)
        if config.inner_instructions:
            value["innerInstructions"] = outcome.inner_instructions
        if config.accounts:
            how = AccountConfig(encoding=config.accounts.encoding)
            value["accounts"] = [
                self._account(address, self._after(outcome, address, slot), slot, how)
                for address in config.accounts.addresses
            ]
        return _in_context(slot, value)

    def send_transaction(self, wire: str, config: SendConfig) -> str:
        """Deliver a transaction; answers its signature, which does not say that it lands."""
        transaction = _transaction(wire, config.encoding)
        slot = self._slot_at(
            Commitment.PROCESSED if config.skip_preflight else config.preflight_commitment, config.min_context_slot
        )
        if not config.skip_preflight:
            _verify(transaction)
            _check_preflight(self._bank.simulate(transaction, slot))
        if not self.take("drop_transactions"):
            self._bank.process(transaction)
            if self.take("duplicate"):
                self._bank.process(transaction)
                if not config.skip_preflight:
                    _check_preflight(refused("AlreadyProcessed"))
            if self.take("drop_replies"):
                raise ReplyLostError
        return str(transaction.signatures[0])

    def get_signature_statuses(
        self, signatures: Annotated[list[TransactionSignature], Field(max_length=256)], config: StatusConfig
    ) -> dict[str, Any]:
        """Where each transaction stands; null for one that has not landed, or long ago."""
        slot = self._bank.slot
        landed = [self._bank.transaction(signature) for signature in signatures]
        return _in_context(
            slot,
            [
                self._status(one, slot)
                if one and (config.search_transaction_history or one.slot > slot - STATUS_CACHE_SLOTS)
                else None
                for one in landed
            ],
        )

    def get_transaction(self, signature: TransactionSignature, config: TransactionConfig) -> dict[str, Any] | None:
        """A landed transaction with its effects, or null."""
        slot = self._settled_slot(config)
        landed = self._bank.transaction(signature)
        if landed is None or landed.slot > slot:
            return None
        transaction = VersionedTransaction.from_bytes(landed.wire)
        number = version(transaction)
        supported = config.max_supported_transaction_version
        if number != "legacy" and (supported is None or number > supported):
            raise RpcError(
                -32015,
                f"Transaction version ({number}) is not supported by the requesting client. Please try the request "
                f'again with the following configuration parameter: "maxSupportedTransactionVersion": {number}',
            )
        answer = {
            "slot": landed.slot,
            "blockTime": landed.unix_time,
            "transaction": transaction_json(transaction, config.encoding),
            "meta": landed.meta,
        }
        return answer if supported is None else {**answer, "version": number}

    def get_signatures_for_address(self, address: Address, config: SignaturesConfig) -> list[dict[str, Any]]:
        """The transactions that name an address, newest first."""
        newest = self._settled_slot(config)
        slot = self._bank.slot
        return [
            {
                "signature": str(landed.signature),
                "slot": landed.slot,
                "err": landed.meta["err"],
                "memo": None,
                "blockTime": landed.unix_time,
                "confirmationStatus": self._bank.commitment(landed.slot, slot),
            }
            for landed in self._bank.transactions_of(
                address, newest, before=config.before, until=config.until, limit=config.limit
            )
        ]

    # What methods share.

    def _slot(self, config: Config) -> int:
        return self._slot_at(config.commitment, config.min_context_slot)

    def _slot_at(self, commitment: Commitment, at_least: int) -> int:
        slot = self._bank.slot_at(commitment)
        if slot < at_least:
            raise RpcError(-32016, "Minimum context slot has not been reached", {"contextSlot": slot})
        return slot

    def _settled_slot(self, config: Config) -> int:
        if config.commitment == Commitment.PROCESSED:
            raise invalid_params("Method does not support commitment below `confirmed`")
        return self._slot(config)

    def _blockhash(self, slot: int) -> dict[str, Any]:
        return {
            "blockhash": str(self._bank.blockhash(slot)),
            "lastValidBlockHeight": self._bank.last_valid_block_height(slot),
        }

    def _existing(self, address: Pubkey, slot: int) -> Account:
        account = self._bank.account(address, slot)
        if account is None:
            raise invalid_params("Invalid param: could not find account")
        return account

    def _account(
        self, address: Pubkey, account: Account | None, slot: int, config: AccountConfig
    ) -> dict[str, Any] | None:
        if account is None:
            return None
        account_at = partial(self._bank.account, slot=slot)
        try:
            return account_json(account, config.encoding, config.data_slice.slice(), account_at)
        except ValueError as error:
            raise RpcError(-32600, f"{address}: {error}") from error

    def _keyed(self, address: Pubkey, account: Account, slot: int, config: AccountConfig) -> dict[str, Any]:
        return {"pubkey": str(address), "account": self._account(address, account, slot, config)}

    def _after(self, outcome: Execution, address: Pubkey, slot: int) -> Account | None:
        if outcome.err is not None:
            return None
        account = outcome.post_accounts.get(address) or self._bank.account(address, slot)
        return account if account and account.lamports else None

    def _status(self, landed: Landed, slot: int) -> dict[str, Any]:
        commitment = self._bank.commitment(landed.slot, slot)
        return {
            "slot": landed.slot,
            "confirmations": None if commitment == Commitment.FINALIZED else slot - landed.slot,
            "err": landed.meta["err"],
            "status": status(landed.meta["err"]),
            "confirmationStatus": commitment,
        }


def _in_context(slot: int, value: Any) -> dict[str, Any]:
    return {"context": {"slot": slot}, "value": value}


def _decode(text: str, encoding: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if encoding == "base64" else base58.b58decode(text)
    except (binascii.Error, ValueError) as error:
        raise invalid_params(f"invalid {encoding} encoding: {error}") from error


def _transaction(text: str, encoding: str) -> VersionedTransaction:
    wire = _decode(text, encoding)
    if len(wire) > PACKET_SIZE:
        raise invalid_params(f"decoded VersionedTransaction too large: {len(wire)} bytes (max: {PACKET_SIZE} bytes)")
    try:
        transaction = VersionedTransaction.from_bytes(wire)
    except ValueError as error:
        raise invalid_params(f"failed to deserialize VersionedTransaction: {error}") from error
    try:
        transaction.sanitize()
    except SanitizeError as error:
        raise invalid_params(f"invalid transaction: {error}") from error
    return transaction


def _verify(transaction: VersionedTransaction) -> None:
    if not all(transaction.verify_with_results()):
        raise RpcError(-32003, "Transaction signature verification failure")


def _simulation_json(outcome: Execution) -> dict[str, Any]:
    return {
        "err": outcome.err,
        "logs": outcome.logs,
        "accounts": None,
        "unitsConsumed": outcome.units,
        "returnData": outcome.return_data,
        "innerInstructions": None,
        "replacementBlockhash": None,
        "fee": outcome.fee,
    }


def _check_preflight(outcome: Execution) -> None:
    if outcome.err is not None:
        raise RpcError(-32002, f"Transaction simulation failed: {failure_message(outcome)}", _simulation_json(outcome))
