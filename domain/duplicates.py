"""Whether a proposal asks what an open market asks already: what is compared, and what the comparison decides.

Trigrams tell how alike two questions are written, and questions of one template differ in a date or a name alone:
"Will ABBV be higher on 2025-12-11 than on 2025-11-28?" So facts come first. Numbers, dates, names or sources that
differ make it another question however alike it reads; the same facts in another order, or words that turn a question
round ("below" for "above"), are for a reader to tell.
"""

import calendar
import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Annotated, TypeVar
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field

from domain.base import Model
from domain.text import fold

T = TypeVar("T")

SAME_ABOVE = 0.9
"""A trigram similarity above which the same facts are the same question (spec "Where markets come from")."""

ALIKE_ABOVE = 0.7
"""Above which the prompt duplicate_detection is asked; below, nobody is."""


class Asked(Model):
    """What somebody asks: the question, the pages it names as its sources, and when trading ends, if that is given."""

    question: str
    urls: tuple[str, ...] = ()
    expires_on: str = ""
    """ISO date; compared only when a question names no date of its own."""


class Likeness(StrEnum):
    """What the comparison decides."""

    SAME = "same"
    ASK = "ask"
    """The prompt decides."""
    DIFFERENT = "different"


class Comparison(Model):
    """How two questions stand to each other; `differences` are facts in words, such as `the date 2025-12-11`."""

    similarity: Annotated[float, Field(ge=0, le=1)]
    differences: tuple[str, ...]
    turned: bool
    """The same facts, but in another order, or with other words, some of which may turn the question round."""

    @property
    def likeness(self) -> Likeness:
        """The decision."""
        if self.differences or self.similarity < ALIKE_ABOVE:
            return Likeness.DIFFERENT
        return Likeness.SAME if self.similarity > SAME_ABOVE and not self.turned else Likeness.ASK


def compare(proposed: Asked, existing: Asked, similarity: float) -> Comparison:
    """Compare two questions; `similarity` is that of their words, by trigrams, from 0 to 1."""
    ours, theirs = _facts(proposed), _facts(existing)
    differences = [
        *_unmatched("the date", ours.dates, theirs.dates, _same_date),
        *_unmatched("the number", ours.numbers, theirs.numbers, str.__eq__),
        *_missing_names(ours, theirs),
    ]
    if proposed.urls and existing.urls and not share_a_source(proposed.urls, existing.urls):
        differences.append(f"the source {existing.urls[0]}")
    in_order = ours.order == theirs.order or sorted(ours.order) != sorted(theirs.order)
    turned = ours.turns != theirs.turns or not in_order or _other_words(ours, theirs)
    return Comparison(similarity=similarity, differences=tuple(differences), turned=turned)


_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_name) if name}
_MONTHS |= {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name} | {"sept": 9}
_MONTH = rf"(?P<month>{'|'.join(sorted(_MONTHS, key=len, reverse=True))})\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:19|20)\d{2})"
_DATES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b{_YEAR}[-/.](?P<number>\d{{1,2}})[-/.](?P<day>\d{{1,2}})(?!\d)",
        rf"\b{_MONTH} {_DAY},? {_YEAR}\b",
        rf"\b{_DAY} (?:of )?{_MONTH},? {_YEAR}\b",
        rf"\b{_MONTH},? {_YEAR}\b",
        rf"\b{_MONTH} {_DAY}\b(?!\d)",
        rf"\b{_DAY} (?:of )?{_MONTH}\b",
    )
]
"""Most telling first: what one has taken, a later one does not see."""
_NUMBER = re.compile(
    r"(?<![\w.])(?P<digits>\d[\d,]*(?:\.\d+)?)(?:st|nd|rd|th)?"
    r"(?: ?(?P<scale>thousand|million|billion|trillion|[kmb])\b)?",
    re.IGNORECASE,
)
_SCALES = {"thousand": 3, "k": 3, "million": 6, "m": 6, "billion": 9, "b": 9, "trillion": 12}
_WORD = re.compile(r"[^\W_]+(?:['\u2019.&-][^\W_]+)*")
_SENTENCE_STARTS = re.compile(r"(?:^|[.?!:]\s+|[\"\u201c(])\s*$")
_NO_NAMES = frozenset(
    {
        "will", "would", "is", "are", "was", "were", "do", "does", "did", "has", "have", "had", "can", "could", "what",
        "which", "who", "when", "i", "a", "an", "the", "yes", "no", "utc", "et", "by", "before", "after", "on", "in",
        "if", "shall", "should", "true", "please",
    }
)  # fmt: skip
_TURNS = {
    "no": "not", "not": "not", "never": "not", "without": "not", "fail": "not", "fails": "not", "cannot": "not",
    "lower": "down", "below": "down", "under": "down", "less": "down", "fewer": "down", "fall": "down",
    "fallen": "down", "drop": "down", "decrease": "down", "decreased": "down", "decline": "down", "beneath": "down",
    "higher": "up", "above": "up", "over": "up", "more": "up", "exceed": "up", "exceeds": "up", "rise": "up",
    "risen": "up", "increase": "up", "increased": "up", "greater": "up",
    "lose": "lose", "win": "win", "before": "until", "by": "until", "until": "until", "after": "after",
    "between": "between", "either": "either", "and": "and", "or": "or", "maximum": "maximum", "minimum": "minimum",
    "least": "least", "most": "most", "highest": "maximum", "lowest": "minimum", "first": "first", "last": "last",
}  # fmt: skip
"""Words that turn a question round, each with the way it turns; two of one way say the same."""

