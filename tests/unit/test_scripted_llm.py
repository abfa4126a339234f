"""The scripted model: its drafts resolve to what the values say, and what it cannot read it leaves to people."""

import json
import random
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local import data
from deploy.local.data import Series, load_questions
from deploy.local.data import asked as question_about
from deploy.local.proposals import criteria_of
from deploy.local.scripted_llm.safety import injection
from deploy.local.source_site.site import Site
from domain.canonical import sha256_hex
from domain.extraction import Document
from domain.market import Category, MarketDraft
from domain.rehearsal import rehearse
from domain.resolver import resolve
from domain.rules import ResolutionRules, TextCondition
from domain.verdict import Abstention, Verdict
from tests.scripted_llm import (
    FIDE_URL,
    FRED_URL,
    INJECTIONS,
    ONE_OF_EACH,
    PAGE,
    RATE,
    SERIES,
    YAHOO_URL,
    D,
    R,
    ask,
    drafted,
)

NEW_YORK = ZoneInfo("America/New_York")
DEV = Path(__file__).parents[3] / "shared" / "data" / "questions" / "dev.jsonl"


def refusal(question: str, **fields: str) -> str:
    answer = ask(question, **fields)
    assert answer.draft is None, answer.draft.rules.exact_question
    assert re.fullmatch(r"[A-Z].{20,298}\.", answer.refusal)
    return answer.refusal


# Documents in the shape of the official APIs, as they are at a moment, for the URLs that a draft names.


class Observed(NamedTuple):
    day: date
    value: str


def fetch(url: str, series: Sequence[Observed], now: datetime, series_id: str, player: str = "") -> Document:
    address = urlsplit(url)
    query = {name: found[0] for name, found in parse_qs(address.query, strict_parsing=True).items()}
    out = [o for o in series if datetime.combine(o.day, datetime.min.time(), UTC) < now]
    match address.hostname:
        case "api.stlouisfed.org":
            assert (address.path, query["series_id"], query["file_type"]) == (
                "/fred/series/observations",
                series_id,
                "json",
            )
            shown = [{"date": str(o.day), "value": o.value} for o in out if str(o.day) >= query["observation_start"]]
            gap = {"date": str(out[0].day + timedelta(days=1)), "value": "."} if out else {}
            body: Any = {"units": "lin", "observations": [*shown[:1], gap, *shown[1:]] if shown else []}
        case "api.db.nomics.world":
            assert address.path.endswith("/" + series_id.split("_")[-1])
            assert query["observations"] == "1"
            days = [str(o.day) for o in out]
            numbers = [float(o.value) for o in out]
            body = {"series": {"docs": [{"period": days, "period_start_day": days, "value": numbers}]}}
        case "query1.finance.yahoo.com":
            assert (address.path, query["interval"]) == (f"/v8/finance/chart/{series_id}", "1d")
            opens = [int(datetime(o.day.year, o.day.month, o.day.day, 9, 30, tzinfo=NEW_YORK).timestamp()) for o in out]
            rows = [(m, o) for m, o in zip(opens, out, strict=True) if _within(m, query)]
            close = [float(o.value) for _, o in rows]
            result = {"timestamp": [m for m, _ in rows], "indicators": {"quote": [{"close": close}]}}
            body = {"chart": {"result": [result], "error": None}}
        case "en.wikipedia.org":
            assert (query["titles"], query["rvdir"], query["rvlimit"]) == ("FIDE rankings", "older", "1")
            asked = datetime.fromisoformat(query["rvstart"])
            revision = next(o for o in reversed(out) if str(o.day) <= query["rvstart"][:10])
            assert (asked.hour, asked.minute, asked.tzinfo) == (23, 59, UTC)
            body = {"query": {"pages": [{"title": "FIDE rankings", "revisions": [_revision(revision, player)]}]}}
            if "curtimestamp" in query:
                body["curtimestamp"] = f"{now:%Y-%m-%dT%H:%M:%SZ}"
        case _:
            raise AssertionError(url)
    return json_document(body)


def _within(moment: int, query: dict[str, str]) -> bool:
    return int(query["period1"]) <= moment <= int(query["period2"])


