"""The keys of the configuration: each has its type and range, and a refusal names key and value."""

import json
from typing import Any

import pytest

from domain import config
from domain.config import ConfigError

VALUES: dict[str, Any] = {
    "ai_version": "ai_v1.0.0_gpt35_20240601",
    "llm_model": "gpt35",
    "validation_confidence_threshold": 0.6,
    "max_retries": 3,
    "dispute_window_hours": 24,
    "categories": ["politics", "misc"],
    "rate_limits": {"propose": {"minute": 3}, "dispute": {"hour": 5}},
    "review_undo_seconds": 10,
    "llm_daily_budget_usd": None,
    "model_approval": ["lead"],
    "pii_approval": False,
    "pii_columns": ["disputes.reason"],
}


def test_every_key_has_a_value_and_a_meaning() -> None:
    read = config.parse(VALUES).model_dump(mode="json")
    assert read == VALUES
    assert all(config.KEYS.values())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("validation_confidence_threshold", 1.1),
        ("validation_confidence_threshold", -0.1),
        ("validation_confidence_threshold", "0.6"),
        ("validation_confidence_threshold", float("nan")),
        ("max_retries", 4),
        ("max_retries", -1),
        ("max_retries", 1.5),
        ("max_retries", True),
        ("dispute_window_hours", 0),
        ("dispute_window_hours", 721),
        ("categories", []),
        ("categories", ["weather"]),
        ("categories", "politics"),
        ("rate_limits", {"propose": {"fortnight": 3}, "dispute": {"hour": 5}}),
        ("rate_limits", {"propose": {"minute": 0}, "dispute": {"hour": 5}}),
        ("rate_limits", {"propose": {}, "dispute": {"hour": 5}}),
        ("rate_limits", []),
        ("review_undo_seconds", 3_601),
        ("llm_daily_budget_usd", -1),
        ("llm_daily_budget_usd", "none"),
        ("model_approval", ["weather"]),
        ("pii_approval", 1),
        ("pii_columns", ["disputes"]),
        ("pii_columns", ['x.y"; DROP TABLE markets']),
        ("model_approval", True),
        ("llm_model", "gpt99"),
        ("llm_model", None),
        ("ai_version", "v2"),
        ("ai_version", 7),
    ],
)
def test_a_bad_value_is_refused_naming_key_and_value(key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        config.changed(VALUES, key, value)
    assert str(refused.value).startswith(f"{key}: ")
    shown = str(value) if isinstance(value, str) else json.dumps(value)
    assert shown in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("rate_limits", {"propose": {"minute": 3}}, "rate_limits: dispute is missing"),
        ("categories", ["misc", "misc"], "categories: one is named twice"),
        ("llm_model", "gpt4", "llm_model: gpt4 is not the model of ai_v1.0.0_gpt35_20240601"),
    ],
)
def test_what_does_not_fit_together_is_refused(key: str, value: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=f"^{why}"):
        config.changed(VALUES, key, value)


def test_an_unknown_key_is_named_with_the_known() -> None:
    with pytest.raises(ConfigError, match=r"'colour', known are ai_version, llm_model"):
        config.changed(VALUES, "colour", "red")


def test_keys_of_newer_code_are_left_alone_and_missing_ones_named() -> None:
    assert config.parse({**VALUES, "colour": "red"}) == config.parse(VALUES)
    with pytest.raises(ConfigError, match=r"^max_retries is missing: run the migrations"):
        config.parse({key: value for key, value in VALUES.items() if key != "max_retries"})
