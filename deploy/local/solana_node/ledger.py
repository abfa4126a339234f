"""What the node must not lose, in one SQLite file: the cluster's beginning, every landed transaction, all accounts."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solders.account import Account
from solders.pubkey import Pubkey
from solders.signature import Signature

SCHEMA = """
CREATE TABLE IF NOT EXISTS cluster (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    seed    BLOB NOT NULL,      -- all blockhashes are derived from it
    faucet  BLOB NOT NULL,      -- secret key of the account that pays for airdrops
    slot    INTEGER NOT NULL,   -- the slot that began at unix_ms
    unix_ms INTEGER NOT NULL,
    slot_ms INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS transactions (
    position  INTEGER PRIMARY KEY,
    signature BLOB NOT NULL UNIQUE,
    slot      INTEGER NOT NULL,
    unix_time INTEGER NOT NULL,
    wire      BLOB NOT NULL,
    meta      TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS transaction_addresses (
    address  BLOB NOT NULL,
    position INTEGER NOT NULL REFERENCES transactions,
    PRIMARY KEY (address, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accounts (
    address BLOB NOT NULL,
    slot    INTEGER NOT NULL,   -- the version holds from the end of this slot
    owner   BLOB,
    account BLOB,               -- NULL: the account was closed
    PRIMARY KEY (address, slot)
);
CREATE INDEX IF NOT EXISTS accounts_by_owner ON accounts (owner);
"""


@dataclass(frozen=True)
class Cluster:
    """What makes this cluster itself, and where its slots stand."""

    seed: bytes
    faucet: bytes
    slot: int
    unix_ms: int
    slot_ms: int


@dataclass(frozen=True)
class Landed:
    """A transaction that is in a block, whether it succeeded or only paid its fee."""

    signature: Signature
    slot: int
    unix_time: int
    wire: bytes
    meta: dict[str, Any]
    """As `getTransaction` answers it; `err` is null for success."""


class Ledger:
    """The SQLite file. An account's older versions are kept until a newer one is final, for reads at a commitment."""

    def __init__(self, path: Path) -> None:
        """Open or create the ledger.

        Raises:
            sqlite3.OperationalError: another node has it open, or the disk refuses.
        """
        self._db = sqlite3.connect(path, timeout=0, isolation_level=None)
        # One node for each ledger: the lock is held from the first read until the process ends, however it ends.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        # A commit survives the death of this process; only power loss can take the last ones (FULL would cost a sync
        # for each transaction and a local stand-in does not need it).
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Write the journal back and let go of the lock."""
        self._db.close()

    def cluster(self) -> Cluster | None:
        """The cluster, or None in a new ledger."""
        row = self._db.execute("SELECT seed, faucet, slot, unix_ms, slot_ms FROM cluster").fetchone()
        return Cluster(*row) if row else None

    def save_cluster(self, cluster: Cluster) -> None:
        """Set where the slots stand."""
        self._db.execute(
            "INSERT OR REPLACE INTO cluster (id, seed, faucet, slot, unix_ms, slot_ms) VALUES (1, ?, ?, ?, ?, ?)",
            (cluster.seed, cluster.faucet, cluster.slot, cluster.unix_ms, cluster.slot_ms),
        )

    def last_slot(self) -> int:
        """The slot of the newest landed transaction; 0 when there is none."""
        slot: int = self._db.execute("SELECT coalesce(max(slot), 0) FROM transactions").fetchone()[0]
        return slot

    def save_account(self, address: Pubkey, slot: int, account: Account | None) -> None:
        """Write an account's version as of the end of `slot`."""
        self._db.execute(
            "INSERT OR REPLACE INTO accounts (address, slot, owner, account) VALUES (?, ?, ?, ?)",
            (bytes(address), slot, account and bytes(account.owner), account and bytes(account)),
        )

    def land(
        self, landed: Landed, addresses: Sequence[Pubkey], changed: Mapping[Pubkey, Account | None], finalized_slot: int
    ) -> None:
        """Write a transaction together with what it did; on an error, neither is written.

        Args:
            landed: the transaction.
            addresses: all accounts that it names.
            changed: the new version of those that it changed; None: closed.
            finalized_slot: versions older than an account's newest one at this slot are forgotten.
        """
        with self._db:
            self._db.execute("BEGIN")
            position = self._db.execute(
                "INSERT INTO transactions (signature, slot, unix_time, wire, meta) VALUES (?, ?, ?, ?, ?)",
                (bytes(landed.signature), landed.slot, landed.unix_time, landed.wire, json.dumps(landed.meta)),
            ).lastrowid
            for address in addresses:
                self._db.execute("INSERT INTO transaction_addresses VALUES (?, ?)", (bytes(address), position))
            for address, account in changed.items():
                self.save_account(address, landed.slot, account)
                self._db.execute(
                    "DELETE FROM accounts WHERE address = ?1 AND slot < "
                    "(SELECT max(slot) FROM accounts WHERE address = ?1 AND slot <= ?2)",
                    (bytes(address), finalized_slot),
                )

    def newest_accounts(self) -> Iterator[tuple[Pubkey, Account]]:
        """Every account that exists, in its newest version."""
        rows = self._db.execute("SELECT address, account, max(slot) FROM accounts GROUP BY address")
        return ((Pubkey(address), Account.from_bytes(account)) for address, account, _ in rows if account is not None)

    def account(self, address: Pubkey, slot: int) -> Account | None:
        """The account as of the end of `slot`, or None when it did not exist."""
        row = self._db.execute(
            "SELECT account FROM accounts WHERE address = ? AND slot <= ? ORDER BY slot DESC LIMIT 1",
            (bytes(address), slot),
        ).fetchone()
        return Account.from_bytes(row[0]) if row and row[0] is not None else None

    def newest_version(self, address: Pubkey) -> int | None:
        """The slot in which the account last changed, or None when no transaction ever changed it."""
        slot: int | None = self._db.execute(
            "SELECT max(slot) FROM accounts WHERE address = ?", (bytes(address),)
        ).fetchone()[0]
        return slot

    def owned_by(self, program: Pubkey, slot: int) -> list[tuple[Pubkey, Account]]:
        """The accounts that `program` owned as of the end of `slot`, by address."""
        rows = self._db.execute(
            "SELECT address, account FROM accounts AS version WHERE owner = ? AND slot = "
            "(SELECT max(slot) FROM accounts WHERE address = version.address AND slot <= ?) ORDER BY address",
            (bytes(program), slot),
        )
        return [(Pubkey(address), Account.from_bytes(account)) for address, account in rows]

    def transaction(self, signature: Signature) -> Landed | None:
        """The landed transaction with this signature."""
        row = self._db.execute(
            "SELECT signature, slot, unix_time, wire, meta FROM transactions WHERE signature = ?", (bytes(signature),)
        ).fetchone()
        return _landed(row) if row else None

    def transactions_of(
        self, address: Pubkey, slot: int, *, before: Signature | None, until: Signature | None, limit: int
    ) -> list[Landed]:
        """The landed transactions that name `address`, up to `slot`, newest first, between two signatures."""
        rows = self._db.execute(
            "SELECT signature, slot, unix_time, wire, meta "
            "FROM transactions JOIN transaction_addresses USING (position) "
            "WHERE address = ?1 AND slot <= ?2 "
            "AND (?3 IS NULL OR position < (SELECT position FROM transactions WHERE signature = ?3)) "
            "AND (?4 IS NULL OR position > (SELECT position FROM transactions WHERE signature = ?4)) "
            "ORDER BY position DESC LIMIT ?5",
            (bytes(address), slot, before and bytes(before), until and bytes(until), limit),
        )
        return [_landed(row) for row in rows]


def _landed(row: tuple[bytes, int, int, bytes, str]) -> Landed:
    signature, slot, unix_time, wire, meta = row
    return Landed(Signature.from_bytes(signature), slot, unix_time, wire, json.loads(meta))