def _revision(observed: Observed, player: str) -> dict[str, Any]:
    number = observed.value.removesuffix(".0")
    rank, rating = (number, "2555") if len(number) < 4 else ("17", number)
    rows = [
        '{| class="wikitable"\n! Rank !! Player !! Born !! Rating',
        "|-\n| 1 || [[Magnus Carlsen]] || 1990 || 2840",
        f"|-\n| 2 || [[{player} Jr.]] || 2001 || 2839",
        f"|- style=x\n| {rank} || {{{{flag|NOR}}}} [[{player} (player)|{player}]]{{{{efn|99}}}} || 1999 || {rating}",
        f"|-\n| 100 || [[{player}son]]\n| 2007 || 2600\n|}}",
    ]
    main = {"contentmodel": "wikitext", "contentformat": "text/x-wiki", "content": "\n".join(rows)}
    return {"timestamp": f"{observed.day}T11:12:13Z", "slots": {"main": main}}


def json_document(body: Any) -> Document:
    raw = json.dumps(body).encode()
    return Document(sha256=sha256_hex(raw), content_type="application/json", body=raw)


def verdict_of(draft: MarketDraft, series: Series, observed: Sequence[Observed], now: datetime) -> Verdict:
    return resolve(draft.rules, documents_of(draft.rules, series, observed, now))


def documents_of(
    rules: ResolutionRules, series: Series, observed: Sequence[Observed], now: datetime
) -> dict[str, Document]:
    player = series.description.split("'s ")[0]
    sources = rules.criteria.allowed_sources
    return {source.name: fetch(source.url, observed, now, series.id, player) for source in sources}


def truth(series: Series, before: Decimal, after: Decimal) -> str:
    if "as high or higher" in series.question:  # a place in a ranking
        return "YES" if after <= before else "NO"
    if "at least 1% higher" in series.question:
        return "YES" if after * 100 >= before * 101 else "NO"
    return "YES" if after > before else "NO"


@pytest.mark.parametrize("series", SERIES, ids=lambda series: series.id)
def test_every_series_is_machine_checked_and_resolves_to_the_truth(series: Series) -> None:
    chance = random.Random(series.id)
    observed = [Observed(o.date, o.value) for o in series.observations]
    values = {o.date: Decimal(o.value) for o in series.observations}
    for _ in range(2):
        due, asked = sorted(chance.sample(sorted(values), 2))
        draft = drafted(question_about(series, due, asked), criteria=criteria_of(series), today=str(due))
        assert not draft.rules.text_conditions
        assert draft.confidence >= 0.85
        assert len(draft.title) <= 64
        now = max(draft.rules.expiry, datetime.combine(asked, datetime.min.time(), UTC) + timedelta(days=200))
        assert verdict_of(draft, series, observed, now).outcome == truth(series, values[due], values[asked])


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_before_the_day_the_rules_rehearse_and_the_verdict_waits(name: str) -> None:
    series = ONE_OF_EACH[name]
    due, asked = series.observations[-3].date, series.observations[-1].date
    draft = drafted(question_about(series, due, asked), criteria=criteria_of(series), today=str(due))
    observed = [Observed(o.date, o.value) for o in series.observations]
    before = datetime.combine(asked, datetime.min.time(), UTC) - timedelta(minutes=1)
    documents = documents_of(draft.rules, series, observed, before)
    assert rehearse(draft.rules, documents, before).blocking == ()
    assert resolve(draft.rules, documents).abstention is Abstention.TOO_EARLY
    assert draft.rules.expiry >= datetime.combine(asked + timedelta(days=1), datetime.min.time(), UTC)


@pytest.mark.parametrize("name", ["rank", "rating"])
def test_a_page_that_rested_for_weeks_counts_once_the_servers_clock_is_past_the_day(name: str) -> None:
    series = ONE_OF_EACH[name]
    first, last = series.observations[0], series.observations[-1]
    day = last.date + timedelta(days=20)
    draft = drafted(question_about(series, first.date, day), criteria=criteria_of(series), today=str(first.date))
    observed = [Observed(o.date, o.value) for o in series.observations]
    after = datetime.combine(day + timedelta(days=1), datetime.min.time(), UTC)
    assert verdict_of(draft, series, observed, after - timedelta(days=2)).abstention is Abstention.TOO_EARLY
    assert verdict_of(draft, series, observed, after).outcome == truth(
        series, Decimal(first.value), Decimal(last.value)
    )


