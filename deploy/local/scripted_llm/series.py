"""Official data series that a question names by the address of its page, and how their APIs are read.

FRED https://fred.stlouisfed.org/docs/api/fred/series_observations.html, DBnomics https://api.db.nomics.world/v22/apidocs,
Yahoo Finance's chart API, MediaWiki https://www.mediawiki.org/wiki/API:Revisions.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import ClassVar
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit
from zoneinfo import ZoneInfo

from typing_extensions import override

from domain.rules import Counts, Method, Reading, Source, ValueType

_URL = re.compile(r"https://[^\s<>\"'\\\u201c\u201d\u2018\u2019]+")
_DAY_SECONDS = 86_400


def urls(text: str) -> list[str]:
    """The HTTPS addresses of a text, each once, without the punctuation of the sentence around them."""
    found = []
    for match in _URL.findall(text):
        url = match.rstrip(".,;:!?*_]}|")
        while url.endswith(")") and url.count(")") > url.count("("):
            url = url[:-1].rstrip(".,;:!?*_]}|")
        found.append(url)
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Series(ABC):
    """One series of dated values: what is fetched for some days, and how the value of a day is read."""

    label: str
    """What people call it, short."""
    unit: str = ""
    rank: ClassVar[bool] = False
    """Whether the value is a place in a ranking, where higher is a smaller number."""
    money: ClassVar[bool] = False
    """Whether the value is an amount of a currency."""
    timezone: ClassVar[str] = "UTC"
    counts: ClassVar[Counts] = Counts.LATEST_AT_DEADLINE
    publisher: ClassVar[str]
    check_every: ClassVar[int] = 6 * 3600
    """Seconds between two looks while the value is not out."""
    give_up_after: ClassVar[int] = 30 * _DAY_SECONDS
    """Seconds from expiry: longer than the publisher's usual delay."""

    @abstractmethod
    def sources(self, days: Sequence[date]) -> tuple[Source, ...]:
        """The documents that hold the values of these days, the one of the last day first."""

    @abstractmethod
    def reading(self, day: date) -> Reading:
        """How the value of a day is read."""

    def _states(self, days: Sequence[date]) -> str:
        return f"states the value of {self.label} on {' and on '.join(day.isoformat() for day in days)}"


class Fred(Series):
    """A series of the Federal Reserve Bank of St. Louis. Weekly and monthly ones have no value on most days."""

    publisher = "FRED"
    give_up_after = 120 * _DAY_SECONDS  # quarterly series come out up to three months after their quarter

    @override
    def sources(self, days: Sequence[date]) -> tuple[Source, ...]:
        # Far enough back to hold a value at or before the first day even of a yearly series.
        start = min(days) - timedelta(days=400)
        query = urlencode({"series_id": self.label, "file_type": "json", "observation_start": start.isoformat()})
        return (
            Source(
                name="fred",
                url=f"https://api.stlouisfed.org/fred/series/observations?{query}",
                method=Method.API_CHECK,
                condition=self._states(days),
                json_path="$.observations",
            ),
        )

    @override
    def reading(self, day: date) -> Reading:
        return Reading(
            source="fred",
            json_path="$.observations[*].value",
            date_path="$.observations[*].date",
            on=day,
            type=ValueType.NUMBER,
            unit=self.unit,
        )


@dataclass(frozen=True)
class DBnomics(Series):
    """A series of DBnomics. A measurement of a day has no substitute, so the value must be dated exactly so."""

    path: str = ""
    """PROVIDER/DATASET/SERIES."""
    publisher = "DBnomics"
    counts = Counts.FIRST_PUBLISHED

    @override
    def sources(self, days: Sequence[date]) -> tuple[Source, ...]:
        return (
            Source(
                name="dbnomics",
                url=f"https://api.db.nomics.world/v22/series/{self.path}?observations=1",
                method=Method.API_CHECK,
                condition=self._states(days),
                json_path="$.series.docs[0]",
            ),
        )

    @override
    def reading(self, day: date) -> Reading:
        return Reading(
            source="dbnomics",
            json_path="$.series.docs[0].value[*]",
            date_path="$.series.docs[0].period_start_day[*]",  # a date whatever the frequency; `period` may be a month
            on=day,
            type=ValueType.NUMBER,
            unit=self.unit,
        )


class Yahoo(Series):
    """Daily closes of Yahoo Finance, adjusted for splits. On a day without trading the close before it counts."""

    publisher = "Yahoo Finance"
    money = True
    timezone = "America/New_York"
    check_every = 3600
    give_up_after = 10 * _DAY_SECONDS

    @override
    def sources(self, days: Sequence[date]) -> tuple[Source, ...]:
        # Ten days reach over any closure of the exchange: back to a close before the first day, and on to one at or
        # after the last, which shows that the series has got there.
        zone = ZoneInfo(self.timezone)
        query = {
            "interval": "1d",
            "period1": int(datetime.combine(min(days) - timedelta(days=10), time(), zone).timestamp()),
            "period2": int(datetime.combine(max(days) + timedelta(days=10), time(), zone).timestamp()),
        }
        return (
            Source(
                name="yahoo",
                url=f"https://query1.finance.yahoo.com/v8/finance/chart/{quote(self.label)}?{urlencode(query)}",
                method=Method.API_CHECK,
                condition=self._states(days),
                json_path="$.chart.result[0]",
            ),
        )

    @override
    def reading(self, day: date) -> Reading:
        return Reading(
            source="yahoo",
            json_path="$.chart.result[0].indicators.quote[0].close[*]",
            date_path="$.chart.result[0].timestamp[*]",
            on=day,
            type=ValueType.NUMBER,
            unit=self.unit,
        )


