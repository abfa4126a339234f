"""The prompt `market_generation`, answered by parsing.

A question about an official series becomes a typed predicate over its API, any other question a condition in words
about the page that it names as its source.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from deploy.local.scripted_llm import comparison, safety, wording
from deploy.local.scripted_llm.dates import deadline, end_of
from deploy.local.scripted_llm.series import Series, named_in, urls
from domain.answers import MarketGenerationAnswer
from domain.market import Category, MarketDraft
from domain.rules import (
    Check,
    Counts,
    Criteria,
    MachineCondition,
    Method,
    NotYetPublished,
    Observation,
    Op,
    Postponed,
    ResolutionRules,
    Source,
    TextCondition,
)

_TITLE_LENGTH = 64
"""Characters that the chain holds."""
_DAY_SECONDS = 86_400
_LONGEST_WAIT = timedelta(days=30)
"""From expiry to the first look, as the rules allow."""


class _Refusal(Exception):
    """No market can be made of the text; the message is the sentence for the person who asked."""


def answer(
    *, question: str, background: str, criteria: str, category: str, expiry: str, today: str
) -> MarketGenerationAnswer:
    """The draft, or the refusal."""
    try:
        return MarketGenerationAnswer(draft=_draft(question, background, criteria, category, expiry, today))
    except _Refusal as refusal:
        return MarketGenerationAnswer(draft=None, refusal=str(refusal)[:300])
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        return MarketGenerationAnswer(
            draft=None, refusal=f"The text does not fit a market's rules ({where}: {fault['msg']}): shorten it."[:300]
        )


def _draft(text: str, background: str, criteria: str, category: str, expiry: str, today: str) -> MarketDraft:
    if any(safety.injection(part) for part in (text, background, criteria)):
        raise _Refusal("The text instructs its reader instead of asking: send the question alone.")
    if "{" in text and "}" in text:
        raise _Refusal("The question still has a placeholder in braces: fill it in.")
    question = wording.question_of(text)
    if question is None:
        raise _Refusal("This is not one yes/no question: ask one thing that can be answered yes or no.")
    if what := safety.forbidden(question):
        raise _Refusal(f"No market is made on {what}: ask about something else.")
    if wording.self_referential(question):
        raise _Refusal("The question is about its own market: ask about something outside of it.")
    if wording.proposer_controls(question):
        raise _Refusal("The one who asks can bring the answer about: ask about something that others decide.")
    try:
        now = date.fromisoformat(today[:10])
        ends = datetime.fromisoformat(expiry).astimezone(UTC) if expiry else None
    except ValueError as error:
        raise _Refusal(f"A date given with the question cannot be read: {error}.") from error
    chosen = _category(category, f"{question} {background[:500]}")
    series = named_in(question, criteria, background)
    if series is not None:
        units = frozenset({"%"} if series.unit == "percent" else {"money"} if series.money else set())
        try:
            asked = comparison.read(question, now, rank=series.rank, units=units)
        except comparison.Unclear as why:
            return _in_words(question, background, criteria, chosen, ends, now, f"It is not machine-checkable: {why}.")
        return _machine_checkable(question, criteria, chosen, ends, now, series, asked)
    return _in_words(question, background, criteria, chosen, ends, now, "")


def _machine_checkable(
    question: str,
    criteria: str,
    category: Category,
    expiry: datetime | None,
    today: date,
    series: Series,
    asked: comparison.Comparison,
) -> MarketDraft:
    days = [day for day in (asked.value_on, asked.baseline_on) if day is not None]
    ready = end_of(max(days), ZoneInfo(series.timezone))
    if expiry is None and max(days) <= today:
        raise _Refusal(f"The last date asked about, {max(days)}, is not in the future: ask about a later one.")
    expiry = expiry or ready
    if ready - expiry > _LONGEST_WAIT:
        raise _Refusal(
            f"Trading would end on {expiry.date()}, more than 30 days before the date asked about, {max(days)}: choose"
            " a later expiry."
        )
    sources = series.sources(days)
    reading, baseline = series.reading(asked.value_on), asked.baseline_on and series.reading(asked.baseline_on)
    condition = MachineCondition(
        id="value",
        text=f"{series.publisher}: {series.label} {_in_symbols(asked)}.",
        op=asked.op,
        operand=None if asked.operand is None else format(asked.operand, "f"),
        upper=asked.upper,
        percent=asked.percent,
        checks=(Check(value=reading, baseline=baseline or None),),
    )
    settle_after = max(0, int((ready - expiry).total_seconds()))
    rules = ResolutionRules(
        exact_question=question,
        criteria=Criteria(must_meet_all=(condition,), allowed_sources=sources),
        expiry=expiry,
        timezone=series.timezone,
        deadline_inclusive=True,
        observation=Observation(counts=series.counts),
        not_yet_published=NotYetPublished(
            settle_after=settle_after,
            check_every=series.check_every,
            give_up_after=settle_after + series.give_up_after,
            then="review",
        ),
        postponed_or_cancelled=Postponed(outcome="VOID"),
        source_order=tuple(source.name for source in sources),
        quorum=1,
    )
    return MarketDraft(
        title=_title(question, *_short_titles(question, series, _in_symbols(asked).replace(" or more,", "+,"))),
        description=f"{question} Read from {series.publisher}, {series.label}. {_cut(criteria, 400)}".strip(),
        category=category,
        rules=rules,
        initial_yes_prob=5_000,
        confidence=0.9,
    )


def _in_words(
    question: str,
    background: str,
    criteria: str,
    category: Category,
    expiry: datetime | None,
    today: date,
    note: str,
) -> MarketDraft:
    rules_text = f"{criteria}\n{background}"
    zone = "America/New_York" if re.search(r"\b(?:ET|EST|EDT|Eastern Time)\b", rules_text) else "UTC"
    until = deadline(question, rules_text, today)
    if expiry is None:
        if until is None:
            raise _Refusal("The question has no date: say by which day, with its year, it must have happened.")
        expiry = until.moment(ZoneInfo(zone))
        if expiry.date() <= today:
            raise _Refusal(f"The deadline, {until.day}, is not in the future: ask about a later one.")
        vague = until.vague
    else:
        vague = False
    url = _source_url(question, criteria, background)
    if url is None:
        raise _Refusal("No official source is named: say on which page of whose site the answer will be published.")
    host = (urlsplit(url).hostname or "").removeprefix("www.")
    loose = wording.subjective_words(question) + wording.relative_times(question)
    condition = TextCondition(
        id="answer",
        text=f"{host} answers YES to the question: {question} It counts up to {expiry:%Y-%m-%dT%H:%M:%SZ}. "
        f"{_cut(criteria, 800)}".strip(),
        sources=(host,),
    )
    rules = ResolutionRules(
        exact_question=question,
        criteria=Criteria(
            must_meet_all=(condition,),
            allowed_sources=(
                Source(name=host, url=url, method=Method.HTML_SCRAPE, condition=_cut(f"answers: {question}", 500)),
            ),
        ),
        expiry=expiry,
        timezone=zone,
        deadline_inclusive=until.inclusive if until else True,
        observation=Observation(counts=Counts.FIRST_PUBLISHED),
        not_yet_published=NotYetPublished(
            settle_after=0, check_every=6 * 3600, give_up_after=14 * _DAY_SECONDS, then="review"
        ),
        postponed_or_cancelled=Postponed(outcome="NO"),
        source_order=(host,),
        quorum=1,
    )
    return MarketDraft(
        title=_title(question),
        description=f"{question} Answered by {url}. {note} {_cut(background, 400)}".strip(),
        category=category,
        rules=rules,
        initial_yes_prob=5_000,
        confidence=0.5 if note or vague or loose else 0.75,
    )


_SYMBOLS = {Op.GT: ">", Op.GE: ">=", Op.LT: "<", Op.LE: "<=", Op.EQ: "=", Op.NE: "is not"}


def _in_symbols(asked: comparison.Comparison) -> str:
    """The comparison in a few characters: titles have to fit the chain."""
    if asked.op is Op.CHANGED_BY and asked.operand is not None:
        direction, share = "up" if asked.operand > 0 else "down", "%" if asked.percent else ""
        return f"{direction} {abs(asked.operand):f}{share} or more, {asked.baseline_on} to {asked.value_on}"
    if asked.op is Op.BETWEEN:
        return f"on {asked.value_on} from {asked.operand:f} to {asked.upper:f}"
    against = f"on {asked.baseline_on}" if asked.operand is None else format(asked.operand, "f")
    return f"on {asked.value_on} {_SYMBOLS[asked.op]} {against}"


_SUBJECT = re.compile(r"(?:will|that) (?:the )?(?P<subject>.+?),? (?:have|be|close) ", re.IGNORECASE)
_LAST_NAME = re.compile(r"[A-Z][\w.'\u2019]*(?:[ \u2013-]+[A-Z][\w.'\u2019]*)*$")


def _short_titles(question: str, series: Series, comparison: str) -> Iterator[str]:
    """Titles in fewer and fewer characters; a code of FRED or DBnomics tells people less than the question's words."""
    found = _SUBJECT.search(question) if series.publisher in {"FRED", "DBnomics"} else None
    if found is not None:
        subject = found["subject"]
        yield f"{subject[:1].upper()}{subject[1:]} {comparison}?"
        name = _LAST_NAME.search(subject)
        if name is not None and name[0] != series.label:
            yield f"{name[0]} ({series.label}) {comparison}?"
    yield f"{series.label} {comparison}?"