async def test_drafts_fit_what_the_embedded_source_site_serves(tmp_path: Path) -> None:
    site = httpx.ASGITransport(app=Site(data.FOLDER, tmp_path / "embargoes.json").app())
    chance = random.Random("site")
    async with httpx.AsyncClient(transport=site) as client:
        for series in chance.sample(SERIES, 60):
            due, asked = sorted(chance.sample([o.date for o in series.observations], 2))
            draft = drafted(question_about(series, due, asked), criteria=criteria_of(series), today=str(due))
            documents = {}
            for source in draft.rules.criteria.allowed_sources:
                answer = await client.get(source.url)
                documents[source.name] = Document(
                    sha256_hex(answer.content), answer.headers["content-type"], answer.content
                )
            assert resolve(draft.rules, documents).outcome == data.truth(series, due, asked), series.id


# The words of a comparison.

PRICE = RATE.model_copy(update={"source": "yfinance", "id": "ABBV", "url": YAHOO_URL})
RANK = RATE.model_copy(
    update={"source": "wikipedia", "id": "", "url": FIDE_URL, "description": "Wei Yi's FIDE ranking"}
)

PHRASES = [
    # (question, series, value on D, for each value on R the true answer)
    ("Will the yield be higher on {R} than on {D}?", RATE, "4", {"4.01": "YES", "4": "NO", "3.9": "NO"}),
    ("Will the yield be lower on {R} than on {D}?", RATE, "4", {"4.01": "NO", "4": "NO", "3.9": "YES"}),
    ("Will the yield have increased by {R} as compared to its value on {D}?", RATE, "4", {"4": "NO", "4.1": "YES"}),
    ("Will the yield have decreased by {R} as compared to its value on {D}?", RATE, "4", {"4": "NO", "3.99": "YES"}),
    ("Will the yield have fallen by {R} compared with its value on {D}?", RATE, "-1", {"-1.5": "YES", "-0.5": "NO"}),
    ("Will the yield increase from {D} to {R}?", RATE, "4", {"4.2": "YES", "3": "NO", "4": "NO"}),
    ("Compared to its value on {D}, will the yield be lower on {R}?", RATE, "4", {"3.2": "YES", "4.1": "NO"}),
    ("Will the yield on {R} exceed its value on {D}?", RATE, "4", {"4.2": "YES", "4": "NO"}),
    ("Will the yield be no higher on {R} than on {D}?", RATE, "4", {"4": "YES", "4.1": "NO", "3": "YES"}),
    ("Will the yield be at least as high on {R} as on {D}?", RATE, "4", {"4": "YES", "3.9": "NO", "5": "YES"}),
    ("Will the yield be higher than or equal to its value on {D} on {R}?", RATE, "4", {"4": "YES", "3.9": "NO"}),
    ("Will the yield be unchanged on {R} compared to {D}?", RATE, "4", {"4.0": "YES", "4.01": "NO"}),
    ("Will bonds rated BBB or below have risen by {R} as compared to {D}?", RATE, "4", {"5": "YES", "3": "NO"}),
    ("Will the yield be at least 5% higher on {R} than on {D}?", RATE, "4", {"4.2": "YES", "4.19": "NO"}),
    ("Will it have fallen by at least 10% by {R} as compared to {D}?", RATE, "4", {"3.6": "YES", "3.61": "NO"}),
    ("Will the yield be at least 0.5 lower on {R} than on {D}?", RATE, "4", {"3.5": "YES", "3.51": "NO", "5": "NO"}),
    ("Will the 10-year yield be above 4.5 on {R}?", RATE, "9", {"4.5": "NO", "4.51": "YES"}),
    ("Will the 10-year yield be at least 4.5% on {R}?", RATE, "9", {"4.5": "YES", "4.49": "NO"}),
    ("Will the 10-year yield be 4.5 or higher on {R}?", RATE, "9", {"4.5": "YES", "4.49": "NO"}),
    ("Will the 10-year yield be below 4.5 on {R}?", RATE, "9", {"4.5": "NO", "4.49": "YES"}),
    ("Will the 10-year yield be no more than 4.5 on {R}?", RATE, "9", {"4.5": "YES", "4.51": "NO"}),
    ("Will the 10-year yield be between 4 and 4.5 on {R}?", RATE, "9", {"4": "YES", "4.5": "YES", "4.51": "NO"}),
    ("Will the 10-year yield be exactly 4.5 on {R}?", RATE, "9", {"4.50": "YES", "4.51": "NO"}),
    ("Will ABBV close above $1,250.50 on {R}?", PRICE, "9", {"1250.5": "NO", "1250.51": "YES"}),
    ("Will ABBV close at $250 or less on {R}?", PRICE, "9", {"250": "YES", "250.01": "NO"}),
    ("Will ABBV's close on {R} be at least 3% below its close on {D}?", PRICE, "100", {"97": "YES", "97.01": "NO"}),
    ("Will Wei Yi have a FIDE ranking on {R} as high or higher than on {D}?", RANK, "9", {"9": "YES", "10": "NO"}),
    ("Will Wei Yi have a FIDE ranking on {R} higher than on {D}?", RANK, "9", {"9": "NO", "8": "YES", "10": "NO"}),
    ("Will Wei Yi have a FIDE ranking on {R} lower than on {D}?", RANK, "9", {"9": "NO", "8": "NO", "10": "YES"}),
    ("Will Wei Yi's FIDE ranking on {R} be at least 2 better than on {D}?", RANK, "9", {"7": "YES", "8": "NO"}),
    ("Will Wei Yi have a FIDE ranking in the top 10 on {R}?", RANK, "99", {"10": "YES", "11": "NO"}),
]  # fmt: skip