@dataclass(frozen=True)
class WikipediaTable(Series):
    """A number in a player's row of a table, in the revision of a page that stood when a day ended.

    MediaWiki answers a request for the future with today's revision, and a page may rest for weeks. So the request asks
    for the server's clock too (`curtimestamp`), and the reading is a dated series of two: the clock under its own date,
    the revision's content under its. Before the day asked about, neither reaches it and the value is not published;
    after it, the clock does, and the latest entry at or before that day is the revision. On that very day the clock
    itself would count, which is no content and so no value: rules look only after the day has ended.
    """

    page: str = ""
    player: str = ""
    publisher = "Wikipedia"
    check_every = 3600
    give_up_after = 10 * _DAY_SECONDS

    @override
    def sources(self, days: Sequence[date]) -> tuple[Source, ...]:
        return tuple(
            Source(
                name=self._name(day),
                url="https://en.wikipedia.org/w/api.php?"
                + urlencode(
                    {
                        "action": "query",
                        "prop": "revisions",
                        "titles": self.page,
                        "rvlimit": 1,
                        "rvprop": "timestamp|content",
                        "rvslots": "main",
                        "rvdir": "older",
                        "rvstart": f"{day}T23:59:59Z",
                        "curtimestamp": 1,
                        "format": "json",
                        "formatversion": 2,
                    },
                    safe=":",
                ),
                method=Method.API_CHECK,
                condition=self._states([day]),
                json_path="$.query.pages[0].revisions[0].slots.main.content",
            )
            for day in sorted(set(days), reverse=True)
        )

    @override
    def reading(self, day: date) -> Reading:
        return Reading(
            source=self._name(day),
            json_path="$..['curtimestamp','content']",
            date_path="$..['curtimestamp','timestamp']",
            on=day,
            pattern=self._pattern(),
            type=ValueType.NUMBER,
            unit=self.unit,
        )

    @staticmethod
    def _name(day: date) -> str:
        return f"wikipedia-{day}"

    @abstractmethod
    def _pattern(self) -> str:
        """RE2 with one group: the number in the player's row of the wikitext."""

    def _cell(self) -> str:
        """RE2 of the name as a link, as a template's arguments or as a cell's text, and of nothing longer."""
        return r"[|\[]\s*" + "[ _|]".join(re.escape(part) for part in self.player.split()) + r"\s*[\]|}\n<{(]"


_WITHIN_ROW = r"(?:[^\n]|\n[^|]|\n\|[^-}])"
"""RE2 of a piece of wikitext that does not leave its table row."""


class FideRank(WikipediaTable):
    """A player's place: the number in the first cell of the row."""

    rank = True

    @override
    def _pattern(self) -> str:
        return rf"\n\|-[^\n]*\n[|!]\s*(?:\w+=[^|\n]*\|)?\s*(\d{{1,3}})\b{_WITHIN_ROW}*?{self._cell()}"


class FideRating(WikipediaTable):
    """A player's Elo rating: the first number from 2200 to 2999 after the name, which no rank and no year is."""

    @override
    def _pattern(self) -> str:
        return rf"{self._cell()}{_WITHIN_ROW}*?\b(2[2-9]\d\d(?:\.\d)?)\b"


_FIDE_QUESTION = re.compile(
    r"\b(?:will|does|has|is) (?P<player>[^?]{3,60}?)(?:['\u2019]s?)?(?: (?:have|hold|be|has))?"
    r"(?: an?| their| the| his| her)?"
    r" (?:(?P<rating>(?:fide |elo )+(?:rating|score))|(?P<rank>fide (?:world )?rank(?:ing)?))\b",
    re.IGNORECASE,
)
_PERCENT_UNIT = re.compile(r"units of the series: *percent\b", re.IGNORECASE)
_PERCENT_SUBJECT = re.compile(r"\b(?:rate|yield|spread|percent(?:age)?)\b", re.IGNORECASE)


def named_in(question: str, criteria: str, background: str) -> Series | None:
    """The one series that the criteria name, else the question, else the background; None if none or several."""
    for text in (criteria, question, background):
        found = {series for url in urls(text) if (series := _of(url, question, background)) is not None}
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def _of(url: str, question: str, background: str) -> Series | None:
    address = urlsplit(url)
    parts = [unquote(part) for part in address.path.split("/") if part]
    match address.hostname, parts:
        case "fred.stlouisfed.org", ["series", code]:
            percent = _PERCENT_UNIT.search(background) or (
                "units of the series" not in background and _PERCENT_SUBJECT.search(question)
            )
            return Fred(code.upper(), "percent" if percent else "")
        case "api.stlouisfed.org", ["fred", "series", "observations"]:
            codes = parse_qs(address.query).get("series_id", [])
            return Fred(codes[0].upper()) if codes else None
        case "db.nomics.world", [provider, dataset, code]:
            path = "/".join(quote(part) for part in (provider, dataset, code))
            return DBnomics(code, path=path)
        case "finance.yahoo.com", ["quote", symbol, *_]:
            return Yahoo(symbol.upper(), "USD")
        case "en.wikipedia.org", ["wiki", page] if "fide" in page.lower():
            asked = _FIDE_QUESTION.search(question)
            if asked is None:
                return None
            player = " ".join(asked["player"].split())
            if asked["rank"]:
                return FideRank(f"{player}'s FIDE rank", page=page.replace("_", " "), player=player)
            return FideRating(f"{player}'s Elo", page=page.replace("_", " "), player=player)
    return None
