"""Sending transactions to Solana so that each effect happens once, whatever dies in between.

A transaction is `built`, then `signed` (its bytes, signature and last valid block height are stored before it is first
sent), `sent`, and ends as `landed`, `failed` or `expired`. Only the stored bytes are ever sent, and while they can
still land nothing else is signed for the market. Source of the rules: Solana's "Transaction confirmation and
expiration" and "Retrying transactions" guides.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Generic, TypeVar
from uuid import UUID

import httpx2
from solana.exceptions import SolanaRpcException
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Commitment, Confirmed, Finalized
from solana.rpc.core import RPCException, RPCNoResultException
from solana.rpc.models import TxOpts
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message, VersionedMessage
from solders.pubkey import Pubkey
from solders.rpc.errors import InvalidParamsMessage, SendTransactionPreflightFailureMessage
from solders.signature import Signature
from solders.solders import SerdeJSONError
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.transaction import VersionedTransaction
from solders.transaction_status import (
    InstructionErrorCustom,
    TransactionConfirmationStatus,
    TransactionErrorFieldless,
    TransactionErrorInstructionError,
    TransactionErrorInsufficientFundsForRent,
    TransactionErrorType,
    TransactionStatus,
)
from temporalio.exceptions import ApplicationError

from db import chain_transactions
from db.chain_transactions import ChainTransaction, State
from db.pool import Pool
from domain import errors
from domain.errors import failure

RPC_TIMEOUT = 10.0
"""Seconds for one request: shorter than any step that makes one."""
RESEND_EVERY = 2.0
"""Seconds between two sends of the same bytes; leaders drop packets without a word."""
LOOK_EVERY = 0.5
"""Seconds between two looks at a transaction's status, about a slot."""
PACKET_LIMIT = 1232
"""Bytes of a transaction: an IPv6 packet of 1,280 without its headers."""
MOST_UNITS = 1_400_000
"""Compute units that one transaction may ask for."""
MOST_FOR_A_UNIT = 1_000_000
"""Micro-lamports: a fee market gone mad costs at most 0.0014 SOL a transaction."""

SILENT_ERRORS = {
    901_952_957: "incorrect account",
    901_952_958: "the mint has no mint authority",
    901_952_959: "incorrect mint authority has signed",
    901_952_960: "incorrect metadata update authority has signed",
    901_952_961: "the metadata has no update authority, so it is immutable",
}
"""Errors of the token-metadata interface, which Token-2022 logs as "Unknown" (spl-token-metadata-interface 0.6)."""

_NEVER_LANDS = (errors.CHAIN_REJECTED.type, errors.CHAIN_UNFUNDED.type, errors.CHAIN_EXPIRED.type)

R = TypeVar("R")
T = TypeVar("T")


def connect(url: str) -> AsyncClient:
    """A client of a Solana node; Temporal retries, so it does not."""
    return AsyncClient(url, commitment=Confirmed, timeout=RPC_TIMEOUT, max_transport_retries=0)


async def rpc(request: Awaitable[R]) -> R:
    """The answer to a request that an AsyncClient makes.

    Raises:
        ApplicationError: ChainUnreachable, or ChainRejected when the node calls the request itself wrong.
    """
    try:
        answer = await request
    except SolanaRpcException as error:
        cause = error.__cause__
        if isinstance(cause, httpx2.HTTPStatusError):
            # Not the exception's own text: it holds the URL, and with many providers the URL holds the key.
            raise failure(
                errors.CHAIN_UNREACHABLE,
                f"the Solana node answered HTTP {cause.response.status_code}",
                retry_after=_retry_after(cause.response.headers.get("Retry-After")),
            ) from None
        raise failure(errors.CHAIN_UNREACHABLE, f"the Solana node cannot be reached ({type(cause).__name__})") from None
    except SerdeJSONError:
        raise failure(errors.CHAIN_UNREACHABLE, "what answers at SOLANA_RPC_URL is not a Solana node") from None
    except RPCException as error:
        message = error.args[0]
        if isinstance(message, SendTransactionPreflightFailureMessage):
            raise  # for the one caller that sends
        kind = errors.CHAIN_REJECTED if isinstance(message, InvalidParamsMessage) else errors.CHAIN_UNREACHABLE
        raise failure(kind, f"the Solana node refused a request ({getattr(message, 'message', message)})") from error
    except RPCNoResultException as error:
        raise failure(errors.CHAIN_REJECTED, f"the Solana node refused a request ({error})") from error
    if isinstance(answer, int):
        # solders 0.29 gives the bare code of an error that it has no class for, as if that were the answer.
        raise failure(errors.CHAIN_UNREACHABLE, f"the Solana node answered error {answer}")
    return answer