_FILLERS = frozenset(
    {
        "will", "would", "what", "that", "case", "true", "does", "probability", "likelihood", "chance", "chances",
        "have", "been", "think", "please", "question", "market", "whether", "than", "this", "with", "from", "compared",
        "shall",
    }
)  # fmt: skip
"""Words that ask, and say nothing."""
_LONG_WORD = 6
"""Letters from which on a slip of the pen makes no other word."""

_Date = tuple[int | None, int, int | None]
"""Year, month, day; None is not written."""


class _Facts(Model):
    dates: tuple[_Date, ...]
    numbers: tuple[str, ...]
    names: tuple[str, ...]
    """Folded words that are written like names."""
    words: frozenset[str]
    turns: tuple[str, ...]
    """Sorted, each once."""
    order: tuple[str, ...]
    """Dates, numbers and names, as they follow one another."""


def _facts(asked: Asked) -> _Facts:
    text = fold(asked.question).translate(_PLAIN)
    dates, rest, order = _dates(text)
    numbers = [(match.start(), _value(match)) for match in _NUMBER.finditer(rest)]
    spoken = [(match.start(), match[0]) for match in _WORD.finditer(rest)]
    names = [(at, _stem(word)) for at, word in spoken if _is_name(word, rest[:at])]
    if not dates and not numbers and asked.expires_on:
        year, month, day = (int(part) for part in asked.expires_on.split("-"))
        dates = [(year, month, day)]
    order = sorted([*order, *numbers, *names])
    words = frozenset(_stem(word) for _, word in spoken)
    return _Facts(
        dates=tuple(dates),
        numbers=tuple(value for _, value in numbers),
        names=tuple(name for _, name in names),
        words=words | {part for word in words for part in re.split(r"[-.&]", word)},
        turns=tuple(sorted({_TURNS[word.casefold()] for _, word in spoken if word.casefold() in _TURNS})),
        order=tuple(fact for _, fact in order),
    )


_PLAIN = str.maketrans({"\u2019": "'", "\u2018": "'", "\u2013": "-", "\u2014": "-", "\u00a0": " "})


def _dates(text: str) -> tuple[list[_Date], str, list[tuple[int, str]]]:
    """The dates of a text, the text with blanks in their places, and where each stands."""
    found: list[tuple[int, _Date]] = []
    for pattern in _DATES:
        for match in pattern.finditer(text):
            parts = match.groupdict()
            month = int(parts["number"]) if parts.get("number") else _MONTHS[parts["month"].lower()]
            year, day = (int(parts[name]) if parts.get(name) else None for name in ("year", "day"))
            found.append((match.start(), (year, month, day)))
        text = pattern.sub(lambda match: " " * len(match[0]), text)
    found.sort()
    # Without the year, which one of two may leave out.
    return [one for _, one in found], text, [(at, f"{month}-{day}") for at, (_, month, day) in found]


