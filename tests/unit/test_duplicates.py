"""Duplicates: facts before likeness, whatever the trigrams say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.scripted_llm import duplicate_detection
from domain.duplicates import Asked, Likeness, compare, share_a_source, slip_of_the_pen

ABBV = "Will ABBV be higher on 2025-12-11 than on 2025-11-28?"
GOLD = "Will gold close above $3,000 on 2026-01-15?"


def likeness(one: str, other: str, similarity: float = 0.95) -> Likeness:
    return compare(Asked(question=one), Asked(question=other), similarity).likeness


def read(one: str, other: str) -> str:
    return duplicate_detection.answer(proposed=Asked(question=one), existing=Asked(question=other)).relation


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ABBV, ABBV),
        (ABBV, ABBV.lower()),
        (ABBV, "Will  ABBV be higher on 2025-12-11 than on 2025-11-28"),
        (ABBV, "Will ABBV be higher on December 11, 2025 than on 28 November 2025?"),
        (GOLD, "Will gold close above $3000.00 on Jan 15, 2026?"),
        (
            "Will Meta reach a value of $2 trillion by May 2026?",
            "Will Meta reach a value of $2,000 billion by May 2026?",
        ),
        ("Will Norway win on 3 May?", "Will Norway win on 3 May 2026?"),
    ],
)
def test_the_same_facts_in_the_same_words_are_the_same(one: str, other: str) -> None:
    assert likeness(one, other) is likeness(other, one) is Likeness.SAME
    assert likeness(one, other, 0.8) is Likeness.ASK
    assert likeness(one, other, 0.69) is Likeness.DIFFERENT


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ABBV, "Will ABBV be higher on 2025-12-12 than on 2025-11-28?"),
        (ABBV, "Will ABBV be higher on December 12, 2025 than on 2025-11-28?"),
        (ABBV, "Will ABT be higher on 2025-12-11 than on 2025-11-28?"),
        (ABBV, "will abt be higher on 2025-12-11 than on 2025-11-28?"),
        (GOLD, GOLD.replace("3,000", "3,001")),
        (GOLD, GOLD.replace("3,000", "3.5 thousand")),
        (GOLD, GOLD.replace("2026", "2027")),
        ("Will Vladimir Fedoseev be ranked higher?", "Will Magnus Carlsen be ranked higher?"),
        ("Will the 98th Academy Awards be on TV?", "Will the 99th Academy Awards be on TV?"),
    ],
)
def test_other_facts_are_another_question_however_alike(one: str, other: str) -> None:
    assert likeness(one, other, 1.0) is likeness(other, one, 1.0) is Likeness.DIFFERENT


@pytest.mark.parametrize(
    ("one", "other", "relation"),
    [
        (ABBV, "Will ABBV be higher on 2025-11-28 than on 2025-12-11?", "different"),
        (ABBV, ABBV.replace("higher", "lower"), "different"),
        (GOLD, GOLD.replace("close", "not close"), "opposite"),
        (GOLD, GOLD.replace("gold", "silver"), "different"),
        ("Will Alcaraz beat Sinner on 2026-01-15?", "Will Sinner beat Alcaraz on 2026-01-15?", "different"),
        (GOLD, "On 2026-01-15, will gold close over $3,000?", "same"),
    ],
)
def test_what_is_turned_round_is_left_to_a_reader(one: str, other: str, relation: str) -> None:
    assert likeness(one, other, 1.0) is Likeness.ASK
    assert read(one, other) == read(other, one) == relation


def test_other_sources_make_another_question() -> None:
    def alike(ours: str, theirs: str) -> Likeness:
        one, other = (Asked(question=GOLD, urls=(url,)) for url in (ours, theirs))
        return compare(one, other, 1.0).likeness

    page = "https://fred.stlouisfed.org/series/DFF"
    api = "https://api.stlouisfed.org/fred/series/observations?series_id=DFF&file_type=json"
    assert alike(page, page) is alike(page, api) is alike(api, page) is Likeness.SAME
    assert alike(page, api.replace("DFF", "DGS10")) is Likeness.DIFFERENT
    assert alike(page, "https://finance.yahoo.com/quote/DFF") is Likeness.DIFFERENT


def test_who_names_no_date_is_held_to_the_end_of_trading() -> None:
    def alike(ours: str, theirs: str) -> Likeness:
        question = "Will Norway join the union?"
        return compare(
            Asked(question=question, expires_on=ours), Asked(question=question, expires_on=theirs), 1.0
        ).likeness

    assert alike("2027-01-31", "2027-01-31") is Likeness.SAME
    assert alike("2027-01-31", "2026-06-30") is Likeness.DIFFERENT


def test_slips_of_the_pen() -> None:
    assert slip_of_the_pen("probability", "proabbility")
    assert slip_of_the_pen("exports", "export")
    assert not slip_of_the_pen("austria", "australia")
    assert not slip_of_the_pen("increase", "decrease")
    assert not slip_of_the_pen("rate", "raet")


@given(st.text(max_size=200), st.text(max_size=200), st.lists(st.text(max_size=40), max_size=3))
def test_whatever_is_compared_it_is_the_same_as_itself_and_both_ways_round(
    one: str, other: str, urls: list[str]
) -> None:
    ours, theirs = Asked(question=one), Asked(question=other)
    assert compare(ours, ours, 1.0).likeness is Likeness.SAME
    assert compare(ours, theirs, 1.0).likeness is compare(theirs, ours, 1.0).likeness
    assert duplicate_detection.answer(proposed=ours, existing=theirs).reasoning
    pages = [f"https://{url}" for url in urls]
    assert share_a_source(pages, pages) is bool(pages)
