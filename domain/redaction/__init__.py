"""Personal data found in text and replaced by keyed tokens, so that equal values stay linkable and none is readable.

`Redactor(key).redact(text)` is all that others need. A token is `[EMAIL:xxxxxxxxxx]`: ten hex digits of HMAC-SHA-256
over the kind and the value in one spelling. Where two matches overlap the earlier start wins, then the longer. Tokens
are never read again, and redacting runs until nothing is left to find, so that a second run changes nothing. No
look-up tables, no network, no state: a text of n characters takes time in proportion to n.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from typing import Any, NamedTuple

from domain.redaction.addresses import emails, ibans, ips
from domain.redaction.folding import folded
from domain.redaction.kinds import Kind, Span
from domain.redaction.national_ids import lettered
from domain.redaction.numbers import numbers
from domain.text import clean, compiled, fold

__all__ = ["PATTERN_SET_VERSION", "ExtraPattern", "Finding", "Kind", "Redacted", "Redactor"]

PATTERN_SET_VERSION = 2
"""Rises with every change of what is found, so that a run's audit says by which rules it read."""

KEY_LENGTH = 16
"""Bytes at least: a shorter key could be tried out."""

_TOKEN = re.compile(r"\[([A-Z][A-Z0-9_]{0,30}):[0-9a-f]{10}\]")
_KIND = re.compile(r"[A-Z][A-Z0-9_]{0,30}")
_ANY = re.compile(r"[@:0-9&]|[^\x00-\x7f]")
_TOKEN_LENGTH = 13
"""Characters of a token beside its kind's name."""
_BLANK = re.compile("[\0\1]")
_FOUR_DIGITS = re.compile(r"[0-9][^0-9]*[0-9][^0-9]*[0-9][^0-9]*[0-9]")
"""Nothing of ours has fewer, but for an IP address with letters."""
_SEPARATORS = re.compile(r"[^0-9A-Za-z]+")


class Finding(NamedTuple):
    """`text[start:end]` of the text as it came in was of `kind`; never the value itself."""

    kind: str
    start: int
    end: int


class Redacted(NamedTuple):
    """The text with tokens, and what was found, from left to right; equal to the input when nothing was."""

    text: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class ExtraPattern:
    """A kind of personal data that an operator adds: its name in tokens, and an RE2 expression that finds it."""

    kind: str
    pattern: str


class Redactor:
    """Finds and replaces personal data. Made once for each process; safe to share between threads.

    Args:
        key: the secret of the tokens (`PII_HASH_KEY`), 16 bytes or more.
        extra: an operator's patterns, beside those of `Kind`.

    Raises:
        ValueError: the key is too short, or a pattern's name or expression is none; the message is a sentence.
    """

    def __init__(self, key: bytes, extra: Sequence[ExtraPattern] = ()) -> None:
        if len(key) < KEY_LENGTH:
            raise ValueError(f"PII_HASH_KEY has {len(key)} bytes and needs {KEY_LENGTH}: make a longer one.")
        self._key = key
        self._extra = [(one.kind, _checked(one)) for one in extra]
        self._patterns = [f"{one.kind}={one.pattern}" for one in extra]

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """All kinds that this one finds, the engine's own first."""
        return tuple(dict.fromkeys([*Kind, *(kind for kind, _ in self._extra)]))

    @cached_property
    def version(self) -> str:
        """The pattern set, an operator's own patterns included: equal versions find the same."""
        if not self._patterns:
            return str(PATTERN_SET_VERSION)
        return f"{PATTERN_SET_VERSION}+{hashlib.sha256(chr(10).join(self._patterns).encode()).hexdigest()[:10]}"

    def redact(self, text: str) -> Redacted:
        """`text` with a token in place of everything found."""
        if not self._extra and not _ANY.search(text):
            return Redacted(text, ())
        findings: list[Finding] = []
        redacted = text
        while found := self._found(redacted):
            parts, done, new = [], 0, []
            for span, token in found:
                parts += [redacted[done : span.start], token]
                done = span.end
                new.append(_original(span, findings))
            redacted = "".join([*parts, redacted[done:]])
            findings = sorted([*findings, *new], key=_start) if findings else new
        return Redacted(redacted, tuple(findings))

    def called(self, name: str) -> str:
        """`name` as it may be told: where it holds personal data, redacted and with a keyed hash of the whole.

        So no two names are called the same, and whoever has the key finds the one that is meant.
        """
        redacted = self.redact(name)
        return f"{redacted.text}#{self._hash(name)}" if redacted.findings else name

    def _found(self, text: str) -> list[tuple[Span, str]]:
        """What is in `text` outside of tokens, with the token of each."""
        read, places = folded(text)
        if "[" in read:
            read = _TOKEN.sub(_blank_token, read)
        spans = _own(read)
        if self._extra:
            spans = _resolved([*spans, *_matches(self._extra, clean(read))])
        if not spans:
            return []
        tokens = [self._token(span.kind, read[span.start : span.end]) for span in spans]
        if places is not None:
            spans = [Span(places.start(span.start), places.end(span.end), span.kind) for span in spans]
        return list(zip(spans, tokens, strict=True))

    def _token(self, kind: str, value: str) -> str:
        return f"[{kind}:{self._hash(f'{kind}:{_one_spelling(kind, value)}')}]"

    def _hash(self, said: str) -> str:
        return hmac.digest(self._key, said.encode(errors="replace"), "sha256").hex()[:10]


