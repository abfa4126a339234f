"""Reading values: documents as the official sources send them, and everything that must not be taken for a value."""

import json
import re
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain import json_reading
from domain.extraction import (
    Document,
    Extracted,
    Missing,
    NotExtracted,
    Value,
    extract,
    extract_any,
    is_recognised,
    latest,
    quotes,
    text_of,
)
from domain.rules import Counts, Reading, Source
from tests.unit.examples import any_documents, dated, document, observations, page, reading, source

FIRST, AT, BEFORE = Counts.FIRST_PUBLISHED, Counts.LATEST_AT_DEADLINE, Counts.LAST_BEFORE_DEADLINE


def read(
    given: dict[str, Any], of: Document, counts: Counts = FIRST, timezone: str = "UTC"
) -> Extracted | NotExtracted:
    return extract(Reading.model_validate(given), of, counts, timezone)


def value(given: dict[str, Any], of: Document, counts: Counts = FIRST, timezone: str = "UTC") -> Value:
    got = read(given, of, counts, timezone)
    assert isinstance(got, Extracted), got
    return got.value


def missing(given: dict[str, Any], of: Document, counts: Counts = FIRST, timezone: str = "UTC") -> Missing:
    got = read(given, of, counts, timezone)
    assert isinstance(got, NotExtracted), got
    return got.why


# As the official sources send it.

FRED = observations(
    ("2025-12-31", "3.64"), ("2026-01-01", "."), ("2026-01-02", "3.64"), ("2026-01-05", "3.63"), ("2026-01-06", ".")
)
DBNOMICS = document(
    {
        "errors": None,
        "series": {
            "docs": [
                {
                    "@frequency": "daily",
                    "period": ["2025-10-15", "2025-10-16", "2025-10-17"],
                    "value": [12.1, "NA", 13.475],
                }
            ],
            "num_found": 1,
        },
    }
)
DBNOMICS_READING = {"json_path": "$.series.docs[0].value[*]", "date_path": "$.series.docs[0].period[*]"}
YAHOO = document(
    {
        "chart": {
            "result": [
                {
                    "meta": {"symbol": "GE", "exchangeTimezoneName": "America/New_York"},
                    # 2026-01-02 and 2026-01-05, 14:30 UTC, and 2026-01-06 with the market still open
                    "timestamp": [1767364200, 1767623400, 1767709800],
                    "indicators": {"quote": [{"close": [320.75, 312.1000061035156, None]}]},
                }
            ],
            "error": None,
        }
    }
)
YAHOO_READING = {
    "json_path": "$.chart.result[0].indicators.quote[0].close[*]",
    "date_path": "$.chart.result[0].timestamp[*]",
}
WIKITEXT = (
    '{| class="wikitable"\n! Rank !! Player !! Rating\n|-\n| 1 || [[Magnus Carlsen]] || 2840\n|-\n'
    "| 2 || [[Hikaru Nakamura]] || 2810\n|}\n"
)
MEDIAWIKI = document(
    {
        "curtimestamp": "2026-01-16T08:00:00Z",
        "batchcomplete": True,
        "query": {
            "pages": [
                {
                    "title": "FIDE rankings",
                    "revisions": [
                        {
                            "timestamp": "2026-01-12T10:11:12Z",
                            "slots": {"main": {"contentmodel": "wikitext", "content": WIKITEXT}},
                        }
                    ],
                }
            ]
        },
    }
)
MEDIAWIKI_READING = {
    "json_path": "$..['curtimestamp','content']",
    "date_path": "$..['timestamp','curtimestamp']",
    "on": "2026-01-15",
    "pattern": r"\|\| \[\[Hikaru Nakamura\]\] \|\| (\d+)",
}
TABLE = page(
    """<!doctype html><html><head><title>Target range</title><script>var rate = 9.99;</script></head><body>
    <table id=rates><caption>Rates</caption>
    <tr><th>Meeting<th>Upper<th>Change
    <tr><td>December&nbsp;10<td> 3.75 <td>&minus;0.25
    <tr id=latest><td>January 28<td>1,234.50<td>unchanged<!-- 4.00 -->
    </table></body></html>"""
)


