"""What a run of digits is: a card, a social security number, an identity number, a telephone, or nothing of ours."""

import re
from collections.abc import Iterator
from itertools import accumulate

from domain.redaction.context import Context, Label, context_of
from domain.redaction.kinds import Kind, Span
from domain.redaction.national_ids import national_id
from domain.redaction.phones import EXTENSION, phone

_CHUNK = re.compile(r"[0-9](?:(?:\) ?|\)-| ?\(|-\(| [-/] | {1,2}|[.\-/])?[0-9]){6,}+")
_GROUP = re.compile(r"[0-9]+")
_FEWEST, _MOST = 7, 19
"""Digits of what the engine finds: a local telephone has seven, the longest card nineteen."""
_MOST_GROUPS = 9
"""A telephone in pairs with its country code has seven; the bound keeps long tables of numbers linear."""

_CARD = re.compile(
    r"""(?x:
      4(?:\d{12}|\d{15}|\d{18})                                       # Visa
    | (?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}  # Mastercard
    | 3[47]\d{13}                                                     # American Express
    | 3(?:0[0-59]|[689])\d{11,16}                                     # Diners Club
    | (?:6011|64[4-9]|65)\d{12,17}                                    # Discover
    | 35\d{14,17}|(?:2131|1800)\d{11}                                # JCB
    | (?:5018|5020|5038|5[0678]|6[0-9])\d{10,17}                      # Maestro, UnionPay, Verve, RuPay, Elo
    )"""
)
_CARD_GROUPS = re.compile(r"\d{4}([ .-])\d{4,6}(?:\1\d{2,6}){1,3}")
"""As cards are printed: 4-4-4-4, 4-6-5, 4-6-4, with three more or fewer at the end."""
_ANEW = re.compile(r"[/,](?=\d{7}|0\d{2,3}[ -])|,(?!\d{3}(?!\d))")
"""Between two numbers where others join parts of one: 08031234567/08098765432."""
_SSN = re.compile(r"(?!000|666|9)\d{3}([- ]?)(?!00)\d{2}\1(?!0000)\d{4}")
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def luhn(digits: str) -> bool:
    """The check digit of cards (ISO/IEC 7812-1, annex B)."""
    odd = sum(map(int, digits[-1::-2]))
    return (odd + sum(_DOUBLED[int(digit)] for digit in digits[-2::-2])) % 10 == 0


def numbers(text: str) -> Iterator[Span]:
    """What the runs of digits in folded `text` are, from left to right; linear in its length.

    \\0 and \\1 in `text` stand for what was found before.
    """
    since = None
    for chunk in _CHUNK.finditer(text):
        groups = [group.span() for group in _GROUP.finditer(text, chunk.start(), chunk.end())]
        first = 0
        while first < len(groups):
            last, found = _longest(text, groups, first, since)
            if found:
                since = found
                yield found
            first = last + 1


def _longest(text: str, groups: list[tuple[int, int]], first: int, since: Span | None) -> tuple[int, Span | None]:
    """The longest run from group `first` on that is something, and its last group."""
    start = groups[first][0]
    if not _opens(text, start):
        return first, None
    counts = list(accumulate(end - start for start, end in groups[first : first + _MOST_GROUPS]))
    if counts[-1] < _FEWEST:
        return first, None
    said = context_of(text, start, since)
    for more in range(len(counts) - 1, -1, -1):
        if counts[more] < _FEWEST:
            break
        if counts[more] <= _MOST:
            found = _run(text, groups[first : first + more + 1], said)
            if found:
                return first + more, found
    return first, None


def _run(text: str, groups: list[tuple[int, int]], said: Context) -> Span | None:
    start, end = groups[0][0], groups[-1][1]
    digits = "".join([text[a:b] for a, b in groups])
    if not EXTENSION.match(text, end):
        if not _closes(text, end):
            return None
        shape = text[start:end]
        if len(digits) >= 12 and _is_card(shape, digits, said) and text[start - 1 : start] != "+":
            return Span(start, end, Kind.CARD)
        if len(digits) == 9 and (ssn := _SSN.fullmatch(shape)) and (ssn[1] == "-" or said.label is Label.SSN):
            return Span(start, end, Kind.SSN)
        if national_id(shape, digits, said):
            return Span(start, end, Kind.NATIONAL_ID)
    return phone(text, groups, digits, said)


def _is_card(shape: str, digits: str, said: Context) -> bool:
    if said.label is Label.NATIONAL_ID or not (shape == digits or _CARD_GROUPS.fullmatch(shape)) or not luhn(digits):
        return False
    return said.label is Label.CARD or bool(_CARD.fullmatch(digits))


def _opens(text: str, start: int) -> bool:
    """Nothing is glued to the left of the number, of which it could be the rest."""
    if not start:
        return True
    before = text[start - 1]
    if before.isascii() and (before.isalnum() or before == "_"):
        return False
    if before not in "-./," or start == 1 or not text[start - 2].isdigit():
        return True
    return bool(_ANEW.match(text, start - 1))


def _closes(text: str, end: int) -> bool:
    """Nothing is glued to the right of the number."""
    after = text[end : end + 2]
    if not after:
        return True
    if after[0].isascii() and (after[0].isalnum() or after[0] in "_@"):
        return False
    return not (after[0] in "-./," and after[1:].isdigit()) or bool(_ANEW.match(text, end))
