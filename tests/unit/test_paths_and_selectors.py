"""Paths, selectors and patterns: what they find, what is refused, and that none of them can take for ever."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from domain import html_reading, json_reading
from domain.extraction import (
    Document,
    Extracted,
    Missing,
    NotExtracted,
    check_reading,
    check_regex,
    extract,
    text_of,
)
from domain.rules import Counts, Reading
from tests.unit.examples import dated, document, page, reading


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$.items[?@.year>=2025].name", ["b", "c"]),
        ("$.items[?@.rate==13.475].name", ["b"]),
        ("$.items[?@.rate<1].name", ["c"]),
        ("$.items[?@.id==9007199254740991].name", []),
        ("$.items[?search(@.name,'^[ab]$')].name", ["a", "b"]),
        ("$.items[?match(@.name,'[bc]')].name", ["b", "c"]),
        ("$.items[?match(@.name,'(')].name", []),
        ("$.items[-1].name", ["c"]),
        ("$..['name','name']", ["a", "b", "c"]),
        ("$.items[0,0,0].name", ["a"]),
    ],
)
def test_json_paths(path: str, found: list[str]) -> None:
    body = (
        b'{"items": [{"name": "a", "year": 2024, "rate": 14}, {"name": "b", "year": 2025, "rate": 13.475},'
        b' {"name": "c", "year": 2026, "rate": 0.5, "id": 9007199254740992}]}'
    )
    assert json_reading.find(path, json_reading.parse(body)) == found


@pytest.mark.parametrize(
    "given",
    [
        {"json_path": "$.["},
        {"json_path": "value"},
        {"json_path": "$[?@.a==1e999]"},
        {"json_path": "$[?@.a==9007199254740993]"},
        {"json_path": "$" + "[*]" * 21},
        {"json_path": "$[" + ",".join("*" * 100) + "]"},
        {"json_path": "$[?" + "(" * 100 + "@.a" + ")" * 100 + "]"},
        {"json_path": "$[?count(@..*)>1]"},
        {"json_path": "$[?@.a[?@.b]]"},
        {"json_path": "$[?!(@.a || @..b)]"},
        {"json_path": "$[?foo(@.a)]"},
        {"json_path": "$.a", "date_path": "$$", "on": "2026-01-01"},
        {"json_path": "$.a", "pattern": "(a)(b)"},
        {"json_path": "$.a", "pattern": "(?<=a)b"},
        {"json_path": "$.a", "pattern": "((a{999}){999}){999}"},
        {"selector": ""},
        {"selector": "p >"},
        {"selector": "> p"},
        {"selector": "p > > b"},
        {"selector": "p,"},
        {"selector": "p::before"},
        {"selector": "p[a"},
        {"selector": ":nth-child(x)"},
        {"selector": ":has(:has(b))"},
        {"selector": "div:not(a b)"},
        {"selector": " ".join(["div"] * 21)},
    ],
)
def test_a_reading_that_cannot_be_used_is_named_and_gives_no_value(given: dict[str, Any]) -> None:
    made = Reading.model_construct(**{"source": "fred", "type": "number", "json_path": None, "selector": None} | given)
    fault = check_reading(made)
    assert fault is not None
    assert fault[:4] in {"json", "CSS ", "patt"}
    assert "\n" not in fault
    got = extract(made, document({"a": 1}), Counts.FIRST_PUBLISHED, "UTC")
    assert isinstance(got, NotExtracted)
    assert got.why is Missing.BAD_READING


def test_a_part_that_cannot_be_asked_for_has_no_text() -> None:
    of = document({"a": 1})
    assert text_of(of, json_path="$.[") == text_of(of, selector="p >") == ""


def test_good_readings_have_no_fault() -> None:
    selector = "a.b > c:not(.d), #e ~ f[g='h i']"
    for one in (reading(pattern="a(b)?"), dated(), reading(json_path=None, selector=selector)):
        assert check_reading(Reading.model_validate(one)) is None
    assert check_regex("a+") is None
    assert "missing )" in (check_regex("(a") or "")


_COMPOUNDS = st.sampled_from(["div", "i", ".x", ".y", "div.x", "*", ":first-child", ":nth-child(2)", "i:not(.x)"])
_SELECTORS = st.lists(
    st.tuples(st.sampled_from([" ", ">", " + ", " ~ ", ", "]), _COMPOUNDS), min_size=1, max_size=5
).map(lambda steps: "".join(part for step in steps for part in step).lstrip(" >+~,"))
_TREES = st.recursive(
    st.just(""),
    lambda inner: st.lists(
        st.tuples(st.sampled_from(["div", "i"]), st.sampled_from(["", "x", "y", "x y"]), inner), min_size=1, max_size=3
    ).map(lambda kids: "".join(f'<{tag} class="{name}">{inside}</{tag}>' for tag, name, inside in kids)),
    max_leaves=12,
)


@settings(max_examples=300)
@given(_TREES, _SELECTORS)
def test_selectors_match_what_the_parsers_own_engine_matches(markup: str, selector: str) -> None:
    tree = LexborHTMLParser(markup)
    ours = [element.mem_id for element in html_reading.select(tree, selector)]
    assert sorted(ours) == sorted({element.mem_id for element in tree.css(selector)})
    assert ours == [element.mem_id for element in tree.css("*") if element.mem_id in set(ours)]


def test_has_is_followed_by_combinators_as_css_says() -> None:
    tree = LexborHTMLParser("<div><b></b><i>in</i></div><div><i>out</i></div>")
    assert [element.text() for element in html_reading.select(tree, "div:has(b) i")] == ["in"]


def test_one_place_that_two_selectors_of_a_list_match_is_one_place() -> None:
    made = Reading.model_validate(reading(json_path=None, selector="p, #v"))
    assert isinstance(extract(made, page('<p id="v">5</p>'), Counts.FIRST_PUBLISHED, "UTC"), Extracted)


_SIZE = 50_000


@pytest.mark.parametrize(
    ("given", "of"),
    [
        ({"json_path": "$..*..*..*..*..*..x"}, document("[" * 60 + "1" + "]" * 60)),
        ({"json_path": "$[*,*,*,*][*,*,*,*][*,*,*,*][*,*,*,*].x"}, document([[[[{"x": 1}] * 10] * 10] * 10] * 10)),
        ({"json_path": "$[?search(@,'(a|aa)+$')]"}, document(["a" * _SIZE + "b"])),
        ({"json_path": "$.a", "pattern": "(a*)*b"}, document({"a": "a" * _SIZE})),
        ({"json_path": "$.a", "pattern": "(.*)*x"}, document({"a": "a" * _SIZE})),
        ({"json_path": "$.a"}, document('{"a": ' + "1" * 1_000_000 + "}")),
        ({"selector": "q > div div div div div div p"}, page("<div>" * 490 + "<p>")),
        ({"selector": "q ~ a ~ a ~ a ~ a ~ x"}, page("<a></a>" * 5_000 + "<x></x>")),
        ({"selector": "p"}, page("<div>" * 95_000)),
        ({"selector": "p"}, page("<b></p>" * 45_000)),
        ({"selector": "p"}, page("<ul><li>" * 45_000)),
        ({"selector": "p"}, page("<a " + " ".join(f"a{n}" for n in range(300_000)) + ">")),
        ({"selector": "p"}, page("<" * 1_000_000)),
        ({"selector": "p"}, page("<a '" * 100_000)),
        ({"selector": "p"}, page("<!--" * 200_000)),
        ({"selector": "p"}, page("<p>" * 1_000_000)),
    ],
    ids=lambda given: next(iter(given.values()))[:12] if isinstance(given, dict) else f"{len(given.body)}",
)
def test_no_document_and_no_reading_takes_for_ever(given: dict[str, Any], of: Document) -> None:
    made = Reading.model_validate({"source": "fred", "type": "number"} | given)
    started = time.process_time()
    assert isinstance(extract(made, of, Counts.FIRST_PUBLISHED, "UTC"), NotExtracted)
    text_of(of)
    # Seconds of CPU: each takes less than one here, and would take minutes to years unbounded.
    assert time.process_time() - started < 10