@pytest.mark.parametrize(
    ("given", "of", "counts", "expected"),
    [
        (dated(on="2026-01-02"), FRED, FIRST, "3.64"),
        (dated(on="2026-01-01"), FRED, AT, "3.64"),
        (dated(on="2026-01-04"), FRED, AT, "3.64"),
        (dated(on="2026-01-05"), FRED, AT, "3.63"),
        (dated(on="2026-01-05"), FRED, BEFORE, "3.64"),
        (dated(on="2025-10-17", **DBNOMICS_READING), DBNOMICS, FIRST, "13.475"),
        (dated(on="2025-10-16", **DBNOMICS_READING), DBNOMICS, AT, "12.1"),
        (dated(on="2026-01-02", **YAHOO_READING), YAHOO, FIRST, "320.75"),
        (dated(on="2026-01-05", **YAHOO_READING), YAHOO, AT, "312.1000061035156"),
        (reading(**MEDIAWIKI_READING), MEDIAWIKI, AT, "2810"),
        (reading(json_path=None, selector="#rates tr:nth-child(2) td:nth-child(2)"), TABLE, FIRST, "3.75"),
        (reading(json_path=None, selector="#latest > td:nth-of-type(2)"), TABLE, FIRST, "1234.50"),
        (reading(json_path=None, selector="tr:nth-child(2) td:last-child"), TABLE, FIRST, "-0.25"),
        (reading(json_path=None, selector="#rates", pattern=r"December 10 ([0-9.]+)"), TABLE, FIRST, "3.75"),
        (reading(json_path=None, selector="script", pattern=r"rate = ([0-9.]+)"), TABLE, FIRST, "9.99"),
    ],
)
def test_official_sources_are_read(given: dict[str, Any], of: Document, counts: Counts, expected: str) -> None:
    assert value(given, of, counts, "America/New_York") == Decimal(expected)


@pytest.mark.parametrize(
    ("given", "of", "counts", "why"),
    [
        (dated(on="2026-01-01"), FRED, FIRST, Missing.NOT_PUBLISHED),
        (dated(on="2026-01-06"), FRED, AT, Missing.NOT_PUBLISHED),
        (dated(on="2026-01-06"), FRED, BEFORE, Missing.NOT_PUBLISHED),
        (dated(on="2025-12-31"), FRED, BEFORE, Missing.NOT_FOUND),
        (dated(on="2025-10-18", **DBNOMICS_READING), DBNOMICS, AT, Missing.NOT_PUBLISHED),
        (dated(on="2026-01-06", **YAHOO_READING), YAHOO, AT, Missing.NOT_PUBLISHED),
        (reading(**MEDIAWIKI_READING | {"on": "2026-01-17"}), MEDIAWIKI, AT, Missing.NOT_PUBLISHED),
        (reading(json_path=None, selector="#rates td"), TABLE, FIRST, Missing.AMBIGUOUS),
        (reading(json_path=None, selector="#rate"), TABLE, FIRST, Missing.NOT_FOUND),
        (reading(json_path=None, selector="#latest td:last-child"), TABLE, FIRST, Missing.WRONG_TYPE),
        (reading(json_path="$.observations[*].value"), FRED, FIRST, Missing.AMBIGUOUS),
        (reading(json_path="$.observation.value"), FRED, FIRST, Missing.NOT_FOUND),
        (reading(json_path="$.observations[0].value", pattern="x"), FRED, FIRST, Missing.NOT_FOUND),
        (reading(json_path="$.observations[1].value"), FRED, FIRST, Missing.NOT_PUBLISHED),
        (reading(json_path="$.observations[0]"), FRED, FIRST, Missing.WRONG_TYPE),
        (reading(), page("<p>5</p>"), FIRST, Missing.UNREADABLE),
        (reading(json_path=None, selector="p"), FRED, FIRST, Missing.UNREADABLE),
        (reading(json_path=None, selector="p"), document(b"%PDF-1.7", "application/pdf"), FIRST, Missing.UNREADABLE),
    ],
)
def test_what_is_not_there_is_no_value(given: dict[str, Any], of: Document, counts: Counts, why: Missing) -> None:
    assert missing(given, of, counts, "America/New_York") is why