def _title(question: str, *shorter: str) -> str:
    """The question if the chain holds it, else what says the same in fewer characters, else the question cut."""
    plain = re.sub(r"^According to [^,]{2,40}, (?P<first>\w)", lambda m: m["first"].upper(), question)
    for candidate in (question, plain, *shorter):
        if 0 < len(candidate) <= _TITLE_LENGTH:
            return candidate
    return _cut(plain, 256)


def _cut(text: str, limit: int) -> str:
    """The text, folded, cut at a word."""
    folded = " ".join(text.split())
    if len(folded) <= limit:
        return folded
    return folded[: limit - 1].rsplit(" ", 1)[0] + "\u2026"


_KEYWORDS = {
    Category.SPORTS: "nba nfl nhl mlb fifa uefa championship league olympics chess elo fide tennis playoffs marathon"
    " season medal coach|world cup|super bowl|stanley cup|world record|grand prix",
    Category.FINANCE: "price stock share shares bitcoin btc ethereum solana inflation gdp fed treasury yield nasdaq"
    " nyse recession bond unemployment bankruptcy etf index loan loans economy crypto token airdrop ipo|interest rate"
    "|interest rates|market cap|exchange rate|s&p 500|funds rate|deposit rate"
    "|mortgage rate|federal reserve|stlouisfed",
    Category.POLITICS: "election president senate congress parliament chancellor minister vote government sanctions"
    " trump nato treaty mayor war legislation law party nominee eu ceasefire tariff tariffs|supreme court",
    Category.ENTERTAINMENT: "movie film album song oscar oscars grammy spotify netflix tv actor actress billboard"
    " halftime|academy awards|box office|person of the year|video game",
    Category.PRODUCT_LAUNCH: "release released releases launch launched unveil ships iphone|go live",
    Category.TECHNOLOGY: "ai llm gpt openai google apple microsoft software spacex starship chip robot quantum space"
    " moon browser semiconductor",
}
"""Words, and after each bar a phrase."""


