"""News items: what one is, when two are one event, and what the rules make of it before a model is asked.

Pure tables and functions; what is fetched, stored and asked is in activities/feeds.py and activities/news.py.
"""

import html
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

from pydantic import AwareDatetime, StringConstraints

from domain.base import Model
from domain.canonical import canonical_json, sha256_hex
from domain.market import Category, Proposal
from domain.news import EventType, Extraction
from domain.text import clean, cut, fold

TITLE_LIMIT, CONTENT_LIMIT, URL_LIMIT = 300, 4_000, 2_000
"""Characters that are kept of an item; a proposal's background holds as many."""

RECENT = timedelta(days=2)
"""How long news is new: so long an item waits for the model, and so far back another one can be the same event."""

SIMILAR = 0.6
"""Trigram similarity from which two titles may be one event (measured, see docs/decisions/0007-feed-parser.md)."""


class NewsItem(Model):
    """One item as it is stored and hashed: plain text, white space folded, cut to size."""

    url: Annotated[str, StringConstraints(max_length=URL_LIMIT)]
    title: Annotated[str, StringConstraints(min_length=1, max_length=TITLE_LIMIT)]
    content: Annotated[str, StringConstraints(max_length=CONTENT_LIMIT)]
    published_at: AwareDatetime | None = None

    @property
    def content_sha256(self) -> str:
        """SHA-256 of title and content, in which letter case and forms of the same letter make no difference."""
        return sha256_hex(canonical_json([_comparable(self.title), _comparable(self.content)]))


def item_of(*, url: str, title: str, content: str, published_at: datetime | None = None) -> NewsItem | None:
    """An item from what a feed or an operator gave; without title its first words are one, without both it is None."""
    text = plain(content)
    heading = plain(title) or cut(text, 100)
    if not heading:
        return None
    return NewsItem(
        url=clean(url)[:URL_LIMIT],
        title=cut(heading, TITLE_LIMIT),
        content=cut(text, CONTENT_LIMIT),
        published_at=published_at,
    )


def plain(text: str) -> str:
    """Text without mark-up, entities, characters that cannot be stored, and runs of white space."""
    short = text[: 8 * CONTENT_LIMIT]  # mark-up around what is kept; no more is looked at
    return fold(clean(_CONTROL.sub(" ", html.unescape(_TAG.sub(" ", short)))))


_TAG = re.compile(r"<[A-Za-z/!][^<>]*>")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


def _comparable(text: str) -> str:
    return fold(unicodedata.normalize("NFKC", text).casefold())


def title_key(title: str) -> str:
    """A title by which others are found that read like it, in ASCII: every other letter is written as its number."""
    return "".join(c if c.isascii() else f"x{ord(c):x}" if c.isalnum() else " " for c in _comparable(title))


_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def same_event(title: str, other: str) -> bool:
    """Whether two titles of much the same words are one event: every number in one is in the other.

    "Fed lifts rates by 25 points" and "Fed lifts rates by 50 points" are two.
    """
    return sorted(_NUMBER.findall(_comparable(title))) == sorted(_NUMBER.findall(_comparable(other)))


@dataclass(frozen=True)
class _Keywords:
    """One row of the table of keyword rules."""

    event_type: EventType
    category: Category
    words: re.Pattern[str]


def _rule(event_type: EventType, category: Category, words: str) -> _Keywords:
    return _Keywords(event_type, category, re.compile(rf"\b(?:{words})\b", re.IGNORECASE))