def test_the_excerpt_is_the_text_of_the_document_and_the_date_the_one_that_counted() -> None:
    exact = document('{"observations": [{"date": "2026-01-02", "value": 13.4750}, {"date": "2026-01-09", "value": 1}]}')
    got = read(dated(on="2026-01-05"), exact, AT)
    assert got == Extracted(Decimal("13.475"), "13.4750", date(2026, 1, 2))


# Series.

_DAYS = st.dates(date(2026, 1, 1), date(2026, 1, 12))
_GAPS = st.sampled_from([None, ".", "NA", "NaN", "N/A", "-", "", " "])


@settings(max_examples=300)
@given(st.dictionaries(_DAYS, st.integers(0, 99) | _GAPS, max_size=8), _DAYS, st.randoms())
def test_a_series_answers_as_its_observation_says(rows: dict[date, object], on: date, random: Any) -> None:
    entries = list(rows.items())
    random.shuffle(entries)
    of = observations(*((day.isoformat(), number) for day, number in entries))
    known = {day: number for day, number in rows.items() if isinstance(number, int)}

    def expected(chosen: list[date]) -> Decimal | None:
        return Decimal(str(known[max(chosen)])) if chosen and any(day >= on for day in known) else None

    answers = {
        FIRST: Decimal(str(known[on])) if on in known else None,
        AT: expected([day for day in known if day <= on]),
        BEFORE: expected([day for day in known if day < on]),
    }
    for counts, answer in answers.items():
        got = read(dated(on=on.isoformat()), of, counts)
        assert (got.value if isinstance(got, Extracted) else None) == answer
        if not any(day >= on for day in known):
            assert isinstance(got, NotExtracted)
            assert got.why in ({Missing.NOT_PUBLISHED} if rows else {Missing.NOT_FOUND})


def test_two_values_for_the_date_that_counts_are_none() -> None:
    revised = observations(("2026-01-02", "1.0"), ("2026-01-05", "3.6"), ("2026-01-05", "3.7"), ("2026-01-06", "4"))
    assert missing(dated(on="2026-01-05"), revised) is Missing.AMBIGUOUS
    assert missing(dated(on="2026-01-05"), revised, AT) is Missing.AMBIGUOUS
    assert value(dated(on="2026-01-05"), revised, BEFORE) == 1
    same = observations(("2026-01-05", "3.6"), ("2026-01-05", 3.60), ("2026-01-05", "."))
    assert value(dated(on="2026-01-05"), same) == Decimal("3.6")


def test_a_later_revision_is_what_a_later_document_shows() -> None:
    assert value(dated(on="2026-01-05"), observations(("2026-01-05", "3.6"))) == Decimal("3.6")
    assert value(dated(on="2026-01-05"), observations(("2026-01-05", "3.7"))) == Decimal("3.7")


@pytest.mark.parametrize(
    ("moment", "timezone", "day"),
    [
        ("2026-01-05", "Asia/Tokyo", "2026-01-05"),
        ("20260105", "UTC", "2026-01-05"),
        ("2026-01-05T23:30:00", "Asia/Tokyo", "2026-01-05"),
        ("2026-01-05T23:30:00Z", "Asia/Tokyo", "2026-01-06"),
        ("2026-01-05T02:00:00Z", "America/New_York", "2026-01-04"),
        ("2026-01-05T23:30:00-05:00", "UTC", "2026-01-06"),
        (1767623400, "America/New_York", "2026-01-05"),
        (1767571200, "America/New_York", "2026-01-04"),
        (1767571200.5, "UTC", "2026-01-05"),
    ],
)
def test_moments_are_dated_in_the_zone_of_the_rules(moment: object, timezone: str, day: str) -> None:
    of = observations((moment, 1))
    assert value(dated(on=day), of, FIRST, timezone) == 1
    assert value(reading(json_path="$.observations[0].date", type="date"), of, FIRST, timezone) == date.fromisoformat(
        day
    )


