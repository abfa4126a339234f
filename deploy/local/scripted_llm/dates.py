"""Dates in questions: ISO dates, "January 15, 2026", "31 December 2025", "Q3 2025", "by the end of 2025"."""

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from zoneinfo import ZoneInfo

_MONTHS = {
    name.lower(): number
    for names in (calendar.month_name, calendar.month_abbr)
    for number, name in enumerate(names)
    if name
} | {"sept": 9}
_MONTH = r"(?P<month>" + "|".join(sorted(_MONTHS, key=len, reverse=True)) + r")\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>20\d{2})"

_PATTERNS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b{_YEAR}-(?P<month_number>\d{{2}})-(?P<day>\d{{2}})(?!\d)",
        rf"\b{_MONTH} {_DAY},? {_YEAR}\b",
        rf"\b{_DAY} (?:of )?{_MONTH},? {_YEAR}\b",
        rf"\bQ(?P<quarter>[1-4]) {_YEAR}\b",
        rf"\b(?P<half>first|second) half of {_YEAR}\b",
        rf"\b{_MONTH},? {_YEAR}\b",
        rf"\b{_MONTH} {_DAY}\b(?!\d)",
        rf"\b{_DAY} (?:of )?{_MONTH}\b",
        rf"(?<![\d$€£.,\u2013-]){_YEAR}(?![\d%\u2013-]|[.,]\d)\b",
    )
]
"""Most telling first: what one pattern has taken, a later one does not see."""


class Precision(Enum):
    """How much of a date is written."""

    DAY = "day"
    DAY_WITHOUT_YEAR = "day without year"
    PERIOD = "period"


@dataclass(frozen=True)
class Mention:
    """One date in a text, at `start:end`; `first` and `last` are the same day unless it is a month, quarter or year."""

    start: int
    end: int
    first: date
    last: date
    precision: Precision


@dataclass(frozen=True)
class Deadline:
    """Until when something must have happened."""

    day: date
    inclusive: bool
    """Whether what happens on `day` still counts."""
    vague: bool
    """The year is missing, or the words allow another reading ("by 2030")."""

    def moment(self, zone: ZoneInfo) -> datetime:
        """The first moment at which it is too late, in UTC."""
        return end_of(self.day if self.inclusive else self.day - timedelta(days=1), zone)


def end_of(day: date, zone: ZoneInfo) -> datetime:
    """The moment at which a day ends in a zone, in UTC."""
    return datetime.combine(day + timedelta(days=1), time(), zone).astimezone(UTC)


def mentions(text: str, today: date) -> list[Mention]:
    """All dates of a text in the order in which they stand there.

    Args:
        text: any text.
        today: a day without a year is the next one from here.
    """
    found: list[Mention] = []
    for pattern in _PATTERNS:
        for match in pattern.finditer(text):
            if any(match.start() < other.end and other.start < match.end() for other in found):
                continue
            mention = _mention(match, today)
            if mention is not None:
                found.append(mention)
    return sorted(found, key=lambda mention: mention.start)


def days(text: str, today: date) -> list[date]:
    """The days that a text names with their year, each once, in order of appearance."""
    exact = (mention.first for mention in mentions(text, today) if mention.precision is Precision.DAY)
    return list(dict.fromkeys(exact))


def _mention(match: re.Match[str], today: date) -> Mention | None:
    parts = match.groupdict()
    year = int(parts["year"]) if parts.get("year") else None
    try:
        if parts.get("quarter") or parts.get("half"):
            assert year is not None
            length = 3 if parts.get("quarter") else 6
            place = int(parts["quarter"]) if parts.get("quarter") else 1 + (parts["half"].lower() == "second")
            month = (place - 1) * length + 1
            first, last = date(year, month, 1), _month_end(year, month + length - 1)
            precision = Precision.PERIOD
        elif parts.get("day"):
            month = int(parts["month_number"]) if parts.get("month_number") else _MONTHS[parts["month"].lower()]
            first = last = (
                _next(month, int(parts["day"]), today) if year is None else date(year, month, int(parts["day"]))
            )
            precision = Precision.DAY if year else Precision.DAY_WITHOUT_YEAR
        else:
            assert year is not None
            named = _MONTHS[parts["month"].lower()] if parts.get("month") else None
            first, last = date(year, named or 1, 1), _month_end(year, named or 12)
            precision = Precision.PERIOD
    except ValueError:  # the 31st of a shorter month
        return None
    return Mention(match.start(), match.end(), first, last, precision)


def _next(month: int, day: int, today: date) -> date:
    this_year = date(today.year, month, day)
    return this_year if this_year >= today else date(today.year + 1, month, day)


def _month_end(year: int, month: int) -> date:
    return date(year, month, calendar.monthrange(year, month)[1])


_DEADLINE_WORDS = re.compile(
    r"\b(by|before|until|till|on|through|deadline|closes?|closing|ends?|later than|due|prior to)\b[^.?!;]{0,40}$",
    re.IGNORECASE,
)
_EXCLUSIVE = re.compile(r"\b(?:before|prior to)(?: the)?(?: (?:start|beginning) of)?\s*$", re.IGNORECASE)
_BY = re.compile(r"\bby\s*$", re.IGNORECASE)


def deadline(question: str, rules: str, today: date) -> Deadline | None:
    """The last date that something must have happened by: of the question, else what the rules call one."""
    asked = mentions(question, today)
    if asked:
        return max((_deadline(question, mention) for mention in asked), key=lambda found: found.day)
    told = [m for m in mentions(rules, today) if _DEADLINE_WORDS.search(rules[max(0, m.start - 60) : m.start])]
    told = [m for m in told if m.last >= today]
    return max((_deadline(rules, mention) for mention in told), key=lambda found: found.day) if told else None


def _deadline(text: str, mention: Mention) -> Deadline:
    before = text[: mention.start]
    if _EXCLUSIVE.search(before):
        return Deadline(mention.first, inclusive=False, vague=mention.precision is Precision.DAY_WITHOUT_YEAR)
    by_a_period = mention.precision is Precision.PERIOD and _BY.search(before) is not None
    return Deadline(mention.last, inclusive=True, vague=by_a_period or mention.precision is Precision.DAY_WITHOUT_YEAR)
