"""Telephones: by their shape where it is a telephone's, by what the words around say where it is any number's.

Shapes follow ITU-T E.164 and E.123, the North American numbering plan, and national plans that write a leading zero.
"""

import re

from domain.redaction.context import Context, Label
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
    | \(?0\d{1,5}\)?(?:[-. /]{1,2}|[ ]/[ ])\d{2,8}(?:([-. ])\d{2,5}(?:\1\d{2,5}){0,3})?  # 0803 123 4567, 030 / 12 34 56
    | 0[789]\d{9}                                                             # 08031234567
    | 234[789][01]\d{8}                                                       # 2348031234567
    | \((?!(?:19|20)\d\d\))\d{2,4}\)[- ]?\d{2,5}[- ]\d{2,4}(?:[- ]\d{2,4})?   # (37) 788-063
    )"""
)
_LOCAL = re.compile(r"\d{7,13}|\(?\d{1,5}\)?(?:(?:\) | \(|[-. /()]| [-/] )\d{1,8})*(?<=\d\d)")
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
_GLUED = re.compile(r"[#$€£¥₦₹=/&_%*]|(?<=\w)-")
"""Before a number: signs that make it an order, an amount or part of an address on the web, as a hyphen of words."""

_UNIT = re.compile(
    r"\s?(?:[%°€£$₦₹]|(?:usd|eur|gbp|ngn|naira|dollars?|euros?|pounds?|cents?|km|kg|miles?|met(?:er|re)s?|mb|gb|tb|kb"
    r"|bytes|people|persons?|users|customers|items|units|points?|votes?|views|followers|shares|barrels|times|copies"
    r"|tons|tonnes|seconds|minutes|hours|days|weeks|months|years|inhabitants|records|rows|requests|tokens)\b)",
    re.IGNORECASE,
)
_SAID_AFTER = re.compile(
    r"[ \-(,]{0,3}(?:office|mobile|mob|fax|cell|home|work|desk|phone|tel|landline|direct|switchboard|whatsapp|bureau"
    r"|handy|portable|movil|móvil|casa|büro|privat)(?=\)?\s*(?:$|[\n,;.|/)\\]))"
    r"|,? (?:is|are|was) (?:my|his|her|their|our|the)\b[^.,;:\n\d\[\0\1]{0,30}"
    r"\b(?:number|phone|mobile|cell|line|fax)\b",
    re.IGNORECASE,
)


def phone(text: str, groups: list[tuple[int, int]], digits: str, said: Context) -> Span | None:
    """The telephone that the groups of digits are, with its plus sign, bracket and extension."""
    start, end = groups[0][0], groups[-1][1]
    bracket = text[start - 1 : start] == "(" and ")" in text[start:end]
    start -= bracket
    plus = text[start - 1 : start] == "+"
    glued = start > 0 and _GLUED.match(text, start - 1)
    if glued and not (said.adjacent and said.label is Label.PHONE):
        return None
    if _UNIT.match(text, end):
        return None
    if not (_international(text[start:end], digits, plus) or _national(text, start, end, digits, said)):
        return None
    extension = EXTENSION.match(text, end)
    return Span(start - plus, extension.end() if extension else end, Kind.PHONE)


def _international(shape: str, digits: str, plus: bool) -> bool:
    if plus:
        return 7 <= len(digits) <= 16 and bool(_COUNTRY_CODE.match(digits))
    # As it is written: 0.0719193685 is a number like any other.
    return shape.startswith("00") and 11 <= len(digits) <= 17 and bool(_COUNTRY_CODE.match(digits, 2))


def _national(text: str, start: int, end: int, digits: str, said: Context) -> bool:
    shape = text[start:end]
    if _OTHER.fullmatch(shape):
        return False
    local = len(digits) <= 13 and bool(_LOCAL.fullmatch(shape))
    if local and _SAID_AFTER.match(text, end):
        return True
    if said.adjacent and said.label is Label.THING:
        return False
    if _SHAPE.fullmatch(shape) and (len(digits) >= 10 or shape[0] == "(" or _grouped_with_zero(shape)):
        return len(digits) <= 13 or digits.startswith("234")
    alone = digits == shape or _THOUSANDS.fullmatch(shape)
    return local and said.label is Label.PHONE and (said.adjacent or not alone)


def _grouped_with_zero(shape: str) -> bool:
    """`01 234 5678`; two groups of nine digits are as often a postal code and a house."""
    return bool(re.match(r"\d{2,4}\D+\d+\D+\d", shape))