@pytest.mark.parametrize(
    "moment",
    [
        2026,
        20260105,
        1767623400000,
        -5,
        10**400,
        True,
        "1767623400",
        "05.01.2026",
        "Jan 5",
        "",
        "0001-01-01T00:00:00+09:00",
    ],
)
def test_what_may_be_no_date_is_none(moment: object) -> None:
    assert missing(dated(), observations(("2026-01-15", 1), (moment, 2)), AT, "America/New_York") is Missing.WRONG_TYPE


def test_dates_and_values_that_do_not_pair_up_are_no_series() -> None:
    lost = document({"observations": [{"date": "2026-01-15", "value": "1"}, {"date": "2026-01-16"}]})
    assert missing(dated(), lost) is Missing.NOT_FOUND


def test_a_rehearsal_reads_the_last_value_whatever_its_date() -> None:
    future = Reading.model_validate(dated(on="2030-01-01"))
    assert latest(future, FRED, "UTC") == Extracted(Decimal("3.63"), "3.63", date(2026, 1, 5))
    wiki = Reading.model_validate(reading(**MEDIAWIKI_READING | {"on": "2030-01-01"}))
    assert latest(wiki, MEDIAWIKI, "UTC") == Extracted(
        Decimal(2810), "|| [[Hikaru Nakamura]] || 2810", date(2026, 1, 12)
    )
    got = latest(future, observations(("2026-01-01", ".")), "UTC")
    assert isinstance(got, NotExtracted)
    assert got.why is Missing.NOT_PUBLISHED


# Types.


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("13.475", "13.475"),
        ("1,234.5", "1234.5"),
        ("12,345,678", "12345678"),
        ("\u22123.2", "-3.2"),
        (" -.3 ", "-0.3"),
        ("+5", "5"),
        ("1e3", "1000"),
        ("115792089237316195423570985008687907853269984665640564039457584007913129639935", str(2**256 - 1)),
        ("5.25%", None),
        ("$1,234", None),
        ("12,34,567", None),
        ("0,123", None),
        ("13,4", None),
        ("1,234,5", None),
        ("1.234,50", None),
        ("1 234", None),
        ("(3.2)", None),
        ("Infinity", None),
        ("0x10", None),
        ("\u0665", None),
        ("1e9999", None),
        ("9" * 5_000, None),
        ("true", None),
    ],
)
def test_numbers_in_texts(text: str, number: str | None) -> None:
    if number is None:
        assert missing(reading(), document({"value": text})) is Missing.WRONG_TYPE
    else:
        assert value(reading(), document({"value": text})) == Decimal(number)


@pytest.mark.parametrize(
    ("literal", "number"),
    [
        ("13.475", "13.475"),
        ("0.1", "0.1"),
        ("3.60", "3.6"),
        ("12345678901234567890.123456789", "12345678901234567890.123456789"),
        ("1e2", "100"),
        ("-0", "0"),
    ],
)
def test_numbers_in_json_stay_exact(literal: str, number: str) -> None:
    assert value(reading(), document(f'{{"value": {literal}}}')) == Decimal(number)


@pytest.mark.parametrize(
    "literal", ["1e999", "1e99999999999999999999", "9" * 10_000, "-Infinity", "Infinity", "true", "[1]"]
)
def test_what_json_calls_a_number_need_be_none(literal: str) -> None:
    assert missing(reading(), document(f'{{"value": {literal}}}')) is Missing.WRONG_TYPE


def test_nan_is_a_gap() -> None:
    assert missing(reading(), document('{"value": NaN}')) is Missing.NOT_PUBLISHED
    gap = document('{"observations": [{"date": "2026-01-02", "value": NaN}, {"date": "2026-01-03", "value": 7}]}')
    assert missing(dated(on="2026-01-02"), gap, AT) is Missing.NOT_FOUND


