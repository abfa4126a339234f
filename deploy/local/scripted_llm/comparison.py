"""From a question's words to a typed predicate: which operator, of which day's value, against what.

Only what can be read one way is read. Everything else raises `Unclear`, and becomes a condition in words.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import TypeVar

from deploy.local.scripted_llm.dates import Precision, mentions
from domain.rules import Op

T = TypeVar("T")


class Unclear(Exception):
    """The words can be read in more than one way, or in none; the message says where."""


@dataclass(frozen=True)
class Comparison:
    """A predicate over the value of one day; compared with `operand`, or with the value on `baseline_on`."""

    op: Op
    value_on: date
    baseline_on: date | None = None
    operand: Decimal | None = None
    upper: Decimal | None = None
    percent: bool = False


_MIRROR = {Op.GT: Op.LT, Op.LT: Op.GT, Op.GE: Op.LE, Op.LE: Op.GE}

_UP = (
    r"higher|greater|larger|bigger|above|over|more|increased?|increases|risen|rise|rises|rose|grown|grows?|grew"
    r"|gone up|go up|goes up|climbed|climbs?|exceed(?:s|ed)?|surpass(?:es|ed)?|gained"
)
_DOWN = (
    r"lower|less|smaller|below|under|decreased?|decreases|fallen|falls?|fell|dropped|drops?|declined?|declines"
    r"|gone down|go down|goes down|shrunk|shrinks?|lost"
)
_HIGH = r"high|great|large|much"
_LOW = r"low|little|small"
_EQUAL = r"equal to|equals?|exactly|the same(?: value)? as|identical to|unchanged"
_NUMBER = (
    r"(?P<{0}_currency>(?:us)?[$€£]\s?)?(?P<{0}>[-\u2212]?(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?)(?:st|nd|rd|th)?"
    r"(?P<{0}_unit>\s?(?:%|percentage points?|percent|per cent|basis points?|bps|thousand|million|billion|trillion"
    r"|k|bn|m|b|points?|dollars|usd)(?![a-z]))?"
)
_N = _NUMBER.format("n")

_RELATIVE: list[tuple[str, tuple[Op, bool]]] = [
    # (words, operator, whether "n" is the least change)
    (rf"(?:at least|no less than|a minimum of) {_N} (?:{_UP})", (Op.GT, True)),
    (rf"(?:at least|no less than|a minimum of) {_N} (?:{_DOWN})", (Op.LT, True)),
    (rf"{_N} or more (?:{_UP})", (Op.GT, True)),
    (rf"{_N} or more (?:{_DOWN})", (Op.LT, True)),
    (rf"(?:{_UP})(?: by)? (?:at least|no less than|a minimum of) {_N}", (Op.GT, True)),
    (rf"(?:{_DOWN})(?: by)? (?:at least|no less than|a minimum of) {_N}", (Op.LT, True)),
    (rf"(?:{_UP}) by {_N} or more", (Op.GT, True)),
    (rf"(?:{_DOWN}) by {_N} or more", (Op.LT, True)),
    (rf"at least as (?:{_HIGH})|as (?:{_HIGH}) (?:as )?or (?:{_UP})", (Op.GE, False)),
    (rf"at most as (?:{_HIGH})|as (?:{_LOW}) (?:as )?or (?:{_DOWN})", (Op.LE, False)),
    (rf"at least as (?:{_LOW})", (Op.LE, False)),
    (rf"(?:no|not|not be) (?:any )?(?:{_DOWN})", (Op.GE, False)),
    (rf"(?:no|not|not be|not have) (?:any )?(?:{_UP})", (Op.LE, False)),
    (rf"(?:{_UP})(?: than)? or (?:equal(?: to)?|the same|unchanged|at)", (Op.GE, False)),
    (rf"(?:{_DOWN})(?: than)? or (?:equal(?: to)?|the same|unchanged|at)", (Op.LE, False)),
    (rf"(?:equal(?: to)?|the same|unchanged|at) or (?:{_UP})", (Op.GE, False)),
    (rf"(?:equal(?: to)?|the same|unchanged|at) or (?:{_DOWN})", (Op.LE, False)),
    (r"(?:not|not be) (?:equal to|the same as)|different", (Op.NE, False)),
    (rf"(?:{_EQUAL})", (Op.EQ, False)),
    (rf"(?:{_UP})", (Op.GT, False)),
    (rf"(?:{_DOWN})", (Op.LT, False)),
]
_ABSOLUTE: list[tuple[str, Op]] = [
    (rf"(?:between|in the range(?: of)?|from) {_N} (?:and|to) {_NUMBER.format('m')}", Op.BETWEEN),
    (
        rf"(?:at or above|at least|no less than|no lower than|not (?:be )?(?:below|under|lower than|less than)) {_N}",
        Op.GE,
    ),
    (
        rf"(?:at or below|at most|no more than|no higher than|not (?:be )?(?:above|over|higher than|more than)) {_N}",
        Op.LE,
    ),
    (rf"(?:{_UP}) than or equal to {_N}", Op.GE),
    (rf"(?:{_DOWN}) than or equal to {_N}", Op.LE),
    (rf"(?:{_UP})(?: than)? {_N}", Op.GT),
    (rf"(?:{_DOWN})(?: than)? {_N}", Op.LT),
    (rf"{_N} (?:or|and) (?:{_UP})", Op.GE),
    (rf"{_N} (?:or|and) (?:{_DOWN})", Op.LE),
    (rf"in the top {_N}", Op.GE),
    (rf"(?:{_EQUAL}) {_N}", Op.EQ),
]
"""Most telling first: what one pattern has taken, a later one does not see."""

_NEGATION = re.compile(r"\b(?:not|never|cannot|fails?|failed|neither|nor|unless|without|no longer)\b|n['\u2019]t\b")
_NOT_A_NEGATION = re.compile(r"\bnot seasonally adjusted\b")
_ALONG_THE_WAY = re.compile(
    r"\b(?:ever|any ?time|any point|any day|at least once|reach(?:es|ed)?|hits?|touch(?:es|ed)?|remains?|stays?"
    r"|throughout|until|dips?|consecutive|doubles?|doubled|twice|halves|halved)\b"
)
_DEGREE = re.compile(
    r"(?:\d|%|percent|points?|slightly|significantly|substantially|much|far|considerably|materially|notably)\s*$"
)
_JOINED = re.compile(r"\b(?:and|or|nor)\s*$")
_DATE = "\u27e6"
_CONNECTOR = r"compared (?:to|with)|relative to|versus|vs|against|from|than"
_BEFORE_SECOND_DAY = re.compile(
    rf"\b(?:{_CONNECTOR}|exceeds?|exceeded|surpass(?:es|ed)?|above|below|under|over|equals?|as)\b"
)
_BEFORE_FIRST_DAY = re.compile(
    rf"\b(?:{_CONNECTOR}|between|since|equal to)(?: (?:its|their|the|that))?"
    r"(?: (?:value|level|price|close|closing|market|rating|ranking|rank|temperature|rate|yield|of|at))*"
    r"(?: (?:on|as of|at|for|of))?\s*$"
)
_SAME_THING = re.compile(
    r"(?:\W|\b(?:its|their|his|her|the|that|it|was|of|on|as|at|by|in|values?|level|price|close|closing|market|rating|ranking"
    r"|rank|elo|fide|temperature|rate|yield|index|reading)\b)*"
)
"""What may stand between "than" and the day compared with, if it is the same series that is meant."""
_AFTER_COMPARATOR = re.compile(
    r"(?:\s+(?:in value|at(?: the)? close|of|by|on|as of|at|from|between|since|than|its|their|value|level|price|close"
    r"|rating|ranking|rank))*\s*"
)
_POINT_IN_TIME = re.compile(r"\b(?:on|as of|at(?: the)? (?:close|end)(?: of| on)?|for|at)(?: the)?\s*$")
_YEAR_OF_TIME = re.compile(r"\b(?:in|by|before|until|during|of|since|for|through|after|on)\s*$", re.IGNORECASE)
_DERIVED = re.compile(
    r"\b(?:difference|ratio|minus|year[- ]over[- ]year|yoy|month[- ]over[- ]month|mom|growth"
    r"|(?<!breakeven )inflation)\b"
)
_UNDATED = re.compile(r"\b(?:than|compared|relative to|versus|vs)\b")


def read(question: str, today: date, *, rank: bool = False, units: frozenset[str] = frozenset()) -> Comparison:
    """The comparison that a question about one series asks for.

    Args:
        question: the question, its dates written out.
        today: for dates without a year, which make it unclear.
        rank: the value is a place in a ranking, where higher is a smaller number.
        units: what a number may be written in besides the bare number: "%" for a series in per cent, "money" for one in
            units of a currency.

    Raises:
        Unclear: the words do not say one thing.
    """
    text, days = _mask(question, today)
    if rank:
        text = re.sub(r"\bbetter\b", "higher", re.sub(r"\bworse\b", "lower", re.sub(r"\bgood\b", "high", text)))
    if _ALONG_THE_WAY.search(text):
        raise Unclear("it asks about a time span, not about the value of one day")
    match days:
        case [day]:
            comparison = _threshold(text, day, rank, units)
        case [first, second]:
            comparison = _between_days(text, first, second, units)
        case _:
            raise Unclear(f"it names {len(days)} days, where one or two are needed")
    return _as_rank(comparison) if rank else comparison


def _mask(question: str, today: date) -> tuple[str, list[date]]:
    """The question in lower case with its days as tokens, so that no digit of a date is taken for a number."""
    pieces, days, place = [], [], 0
    for mention in mentions(question, today):
        year_of_a_base = question[mention.start : mention.end].isdigit() and not _YEAR_OF_TIME.search(
            question[: mention.start]
        )
        if year_of_a_base:  # "chained 2017 dollars", "2015 = 100"
            continue
        if mention.precision is not Precision.DAY:
            raise Unclear(f"{question[mention.start : mention.end]!r} is no exact date")
        pieces += [question[place : mention.start], _DATE]
        days.append(mention.first)
        place = mention.end
    text = " ".join("".join([*pieces, question[place:]]).lower().split())
    return _NOT_A_NEGATION.sub("", text), days


def _threshold(text: str, day: date, rank: bool, units: frozenset[str]) -> Comparison:
    if not _POINT_IN_TIME.search(text[: text.index(_DATE)]):
        raise Unclear("its date is a deadline, not the day whose value counts")
    if _DERIVED.search(text):
        raise Unclear("it asks about something that has to be computed from several values")
    match, op = _only(_find(text, _ABSOLUTE))
    rest = text[: match.start()] + " " + text[match.end() :]
    if _NEGATION.search(rest):
        raise Unclear("it is worded as a negation")
    if _UNDATED.search(rest[match.start() :]):
        raise Unclear("it compares with a value that has no date")
    if match.group(0).startswith("in the top") and not rank:
        raise Unclear("a top place is asked of a value that is no rank")
    operand = _number(match, "n", units)
    if op is not Op.BETWEEN:
        return Comparison(op, day, operand=operand)
    upper = _number(match, "m", units)
    if upper < operand:
        raise Unclear("the range has its lower bound above its upper")
    return Comparison(op, day, operand=operand, upper=upper)


def _between_days(text: str, first: date, second: date, units: frozenset[str]) -> Comparison:
    before, middle, after = text.split(_DATE)
    # Words of comparison further back belong to what is measured ("securities rated BB or below").
    adjacent = [pair for pair in _find(before, _RELATIVE) if _AFTER_COMPARATOR.fullmatch(before, pair[0].end())]
    match, (op, is_change) = _only(adjacent + _find(middle, _RELATIVE) or _find(after, _RELATIVE))
    if _DEGREE.search(match.string[: match.start()]):
        raise Unclear("how much more or less is asked is not a plain 'at least'")
    if _JOINED.search(match.string[: match.start()]):
        raise Unclear("it joins two comparisons")
    if re.search(r"\d", middle.replace(match.group(0), " ")):
        raise Unclear("a number stands between its dates")
    if _NEGATION.search(text.replace(match.group(0), " ")):
        raise Unclear("it is worded as a negation")
    baseline_first, baseline_second = bool(_BEFORE_FIRST_DAY.search(before)), bool(_BEFORE_SECOND_DAY.search(middle))
    if baseline_first == baseline_second:
        raise Unclear("which of its dates is compared with which is not said")
    if baseline_second:
        *_, connector = _BEFORE_SECOND_DAY.finditer(middle)
        if not _SAME_THING.fullmatch(middle, connector.end()):
            raise Unclear("it may compare with something else than the same series")
    if first == second:
        raise Unclear("it compares a day with itself")
    value_on, baseline_on = (second, first) if baseline_first else (first, second)
    if not is_change:
        return Comparison(op, value_on, baseline_on)
    least = _number(match, "n", units | {"change"})
    if least <= 0:
        raise Unclear("the change asked for is not above zero")
    percent = (match.group("n_unit") or "").strip() in _PERCENT
    return Comparison(Op.CHANGED_BY, value_on, baseline_on, least if op is Op.GT else -least, percent=percent)


def _find(text: str, patterns: Sequence[tuple[str, T]]) -> list[tuple[re.Match[str], T]]:
    """The matches of all patterns that do not overlap, the first patterns first, in order of appearance."""
    found: list[tuple[re.Match[str], T]] = []
    for words, meaning in patterns:
        for match in re.finditer(rf"(?<![\w.,-])(?:{words})(?!\w)", text):
            if not any(match.start() < other.end() and other.start() < match.end() for other, _ in found):
                found.append((match, meaning))
    return sorted(found, key=lambda pair: pair[0].start())


def _only(found: list[tuple[re.Match[str], T]]) -> tuple[re.Match[str], T]:
    if len(found) != 1:
        raise Unclear(f"it has {len(found)} comparisons, where one is needed")
    return found[0]


_PERCENT = {"%", "percent", "per cent"}
_POINTS = {"percentage point", "percentage points"}
_SCALES = {
    "k": 10**3, "thousand": 10**3, "m": 10**6, "million": 10**6, "b": 10**9, "bn": 10**9, "billion": 10**9,
    "trillion": 10**12, "dollars": 1, "usd": 1,
}  # fmt: skip


def _number(match: re.Match[str], name: str, units: frozenset[str]) -> Decimal:
    """The number of a group in the series' own unit."""
    unit = (match.group(f"{name}_unit") or "").strip()
    number = Decimal(match.group(name).replace(",", "").replace("\u2212", "-"))
    if unit in _PERCENT and not units & {"%", "change"}:
        raise Unclear("a number in per cent is asked of a series that may not be in per cent")
    if unit in _POINTS and "%" not in units:
        raise Unclear("percentage points are asked of a series that may not be in per cent")
    if (unit in _SCALES or match.group(f"{name}_currency")) and "money" not in units:
        raise Unclear("the unit of its number may not be the series' own")
    if unit in {"bps", "basis point", "basis points"}:
        raise Unclear("basis points may not be the series' own unit")
    return number * _SCALES.get(unit, 1)


def _as_rank(comparison: Comparison) -> Comparison:
    """The same of a rank, where the higher place has the smaller number."""
    if comparison.percent:
        raise Unclear("a share of a rank is no rank")
    if comparison.op is Op.CHANGED_BY:
        assert comparison.operand is not None
        return replace(comparison, operand=-comparison.operand)
    return replace(comparison, op=_MIRROR.get(comparison.op, comparison.op))
