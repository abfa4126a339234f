"""Telephones: by their shape where it is a telephone's, by what the words around say where it is any number's.

Shapes follow ITU-T E.164 and E.123, the North American numbering plan, and national plans that write a leading zero.
"""

import re

from domain.redaction.context import REACH, Context, Label
from domain.redaction.kinds import Kind, Span

EXTENSION = re.compile(r" ?(?:x|ext\.?|extension|poste|durchwahl) ?\d{1,6}(?![\w-])", re.IGNORECASE)
"""What may follow a telephone number: an extension within the house."""

_COUNTRY_CODE = re.compile(
    r"1|7|2[07]|2[1-6]\d|29[01789]|3[0-469]|3[578]\d|4[013-9]|42[013]|5[1-8]|50\d|59\d|6[0-6]|6[7-9]\d|8[1246]|80[08]"
    r"|85[02356]|870|88[0-3678]|9[0-58]|9[679]\d"
)
"""Assigned country codes (ITU Operational Bulletin 1114); which digits follow is each country's affair."""

_SHAPE = re.compile(
    r"""(?x:
      (?:1[-. ]?)?(?:\([2-9]\d\d\)[-. ]{0,2}|[2-9]\d\d[-. ])\d{3}[-. ]?\d{4}  # 212-555-0123, (212) 555-0123
    | (?:\(1\d\d\)[ ]?|1\d\d[-.])\d{3}[-.]\d{4}                               # 123-456-7890, as in examples
    | [78][- ]?\(?[3-9]\d\d\)?[- ]?\d{3}[- ]\d\d[- ]?\d\d                      # 8 (714) 321-78-53
    | \(?0\d{1,5}\)?(?:[-. /]{1,2}|[ ][-/][ ])\d{2,8}(?:([ ]-[ ]|[-. /])\d{2,5}(?:\1\d{2,5}){0,3})?  # 030 / 12 34 56
    | 0[1-9]\d{8,9}                                                           # 08031234567
    | 234[ ]?0?[789][01]\d{8}                                                 # 2348031234567
    | \((?!(?:19|20)\d\d\))\d{2,4}\)[-./ ]{0,2}\d{2,5}[-. ]\d{2,4}(?:[-. ]\d{2,4})?  # (37) 788-063
    | \((?!(?:19|20)\d\d\))\d{2,4}\)[-./ ]{0,2}\d{6,9}                        # (351) 212515073
    | (?:\(?0\d\)?[- ]?)?\d{1,2}/\d{3}[- ]\d{4}                               # 06-35/883 2788
    )"""
)
_NIGERIAN = re.compile(r"(?:0|2340?)[789][01]\d{8}")
"""Mobile telephones of the country that most who write are from; hardly any other number is so long and begins so."""
_CHINESE = re.compile(r"1[3-9]\d(?:\d{8}|([ -])\d{4}\1\d{4})")
_HAN = re.compile(r"[\u4e00-\u9fff]")
_PAIRS = re.compile(r"\d\d(?:([-. ])\d\d(?:\1\d\d)+)")
_LOCAL = re.compile(r"\d{7,13}|\(?\d{1,5}\)?(?:(?:\)[-./]? ?| \(|[-. /()]| [-/] |[-/] )\d{1,8})*(?<=\d\d)")
"""A number that words must call a telephone."""

_OTHER = re.compile(
    r"""(?x:
      (?:19|20)\d\d([-./ ])\d{1,2}\1\d{1,2}(?:\D.*)?           # 2026-01-31, a time after it
    | \d{1,2}([-./ ])\d{1,2}\2(?:19|20)\d\d(?:\D.*)?           # 31.01.2026
    | (?:19|20)\d\d[ ]?[-/ ][ ]?(?:19|20)\d\d                  # 2024-2026
    | [012]\d[0-5]\d[ ]?-[ ]?[012]\d[0-5]\d                    # 0900-1700
    | (?:19|20)\d\d[01]\d[0-3]\d(?:\d{4}|\d{6})?               # 20260131
    | 1\d{9}|1\d{12}                                           # seconds and milliseconds since 1970
    | \d+\.\d+                                                 # 12345.678
    | \d{5}-\d{3,4}                                            # postal codes: 90010-170, 12345-6789
    | \d{3}-\d{2}-\d{4}                                        # no social security number, and written as one
    )"""
)
_THOUSANDS = re.compile(r"\d{1,3}(?:[ .]\d{3})+")
_GLUED = re.compile(r"[#$€£¥₦₹=/&%]|(?<=\w)[-*]")
"""Before a number: signs that make it an order, an amount or part of an address on the web, as a hyphen of words."""
_PRICED = re.compile(r"[#$€£¥₦₹]|(?<=\w)-")
"""Those that even a Nigerian mobile telephone is none after."""