@pytest.mark.parametrize(
    ("given", "content", "expected"),
    [
        ({"type": "boolean"}, True, True),
        ({"type": "boolean"}, " No ", False),
        ({"type": "boolean"}, 1, None),
        ({"type": "boolean"}, "maybe", None),
        ({"type": "text"}, "  Ready\n for\u00a0pickup ", "Ready for pickup"),
        ({"type": "text"}, "Cafe\u0301", "Caf\u00e9"),
        ({"type": "text"}, 7.50, "7.5"),
        ({"type": "text"}, {"a": 1}, None),
        ({"type": "date"}, "31.12.2025", None),
        ({"type": "number", "pattern": r"\$([0-9,.]+) million"}, "raised $1,234.5 million", Decimal("1234.5")),
        ({"type": "number", "pattern": "[0-9]+"}, {"votes": "12 of 20"}, Decimal(12)),
        ({"type": "text", "pattern": "a(b)?"}, "a", None),
    ],
)
def test_types(given: dict[str, Any], content: object, expected: object) -> None:
    got = read(reading(**given), document({"value": content}))
    assert (got.value if isinstance(got, Extracted) else None) == expected


# Documents that are not what they seem.


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"value": 1} {"value": 2}',
        b'{"value": 1, "value": 2}',
        b'{"value": 1, "a": [{"b": 1, "b": 1}]}',
        b'{"value":' + b"[" * 65 + b"]" * 65 + b"}",
        b"[" * 1_000_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        '{"value": "\u00e9"}'.encode("latin-1"),
    ],
)
def test_json_that_can_be_read_in_two_ways_or_none_is_unreadable(body: bytes) -> None:
    assert missing(reading(), document(body)) is Missing.UNREADABLE


def test_nesting_within_the_limit_is_read() -> None:
    deep: Any = {"value": 5}
    for _ in range(json_reading.MAX_DEPTH - 1):
        deep = [deep]
    assert value(reading(json_path="$..value"), document(deep)) == 5
    assert missing(reading(json_path="$..value"), document([deep])) is Missing.UNREADABLE


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_in_every_encoding_that_json_allows(encoding: str) -> None:
    of = document('{"value": "Ærø"}'.encode(encoding))
    assert value(reading(type="text"), of) == "Ærø"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("<p>Zürich €</p>".encode(), "text/html"),
        ("<p>Zürich €</p>".encode("utf-8-sig"), "text/html; charset=iso-8859-1"),
        ("<p>Zürich €</p>".encode("utf-16"), "text/html"),
        ("<p>Zürich €</p>".encode("cp1252"), "text/html; charset=windows-1252"),
        ("<p>Zürich €</p>".encode("cp1252"), 'Text/HTML;charset="ISO-8859-1"'),
        ('<meta charset="windows-1252"><p>Zürich €</p>'.encode("cp1252"), "text/html"),
    ],
)
def test_html_in_the_charset_that_it_declares(body: bytes, content_type: str) -> None:
    of = page(body, content_type)
    assert value(reading(json_path=None, selector="p", type="text"), of) == "Zürich €"
    assert text_of(of) == "Zürich €"


@settings(max_examples=100)
@given(st.text(st.characters(codec="ascii"), max_size=12), st.binary(max_size=60))
@example("rot13", b"<p>a")
@example("hex", b"<p>a")
@example("idna", b"<p>\xff")
@example("utf-7", b"<p>+2AA-")
@example("utf-16", b"<p>")
def test_no_charset_breaks_reading(charset: str, body: bytes) -> None:
    text_of(page(body, f"text/html; charset={charset}")).encode()


def test_half_characters_and_nul_cannot_reach_the_database() -> None:
    got = read(reading(type="text"), document(r'{"value": "a\ud800b\u0000c"}'))
    assert got == Extracted("a\ufffdb\ufffdc", "a\ufffdb\ufffdc")


def test_excerpts_are_short() -> None:
    got = read(reading(type="text"), document({"value": "x" * 10_000}))
    assert isinstance(got, Extracted)
    assert len(got.excerpt) == 300