def _own(text: str) -> list[Span]:
    """What the engine's own recognisers find in folded `text` without its tokens."""
    found = [*emails(text)] if "@" in text else []
    if text.count(".") >= 3 or text.count(":") >= 2:
        found += ips(text)
    if _FOUR_DIGITS.search(text):
        found += ibans(text)
        found += lettered(text)
    if not found:
        return list(numbers(text))
    found = _resolved(found)
    return sorted([*found, *numbers(_blanked(text, found))])


def _matches(patterns: Iterable[tuple[str, Any]], text: str) -> Iterator[Span]:
    for kind, pattern in patterns:
        for match in pattern.finditer(text):
            if match.end() > match.start() and not _BLANK.search(match[0]):
                yield Span(match.start(), match.end(), kind)


def _resolved(spans: list[Span]) -> list[Span]:
    """`spans` without overlaps: the earliest start wins, then the longer."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda one: (one.start, -one.end)):
        if not kept or span.start >= kept[-1].end:
            kept.append(span)
    return kept


def _blanked(text: str, spans: list[Span]) -> str:
    """`text` with \\0 in place of `spans`, character for character."""
    parts, done = [], 0
    for span in spans:
        parts += [text[done : span.start], "\0" * (span.end - span.start)]
        done = span.end
    return "".join([*parts, text[done:]])


def _blank_token(token: re.Match[str]) -> str:
    return ("\1" if token[1] == Kind.PHONE else "\0") * len(token[0])


def _original(span: Span, findings: list[Finding]) -> Finding:
    """Where `span`, of a text with tokens for `findings`, was before they were replaced."""
    shift = 0
    for finding in findings:
        if finding.start + shift >= span.start:
            break
        shift += len(finding.kind) + _TOKEN_LENGTH - (finding.end - finding.start)
    return Finding(span.kind, span.start - shift, span.end - shift)


def _start(finding: Finding) -> int:
    return finding.start


def _one_spelling(kind: str, value: str) -> str:
    """`value` as all its spellings are hashed, so that they share a token."""
    match kind:
        case Kind.EMAIL:
            return value.lower()
        case Kind.IP:
            return str(ip_address(value)) if ":" in value else value
        case Kind.PHONE:
            bare = _SEPARATORS.sub("", value.replace("(0)", "")).lower()
            return bare.removeprefix("00") if bare.startswith("00") else bare
        case Kind.CARD | Kind.SSN | Kind.IBAN | Kind.NATIONAL_ID:
            return _SEPARATORS.sub("", value).upper()
        case _:
            return fold(value)


def _checked(extra: ExtraPattern) -> Any:
    """The expression of `extra`, ready to search.

    Raises:
        ValueError: the name or the expression is none; the message is a sentence.
    """
    if not _KIND.fullmatch(extra.kind):
        raise ValueError(
            f"PII pattern {extra.kind!r} has no name for tokens: use up to 31 capitals, digits and underscores."
        )
    try:
        pattern = compiled(extra.pattern)
    except ValueError as error:
        raise ValueError(f"PII pattern {extra.kind} cannot be used: {error}; correct it.") from error
    if pattern.search(""):
        raise ValueError(f"PII pattern {extra.kind} matches an empty text: make it need at least one character.")
    return pattern
