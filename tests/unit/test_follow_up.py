"""Follow-ups: when a message may go, how long it is tried, and what it says."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from db.follow_ups import Contact, Tenant
from domain.follow_up import QuietHours, closes, retry_after
from domain.messages import DEFAULT_TEXTS, Text, write

LAGOS = ZoneInfo("Africa/Lagos")
NIGHT = QuietHours(start=time(21), end=time(8))


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-03-02T12:00:00+00:00", "2026-03-02T12:00:00+00:00"),
        ("2026-03-02T19:59:59+00:00", "2026-03-02T19:59:59+00:00"),
        ("2026-03-02T20:00:00+00:00", "2026-03-03T07:00:00+00:00"),  # 21:00 in Lagos, one hour ahead
        ("2026-03-02T23:30:00+00:00", "2026-03-03T07:00:00+00:00"),
        ("2026-03-03T06:59:00+00:00", "2026-03-03T07:00:00+00:00"),
        ("2026-03-03T07:00:00+00:00", "2026-03-03T07:00:00+00:00"),
    ],
)
def test_quiet_hours_are_those_of_the_tenants_clock(moment: str, expected: str) -> None:
    assert NIGHT.over(datetime.fromisoformat(moment), LAGOS) == datetime.fromisoformat(expected)


def test_a_clock_that_is_put_back_gives_no_moment_before_now() -> None:
    # New York, 2026-11-01: 01:00 to 02:00 comes twice.
    quiet, zone = QuietHours(start=time(0), end=time(1, 30)), ZoneInfo("America/New_York")
    second = datetime(2026, 11, 1, 6, 10, tzinfo=UTC)  # 01:10 for the second time
    assert quiet.over(second, zone) == datetime(2026, 11, 1, 6, 30, tzinfo=UTC)


@given(
    moment=st.integers(0, 366 * 1_440).map(lambda minute: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)),
    start=st.times().map(lambda one: one.replace(second=0, microsecond=0)),
    end=st.times().map(lambda one: one.replace(second=0, microsecond=0)),
    zone=st.sampled_from(["UTC", "Africa/Lagos", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"]),
)
@settings(max_examples=200)
def test_what_quiet_hours_put_off_comes_later_and_within_a_day(
    moment: datetime, start: time, end: time, zone: str
) -> None:
    quiet = QuietHours(start=start, end=end)
    when = quiet.over(moment, ZoneInfo(zone))
    assert moment <= when <= moment + timedelta(hours=26)
    assert quiet.over(when, ZoneInfo(zone)) == when


def test_a_window_begins_when_the_quiet_hours_end() -> None:
    due = datetime(2026, 3, 2, 23, tzinfo=UTC)
    assert closes(due, NIGHT, LAGOS) == datetime(2026, 3, 3, 11, tzinfo=UTC)
    assert closes(due, QuietHours(start=time(0), end=time(0)), LAGOS) == datetime(2026, 3, 3, 3, tzinfo=UTC)


def test_tries_get_rarer_and_never_stop_within_a_window() -> None:
    waits = [retry_after(tries) for tries in range(1, 60)]
    assert waits[:3] == [timedelta(seconds=30), timedelta(minutes=1), timedelta(minutes=2)]
    assert waits == sorted(waits)
    assert max(waits) == timedelta(minutes=15)


def test_a_message_says_what_is_known_to_be_harmless() -> None:
    words = write(("Hello from $business about $topic, for $$5.",), 2, "Acme & Sons", "support")
    assert words.text == "Hello from Acme & Sons about your question, for $5."
    assert words.subject == "Acme & Sons: your question"
    assert write(DEFAULT_TEXTS, 1, "Acme", "info").text != write(DEFAULT_TEXTS, 2, "Acme", "info").text
    assert write(DEFAULT_TEXTS, 5, "Acme", "info") == write(DEFAULT_TEXTS, 2, "Acme", "info")


@pytest.mark.parametrize("text", ["", "Hello $name", "It costs $5", "${business", "x" * 601])
def test_a_template_that_cannot_be_filled_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Text).validate_python(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"business": "Acme\r\nBcc: all@example.org"},
        {"time_zone": "Lagos"},
        {"time_zone": "../../etc/passwd"},
        {"webhook_url": "http://hooks.example.org/x"},
        {"webhook_url": "https://127.0.0.1/x"},
        {"limits": {}},
        {"limits": {"hour": 0}},
        {"texts": []},
    ],
)
def test_bad_settings_of_a_tenant_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Tenant.model_validate({"tenant": "acme", "business": "Acme", **changes})


@pytest.mark.parametrize(
    ("channel", "address", "fits"),
    [
        ("email", "ada@example.org", True),
        ("email", "ada@example.org\r\nRCPT TO:<all@example.org>", False),
        ("email", "ada@@example.org", False),
        ("email", "+2348012345678", False),
        ("sms", "+2348012345678", True),
        ("whatsapp", "08012345678", False),
        ("webhook", "https://hooks.example.org", False),
    ],
)
def test_a_contact_fits_its_channel(channel: str, address: str, fits: bool) -> None:
    try:
        Contact.model_validate({"lead_id": "one", "channel": channel, "address": address})
    except ValidationError:
        assert not fits
    else:
        assert fits