def _value(match: re.Match[str]) -> str:
    digits = match["digits"].replace(",", "").rstrip(".")
    whole, _, fraction = digits.partition(".")
    places = _SCALES.get((match["scale"] or "").lower(), 0)
    shifted = fraction[:places].ljust(places, "0")
    return f"{int(whole + shifted)}.{fraction[places:].rstrip('0')}".rstrip(".")


def _is_name(word: str, before: str) -> bool:
    """Whether a word is written like a name: with a capital that does not only begin a sentence, or with digits."""
    if word.casefold() in _NO_NAMES or word.isdigit():
        return False
    if any(c.isdigit() for c in word):
        return any(c.isalpha() for c in word) and not re.fullmatch(r"\d+(?:st|nd|rd|th|[kmb])", word, re.IGNORECASE)
    return any(c.isupper() for c in word[1:]) or (word[:1].isupper() and not _SENTENCE_STARTS.search(before))


def _stem(word: str) -> str:
    return re.sub(r"'s?$", "", word.casefold())


def _same_date(one: _Date, other: _Date) -> bool:
    return all(a == b for a, b in zip(one, other, strict=True) if a is not None and b is not None)


def _unmatched(what: str, ours: Iterable[T], theirs: Iterable[T], same: Callable[[T, T], bool]) -> list[str]:
    """The facts of either side that the other does not name, in words."""
    ours, theirs = list(ours), list(theirs)
    lone = [fact for fact in ours if not any(same(fact, other) for other in theirs)]
    lone += [fact for fact in theirs if not any(same(other, fact) for other in ours)]
    return [f"{what} {_shown(fact)}" for fact in dict.fromkeys(lone)]


def _missing_names(ours: _Facts, theirs: _Facts) -> list[str]:
    # Against all words: who writes everything in small letters still names the same.
    lone = [name for name in ours.names if name not in theirs.words]
    lone += [name for name in theirs.names if name not in ours.words]
    return [f"the name {name!r}" for name in dict.fromkeys(lone)]


def _shown(fact: object) -> str:
    return "-".join(f"{part:02}" for part in fact if part is not None) if isinstance(fact, tuple) else str(fact)


def _other_words(ours: _Facts, theirs: _Facts) -> bool:
    """Whether either says something that the other does not, slips of the pen aside."""
    return any(
        len(word) > 3 and not word[0].isdigit() and not any(slip_of_the_pen(word, other) for other in there)
        for here, there in ((ours.words, theirs.words), (theirs.words, ours.words))
        for word in here - there - _FILLERS - _TURNS.keys() - _SCALES.keys()
    )


def slip_of_the_pen(one: str, other: str) -> bool:
    """Whether two long words are one: a letter too many, or two neighbours swapped. Austria is not Australia."""
    short, long = sorted((one, other), key=len)
    if len(short) < _LONG_WORD:
        return False
    if len(long) == len(short) + 1:
        return any(long[:at] + long[at + 1 :] == short for at in range(len(long)))
    swaps = (one[:at] + one[at + 1] + one[at] + one[at + 2 :] for at in range(len(one) - 1))
    return len(long) == len(short) and other in swaps


def share_a_source(ours: Iterable[str], theirs: Iterable[str]) -> bool:
    """Whether two lists of pages have one in common; a page and the API behind it are one source."""
    there = [_place(url) for url in theirs]
    return any(_same_place(_place(url), other) for url in ours for other in there)


def _place(url: str) -> tuple[str, tuple[str, ...], frozenset[str]]:
    """The site, the parts of the path, and these together with the values of the query."""
    try:
        parsed = urlsplit(url.lower())
        host = parsed.hostname or ""
    except ValueError:  # no URL after all
        return url, (), frozenset()
    path = tuple(part for part in parsed.path.split("/") if part)
    values = {value for _, value in parse_qsl(parsed.query)}
    return ".".join(host.split(".")[-2:]), path, frozenset(path) | values


def _same_place(
    one: tuple[str, tuple[str, ...], frozenset[str]], other: tuple[str, tuple[str, ...], frozenset[str]]
) -> bool:
    if one[0] != other[0]:
        return False
    if one[1:] == other[1:]:
        return True
    # The last part of a page's path is the id of what it shows, which the API has as a part or a parameter.
    return any(a[1][-1:] and a[1][-1] in b[2] for a, b in ((one, other), (other, one)))