def _category(given: str, text: str) -> Category:
    if given in Category.__members__.values():
        return Category(given)
    folded = " " + " ".join(re.findall(r"[\w&]+", text.lower())) + " "
    counts = {}
    for one, words in _KEYWORDS.items():
        singles, *phrases = words.split("|")
        counts[one] = sum(folded.count(f" {word} ") for word in (*singles.split(), *phrases))
    best = max(counts, key=lambda category: counts[category])
    return best if counts[best] else Category.MISC


_NAMES_A_SOURCE = re.compile(
    r"(?:\bsource\s*:|\bresolution source\b|\bresolves? (?:to|according|based|per|as)\b|\bfound (?:at|on)\b"
    r"|\baccording to\b|\bas reported (?:by|at|on)\b|\bpublished (?:by|at|on)\b|\bdetermined by\b|\bofficial\b)[^?]*$",
    re.IGNORECASE,
)
_NOT_OFFICIAL = re.compile(
    r"(?:^|\.)(?:twitter|x|reddit|facebook|instagram|tiktok|youtube|medium|substack|blogspot|wordpress|imgur|bit|t|tinyurl"
    r"|nytimes|reuters|bbc|cnn|foxnews|theguardian|washingtonpost|bloomberg|forbes|wsj|ft|politico|axios|aljazeera"
    r"|apnews|nbcnews|cnbc|economist|theverge|techcrunch|wired|github|wikipedia)\.(?:com|co|co\.uk|org|net|ly|be)$"
)


def _source_url(question: str, criteria: str, background: str) -> str | None:
    """The page that a question names as the one that will answer it."""
    for text in (criteria, question, background):
        named: list[str] = []
        other: list[str] = []
        for url in urls(text):
            host = (urlsplit(url).hostname or "").lower()
            about_wikipedia = host.endswith("wikipedia.org") and "wikipedia" in question.lower()
            if (_NOT_OFFICIAL.search(host) and not about_wikipedia) or re.search(r"/faq|\.(?:png|jpe?g|gif|pdf)$", url):
                continue
            sentence = re.split(r"(?<=[.!?])\s|\n", text[: text.index(url)])[-1]
            (named if _NAMES_A_SOURCE.search(sentence) else other).append(url)
        if named:
            return named[-1]
        if other and text is not background:
            return other[0]
    return None
