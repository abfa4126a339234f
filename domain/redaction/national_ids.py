"""Identity and tax numbers: by check digits where a country has them, by the words before them where it has none."""

import importlib
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from domain.redaction.context import Context, Label
from domain.redaction.kinds import Kind, Span
from domain.redaction.phones import goes_on

_NUMERIC = (
    (re.compile(r"\d{3}\.\d{3}\.\d{3}-\d{2}"), "br.cpf"),
    (re.compile(r"[2-9]\d{3}([ -])\d{4}\1\d{4}"), "in_.aadhaar"),
    (re.compile(r"\d{6}-\d{4}"), "se.personnummer"),
    (re.compile(r"[12] \d{2} \d{2} \d{2} \d{3} \d{3} \d{2}"), "fr.nir"),
)
"""Shapes of digits that a check digit confirms, with the module of python-stdnum that knows it."""

_TIN = re.compile(r"(?!(?:19|20)\d\d[01]\d[0-3]\d)\d{8}-\d{4}")
"""The Federal Inland Revenue Service's TIN: eight digits and four (a day and four digits are an order's number)."""

_FAR = re.compile(
    r"(?!1\d{9}$)\d{10,11}|\d{8}-\d{4}|\d{4}([ -])\d{3}\1\d{4}|\d{3}([ -])\d{4}\2\d{4}|\d{3}([ -])\d{3}\3\d{5}"
)
"""Numbers that a word farther off still says it of: NIN, BVN and TIN as they are written, and no seconds since 1970."""
_SAID_AFTER = re.compile(
    r"[ (,:\-]{0,3}(?:(?:is|was|as|for) (?:my|your|his|her|their|our|the) )?(?:nin|bvn|tin|aadhaar)\b"
    r"(?!\W{0,3}(?:(?:is|was) )?[\d\0\1])",
    re.IGNORECASE,
)

_ENDS_IN_LETTER = re.compile(r"\d(?:[ -]?[A-Za-z]|[A-Za-z]{2})(?![A-Za-z0-9@\0\1]|_[A-Za-z0-9]|[-.][A-Za-z_])")
"""What was found before glues as the letters and digits did that it replaces: one find never sets another free."""
_LETTERED = re.compile(
    r"""(?ix:(?<![A-Za-z0-9.-])(?<![A-Za-z0-9]_)(?:
      (?P<nino>(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]([ -]?)\d\d\2\d\d\2\d\d\2[A-D])
    | (?P<in__pan>(?-i:[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z]))  # in small letters it is a hash as often
    | (?P<es_dni>\d{8}[ -]?[A-Z])
    | (?P<es_nie>[XYZ][ -]?\d{7}[ -]?[A-Z])
    | (?P<it_codicefiscale>[A-Z]{6}\d\d[A-Z]\d\d[A-Z]\d{3}[A-Z])
    | (?P<fi_hetu>\d{6}[-+A]\d{3}[A-Z])
    | (?P<vnin>[A-Z]{2}\d{2}[ ]?\d{4}[ ]?\d{4}[ ]?\d{2}[A-Z]{2})
    )$)"""
)
_LONGEST = 19
_UNCHECKED = frozenset({"nino", "vnin"})
"""Britain's and Nigeria's (a virtual NIN) have no check digit."""
_OTHER = re.compile(r"(?<![A-Za-z0-9_-])GHA-\d{9}-\d(?![\w-])")
"""Ghana's card."""


def national_id(text: str, start: int, end: int, digits: str, said: Context) -> bool:
    """Whether a run of digits is a person's number with a state."""
    shape = text[start:end]
    if said.label is Label.NATIONAL_ID and (len(digits) <= 15 if said.adjacent else _FAR.fullmatch(shape)):
        return True
    if _SAID_AFTER.match(text, end) and _FAR.fullmatch(shape):
        return True
    if said.label is Label.THING and said.adjacent:
        return False
    if _TIN.fullmatch(shape):
        return True
    if not any(pattern.fullmatch(shape) and _known(module).is_valid(shape) for pattern, module in _NUMERIC):
        return False
    return not goes_on(text, start, end)


def lettered(text: str) -> Iterator[Span]:
    """The identity numbers in folded `text` that have letters and digits."""
    for ending in _ENDS_IN_LETTER.finditer(text):
        begin = max(0, ending.end() - _LONGEST)
        found = _LETTERED.search(text, begin, ending.end())
        if found and found.lastgroup and (found.lastgroup in _UNCHECKED or _valid(found.lastgroup, found[0])):
            yield Span(found.start(), found.end(), Kind.NATIONAL_ID)
    if "GHA-" in text:
        for card in _OTHER.finditer(text):
            yield Span(card.start(), card.end(), Kind.NATIONAL_ID)


def _valid(group: str, value: str) -> bool:
    country, _, name = group.rpartition("_")
    return bool(_known(f"{country}.{name}").is_valid(value))


@cache
def _known(module: str) -> Any:
    return importlib.import_module(f"stdnum.{module}")
