"""Runtime configuration: the keys of ai_config, each with its type and range."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, model_validator

from domain import ai
from domain.base import Model
from domain.market import Category
from domain.model import ModelName
from domain.pii import ColumnName

Limit = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
Period = Literal["minute", "hour", "day"]
Limits = Annotated[dict[Period, Limit], Field(min_length=1)]
"""How often, in each of some periods."""


def _known_model(model: str) -> str:
    if model not in ai.MODELS:
        raise ValueError(f"known are {', '.join(ai.MODELS)}")
    return model


class ConfigError(ValueError):
    """A key is unknown or its value bad; the message is a sentence that names both."""


class Config(Model):
    """All keys with their values; the text under each is what `clotho config list` shows."""

    ai_version: Annotated[ai.AiVersionName, Field(description="that new markets are bound to")]
    llm_model: Annotated[
        str, StringConstraints(max_length=40), AfterValidator(_known_model), Field(description="of ai_version")
    ]
    validation_confidence_threshold: Annotated[
        float, Field(ge=0, le=1, description="0 to 1: below it a person decides", strict=True)
    ]
    max_retries: Annotated[
        int, Field(ge=0, le=3, description="0 to 3: of a step, before it waits for an operator", strict=True)
    ]
    dispute_window_hours: Annotated[
        float, Field(gt=0, le=720, description="more than 0, up to 720: for markets published from now on", strict=True)
    ]
    categories: Annotated[
        tuple[Category, ...], Field(min_length=1, max_length=50, description="that markets are made in")
    ]
    rate_limits: Annotated[
        dict[Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")], Limits],
        Field(description="times per minute, hour, day that one person may propose and dispute"),
    ]
    review_undo_seconds: Annotated[
        float, Field(ge=0, le=3_600, description="0 to 3600: in which a decision can be taken back", strict=True)
    ]
    llm_daily_budget_usd: Annotated[
        float | None, Field(ge=0, le=1_000_000, description="dollars per UTC day for the model; null: any", strict=True)
    ]
    pii_approval: Annotated[
        bool, Field(description="whether a person approves a PII run before it writes", strict=True)
    ]
    pii_columns: Annotated[
        tuple[ColumnName, ...], Field(max_length=100, description="text columns, table.column, that PII runs go over")
    ]
    model_approval: Annotated[
        tuple[ModelName, ...], Field(max_length=10, description="models whose new versions a person approves")
    ]

    @model_validator(mode="after")
    def _whole(self) -> "Config":
        if missing := {"propose", "dispute"} - self.rate_limits.keys():
            raise ValueError(f"rate_limits: {min(missing)} is missing")
        if len(set(self.categories)) < len(self.categories):
            raise ValueError("categories: one is named twice")
        model = ai.parts_of(self.ai_version)[0]
        if model != self.llm_model:
            raise ValueError(
                f"llm_model: {self.llm_model} is not the model of {self.ai_version}: set an ai_version of that model"
                " with `clotho ai-version set`, which changes both"
            )
        return self


KEYS: dict[str, str] = {key: field.description or "" for key, field in Config.model_fields.items()}
"""What each key means."""


def known(key: str) -> str:
    """The key.

    Raises:
        ConfigError: there is no such key.
    """
    if key not in KEYS:
        raise ConfigError(f"KEY: there is no key {key[:80]!r}, known are {', '.join(KEYS)}")
    return key


def parse(values: dict[str, Any]) -> Config:
    """The configuration of a whole table; keys of newer code are left out.

    Raises:
        ConfigError: a key is missing or its value bad.
    """
    try:
        return Config.model_validate({key: value for key, value in values.items() if key in KEYS})
    except ValidationError as error:
        fault = error.errors()[0]
        message = fault["msg"].removeprefix("Value error, ")
        if not fault["loc"]:  # of the whole, and names its key
            raise ConfigError(message) from None
        key, *inside = map(str, fault["loc"])
        if key not in values:
            raise ConfigError(f"{key} is missing: run the migrations") from None
        shown = json.dumps(values[key])
        shown = shown if len(shown) <= 100 else f"{shown[:100]}…"
        where = f" at {'.'.join(inside)}" if inside else ""
        raise ConfigError(f"{key}: {shown} is refused{where}: {message}; it is {KEYS[key]}") from None


def changed(values: dict[str, Any], key: str, value: Any) -> Config:
    """The configuration with one key changed.

    Raises:
        ConfigError: the key is unknown, or the value bad.
    """
    return parse({**values, known(key): value})
