"""Items of chat lists: what is redacted in them, and that every other byte stays."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.chat_memory import Found, Place, redact_item, redact_items, tenant_of
from domain.redaction import Redactor

REDACTOR = Redactor(b"k" * 32)
EMAIL = "ada@example.com"
TOKEN = REDACTOR.redact(EMAIL).text


@pytest.mark.parametrize(
    "raw",
    [
        '{"ts": 1730483820.500, "role": "user", "text": "to %s"}',
        '{ "text":"to %s","ts":1,\n"pii":true}',
        '{"text": "caf\\u00e9, %s"}',
        '{"text": "café, %s"}',
        '{"text": "a \\"quote\\"\\n%s"}',
        # Wherever else a string stands, and twice under one name.
        '{"text": "-", "pii": {"found": ["%s", 7]}}',
        '{"text": "%s", "text": "-"}',
        '{"text": "-", "%s" : 1}',
        '{"text": "-", "role": "%s"}',
        '{"text": "-", "from": {"%s": [true]}}',
    ],
)
def test_only_what_is_pii_changes(raw: str) -> None:
    item = redact_item((raw % EMAIL).encode(), REDACTOR)
    assert item.new is not None
    assert item.new.decode() == raw % TOKEN
    assert item.kinds == ("EMAIL",)
    again = redact_item(item.new, REDACTOR)
    assert again.new is None


def test_an_escaped_at_sign_hides_nothing() -> None:
    item = redact_item(b'{"text": "ada\\u0040example.com"}', REDACTOR)
    assert item.new is not None
    assert json.loads(item.new) == {"text": TOKEN}


@pytest.mark.parametrize(
    "written",
    [
        "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.000-01:00", "%Y-%m-%d %H:%M:%S +0100", "%Y%m%dT%H%M%SZ",
        "%Y%m%d%H%M%S", "%d/%m/%Y, %H:%M:%S", "%d.%m.%Y %H:%M", "%m-%d-%y %H:%M", "%Y.%m.%d.%H.%M.%S", "%s", "%s000",
        "%s000000", "%s.5", "%s000-0",
    ],
)  # fmt: skip
def test_a_time_stays_however_it_is_written(written: str) -> None:
    for day in range(0, 3_000, 7):
        moment = datetime(2019, 1, 1, 0, 30, tzinfo=UTC) + timedelta(days=day, seconds=day * 37)
        stamp = moment.strftime(written.replace("%s", str(int(moment.timestamp()))))
        assert redact_item(json.dumps({"ts": stamp, "text": "-"}).encode(), REDACTOR).new is None, stamp


def test_half_a_surrogate_pair_stays_an_escape() -> None:
    item = redact_item(f'{{"text": "é \\ud83d {EMAIL}"}}'.encode(), REDACTOR)
    assert item.new is not None
    assert json.loads(item.new) == {"text": f"é \ud83d {TOKEN}"}


@pytest.mark.parametrize(
    ("raw", "left"),
    [
        (b"ada@example.com", "malformed"),
        (b'{"text": "ada@example.com"', "malformed"),
        (b'"ada@example.com"', "malformed"),
        (b'["ada@example.com"]', "malformed"),
        (b'{"text": "\xff"}', "malformed"),
        (b"[" * 100_000, "malformed"),
        (b"", "malformed"),
        (b'{"ts": 1, "role": "user"}', "without text"),
        (b'{"text": null}', "without text"),
        (b'{"text": 5}', "without text"),
        (b"{}", "without text"),
        (b'{"text": ""}', None),
        (b'{"ts": "1730483820", "role": "user", "text": "order 4711 costs 12.50"}', None),
    ],
)
def test_what_cannot_be_redacted_is_left_and_named(raw: bytes, left: str | None) -> None:
    item = redact_item(raw, REDACTOR)
    assert (item.new, item.left) == (None, left)


JSON = st.recursive(
    st.none() | st.integers() | st.text() | st.just(EMAIL),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=100, deadline=None)
@given(JSON, st.booleans())
def test_json_stays_json_and_keeps_its_shape(value: Any, ascii_only: bool) -> None:
    item = {"text": EMAIL, "more": value}
    redacted = redact_item(json.dumps(item, ensure_ascii=ascii_only).encode(), REDACTOR)
    assert redacted.new is not None
    assert json.loads(redacted.new) == _expected(item)


def _expected(value: Any) -> Any:
    """Every string as the engine redacts it, names too."""
    if isinstance(value, dict):
        return {REDACTOR.redact(name).text: _expected(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_expected(inner) for inner in value]
    return REDACTOR.redact(value).text if isinstance(value, str) else value


def test_what_a_dead_attempt_has_stored_counts_once() -> None:
    raws = [json.dumps({"text": f"{n} {EMAIL}"}).encode() for n in range(3)]
    whole = redact_items(raws, REDACTOR)
    first = Place("mem:t:c", "t")
    first.add(whole)
    # It had rewritten two of the three when it died; meanwhile a message was pushed.
    left = [b'{"text": "new"}', whole.changes[0].new, whole.changes[1].new, raws[2]]
    again = first.seen_again()
    again.add(redact_items(left, REDACTOR), first.digests())
    assert (again.items, again.changes, again.kinds) == (4, first.changes, {"EMAIL": 3})


def test_indexes_count_from_the_first_of_the_piece() -> None:
    found = redact_items([b"?", json.dumps({"text": EMAIL}).encode(), b"{}"], REDACTOR, first=100)
    assert isinstance(found, Found)
    assert (found.malformed, [change.at for change in found.changes], found.without_text) == ([100], [101], [102])


def test_the_tenant_stands_in_the_key() -> None:
    assert [tenant_of(key) for key in ("mem:acme:chat:1", "mem:acme", "mem:")] == ["acme", "", ""]
