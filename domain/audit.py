"""The chain of audit entries: how an entry's hash is made, and what a break in the chain means."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from domain.base import Model
from domain.canonical import canonical_json, sha256_hex

GENESIS = "0" * 64
"""What the first entry follows."""


class AuditHead(Model):
    """The end of the chain."""

    entries: int = 0
    sha256: str = GENESIS


class AuditEntry(Model):
    """One entry: who did what to which thing. `sha256` covers all other fields, the hash before it among them."""

    id: int
    action: str
    entity_type: str
    entity_id: str
    actor: str
    details: dict[str, Any]
    created_at: datetime
    previous_sha256: str
    sha256: str

    @property
    def why(self) -> str:
        """In a few words: the reason given, or the outcome."""
        return str(self.details.get("reason") or self.details.get("outcome") or "")

    def computed_sha256(self) -> str:
        """The hash that these fields must have."""
        fields = self.model_dump(mode="json", exclude={"sha256", "created_at"})
        # Text, since JSON numbers beyond 2**53 are not the same everywhere, and one spelling of the moment.
        fields["created_at"] = self.created_at.astimezone(UTC).isoformat(timespec="microseconds")
        return sha256_hex(canonical_json(fields))

    def is_intact(self) -> bool:
        """Whether the fields have the hash that was written with them."""
        try:
            return self.computed_sha256() == self.sha256
        except ValueError:  # a number that JSON has no spelling for, which we never wrote
            return False


class Broken(Model):
    """One break of the chain."""

    id: int
    why: str


def entry_after(head: AuditHead, **fields: Any) -> AuditEntry:
    """The next entry of the chain; `fields` are those of AuditEntry without id and hashes."""
    unhashed = AuditEntry(id=head.entries + 1, previous_sha256=head.sha256, sha256=GENESIS, **fields)
    return unhashed.model_copy(update={"sha256": unhashed.computed_sha256()})


class ChainCheck:
    """Checks entries as they are read, in order of their ids, against the chain.

    A break is named once, at the entry that was changed or is missing: what follows a changed entry is not compared
    with it, so that one break does not mark the entry after it.
    """

    def __init__(self) -> None:
        self._last = AuditHead()
        self._last_intact = True

    def follow(self, entry: AuditEntry) -> Iterator[Broken]:
        """The breaks at this entry and just before it."""
        for missing in range(self._last.entries + 1, entry.id):
            yield Broken(id=missing, why="the entry is missing")
        intact = entry.is_intact()
        follows = entry.id == self._last.entries + 1 and self._last_intact
        if not intact:
            yield Broken(id=entry.id, why="the entry was changed after it was written")
        elif follows and entry.previous_sha256 != self._last.sha256:
            why = f"the entry does not follow entry {self._last.entries}, one of them is false"
            yield Broken(id=entry.id, why=why)
        self._last = AuditHead(entries=entry.id, sha256=entry.sha256)
        self._last_intact = intact

    def end(self, head: AuditHead) -> Iterator[Broken]:
        """The breaks between the last entry and the recorded end of the chain."""
        for missing in range(self._last.entries + 1, head.entries + 1):
            yield Broken(id=missing, why="the entry is missing")
        if self._last.entries > head.entries:
            yield Broken(id=self._last.entries, why=f"the chain ended at entry {head.entries}, this was added past it")
        elif self._last.entries == head.entries and self._last_intact and self._last.sha256 != head.sha256:
            yield Broken(id=head.entries, why="the last entry is not the one that the chain ended with")
