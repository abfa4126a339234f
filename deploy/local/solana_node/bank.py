"""The cluster itself: slots that pass with the clock, blockhashes, and LiteSVM behind the ledger."""

import hashlib
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import lru_cache

from solders.account import Account
from solders.clock import Clock
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import Message, MessageV0, MessageV1
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata
from spl.memo.constants import MEMO_PROGRAM_ID

from deploy.local.solana_node.encoding import Execution, execution, refused, transaction_meta
from deploy.local.solana_node.ledger import Cluster, Landed, Ledger

AnyMessage = Message | MessageV0 | MessageV1

VALID_BLOCKS = 150
"""For so many blocks a blockhash can be used (Agave: MAX_PROCESSING_AGE)."""

SKIPPED_SLOTS = 1_000
"""The block height is lower than the slot by this: a real cluster's leaders skip slots, and a client that takes one for
the other must fail here as it would there."""

SLOTS_PER_EPOCH = 432_000

FAUCET_LAMPORTS = 500_000_000 * 10**9
"""About the supply of SOL on mainnet, so that airdrops never run dry."""

NO_ACCOUNT = Account(0, b"", SYSTEM_PROGRAM)
"""Setting it removes an account from LiteSVM."""


class Commitment(StrEnum):
    """How sure a client wants to be of what it reads."""

    PROCESSED = "processed"
    CONFIRMED = "confirmed"
    FINALIZED = "finalized"


@lru_cache(maxsize=4 * VALID_BLOCKS)
def _blockhash(seed: bytes, slot: int) -> Hash:
    return Hash(hashlib.sha256(seed + slot.to_bytes(8, "little")).digest())


