"""What a run of digits is: a card, a social security number, an identity number, a telephone, or nothing of ours."""

import re
from collections.abc import Iterator
from itertools import accumulate

from domain.redaction.context import Context, Label, context_of
from domain.redaction.kinds import Kind, Span
from domain.redaction.national_ids import national_id
from domain.redaction.phones import EXTENSION, goes_on, is_nigerian_mobile, phone

_CHUNK = re.compile(r"[0-9](?:(?:\)[-./]? ?| ?\(|-\(| [-/] | {1,2}|[\-/] ?|\.|-?\r?\n)?[0-9]){6,}+")
_GROUP = re.compile(r"[0-9]+")
_DIGIT = re.compile(r"[0-9]")
_FEWEST, _MOST = 7, 19
"""Digits of what the engine finds: a local telephone has seven, the longest card nineteen."""
_LONGEST_TELEPHONE = 13
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
    | (?:5018|5020|5038|5[678]\d\d|0604|6304|6390|6759|676[1-3])\d{8,11}  # Maestro, short
    | (?:5[0678]|6[0-9])\d{14,17}                                     # Maestro, UnionPay, Verve, RuPay, Elo
    )"""
)
_CARD_GROUPS = re.compile(r"\d{4}( - |  |[ .-])\d{4,6}(?:\1\d{2,6}){1,3}|(?=(?:\d *){16}$)\d{4,12}(?: \d{4,12}){1,2}")
"""As cards are printed: 4-4-4-4, 4-6-5, 4-6-4, with three more or fewer at the end; or 16 digits in pieces."""
_NUMBER_BELOW, _NUMBER_ABOVE = re.compile(r"\r?\n\d{4}(?!\d)"), re.compile(r"(?<!\d)\d{4}\r?\n$")
_BREAK = re.compile(r"(-?)\r?\n")
_ANEW = re.compile(r"[/,](?=\d{7}|0\d{2,3}[ -])|,(?!\d{3}(?!\d))")
"""Between two numbers where others join parts of one: 08031234567/08098765432."""
_SSN = re.compile(r"(?!000|666|9)\d{3}( - |[-. ]?)(?!00)\d{2}\1(?!0000)\d{4}")
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
            if since and groups[first][0] < since.end:  # an extension of the telephone before
                first += 1
                continue
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
        plus = text[start - 1 : start] == "+"
        if "\n" in text[start:end]:
            return _broken(text, groups, digits, said, plus=plus)
        shape = text[start:end]
        in_row = 12 == len(digits) < len(shape) and goes_on(text, start, end)
        if len(digits) >= 12 and not in_row and _is_card(shape, digits, said) and not plus:
            return Span(start, end, Kind.CARD)
        if len(digits) == 9 and _is_ssn(shape, said):
            return Span(start, end, Kind.SSN)
        if national_id(text, start, end, digits, said):
            return Span(start, end, Kind.NATIONAL_ID)
    return phone(text, groups, digits, said)


def _broken(text: str, groups: list[tuple[int, int]], digits: str, said: Context, *, plus: bool) -> Span | None:
    """What goes on in the next line: only what its digits show to be whole then, and not before."""
    start, end = groups[0][0], groups[-1][1]
    first, *others = _BREAK.split(text[start:end])[::2]
    shape = _BREAK.sub(lambda broken: broken[1] or " ", text[start:end])
    if len(digits) in (15, 16) and _is_card(shape, digits, said) and not plus and not _in_column(text, start, end):
        return Span(start, end, Kind.CARD)
    if len(others) > 1:
        return None
    if len(digits) == 9 and _SSN.fullmatch(shape) and "-" in shape:
        return Span(start, end, Kind.SSN)
    if is_nigerian_mobile(digits):
        return Span(start - plus, end, Kind.PHONE)
    if plus and len(_DIGIT.findall(first)) < _FEWEST and 9 <= len(digits) <= _LONGEST_TELEPHONE:
        return phone(text, groups, digits, said)
    return None


def _in_column(text: str, start: int, end: int) -> bool:
    """Whether more numbers stand in the lines before or after."""
    return bool(_NUMBER_BELOW.match(text, end) or _NUMBER_ABOVE.search(text, max(0, start - _MOST), start))


def _is_card(shape: str, digits: str, said: Context) -> bool:
    if said.label is Label.NATIONAL_ID or not (shape == digits or _CARD_GROUPS.fullmatch(shape)) or not luhn(digits):
        return False
    if said.label is Label.CARD:
        return True
    called = said.label is Label.PHONE and said.adjacent and len(digits) <= _LONGEST_TELEPHONE
    return not called and bool(_CARD.fullmatch(digits))


def _is_ssn(shape: str, said: Context) -> bool:
    found = _SSN.fullmatch(shape)
    return bool(found) and (said.label is Label.SSN or "-" in shape)


def _opens(text: str, start: int) -> bool:
    """Nothing is glued to the left of the number, of which it could be the rest."""
    if not start:
        return True
    before = text[start - 1]
    if before.isascii() and (before.isalnum() or (before == "_" and text[max(0, start - 2) : start - 1].isalnum())):
        return False
    if before not in "-./," or start == 1 or not text[start - 2].isdigit():
        return True
    return bool(_ANEW.match(text, start - 1))


def _closes(text: str, end: int) -> bool:
    """Nothing is glued to the right of the number."""
    after = text[end : end + 2]
    if not after:
        return True
    if after[0].isascii() and (after[0].isalnum() or after[0] == "@" or (after[0] == "_" and after[1:].isalnum())):
        return False
    return not (after[0] in "-./," and after[1:].isdigit()) or bool(_ANEW.match(text, end))