def _retry_after(header: str | None) -> timedelta | None:
    """A Retry-After header (RFC 9110: seconds or a date)."""
    if header is None:
        return None
    try:
        if header.strip().isdigit():
            return timedelta(seconds=int(header))
        return max(parsedate_to_datetime(header) - datetime.now(UTC), timedelta(0))
    except (ValueError, TypeError, OverflowError):
        return None


@dataclass(frozen=True)
class Effect(Generic[T]):
    """A change of one account that must happen once."""

    market_id: UUID
    purpose: str
    """Stable key of the change within its market."""
    account: Pubkey
    state: Callable[[], Awaitable[T | None]]
    """Reads the account: what it holds once the effect is there, None before; raises ChainConflict if it never can."""
    instructions: Callable[[], Awaitable[Sequence[Instruction]]]
    signers: tuple[Keypair, ...] = field(repr=False)  # a Keypair's repr is its secret
    """The first pays."""
    creates: bool = False
    """The effect is the account's creation."""
    until: Commitment = Confirmed


@dataclass(frozen=True)
class Done(Generic[T]):
    """What the account holds, and the transaction that did it."""

    state: T
    signature: str
    slot: int


class Transactions:
    """The send state machine over the table chain_transactions."""

    def __init__(self, pool: Pool, client: AsyncClient) -> None:
        self._pool = pool
        self._client = client

    async def send(self, effect: Effect[T]) -> Done[T]:
        """Bring an effect about, or find that it has been.

        Raises:
            ApplicationError: ChainUnreachable, ChainExpired (nothing landed and nothing can any more: the next call
                signs anew), ChainConflict, ChainRejected, ChainUnfunded, or IllegalMove when the market has ended.
        """
        transaction = await chain_transactions.current(self._pool, effect.market_id, effect.purpose)
        if transaction is None:
            await self.finish(effect.market_id)
        state = await effect.state()
        refusal = None
        try:
            if transaction is None and state is None:
                transaction = await self._sign(effect)
            if transaction is not None and transaction.state is not State.LANDED:
                transaction = await self._land(transaction, effect.until)
        except ApplicationError as error:
            if error.type not in _NEVER_LANDS:
                raise
            # The account may be in use because another attempt was first: read it and compare, whatever the error.
            refusal = error
            transaction = await chain_transactions.current(self._pool, effect.market_id, effect.purpose)
        if state is None:
            state = await effect.state()
        if state is None:
            raise refusal or failure(
                errors.CHAIN_UNREACHABLE, "the node asked does not show a transaction that has landed: it lags behind"
            )
        if transaction is not None and transaction.slot is not None:
            return Done(state, transaction.signature, transaction.slot)
        signature, slot = await self._from_history(effect)
        return Done(state, signature, slot)

    async def finish(self, market_id: UUID) -> None:
        """Wait until no stored transaction of a market can land any more: each has landed for good or never will.

        Raises:
            ApplicationError: ChainUnreachable.
        """
        for transaction in await chain_transactions.in_flight(self._pool, market_id):
            try:
                await self._land(transaction, Finalized)
            except ApplicationError as error:
                if error.type not in _NEVER_LANDS:
                    raise

    async def _sign(self, effect: Effect[T]) -> ChainTransaction:
        """Build, simulate once, sign and store; what another attempt stored first wins."""
        instructions = await effect.instructions()
        payer = effect.signers[0].pubkey()
        budget = await self._budget(payer, instructions, effect)
        latest = (await rpc(self._client.get_latest_blockhash(Confirmed))).value
        message = Message.new_with_blockhash([*budget, *instructions], payer, latest.blockhash)
        signed = VersionedTransaction(message, effect.signers)
        await chain_transactions.insert_signed(
            self._pool,
            effect.market_id,
            effect.purpose,
            signature=str(signed.signatures[0]),
            wire=bytes(signed),
            last_valid_block_height=latest.last_valid_block_height,
        )
        stored = await chain_transactions.current(self._pool, effect.market_id, effect.purpose)
        if stored is None:
            raise failure(errors.ILLEGAL_MOVE, f"market {effect.market_id} has ended, so nothing is signed for it")
        return stored

    async def _budget(
        self, payer: Pubkey, instructions: Sequence[Instruction], effect: Effect[T]
    ) -> tuple[Instruction, ...]:
        """Compute limit and priority fee, from one simulation and the recent fees of the accounts written.

        A transaction that has no room for them (52 bytes) goes without: it lands more slowly when the network is busy,
        but it says everything that it must.

        Raises:
            ApplicationError: ChainRejected or ChainUnfunded when the simulation fails; BadInput when it is too long.
        """
        budget: tuple[Instruction, ...] = (set_compute_unit_limit(MOST_UNITS), set_compute_unit_price(0))
        probe = _unsigned([*budget, *instructions], payer)
        if len(bytes(probe)) > PACKET_LIMIT:
            budget = ()
            probe = _unsigned(instructions, payer)
        if len(bytes(probe)) > PACKET_LIMIT:
            raise failure(
                errors.BAD_INPUT,
                f"{effect.purpose} of market {effect.market_id} takes {len(bytes(probe))} bytes, and a transaction"
                f" holds {PACKET_LIMIT}: its title, the URL of its rules and its ai_version are too long together",
            )
        simulated = (
            await rpc(self._client.simulate_transaction(probe, replace_recent_blockhash=True, commitment=Confirmed))
        ).value
        if simulated.err is not None:
            raise _refusal(effect.market_id, effect.purpose, probe.message, simulated.err, simulated.logs or ())
        if not budget:
            return budget
        written = sorted({meta.pubkey for i in instructions for meta in i.accounts if meta.is_writable}, key=bytes)
        recent = (await rpc(self._client.get_recent_prioritization_fees(written))).value
        fees = sorted(fee.prioritization_fee for fee in recent)
        # The upper quartile: ahead of most of those who write the same accounts.
        price = fees[len(fees) * 3 // 4] if fees else 0
        # A fifth more than the simulation took: by the time it lands the accounts may be a little different.
        limit = min((simulated.units_consumed or MOST_UNITS) * 6 // 5, MOST_UNITS)
        return set_compute_unit_limit(limit), set_compute_unit_price(min(price, MOST_FOR_A_UNIT))

    async def _land(self, transaction: ChainTransaction, until: Commitment) -> ChainTransaction:
        """Send the stored bytes until they have landed or never can.

        Raises:
            ApplicationError: ChainRejected or ChainUnfunded (it failed on chain), ChainExpired, ChainUnreachable.
        """
        clock = asyncio.get_running_loop().time
        status: TransactionStatus | None = None
        past, send_at = False, clock()
        while True:
            if status is None and not past and clock() >= send_at:
                # Against the blockhash that was signed, and in final blocks: no fork can bring it in any more.
                height = (await rpc(self._client.get_block_height(Finalized))).value
                past = height > transaction.last_valid_block_height
                if not past:
                    transaction = await self._post(transaction)
                    send_at = clock() + RESEND_EVERY
            # The recent cache while it can land; once it cannot, one last look through the node's whole history.
            status = await self._status(transaction.signature, search_history=past)
            if status is not None and _reached(status, until if status.err is None else Confirmed):
                return await self._end(transaction, status)
            if status is None and past:
                await chain_transactions.move(self._pool, transaction, State.EXPIRED)
                raise failure(
                    errors.CHAIN_EXPIRED,
                    f"transaction {transaction.signature} ({transaction.purpose}) did not land by block"
                    f" {transaction.last_valid_block_height}",
                )
            await asyncio.sleep(LOOK_EVERY)

    async def _post(self, transaction: ChainTransaction) -> ChainTransaction:
        """Send the bytes once: no preflight (they were simulated) and no retries by the node (we resend)."""
        # "Already processed", "blockhash not found": the status and the block height say what became of it.
        with contextlib.suppress(RPCException):
            await rpc(
                self._client.send_raw_transaction(
                    transaction.wire, TxOpts(skip_preflight=True, preflight_commitment=Confirmed, max_retries=0)
                )
            )
        if transaction.state is State.SIGNED:
            return await chain_transactions.move(self._pool, transaction, State.SENT)
        return transaction

    async def _status(self, signature: str, *, search_history: bool) -> TransactionStatus | None:
        found = await rpc(self._client.get_signature_statuses([Signature.from_string(signature)], search_history))
        return found.value[0]

    async def _end(self, transaction: ChainTransaction, status: TransactionStatus) -> ChainTransaction:
        if status.err is None:
            return await chain_transactions.move(self._pool, transaction, State.LANDED, slot=status.slot)
        found = await rpc(
            self._client.get_transaction(
                Signature.from_string(transaction.signature), "base64", Confirmed, max_supported_transaction_version=0
            )
        )
        meta = None if found.value is None else found.value.transaction.meta
        refusal = _refusal(
            transaction.market_id,
            transaction.purpose,
            VersionedTransaction.from_bytes(transaction.wire).message,
            status.err,
            (meta.log_messages if meta is not None else None) or (),
        )
        await chain_transactions.move(self._pool, transaction, State.FAILED, slot=status.slot, error=refusal.message)
        raise refusal

    async def _from_history(self, effect: Effect[T]) -> tuple[str, int]:
        """The signature and slot of an effect that no stored transaction brought about.

        That happens when the database was restored from before the send: the account's history is the truth then. Its
        oldest transaction created it, its newest brought about the last effect.
        """
        before = None
        landed: list[tuple[str, int]] = []
        while True:
            page = (
                await rpc(
                    self._client.get_signatures_for_address(effect.account, before=before, commitment=effect.until)
                )
            ).value
            landed += [(str(one.signature), one.slot) for one in page if one.err is None]
            if not page or (landed and not effect.creates):
                break
            before = page[-1].signature
        if not landed:
            raise failure(
                errors.CHAIN_UNREACHABLE, f"the node asked does not show yet, for good, who wrote {effect.account}"
            )
        return landed[-1] if effect.creates else landed[0]


def _unsigned(instructions: Sequence[Instruction], payer: Pubkey) -> VersionedTransaction:
    message = Message.new_with_blockhash(instructions, payer, Hash.default())
    return VersionedTransaction.populate(message, [Signature.default()] * message.header.num_required_signatures)


def _reached(status: TransactionStatus, commitment: Commitment) -> bool:
    final = TransactionConfirmationStatus.Finalized
    if commitment == Finalized:
        return status.confirmation_status == final
    return status.confirmation_status in (final, TransactionConfirmationStatus.Confirmed)


def _refusal(
    market_id: UUID,
    purpose: str,
    message: VersionedMessage,
    error: TransactionErrorType,
    logs: Sequence[str],
) -> ApplicationError:
    """The named error for a transaction that failed, with what the program said."""
    what = f"{purpose} of market {market_id}"
    keys = message.account_keys
    said = str(error)
    unfunded = None
    if isinstance(error, TransactionErrorInstructionError):
        program = keys[message.instructions[error.index].program_id_index]
        code = error.err.code if isinstance(error.err, InstructionErrorCustom) else None
        said = SILENT_ERRORS.get(code or 0) or _last_words(logs) or str(error.err)
        if program == SYSTEM_PROGRAM and code == 1:  # SystemError::ResultWithNegativeLamports
            unfunded = keys[0]
    elif isinstance(error, TransactionErrorInsufficientFundsForRent):
        unfunded = keys[error.account_index]
    elif error in (TransactionErrorFieldless.AccountNotFound, TransactionErrorFieldless.InsufficientFundsForFee):
        unfunded = keys[0]
    if unfunded is not None:
        return failure(errors.CHAIN_UNFUNDED, f"wallet {unfunded} cannot pay for {what} ({said})")
    return failure(errors.CHAIN_REJECTED, f"the program refused {what} ({said})")


def _last_words(logs: Sequence[str]) -> str:
    """What a failing program logged last before its failure, without the runtime's own lines."""
    for line in reversed(logs):
        if line.startswith("Program log: "):
            return line.removeprefix("Program log: ").removeprefix("Error: ")
        if not line.startswith("Program "):
            return line
    return ""