_TIME = re.compile(r"\d:\d\d\D$")
_DATE_BEFORE = re.compile(r"(?:\d{4}([-./]?)\d\d\1\d\d|\d\d([-./])\d\d\2(?:\d\d)?\d\d),?[ _]$")
_CLOCK = re.compile(r"[012]\d([-.]?)[0-5]\d\1[0-5]\d(?!\d)")
_UNIT = re.compile(
    r"\s?(?:[%°€£$₦₹]|(?:usd|eur|gbp|ngn|naira|dollars?|euros?|pounds?|cents?|km|kg|miles?|met(?:er|re)s?|mb|gb|tb|kb"
    r"|bytes|people|persons?|users|customers|items|units|points?|votes?|views|followers|shares|barrels|times|copies"
    r"|tons|tonnes|seconds|minutes|hours|days|weeks|months|years|inhabitants|records|rows|requests|tokens)\b)",
    re.IGNORECASE,
)
_SAID_AFTER = re.compile(
    r"[ \-(,]{0,3}(?:office|mobile|mob|fax|cell|home|work|desk|phone|tel|landline|direct|switchboard|whatsapp|bureau"
    r"|handy|portable|movil|móvil|casa|büro|privat)(?=\)?\s*(?:$|[\n,;.|/)\\]))"
    r"|,? (?:keeps? |has |have |had |is |was |just |who |that )?(?:call|text|dial|phon|ring)(?:s|ed|ing)?"
    r" (?:me|us|him|her|them|back|again)\b"
    r"|,? (?:keeps?|has been|is) (?:calling|ringing|texting)\b"
    r"|,? (?:is|was) (?:the|a) (?:best|only|right|wrong|good|correct) (?:way to (?:reach|call|contact)|number)\b"
    r"|,? (?:is|are|was) (?:my|his|her|their|our|the)\b[^.,;:\n\d\[\0\1]{0,30}"
    r"\b(?:number|phone|mobile|cell|line|fax)\b",
    re.IGNORECASE,
)


def phone(text: str, groups: list[tuple[int, int]], digits: str, said: Context) -> Span | None:
    """The telephone that the groups of digits are, with its plus sign, bracket and extension."""
    start, end = groups[0][0], groups[-1][1]
    closed = text.find(")", start, end)
    opened = closed >= 0 and "(" not in text[start:closed]
    start -= opened and text[start - 1 : start] == "("
    first = start
    plus = text[first - 1 : first] == "+"
    first -= plus
    first -= plus and opened and text[first - 1 : first + 1] == "(+" and text[start] != "("
    glues = _PRICED if is_nigerian_mobile(digits) else _GLUED
    if first > 0 and glues.match(text, first - 1) and not (said.adjacent and said.label is Label.PHONE):
        return None
    if _UNIT.match(text, end) or _is_time(text, start):
        return None
    if not (_international(text[start:end], digits, plus) or _national(text, start, end, digits, said)):
        return None
    extension = EXTENSION.match(text, end)
    return Span(first, extension.end() if extension else end, Kind.PHONE)


def _is_time(text: str, start: int) -> bool:
    """Whether a time of day stands there, or its end: 14:30:00.123-07:00, 2026-01-31 14-30-00-0800."""
    if _TIME.search(text, max(0, start - 2), start + 3):
        return True
    return bool(_CLOCK.match(text, start) and _DATE_BEFORE.search(text, max(0, start - 14), start))


def is_nigerian_mobile(digits: str) -> bool:
    """Whether these are all digits of one, with or without the country's code."""
    return bool(_NIGERIAN.fullmatch(digits))


def _international(shape: str, digits: str, plus: bool) -> bool:
    if plus:
        return 7 <= len(digits) <= 16 and bool(_COUNTRY_CODE.match(digits))
    # As it is written: 0.0719193685 is a number like any other.
    return shape.startswith("00") and 11 <= len(digits) <= 17 and bool(_COUNTRY_CODE.match(digits, 2))


def _national(text: str, start: int, end: int, digits: str, said: Context) -> bool:
    shape = text[start:end]
    pairs = _PAIRS.fullmatch(shape)
    if _OTHER.fullmatch(shape) or (pairs and goes_on(text, start, end)):
        return False
    local = len(digits) <= 13 and bool(_LOCAL.fullmatch(shape))
    if local and _SAID_AFTER.match(text, end):
        return True
    if said.adjacent and said.label is Label.THING:
        return False
    if pairs:  # without words: five, as in France
        shaped = len(digits) == 10 and digits[0] == "0"
    else:
        enough = len(digits) >= 10 or shape[0] == "(" or _grouped_with_zero(shape)
        shaped = enough and bool(_SHAPE.fullmatch(shape))
    if _CHINESE.fullmatch(shape) and _HAN.search(text, max(0, start - REACH), start):
        return True
    if shaped:
        return len(digits) <= 13 or digits.startswith("234")
    alone = digits == shape or bool(_THOUSANDS.fullmatch(shape))
    if said.label is Label.NUMBER:
        return local and said.adjacent and (len(digits) >= 8 if not alone else len(digits) in (10, 11))
    return local and said.label is Label.PHONE and (said.adjacent or not alone)


def _grouped_with_zero(shape: str) -> bool:
    """`01 234 5678`, `01-4618000`; other groups of two, of nine digits, are as often a postal code and a house."""
    return bool(re.match(r"\d{2,4}\D+\d+\D+\d|0\d{1,2}\D\d{6,7}$", shape))


def goes_on(text: str, start: int, end: int) -> bool:
    """Whether more digits stand before or after, as in a row of numbers or a table."""
    return bool(re.match(r"[ .-]\d", text[end : end + 2]) or re.match(r"\d[ .-]", text[max(0, start - 2) : start]))
