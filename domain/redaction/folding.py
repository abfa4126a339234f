"""Text as the recognisers read it: one alphabet of digits, spaces, dashes and points, and nothing invisible."""

import html
import re
import unicodedata
from bisect import bisect_right
from typing import NamedTuple

_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\u20d0-\u20f0\u0300-\u036f\U000e0000-\U000e0fff"
)
"""Soft hyphen, fillers, joiners, marks of direction, variation selectors, tags: they show nothing. Marks that combine
with the sign before them (the box of keycap emoji, accents apart from their letters) change no digit and no address."""

_ALIKE = {
    " ": "\t\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000",
    "\n": "\v\f\u0085\u2028\u2029",
    "-": "\u02d7\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\u2796\u30fc\ufe58\ufe63\uff70",
    ".": "\u00b7\u2024\u2219\u22c5\u3002\uff61",
    ":": "\u2236\ua789",
    "@": "\ufe6b",
    "+": "\u2795\ufe62",
    "/": "\u2044\u2215",
}


_TABLE = {ord(one): to for to, all_alike in _ALIKE.items() for one in all_alike} | {
    code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)
}
_UNUSUAL = re.compile(f"[{re.escape(''.join(map(chr, _TABLE)))}]")
_OTHER_DIGIT = re.compile(r"[^\D0-9]")
_HIDDEN = re.compile(f"[{_INVISIBLE}]+")
_ESCAPE = (
    r"&(?:\#[0-9]{1,7}|\#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,8});"
    r"|%(?:2[0-9a-fA-F]|3[aA]|40)"
    r"|\\(?:u[0-9a-fA-F]{4}|[nrt\"/])"
)
"""A character as HTML, addresses on the web and JSON within a text write it."""
_ESCAPED = re.compile(_ESCAPE)
_APART = re.compile(f"[{_INVISIBLE}]+|{_ESCAPE}")
_JSON = {"n": "\n", "r": "\r", "t": " ", '"': '"', "/": "/"}


class Places(NamedTuple):
    """Where the characters of a folded text were, by stretches: each goes on until the next."""

    read: list[int]
    """Where a stretch begins in the folded text."""
    was: list[int]
    """Where it began in the text as it came."""
    width: list[int]
    """Characters that each of its characters was written with."""

    def start(self, at: int) -> int:
        """Where the character `at` began."""
        stretch = bisect_right(self.read, at) - 1
        return self.was[stretch] + (at - self.read[stretch])

    def end(self, at: int) -> int:
        """Where the character before `at` ended."""
        stretch = bisect_right(self.read, at - 1) - 1
        return self.was[stretch] + (at - 1 - self.read[stretch]) + self.width[stretch]


def folded(text: str) -> tuple[str, Places | None]:
    """`text` with one kind of digits, spaces and dashes, without escapes, and without what shows nothing.

    None instead of places says that every character kept its own.
    """
    plain = text.isascii()
    places = None
    if (not plain and _HIDDEN.search(text)) or (("&" in text or "%" in text or "\\" in text) and _ESCAPED.search(text)):
        text, places = _together(text)
        plain = text.isascii()
    if plain:
        return (text.replace("\t", " ") if "\t" in text else text), places
    if _UNUSUAL.search(text):
        text = text.translate(_TABLE)
    if _OTHER_DIGIT.search(text):
        text = _OTHER_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)
    return text, places


def _together(text: str) -> tuple[str, Places]:
    """`text` with a character for each escape and without what shows nothing."""
    parts, done, length = [], 0, 0
    places = Places([0], [0], [1])
    for apart in _APART.finditer(text):
        parts.append(text[done : apart.start()])
        length += apart.start() - done
        done = apart.end()
        meant = _meant(apart[0])
        if meant:
            parts.append(meant)
            _begin(places, length, apart.start(), done - apart.start())
            length += 1
        _begin(places, length, done, 1)
    return "".join([*parts, text[done:]]), places


def _begin(places: Places, read: int, was: int, width: int) -> None:
    places.read.append(read)
    places.was.append(was)
    places.width.append(width)


def _meant(apart: str) -> str:
    """The one character that an escape stands for; nothing when it shows nothing."""
    match apart[0]:
        case "&":
            meant = html.unescape(apart)
        case "%":
            meant = chr(int(apart[1:], 16))
        case "\\":
            meant = _JSON.get(apart[1:]) or chr(int(apart[2:], 16))
        case _:
            return ""
    if len(meant) > 1:  # no entity: as good as its sign
        return "&"
    return "" if _HIDDEN.match(meant) else meant