KEYWORDS = (
    _rule(
        EventType.EARNINGS, Category.FINANCE,
        r"earnings|quarterly (?:results|revenue|profit|report)|annual results|q[1-4] (?:results|revenue|profit)"
        r"|dividend|profit warning",
    ),
    _rule(
        EventType.PRODUCT_LAUNCH, Category.PRODUCT_LAUNCH,
        r"launch(?:es|ed|ing)?|unveil(?:s|ed|ing)?|releas(?:e|es|ed|ing)|roll(?:s|ed|ing)? out|debut(?:s|ed)?"
        r"|ship(?:s|ped|ping)?|pre-?orders?",
    ),
    _rule(
        EventType.POLITICS, Category.POLITICS,
        r"elections?|vot(?:e|es|ed|ing)|ballot|referendum|senate|congress|parliament|bundestag|president|presidential"
        r"|prime minister|chancellor|governor|mayor|cabinet|coalition|treaty|summit|supreme court",
    ),
    _rule(
        EventType.SPORTS, Category.SPORTS,
        r"championships?|world cup|olympics?|grand prix|playoffs?|tournament|league|super bowl|semi-?finals?"
        r"|quarter-?finals?|cup final|transfer window|marathon|title race",
    ),
    _rule(
        EventType.ECONOMY, Category.FINANCE,
        r"interest rates?|central bank|inflation|gdp|federal reserve|fed|ecb|unemployment|jobless|payrolls|ipo"
        r"|shares|stocks?|bonds?|bitcoin|tariffs?|exchange rate|merger|acquisition",
    ),
    _rule(
        EventType.ENTERTAINMENT, Category.ENTERTAINMENT,
        r"box office|oscars?|academy awards?|grammys?|emmys?|album|film festival|premiere[sd]?|netflix|eurovision",
    ),
    _rule(
        EventType.TECHNOLOGY, Category.TECHNOLOGY,
        r"artificial intelligence|ai models?|language models?|chips?|semiconductors?|software|spacecraft|rocket"
        r"|satellites?|lunar|data cent(?:er|re)s?|quantum",
    ),
)  # fmt: skip
"""Which words tell of which kind of event; an item for which none or several speak is left to the model."""

_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_NO_NEWS = re.compile(
    r"^(?:opinion|editorial|comment|column|analysis|explainer|review|podcast|watch|video|photos?|in pictures|gallery"
    r"|quiz|crossword|horoscopes?|recipes?|obituary|letters?|how to|why|what (?:is|are|we)|live updates?"
    r"|sponsored|deals?|(?:the )?\d+ (?:best|things|ways|reasons|tips|books|films))\b",
    re.IGNORECASE,
)
_FORBIDDEN = re.compile(
    r"\b(?:die[sd]?|dying|dead|deaths?|kill(?:s|ed|ing)?|murder\w*|assassinat\w+|suicide|shooting|stabb(?:ed|ing)"
    r"|terror\w*|attack(?:s|ed)?|air ?strikes?|bomb(?:s|ed|ing)?|massacre|genocide|casualt\w+|hostages?)\b",
    re.IGNORECASE,
)
_AHEAD = re.compile(
    r"\b(?:will|won['\u2019]t|plan(?:s|ned|ning) to|expect(?:s|ed) to|(?:set|due|poised|slated) (?:to|for)|aims? to"
    r"|scheduled|upcoming|forecasts?|ahead of|tomorrow|tonight|later this"
    r"|(?:next|this|by|before|until) (?:week|weekend|month|quarter|year|season|summer|autumn|fall|winter|spring"
    rf"|(?:mon|tues|wednes|thurs|fri|satur|sun)day|the end of|mid-|{'|'.join(_MONTHS)}|20\d\d)|20[3-9]\d)\b",
    re.IGNORECASE,
)
_AHEAD_IN_TITLE = re.compile(
    r"\b(?:to [a-z]+|would|could|may|might|plans?|expect(?:s|ed)?|vows?|seeks?|bids?|propos(?:es?|al)|next|whether)\b",
    re.IGNORECASE,
)

_MONTH = rf"(?P<month>{'|'.join(_MONTHS)}|{'|'.join(name[:3] for name in _MONTHS)}|sept)\.?"
_DATES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(?P<year>20\d\d)-(?P<number>\d\d)-(?P<day>\d\d)\b",
        rf"\b{_MONTH} (?P<day>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<year>20\d\d)\b",
        rf"\b(?P<day>\d{{1,2}})(?:st|nd|rd|th)? (?:of )?{_MONTH},? (?P<year>20\d\d)\b",
    )
)