@pytest.mark.parametrize(("question", "series", "before", "answers"), PHRASES, ids=[p[0] for p in PHRASES])
@pytest.mark.parametrize("form", [date.isoformat, lambda day: f"{day:%B} {day.day}, {day.year}", "{:%d %B %Y}".format])
def test_words_of_comparison_mean_what_they_say(
    question: str, series: Series, before: str, answers: dict[str, str], form: Callable[[date], str]
) -> None:
    draft = drafted(question.format(D=form(D), R=form(R)), criteria=criteria_of(series))
    assert not draft.rules.text_conditions
    now = datetime.combine(R + timedelta(days=1), datetime.min.time(), UTC)
    for after, expected in answers.items():
        verdict = verdict_of(draft, series, [Observed(D, before), Observed(R, after)], now)
        assert verdict.outcome == expected, f"{before} then {after}: {verdict.results[0].detail}"


@pytest.mark.parametrize(
    "question",
    [
        "Will the yield be higher or lower on {R} than on {D}?",
        "Will the yield be 5% higher on {R} than on {D}?",
        "Will the yield be more than 5% higher on {R} than on {D}?",
        "Will the yield be slightly higher on {R} than on {D}?",
        "Will the yield fail to be higher on {R} than on {D}?",
        "Will the yield be higher on {R} than last month?",
        "Will the yield be above 4.5 by {R}?",
        "Will the yield reach 4.5 on {R}?",
        "Will the yield ever be above 4.5 on {R}?",
        "Will the yield be above 4.5 million on {R}?",
        "Will the yield be above 4 on {R} and below 5 on {D}?",
        "Will the yield be above 4.5 on January 15?",
        "Will the yield on {D} and on {R} be higher?",
        "Will the yield be higher on {R} than Germany's on {D}?",
        "Will the yield be higher on {R} than its value on {R}?",
        "Will the year-over-year change be above 4.5 on {R}?",
        "Will the inflation rate be above 3% on {R}?",
    ],
)
def test_what_can_be_read_two_ways_becomes_words_and_a_low_confidence(question: str) -> None:
    draft = drafted(question.format(D=D, R=R), criteria=criteria_of(RATE))
    assert draft.rules.resolver_program == ()
    assert draft.confidence < 0.6