# Text for people and LLMs.


@pytest.mark.parametrize(
    ("of", "part", "text"),
    [
        (TABLE, {}, "Rates Meeting Upper Change December 10 3.75 \u22120.25 January 28 1,234.50 unchanged"),
        (TABLE, {"selector": "#latest"}, "January 28 1,234.50 unchanged"),
        (TABLE, {"selector": "#none"}, ""),
        (DBNOMICS, {"json_path": "$.series.docs[0].period"}, '["2025-10-15", "2025-10-16", "2025-10-17"]'),
        (DBNOMICS, {"json_path": "$.series.docs[0].value[0]"}, "12.1"),
        (DBNOMICS, {"json_path": "$.series.nothing"}, ""),
        (document({"b": 1, "a": ["Ærø"]}), {}, '{"b": 1, "a": ["Ærø"]}'),
        (document(b"{broken  json"), {}, "{broken json"),
        (document(b"{broken"), {"json_path": "$"}, ""),
        (document({"a": 1}, "text/plain"), {"json_path": "$.a"}, "1"),
        (document("a,b\n1,2 <3", "text/csv"), {}, "a,b 1,2 <3"),
        (document(b"\x89PNG", "image/png"), {}, ""),
        (
            document(
                "<rss><item><description><![CDATA[<p>It <b>shipped</b>.</p>]]></description></item></rss>", "text/xml"
            ),
            {},
            "It shipped .",
        ),
        (document({"a": 1}), {"selector": "p"}, ""),
    ],
)
def test_text_of(of: Document, part: dict[str, str], text: str) -> None:
    assert text_of(of, **part) == text


def test_a_quotation_stands_in_the_part_of_its_source_whatever_the_white_space() -> None:
    whole = Source.model_validate(source(method="html_scrape"))
    part = Source.model_validate(source(method="html_scrape", selector="#latest"))
    assert quotes(TABLE, whole, "December 10\n3.75")
    assert not quotes(TABLE, part, "December 10 3.75")
    assert quotes(TABLE, part, "January 28")
    assert not quotes(TABLE, whole, "january 28")
    assert not quotes(TABLE, whole, " ")
    assert not quotes(TABLE, whole, "9.99"), "scripts are no text"


# Absence.


def test_any_of_several_places_shows_that_a_value_is_there() -> None:
    news = page("<ul><li>v4.9</li><li>v5.0</li><li></li></ul>")
    given = Reading.model_validate(reading(json_path=None, selector="li", pattern=r"v5\.\d+", type="text"))
    assert extract_any(given, news, FIRST, "UTC") == Extracted("v5.0", "v5.0")
    absent = given.model_copy(update={"pattern": "v6"})
    assert isinstance(extract_any(absent, news, FIRST, "UTC"), NotExtracted)


@pytest.mark.parametrize(
    ("given", "part", "of", "recognised"),
    [
        ({"pattern": "v6"}, {}, page("<ul><li>v5</li></ul>"), True),
        ({"pattern": "v6"}, {}, page("<h1>Service unavailable</h1>"), False),
        ({}, {"selector": "main"}, page("<main></main>"), True),
        ({}, {"selector": "main"}, page("<h1>Service unavailable</h1>"), False),
        ({}, {"selector": "main"}, document({"main": 1}), False),
    ],
)
def test_absence_says_something_only_in_the_page_that_was_promised(
    given: dict[str, Any], part: dict[str, str], of: Document, recognised: bool
) -> None:
    made = Reading.model_validate(reading(json_path=None, selector="li", **given))
    assert is_recognised(Source.model_validate(source(method="html_scrape", **part)), made, of) is recognised


@settings(max_examples=300)
@given(any_documents(), st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_text_can_always_be_stored_and_folded_again(of: Document, selector: str, path: str) -> None:
    for text in (text_of(of), text_of(of, selector=selector), text_of(of, json_path=path)):
        assert "\0" not in text
        assert json.loads(json.dumps(text).encode()) == text
        assert not re.search(r"\s\s|^\s|\s$", text)