def days_named(text: str) -> Iterator[date]:
    """The days that a text names with their year."""
    for pattern in _DATES:
        for found in pattern.finditer(text):
            parts = found.groupdict()
            month = int(parts["number"]) if parts.get("number") else _month(parts["month"])
            try:
                yield date(int(parts["year"]), month, int(parts["day"]))
            except ValueError:  # the 31st of a shorter month
                continue


def _month(name: str) -> int:
    return next(place for place, month in enumerate(_MONTHS, start=1) if month.startswith(name.lower()[:3]))


def end_of_day(day: date) -> datetime:
    """The moment at which a day ends, in UTC."""
    return datetime.combine(day + timedelta(days=1), time(), UTC)


_ANNOUNCED = re.compile(
    r"^(?P<who>[^,;:?!]{2,150}?) (?:(?:is|are) )?"
    r"(?:(?:set|due|expected|scheduled|poised|slated|plans?|aims?) to|to|will) (?P<what>(?!be\b)[a-z][^?!;]{2,250})$"
)
_ARTICLE = re.compile(r"^(?:The|A|An)\b")


def question_of(title: str) -> str | None:
    """The yes/no question that a title announces ("Acme to open a plant on May 2, 2027"), or already is."""
    if title.startswith("Will ") and title.endswith("?") and title.count("?") == 1:
        return title
    announced = _ANNOUNCED.match(title.rstrip(" ."))
    if announced is None:
        return None
    who = _ARTICLE.sub(lambda article: article[0].lower(), announced["who"])
    return f"Will {who} {announced['what']}?"


_ENTITY = re.compile(r"\b[A-Z][\w&'\u2019.-]*(?: (?:of |the )?[A-Z0-9][\w&'\u2019.-]*)*")


def entities_of(title: str) -> tuple[str, ...]:
    """Names in a title: runs of capitalised words, months left out."""
    found = (name.rstrip(".'") for name in _ENTITY.findall(title))
    names = (name for name in found if name.split()[0].lower() not in _MONTHS and len(name) > 1)
    return tuple(dict.fromkeys(cut(name, 80) for name in names))[:10]


def extract(item: NewsItem, now: datetime) -> Extraction | None:
    """What the keyword rules make of an item; None when they are silent and the model is asked.

    They turn away what is no news, what no market is made of, and what tells of nothing to come. They speak for an item
    only when one kind of event is meant, the title announces it, and names the one day until which it is decided.
    """
    text = f"{item.title} {item.content}"
    kinds = [row for row in KEYWORDS if row.words.search(item.title)]
    kinds = kinds or [row for row in KEYWORDS if row.words.search(item.content)]
    about = Extraction(
        entities=entities_of(item.title),
        event_type=kinds[0].event_type if len(kinds) == 1 else EventType.OTHER,
        category=kinds[0].category if len(kinds) == 1 else Category.MISC,
    )
    days_ahead = (day for day in days_named(text) if end_of_day(day) > now)
    if _NO_NEWS.match(item.title):
        return about.model_copy(update={"reason": "It is comment or service and tells of no event."})
    if _FORBIDDEN.search(item.title):
        return about.model_copy(update={"reason": "It is about a death or an attack, on which no market is made."})
    if not (_AHEAD.search(text) or _AHEAD_IN_TITLE.search(item.title) or next(days_ahead, None)):
        return about.model_copy(update={"reason": "It tells what has happened and nothing that is to come."})
    question = question_of(item.title)
    days = set(days_named(item.title))
    if len(kinds) != 1 or question is None or len(days) != 1:
        return None
    deadline = end_of_day(days.pop())
    if deadline <= now:
        return about.model_copy(update={"reason": "The day that it names has passed."})
    return about.model_copy(update={"deadline": deadline, "worth_it": True, "question": question})


def proposal_of(item: NewsItem, extraction: Extraction, source: str) -> Proposal:
    """The proposal by which an item that is worth a market asks for one."""
    return Proposal(
        text=extraction.question,
        background=item.content,
        category=extraction.category,
        expiry=extraction.deadline,
        proposer=f"news:{source}",
    )