def test_two_series_in_the_criteria_are_not_guessed_between() -> None:
    draft = drafted(f"Will it be higher on {R} than on {D}?", criteria=f"Found at {FRED_URL} or {FRED_URL}X.")
    assert draft.rules.resolver_program == ()


# Expiry, waiting, other questions.


def test_expiry_given_is_kept_and_the_first_look_waits_for_the_day_asked_about() -> None:
    question = question_about(ONE_OF_EACH["fred"], D, R)
    early = drafted(question, criteria=criteria_of(RATE), expiry="2026-01-10T00:00:00Z")
    assert early.rules.expiry == datetime(2026, 1, 10, tzinfo=UTC)
    assert early.rules.not_yet_published.settle_after == 6 * 86_400
    late = drafted(question, criteria=criteria_of(RATE), expiry="2026-11-22T00:00:12+00:00")
    assert late.rules.expiry == datetime(2026, 11, 22, 0, 0, 12, tzinfo=UTC)
    assert late.rules.not_yet_published.settle_after == 0
    assert "choose a later expiry" in refusal(question, criteria=criteria_of(RATE), expiry="2025-11-01T00:00:00Z")


@pytest.mark.parametrize(
    ("question", "expiry", "inclusive"),
    [
        ("Will the court rule by January 15, 2026?", "2026-01-16T00:00:00+00:00", True),
        ("Will the court rule before January 15, 2026?", "2026-01-15T00:00:00+00:00", False),
        ("Will the court rule on or before 31 December 2025?", "2025-12-31T00:00:00+00:00", False),
        ("Will the court rule by 2026-01-15?", "2026-01-16T00:00:00+00:00", True),
        ("Will the court rule by the end of 2025?", "2026-01-01T00:00:00+00:00", True),
        ("Will the court rule before 2026?", "2026-01-01T00:00:00+00:00", False),
        ("Will the court rule in the first half of 2026?", "2026-07-01T00:00:00+00:00", True),
        ("Will the court rule in Q1 2026?", "2026-04-01T00:00:00+00:00", True),
        ("Will the court rule between November 1st, 2025 and Feb. 3rd, 2026?", "2026-02-04T00:00:00+00:00", True),
    ],
)
def test_deadline_is_read_from_the_words(question: str, expiry: str, inclusive: bool) -> None:
    rules = drafted(question, criteria=PAGE).rules
    assert (rules.expiry.isoformat(), rules.deadline_inclusive) == (expiry, inclusive)


def test_other_questions_keep_their_words_and_their_own_source() -> None:
    draft = drafted("Will the court rule by January 15, 2026?", criteria=PAGE, background="See https://bbc.co.uk/x.")
    [condition] = draft.rules.criteria.must_meet_all
    assert isinstance(condition, TextCondition)
    assert "Will the court rule by January 15, 2026?" in condition.text
    assert PAGE in condition.text
    [source] = draft.rules.criteria.allowed_sources
    assert source.url == "https://www.example-court.gov/rulings/7"
    assert draft.confidence >= 0.6


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Will the U.S. Supreme Court rule in Smith v. John L. Roe by Feb. 3rd, 2026?", None),
        ("The case is old. Will the court rule by 2026-02-03?", "Will the court rule by 2026-02-03?"),
        ("Premier League 2025/26 - Will Leeds finish in the top 10?", None),
        ("Will Leeds   win\n\nThe rest is a note.", "none"),
        ("Will Leeds win by 2026-02-03?\n\nSplits are accounted for.", "Will Leeds win by 2026-02-03?"),
        ("\u00bfCerrar\u00e1 Bitcoin el 2026 m\u00e1s alto?", None),
    ],
)
def test_the_question_is_kept_whole_and_alone(text: str, question: str | None) -> None:
    if question == "none":
        assert "yes/no" in refusal(text, criteria=PAGE)
    else:
        draft = drafted(text, criteria=PAGE, expiry="2026-06-01T00:00:00Z")
        assert draft.rules.exact_question == (question or text)


def test_question_for_a_probability_is_asked_as_yes_or_no() -> None:
    draft = drafted(
        f"What is the probability that the yield will be higher on {R} than on {D}?", criteria=criteria_of(RATE)
    )
    assert draft.rules.exact_question == f"Will the yield be higher on {R} than on {D}?"


