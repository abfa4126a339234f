"""One item of a chat list, redacted: JSON with fields ts, role, text and sometimes pii. Pure."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from domain.redaction import Redactor

LARGE = 1_000_000
"""Bytes from which an item is counted as large."""

USUAL = frozenset({"ts", "role", "text", "pii"})
"""Names that every item has: no PII."""

DIGEST = 16
"""Bytes of the SHA-256 of a redacted item that a report keeps: enough to tell items apart, and made of no PII."""

ENTRY = 4 + DIGEST
"""Bytes of one item in `Place.changes`: its index, then the digest."""


@dataclass(frozen=True, slots=True)
class Item:
    """What became of one item; `new` is None when it stays as it is."""

    new: bytes | None = None
    kinds: tuple[str, ...] = ()
    """Of each redaction."""
    left: Literal["malformed", "without text"] | None = None
    """Why there was no text to redact."""


class Change(NamedTuple):
    """One item that held PII."""

    at: int
    """Its index."""
    old: bytes
    new: bytes
    kinds: tuple[str, ...]


@dataclass(slots=True)
class Found:
    """What was found in some items of one place, by index."""

    items: int = 0
    large: int = 0
    malformed: list[int] = field(default_factory=list)
    without_text: list[int] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


_UNCHANGED, _MALFORMED, _WITHOUT_TEXT = Item(), Item(left="malformed"), Item(left="without text")

# Objects as tuples of pairs, so that a name that stands twice is seen twice; lists stay lists.
_decode = json.JSONDecoder(object_pairs_hook=tuple).decode

# Possessive, so that no string is tried in two ways.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


def redact_item(raw: bytes, redactor: "Redactor") -> Item:
    """Redact the strings of an item, names among them; every byte outside these strings stays.

    Args:
        raw: the item as it is stored.
        redactor: replaces PII by tokens.
    """
    try:
        text = raw.decode()
        pairs = _decode(text)
    except (ValueError, RecursionError):  # not UTF-8, not JSON
        return _MALFORMED
    if not isinstance(pairs, tuple):
        return _MALFORMED
    changed: dict[str, str] = {}
    kinds: list[str] = []
    has_text = False
    for name, value in pairs:
        if name not in USUAL:
            _redact_string(name, redactor, changed, kinds)
        if value.__class__ is str:
            has_text = has_text or name == "text"
            _redact_string(value, redactor, changed, kinds)
        elif value.__class__ is tuple or value.__class__ is list:
            for one in _strings(value):
                _redact_string(one, redactor, changed, kinds)
    if changed:
        return Item(_spliced(text, changed), tuple(kinds), None if has_text else "without text")
    return _UNCHANGED if has_text else _WITHOUT_TEXT


def redact_items(raws: list[bytes], redactor: "Redactor", first: int = 0) -> Found:
    """Redact items of one place, the first of which has the index `first`."""
    found = Found(items=len(raws))
    for index, raw in enumerate(raws, first):
        if len(raw) >= LARGE:
            found.large += 1
        item = redact_item(raw, redactor)
        if item.left == "malformed":
            found.malformed.append(index)
        elif item.left is not None:
            found.without_text.append(index)
        if item.new is not None:
            found.changes.append(Change(index, raw, item.new, item.kinds))
    return found


@dataclass(slots=True)
class Place:
    """What a pass found in one place, as its report keeps it: no content, and whatever is seen twice counts once."""

    name: str
    tenant: str
    items: int = 0
    large: int = 0
    gone: int = 0
    wrong_type: bool = False
    malformed: list[int] = field(default_factory=list)
    without_text: list[int] = field(default_factory=list)
    changes: bytes = b""
    """For each item its index in 4 bytes, then the first 16 of the SHA-256 of its redacted bytes."""
    kinds: dict[str, int] = field(default_factory=dict)

    def seen_again(self) -> "Place":
        """A place to count anew: what was changed or gone stays."""
        return Place(self.name, self.tenant, gone=self.gone, changes=self.changes, kinds=dict(self.kinds))

    def add(self, found: Found, known: frozenset[bytes] = frozenset()) -> None:
        """Add what was found, but for changes whose digests are known: those of an attempt that died."""
        self.items += found.items
        self.large += found.large
        self.malformed += found.malformed
        self.without_text += found.without_text
        for change in found.changes:
            digest = sha256(change.new).digest()[:DIGEST]
            if digest not in known:
                self.changes += change.at.to_bytes(4, "big") + digest
                for kind in change.kinds:
                    self.kinds[kind] = self.kinds.get(kind, 0) + 1

    def digests(self) -> frozenset[bytes]:
        """Of the items that were changed."""
        return frozenset(digests_in(self.changes))


def digests_in(changes: bytes) -> Iterator[bytes]:
    """The digests of `Place.changes`, in order."""
    return (changes[end - DIGEST : end] for end in range(ENTRY, len(changes) + 1, ENTRY))


def tenant_of(key: str) -> str:
    """The tenant of a list `mem:{tenant}:{chat}`; empty when the key has another form."""
    parts = key.split(":", 2)
    return parts[1] if len(parts) == 3 else ""


def _redact_string(value: str, redactor: "Redactor", changed: dict[str, str], kinds: list[str]) -> None:
    redacted = redactor.redact(value)
    if redacted.findings and redacted.text != value:
        changed[value] = redacted.text
        kinds.extend(str(finding.kind) for finding in redacted.findings)


def _strings(value: Any) -> Iterator[str]:
    """The strings within a value, names too; without recursion, since strangers nest as deep as they like."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, list):
            left.extend(one)
        elif isinstance(one, tuple):
            left.extend(part for pair in one for part in pair)


def _spliced(text: str, changed: dict[str, str]) -> bytes:
    """The JSON with the strings replaced, written as the others are: with escapes, or not."""

    def replace(match: re.Match[str]) -> str:
        new = changed.get(json.loads(match[0]))
        # A half of a surrogate pair can only be written as an escape, and then was one.
        return match[0] if new is None else json.dumps(new, ensure_ascii="\\u" in match[0] or text.isascii())

    return _STRING.sub(replace, text).encode()
