"""Text as the recognisers read it: one alphabet of digits, spaces, dashes and points, and nothing invisible."""

import re
import unicodedata

_INVISIBLE = (
    "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062"
    "\u2063\u2064\u2066\u2067\u2068\u2069\ufe0e\ufe0f\ufeff\u20e3"
)
"""Soft hyphen, joiners, marks of direction, variation selectors and the box of keycap emoji: they show nothing."""

_ALIKE = {
    " ": "\t\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000",
    "-": "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63",
    ".": "\u3002\u2024\uff61",
    ":": "\ua789",
    "@": "\ufe6b",
    "+": "\ufe62",
}


_TABLE = {ord(one): to for to, all_alike in _ALIKE.items() for one in all_alike} | {
    code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)
}
_UNUSUAL = re.compile(f"[{re.escape(''.join(map(chr, _TABLE)))}]")
_OTHER_DIGIT = re.compile(r"[^\D0-9]")
_HIDDEN = re.compile(f"[{_INVISIBLE}]")
_VISIBLE = re.compile(f"[^{_INVISIBLE}]")


def folded(text: str) -> tuple[str, list[int] | None]:
    """`text` with full-width and other digits, spaces and dashes as ASCII, and without what shows nothing.

    The list has the place in `text` of each character; None says that every character kept its place.
    """
    if text.isascii():
        return (text.replace("\t", " ") if "\t" in text else text), None
    places = None
    if _HIDDEN.search(text):
        places = [visible.start() for visible in _VISIBLE.finditer(text)]
        text = _HIDDEN.sub("", text)
    if _UNUSUAL.search(text):
        text = text.translate(_TABLE)
    if _OTHER_DIGIT.search(text):
        text = _OTHER_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)
    return text, places