def test_category_given_is_kept_and_a_missing_one_is_chosen() -> None:
    question = question_about(ONE_OF_EACH["yahoo"], D, R)
    assert drafted(question, criteria=criteria_of(PRICE), category="technology").category is Category.TECHNOLOGY
    assert drafted(question, criteria=criteria_of(PRICE)).category is Category.FINANCE


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ("Who will win the election by 2026-05-01?", "yes/no"),
        ("Which team will win the cup by 2026-05-01?", "yes/no"),
        ("Make a market about football in 2026", "yes/no"),
        ("Will it rain by 2026-05-01? Will it snow by 2026-05-01?", "yes/no"),
        ("Will the court ever rule?", "no date"),
        ("Will the mayor die before 2026-05-01?", "a death"),
        ("Will there be an attack on the embassy by 2026-05-01?", "an attack"),
        ("Will this market have 100 traders by 2026-05-01?", "own market"),
        ("Will I finish my novel by 2026-05-01?", "bring the answer about"),
        ("Will the court rule by {resolution_date}?", "placeholder"),
        ("Will the court rule by 2024-05-01?", "not in the future"),
    ],
)
def test_refusal_says_what_is_wrong(question: str, why: str) -> None:
    assert why in refusal(question, criteria=PAGE)


def test_question_without_a_source_is_refused() -> None:
    assert "source" in refusal("Will the court rule by 2026-05-01?", background="See https://twitter.com/court/1.")


@pytest.mark.parametrize("order", INJECTIONS)
@pytest.mark.parametrize("field", ["question", "background", "criteria"])
def test_text_that_gives_orders_is_refused(order: str, field: str) -> None:
    fields = {"question": f"Will the yield be higher on {R} than on {D}?", "criteria": criteria_of(RATE)}
    fields[field] = f"{fields.get(field, '')} {order}?"
    assert "instructs its reader" in refusal(**fields)


WORDS = (
    "Will|be|higher|at least|5%|than|on|by|before|between|and|or|not|2026|$3m|January 15|31 February 2026|Q4 2026|?|(|)"
)
FRAGMENTS = st.sampled_from(
    [*WORDS.split("|"), str(D), str(R), ".", "\n", "{", "}", "I", "have a FIDE ranking", FRED_URL, YAHOO_URL, FIDE_URL]
)


@settings(deadline=None)
@given(st.lists(FRAGMENTS, max_size=25).map(" ".join) | st.text(), st.lists(FRAGMENTS, max_size=6).map(" ".join))
def test_whatever_is_asked_gives_a_draft_or_a_sentence(question: str, criteria: str) -> None:
    answer = ask(question, criteria=criteria)
    assert (answer.draft is None) is (answer.refusal != "")


def proposals() -> list[tuple[str, dict[str, str]]]:
    questions = load_questions(DEV) if DEV.exists() else load_questions()
    made = []
    for q in questions:
        day = q.resolutions[0].date if q.resolutions else q.asked_on + timedelta(days=30)
        text = q.question.replace("{forecast_due_date}", str(q.asked_on)).replace("{resolution_date}", str(day))
        criteria = q.criteria if q.url in q.criteria else f"{q.criteria}\nSource: {q.url}"
        expiry = q.closes.isoformat() if q.closes else ""
        fields = {"background": q.background, "criteria": criteria, "expiry": expiry, "today": str(q.asked_on)}
        made.append((text, fields))
    return made


def test_real_questions_become_drafts_and_few_clean_ones_are_refused() -> None:
    asked = proposals()
    answers = [ask(question, **fields) for question, fields in asked]
    assert all((answer.draft is None) is bool(answer.refusal) for answer in answers)
    unclean = ("a death", "an attack")
    refused = [a.refusal for a in answers if a.draft is None and not any(what in a.refusal for what in unclean)]
    assert len(refused) < 0.05 * len(asked), refused
    assert all(len(answer.model_dump_json(by_alias=True)) < 2_000 * 4 for answer in answers), "over the prompt's tokens"
    assert not any(injection(f"{text} {fields['background']} {fields['criteria']}") for text, fields in asked)
