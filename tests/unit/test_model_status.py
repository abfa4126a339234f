"""The status that dashboards read, its health, and the model card."""

import re
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from domain import model_card, signing
from domain.model_card import Card, DriftPoint, markdown
from domain.model_card_page import page
from domain.model_metrics import Slice
from domain.model_status import Health, health, no_model, status_of
from tests.versions import CUTOFF, SIGNING_KEY, VERIFY_KEY, evaluation, gate

VERSION = 1_730_483_820
MADE = datetime(2024, 11, 1, 17, 57, tzinfo=UTC)


def test_the_shape_is_the_documented_one() -> None:
    """Runbook 003; its example says 12:30:20Z of this version, which is not what the number says."""
    found = status_of(
        VERSION,
        auc=0.78,
        n_train=523,
        load_time=MADE + timedelta(seconds=0.123),
        drift_score=1.2,
        now=MADE + timedelta(hours=24.5),
    )
    assert list(found.model_dump(mode="json").items()) == [
        ("loaded", True),
        ("version", VERSION),
        ("version_date", "2024-11-01T17:57:00Z"),
        ("auc", 0.78),
        ("n_train", 523),
        ("load_time", 1_730_483_820.123),
        ("age_hours", 24.5),
        ("drift_score", 1.2),
        ("health", "ok"),
    ]


def test_without_a_model_the_shape_is_the_same() -> None:
    nothing = no_model(error=False).model_dump(mode="json")
    assert (nothing["loaded"], nothing["health"], nothing["version"]) == (False, "no_model", None)
    assert no_model(error=True).health is Health.ERROR
    loaded = status_of(VERSION, auc=0.7, n_train=1, load_time=MADE, drift_score=0, now=MADE)
    assert nothing.keys() == loaded.model_dump().keys()


@pytest.mark.parametrize(
    ("auc", "drift", "hours", "expected"),
    [
        (0.54, 9, 99, Health.CRITICAL_LOW_AUC),
        (0.55, 9, 99, Health.WARNING_LOW_AUC),
        (0.649, 9, 99, Health.WARNING_LOW_AUC),
        (0.65, 3.01, 99, Health.WARNING_HIGH_DRIFT),
        (0.65, 3.0, 48.01, Health.WARNING_STALE),
        (0.65, 3.0, 48.0, Health.OK),
        (None, 0, 0, Health.OK),
    ],
)
def test_the_first_health_that_applies_is_named(
    auc: float | None, drift: float, hours: float, expected: Health
) -> None:
    assert health(auc, drift, hours) is expected


def test_an_error_goes_before_everything() -> None:
    now = MADE + timedelta(hours=99)
    found = status_of(VERSION, auc=0.1, n_train=1, load_time=MADE, drift_score=9, now=now, error=True)
    assert (found.loaded, found.health) == (True, Health.ERROR)


def test_a_signature_is_of_one_model_version_and_artifact() -> None:
    signature = signing.sign(SIGNING_KEY, "lead", 5, "a" * 64)
    assert signing.verify(VERIFY_KEY, signature, "lead", 5, "a" * 64)
    other_key = signing.public_key(signing.draw_key())
    tampered = bytes([signature[0] ^ 1]) + signature[1:]
    assert not signing.verify(other_key, signature, "lead", 5, "a" * 64)
    assert not signing.verify(VERIFY_KEY, tampered, "lead", 5, "a" * 64)
    assert not signing.verify(VERIFY_KEY, signature, "lead", 6, "a" * 64)
    assert not signing.verify(VERIFY_KEY, signature, "transactions", 5, "a" * 64)
    assert not signing.verify(VERIFY_KEY, signature, "lead", 5, "b" * 64)
    for bad in ("", "zz" * 32, "11" * 31):
        with pytest.raises(signing.SigningError):
            signing.sign(bad, "lead", 5, "a" * 64)


def card(**changes: Any) -> Card:
    fields: dict[str, Any] = {
        "model": "lead",
        "version": VERSION,
        "made": MADE,
        "active": True,
        "health": Health.OK,
        "use": model_card.USE["lead"],
        "trained_from": MADE - timedelta(days=30),
        "trained_to": CUTOFF,
        "n_train": 400,
        "n_test": 100,
        "data_sha256": "d" * 64,
        "code_version": "0.2.0",
        "features": model_card.FEATURES["lead"],
        "evaluation": evaluation(0.7123),
        "gate": gate(0.7123),
        "fairness": model_card.FAIRNESS["lead"],
        "limits": model_card.LIMITS["lead"],
        "drift": (DriftPoint(day=date(2026, 11, 20), score=0.4), DriftPoint(day=date(2026, 11, 21), score=3.5)),
        "sha256": "e" * 64,
        "digest_ok": True,
        "signature": "f" * 128,
        "signature_ok": True,
        "registered_at": CUTOFF,
        "approved_by": "anna",
        "approved_at": CUTOFF,
        "warnings": (),
    }
    return Card.model_validate(fields | changes)


def test_the_card_tells_what_must_be_answered_for() -> None:
    text = markdown(card())
    names = [name.replace("_", r"\_") for name, _ in model_card.FEATURES["lead"]]
    figures = ["0.7123", "0.6623 to 0.7623", "tenant 17", "too small to say", "3.500"]
    for told in (*figures, "d" * 64, "e" * 64, "anna", *names, "Fairness", "Known limits"):
        assert told in text, told
    assert "Warning" not in text


def test_a_stale_or_tampered_version_is_warned_of_first() -> None:
    warnings = model_card.warnings(age_hours=49, health=Health.WARNING_STALE, digest_ok=False, signature_ok=False)
    assert len(warnings) == 3
    found = card(warnings=warnings, digest_ok=False, signature_ok=False)
    for text in (markdown(found), page(found)):
        assert text.index("made 49 hours ago") < text.index("Origin")
        assert "NOT valid" in text
        assert "NOT that of the stored artifact" in text
    assert model_card.warnings(age_hours=48, health=Health.OK, digest_ok=True, signature_ok=True) == ()


class Page(HTMLParser):
    """Collects tags and what they refer to, and that every one is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.captions: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not {"src", "href", "onload"} & {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)
        self.captions += [value or "" for name, value in attrs if name == "aria-label"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


def test_the_page_has_four_plots_and_fetches_nothing() -> None:
    evil = Slice(kind="tenant", group="<script>alert(1)</script>", rows=60, positives=20, quality=0.7,
                 standard_error=0.04)  # fmt: skip
    shown = page(card(evaluation=evaluation(0.7).model_copy(update={"slices": (evil,)})))
    parsed = Page()
    parsed.feed(shown)
    assert parsed.open == []
    assert parsed.captions == ["ROC", "Calibration", "Slices", "Drift (limit 3)"]
    assert "script" not in parsed.tags
    assert re.search(r"https?:|@import|url\(", shown) is None
    roc = re.search(r'<polyline points="([^"]*)" fill="none" stroke="#1b4f72"', shown)
    assert roc is not None
    assert len(roc[1].split()) == len(evaluation(0.7).roc)


def test_markdown_keeps_what_came_from_outside_in_its_place() -> None:
    evil = Slice(kind="tenant", group="a|b\n# <b>x</b>", rows=60, positives=20, quality=0.7, standard_error=0.04)
    text = markdown(card(evaluation=evaluation(0.7).model_copy(update={"slices": (evil,)})))
    assert r"| tenant a\|b \# \<b\>x\</b\> | 60 | 0.7000 |" in text
