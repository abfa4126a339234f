"""From a fetched document to one typed value: RFC 9535 JSONPath, CSS selectors, RE2. Pure, so anyone can repeat it.

Whatever the rules and the bytes, the answer is a value or the reason why there is none, never an exception; the work is
bounded by the size of the document. Nothing is guessed: what can be read in two ways is no value.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from domain import html_reading, json_reading
from domain.json_reading import ExactNumber
from domain.rules import Counts, Reading, Source, ValueType, exact_number
from domain.text import clean, compiled, cut, fold

Value = Decimal | str | date | bool

EXCERPT_LIMIT = 300
"""Characters of an excerpt: enough to see the value in its place, short enough for tables."""


class Missing(StrEnum):
    """Why a reading gave no value."""

    NOT_PUBLISHED = "not_published"
    """The document is as expected, the value asked for is not in it yet."""
    NOT_FOUND = "not_found"
    """The path or selector leads to nothing, or the pattern does not occur: the rules or the page are wrong."""
    AMBIGUOUS = "ambiguous"
    """Several values stand where one is needed."""
    WRONG_TYPE = "wrong_type"
    """Something is there, but not of the type that the rules promise."""
    UNREADABLE = "unreadable"
    """The document is not what its method needs (JSON, HTML)."""
    BAD_READING = "bad_reading"
    """The path, selector or pattern itself cannot be read."""


@dataclass(frozen=True)
class Document:
    """One fetched document, as stored: `sha256` is of `body`."""

    sha256: str
    content_type: str
    body: bytes


@dataclass(frozen=True)
class Extracted:
    """A value with the text that it was read from, and its date when it is out of a dated series."""

    value: Value
    excerpt: str
    dated: date | None = None


@dataclass(frozen=True)
class NotExtracted:
    """No value: why, and in words what was looked for."""

    why: Missing
    detail: str


def extract(reading: Reading, document: Document, counts: Counts, timezone: str) -> Extracted | NotExtracted:
    """Read one value out of one document.

    Args:
        reading: what to look for.
        document: where.
        counts: which value of a dated series counts (the rules' observation).
        timezone: IANA name in which the dates of the document are read.
    """
    zone = ZoneInfo(timezone)
    places = _places(reading, document, counts, zone)
    if isinstance(places, NotExtracted):
        return places
    if len(places) > 1 and reading.on is None:
        return NotExtracted(Missing.AMBIGUOUS, f"{_way(reading)} leads to {len(places)} places, one is needed")
    read = [_value(reading, place, zone) for place in places]
    first = read[0]
    if isinstance(first, Extracted) and not all(isinstance(r, Extracted) and r.value == first.value for r in read):
        return NotExtracted(Missing.AMBIGUOUS, f"the series has {len(read)} different values for {first.dated}")
    return first


def extract_any(reading: Reading, document: Document, counts: Counts, timezone: str) -> Extracted | NotExtracted:
    """Like `extract`, but any of several places will do: for asking whether there is a value at all."""
    zone = ZoneInfo(timezone)
    places = _places(reading, document, counts, zone)
    if isinstance(places, NotExtracted):
        return places
    return _first(_value(reading, place, zone) for place in places if not _is_gap(place.raw))


def latest(reading: Reading, document: Document, timezone: str) -> Extracted | NotExtracted:
    """The last value that a dated series has, whatever the date that `reading` asks for; for rehearsals."""
    zone = ZoneInfo(timezone)
    series = _series(reading, document, zone)
    if isinstance(series, NotExtracted):
        return series
    return _first(_value(reading, place, zone) for day in sorted(series, reverse=True) for place in series[day])


def is_recognised(source: Source, reading: Reading, document: Document) -> bool:
    """Whether a document shows what must stand in it in any case, so that the absence of more in it says something.

    That is the place in which the reading's pattern is looked for; without a pattern, the source's own part.
    """
    if reading.pattern is not None:
        return bool(_found(reading.json_path, reading.selector, document))
    return bool(_found(source.json_path, source.selector, document))


def text_of(document: Document, *, selector: str | None = None, json_path: str | None = None) -> str:
    """The readable text of a document, or of one part of it, for people and LLMs; white space is folded.

    Empty when there is none: the part is missing, or the document is no text.
    """
    kind = document.content_type.lower()
    try:
        if json_path is not None or (selector is None and "json" in kind):
            content = json_reading.parse(document.body)
            return fold(" ".join(map(_text, json_reading.find(json_path or "$", content))))
        if selector is not None or "html" in kind or "xml" in kind or not kind:
            tree = html_reading.parse(_markup(document))
            tree.strip_tags(["script", "style", "template", "noscript"])
            nodes = html_reading.select(tree, selector) if selector is not None else [tree.body or tree.root]
            return fold(" ".join(clean(node.text(separator=" ")) for node in nodes if node is not None))
    except ValueError:
        # A part that cannot be found is no text; a whole that cannot be parsed is still what its publisher wrote.
        if selector is not None or json_path is not None:
            return ""
    is_text = kind.startswith("text/") or "json" in kind or "xml" in kind or not kind
    return fold(html_reading.decode(document.content_type, document.body)) if is_text else ""


def quotes(document: Document, source: Source, quotation: str) -> bool:
    """Whether `quotation` stands word for word in the source's part of a document; white space does not matter."""
    wanted = fold(clean(quotation))
    return bool(wanted) and wanted in text_of(document, selector=source.selector, json_path=source.json_path)


def check_reading(reading: Reading) -> str | None:
    """The first fault in a reading's path, selector or pattern as a sentence, or None when all can be used."""
    try:
        for path in filter(None, (reading.json_path, reading.date_path)):
            json_reading.compiled_path(path)
        if reading.selector is not None:
            html_reading.compiled_selector(reading.selector)
        if reading.pattern is not None and (groups := compiled(reading.pattern).groups) > 1:
            return f"pattern {reading.pattern!r} has {groups} groups, at most one says what to cut out"
    except ValueError as error:
        return str(error)
    return None


def check_regex(pattern: str) -> str | None:
    """The fault of an RE2 expression as a sentence, or None when it has none."""
    try:
        compiled(pattern)
    except ValueError as error:
        return str(error)
    return None


class _Place(NamedTuple):
    """What stands at one place of a document, and its date in a series."""

    raw: Any
    dated: date | None = None


def _places(reading: Reading, document: Document, counts: Counts, zone: ZoneInfo) -> list[_Place] | NotExtracted:
    """Where the value asked for stands: at least one place."""
    if reading.on is not None:
        series = _series(reading, document, zone)
        return series if isinstance(series, NotExtracted) else _pick(series, reading.on, counts)
    if (fault := check_reading(reading)) is not None:
        return NotExtracted(Missing.BAD_READING, fault)
    try:
        found = _find(reading.json_path, reading.selector, document)
    except ValueError as error:
        return NotExtracted(Missing.UNREADABLE, str(error))
    if not found:
        return NotExtracted(Missing.NOT_FOUND, f"{_way(reading)} leads to nothing")
    if all(_is_gap(raw) for raw in found):
        return NotExtracted(Missing.NOT_PUBLISHED, f"what {_way(reading)} leads to is still empty")
    return [_Place(raw) for raw in found]


def _series(reading: Reading, document: Document, zone: ZoneInfo) -> dict[date, list[_Place]] | NotExtracted:
    """The values of a dated series by date, gaps left out."""
    if reading.json_path is None or reading.date_path is None:
        return NotExtracted(Missing.NOT_PUBLISHED, f"what {_way(reading)} leads to is still empty")
    if (fault := check_reading(reading)) is not None:
        return NotExtracted(Missing.BAD_READING, fault)
    try:
        content = json_reading.parse(document.body)
    except ValueError as error:
        return NotExtracted(Missing.UNREADABLE, str(error))
    values, dates = json_reading.find(reading.json_path, content), json_reading.find(reading.date_path, content)
    if not values or not dates:
        empty = reading.json_path if not values else reading.date_path
        return NotExtracted(Missing.NOT_FOUND, f"json path {empty!r} leads to nothing")
    if len(values) != len(dates):
        return NotExtracted(Missing.NOT_FOUND, f"{len(dates)} dates stand beside {len(values)} values")
    series: dict[date, list[_Place]] = defaultdict(list)
    for raw_date, raw in zip(dates, values, strict=True):
        day = _date(raw_date, zone)
        if day is None:
            return NotExtracted(Missing.WRONG_TYPE, f"{cut(_text(raw_date), 40)!r} in the series is not a date")
        if not _is_gap(raw):
            series[day].append(_Place(raw, day))
    return series


def _pick(series: dict[date, list[_Place]], on: date, counts: Counts) -> list[_Place] | NotExtracted:
    if counts is Counts.FIRST_PUBLISHED:
        return series.get(on) or NotExtracted(Missing.NOT_PUBLISHED, f"no value is published for {on}")
    # A value before the date counts only when the series has moved on to or past it: before that, a slow publisher
    # and a holiday look the same, and to take the older value would be a guess.
    if not any(day >= on for day in series):
        return NotExtracted(Missing.NOT_PUBLISHED, f"the series does not reach {on} yet")
    inclusive = counts is Counts.LATEST_AT_DEADLINE
    before = [day for day in series if day < on or (inclusive and day == on)]
    if not before:
        return NotExtracted(Missing.NOT_FOUND, f"the series has no value before {on}")
    return series[max(before)]


def _value(reading: Reading, place: _Place, zone: ZoneInfo) -> Extracted | NotExtracted:
    raw: Any = place.raw
    text = _text(raw)
    excerpt = text
    if reading.pattern is not None:
        match = compiled(reading.pattern).search(text)
        cut_out = None if match is None else match.group(1 if match.re.groups else 0)
        if cut_out is None:
            return NotExtracted(Missing.NOT_FOUND, f"pattern {reading.pattern!r} does not occur in what was found")
        raw = text = cut_out
        excerpt = match.group(0)
    value = _typed(raw, reading.type, zone)
    if value is None:
        return NotExtracted(Missing.WRONG_TYPE, f"{cut(fold(text), 80)!r} is not a {reading.type}")
    return Extracted(value, cut(fold(excerpt), EXCERPT_LIMIT), place.dated)


def _first(read: Iterator[Extracted | NotExtracted]) -> Extracted | NotExtracted:
    """The first that is a value, or else the first."""
    failed: NotExtracted | None = None
    for one in read:
        if isinstance(one, Extracted):
            return one
        failed = failed or one
    return failed or NotExtracted(Missing.NOT_PUBLISHED, "the series has no values yet")


def _found(json_path: str | None, selector: str | None, document: Document) -> Sequence[Any]:
    try:
        return _find(json_path, selector, document)
    except ValueError:
        return []


def _find(json_path: str | None, selector: str | None, document: Document) -> Sequence[Any]:
    """What a path or selector leads to: JSON values, or folded text.

    Raises:
        ValueError: the document cannot be read so, or the path or selector is refused.
    """
    if json_path is not None:
        return json_reading.find(json_path, json_reading.parse(document.body))
    kind = document.content_type.lower()
    if kind and "html" not in kind and "xml" not in kind:
        raise ValueError(f"a CSS selector cannot read {cut(kind, 80)}")
    nodes = html_reading.select(html_reading.parse(_markup(document)), selector or "")
    return [fold(clean(node.text(separator=" "))) for node in nodes]


def _markup(document: Document) -> str:
    text = html_reading.decode(document.content_type, document.body)
    # Feeds keep their texts in CDATA, which an HTML parser takes for comments.
    return text.replace("<![CDATA[", "").replace("]]>", "") if "xml" in document.content_type.lower() else text


def _way(reading: Reading) -> str:
    return f"CSS selector {reading.selector!r}" if reading.json_path is None else f"json path {reading.json_path!r}"


_GAPS = frozenset({"", ".", "-", "NA", "N/A", "NaN"})


def _is_gap(raw: Any) -> bool:
    """Whether a place is kept free: null, "." (FRED), "NA" (DBnomics), "-" (BLS) …"""
    return raw is None or (isinstance(raw, str) and raw.strip() in _GAPS)


def _typed(raw: Any, wanted: ValueType, zone: ZoneInfo) -> Value | None:
    match wanted:
        case ValueType.NUMBER:
            return _number(raw)
        case ValueType.TEXT:
            return None if raw is None or isinstance(raw, list | dict) else fold(_text(raw)) or None
        case ValueType.DATE:
            return _date(raw, zone)
        case ValueType.BOOLEAN:
            if isinstance(raw, bool):
                return raw
            return {"true": True, "yes": True, "false": False, "no": False}.get(_text(raw).strip().lower())


_GROUPED = re.compile(r"([+-]?)([1-9][0-9]{0,2}(?:,[0-9]{3})+)(?=\.|$)")


def _number(raw: Any) -> Decimal | None:
    if isinstance(raw, bool | list | dict):
        return None
    text = _text(raw).strip().replace("\u2212", "-")
    grouped = _GROUPED.match(text)
    return exact_number(text.replace(",", "") if grouped and "," not in text[grouped.end() :] else text)


# Seconds since 1970 as market data APIs have them: from 1973 (a year or a day such as 20260131 is no such number) to
# the last that a date can say; milliseconds lie beyond.
_EARLIEST, _LATEST = Decimal(10**8), Decimal(253_402_300_799)


def _date(raw: Any, zone: ZoneInfo) -> date | None:
    """A date, the date of a moment in the zone, or None; a moment without an offset is one of the zone."""
    try:
        if isinstance(raw, int | float) and not isinstance(raw, bool):
            seconds = _number(raw)
            if seconds is None or not _EARLIEST < seconds < _LATEST:
                return None
            return datetime.fromtimestamp(int(seconds), UTC).astimezone(zone).date()
        if not isinstance(raw, str):
            return None
        text = raw.strip()
        if len(text) <= 10:
            return date.fromisoformat(text)
        moment = datetime.fromisoformat(text)
        return (moment.astimezone(zone) if moment.tzinfo else moment).date()
    except (ValueError, OverflowError):
        return None


def _text(raw: Any) -> str:
    """What stands there, as text; a number as it is written in the document."""
    if isinstance(raw, str):
        return clean(raw)
    if isinstance(raw, ExactNumber):
        return raw.text
    return clean(json.dumps(raw, ensure_ascii=False))