class Bank:
    """Executes transactions; a single thread uses it.

    LiteSVM holds the newest state and executes; the ledger holds everything that anybody can ask for. A transaction is
    in the ledger before its sender gets an answer.
    """

    def __init__(self, ledger: Ledger, *, slot_ms: int, finalize_after: int) -> None:
        """Open the cluster of the ledger, or begin a new one.

        Args:
            ledger: where it lives.
            slot_ms: length of a slot in milliseconds.
            finalize_after: slots until a transaction is final.
        """
        self._ledger = ledger
        self._finalize_after = finalize_after
        # We check signatures, blockhashes and repetition ourselves: LiteSVM knows one blockhash and forgets on restart.
        self._svm = LiteSVM().with_sigverify(False).with_blockhash_check(False).with_transaction_history(0)
        self._cluster = self._continue(ledger.cluster() or self._begin(slot_ms), slot_ms)
        self._started = time.monotonic()
        # A program's account is loaded only when the account with its code is there, so code comes first.
        for address, account in sorted(ledger.newest_accounts(), key=lambda item: item[1].executable):
            self._svm.set_account(address, account)

    def _begin(self, slot_ms: int) -> Cluster:
        faucet = Keypair()
        first_slot = SKIPPED_SLOTS + VALID_BLOCKS
        self._ledger.save_account(faucet.pubkey(), first_slot, Account(FAUCET_LAMPORTS, b"", SYSTEM_PROGRAM))
        return Cluster(secrets.token_bytes(32), bytes(faucet), first_slot, _now_ms(), slot_ms)

    def _continue(self, cluster: Cluster, slot_ms: int) -> Cluster:
        """Let the slots pass that began while the node was down: a cluster does not wait for one node."""
        passed = (_now_ms() - cluster.unix_ms) // cluster.slot_ms
        # The clock may have been set back meanwhile; what landed stays in the past all the same.
        slot = max(cluster.slot + max(passed, 0), self._ledger.last_slot())
        return self._save(Cluster(cluster.seed, cluster.faucet, slot, _now_ms(), slot_ms))

    def _save(self, cluster: Cluster) -> Cluster:
        self._ledger.save_cluster(cluster)
        return cluster

    @property
    def slot(self) -> int:
        """The slot whose block is being made."""
        return self._cluster.slot + int((time.monotonic() - self._started) * 1_000 / self._cluster.slot_ms)

    def slot_at(self, commitment: Commitment) -> int:
        """The newest slot with this commitment."""
        behind = {Commitment.PROCESSED: 0, Commitment.CONFIRMED: 1, Commitment.FINALIZED: self._finalize_after}
        return self.slot - behind[commitment]

    def commitment(self, slot: int, now: int) -> Commitment:
        """How sure a transaction of `slot` is in the slot `now`."""
        if now - slot >= self._finalize_after:
            return Commitment.FINALIZED
        return Commitment.CONFIRMED if now > slot else Commitment.PROCESSED

    def block_height(self, slot: int) -> int:
        """The height of the block of `slot`."""
        return slot - SKIPPED_SLOTS

    def blockhash(self, slot: int) -> Hash:
        """The hash of the block of `slot`."""
        return _blockhash(self._cluster.seed, slot)

    def last_valid_block_height(self, slot: int) -> int:
        """The height of the last block that takes transactions with the blockhash of `slot`."""
        return self.block_height(slot) + VALID_BLOCKS

    def is_valid(self, blockhash: Hash, slot: int) -> bool:
        """Whether the block after `slot` takes transactions with this blockhash."""
        return any(self.blockhash(slot - age) == blockhash for age in range(VALID_BLOCKS + 1))

    def expire_blockhashes(self) -> None:
        """Let so many slots pass at once that no blockhash given out so far is valid any more."""
        slot = self.slot + VALID_BLOCKS + 1
        cluster = self._cluster
        self._cluster = self._save(Cluster(cluster.seed, cluster.faucet, slot, _now_ms(), cluster.slot_ms))
        self._started = time.monotonic()

    def account(self, address: Pubkey, slot: int) -> Account | None:
        """The account as of the end of `slot`; programs and sysvars that LiteSVM brings are always there."""
        if self._ledger.newest_version(address) is None:
            self._set_clock(slot)  # the clock sysvar is one of them
            return self._svm.get_account(address)
        return self._ledger.account(address, slot)

    def owned_by(self, program: Pubkey, slot: int) -> list[tuple[Pubkey, Account]]:
        """The accounts that `program` owned as of the end of `slot`."""
        return self._ledger.owned_by(program, slot)

    def rent_exempt_minimum(self, size: int) -> int:
        """Lamports that an account of `size` bytes must hold."""
        return self._svm.minimum_balance_for_rent_exemption(size)

    def fee(self, message: AnyMessage) -> int:
        """Lamports that a transaction with this message pays, priority fee included."""
        signatures = [Signature.default()] * message.header.num_required_signatures
        return self._svm.simulate_transaction(VersionedTransaction.populate(message, signatures)).meta().fee()

    def simulate(self, transaction: VersionedTransaction, slot: int, *, replace_blockhash: bool = False) -> Execution:
        """What the transaction would do on the state as of the end of `slot`; nothing is changed.

        Args:
            transaction: what to run; its signatures are not looked at.
            slot: the newest slot whose effects it sees.
            replace_blockhash: as if it were signed with the newest blockhash.
        """
        if refusal := self._refusal(transaction, slot, replace_blockhash=replace_blockhash):
            return refused(refusal)
        with self._state_as_of(slot, transaction.message.account_keys):
            self._set_clock(slot)
            return execution(self._svm.simulate_transaction(transaction))

    def _refusal(self, transaction: VersionedTransaction, slot: int, *, replace_blockhash: bool = False) -> str | None:
        """The `TransactionError` for which a transaction is not even run after `slot`, if any."""
        message = transaction.message
        if isinstance(message, MessageV0) and message.address_table_lookups:
            return "AddressLookupTableNotFound"
        if replace_blockhash:
            return None
        if not self.is_valid(message.recent_blockhash, slot):
            return "BlockhashNotFound"
        landed = self._ledger.transaction(transaction.signatures[0])
        return "AlreadyProcessed" if landed and landed.slot <= slot else None

    def process(self, transaction: VersionedTransaction) -> None:
        """Execute a transaction in the current slot, as a leader does.

        It lands unless it is refused, a signature is false or its payer cannot pay: of such a transaction no trace
        stays, as on a real cluster. One that fails while it runs lands and pays its fee.
        """
        slot = self.slot
        if self._refusal(transaction, slot) or not all(transaction.verify_with_results()):
            return
        addresses = transaction.message.account_keys
        self._set_clock(slot)
        before = {address: self._svm.get_account(address) for address in addresses}
        result = self._svm.send_transaction(transaction)
        after = {address: self._svm.get_account(address) for address in addresses}
        payer = addresses[0]
        if isinstance(result, FailedTransactionMetadata) and after[payer] == before[payer]:
            return
        landed = Landed(
            signature=transaction.signatures[0],
            slot=slot,
            unix_time=int(time.time()),
            wire=bytes(transaction),
            meta=transaction_meta(execution(result), addresses, before, after, self._svm.get_account),
        )
        changed = {address: account for address, account in after.items() if account != before[address]}
        try:
            self._ledger.land(landed, addresses, changed, self.slot_at(Commitment.FINALIZED))
        except BaseException:
            # What is not in the ledger did not happen.
            for address in changed:
                self._svm.set_account(address, before[address] or NO_ACCOUNT)
            raise

    def airdrop(self, address: Pubkey, lamports: int) -> Signature:
        """Send lamports from the faucet; the memo keeps two equal airdrops of one slot apart."""
        faucet = Keypair.from_bytes(self._cluster.faucet)
        instructions = [
            transfer(TransferParams(from_pubkey=faucet.pubkey(), to_pubkey=address, lamports=lamports)),
            Instruction(MEMO_PROGRAM_ID, secrets.token_hex(16).encode(), []),
        ]
        message = Message.new_with_blockhash(instructions, faucet.pubkey(), self.blockhash(self.slot))
        transaction = VersionedTransaction(message, [faucet])
        self.process(transaction)
        return transaction.signatures[0]

    def transaction(self, signature: Signature) -> Landed | None:
        """The landed transaction with this signature."""
        return self._ledger.transaction(signature)

    def transactions_of(
        self, address: Pubkey, slot: int, *, before: Signature | None, until: Signature | None, limit: int
    ) -> list[Landed]:
        """The landed transactions that name `address`, up to `slot`, newest first, between two signatures."""
        return self._ledger.transactions_of(address, slot, before=before, until=until, limit=limit)

    @contextmanager
    def _state_as_of(self, slot: int, addresses: Sequence[Pubkey]) -> Iterator[None]:
        newest = {
            address: self._svm.get_account(address)
            for address in addresses
            if (self._ledger.newest_version(address) or 0) > slot
        }
        for address in newest:
            self._svm.set_account(address, self._ledger.account(address, slot) or NO_ACCOUNT)
        try:
            yield
        finally:
            for address, account in newest.items():
                self._svm.set_account(address, account or NO_ACCOUNT)

    def _set_clock(self, slot: int) -> None:
        epoch = slot // SLOTS_PER_EPOCH
        self._svm.set_clock(
            Clock(
                slot=slot,
                epoch_start_timestamp=0,
                epoch=epoch,
                leader_schedule_epoch=epoch + 1,
                unix_timestamp=int(time.time()),
            )
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
