"""AI versions and model configurations: what is bound to a market when it is drafted, and what a call may cost."""

import re
from decimal import Decimal

from domain.base import Model

_VERSION = re.compile(r"ai_v(?P<major>\d+)\.(?P<minor>\d+)\.(?P<patch>\d+)_(?P<model>[a-z0-9]+)_(?P<day>\d{8})")


class ModelConfig(Model):
    """One model. Prices in US dollars for a million tokens; `timeout` in seconds."""

    name: str
    """As the provider knows it."""
    temperature: float
    max_tokens: int
    timeout: float
    input_price: Decimal
    output_price: Decimal

    def cost(self, input_tokens: int, output_tokens: int) -> Decimal:
        """US dollars of one call."""
        return (self.input_price * input_tokens + self.output_price * output_tokens) / 1_000_000


MODELS: dict[str, ModelConfig] = {
    "gpt35": ModelConfig(
        name="gpt-3.5-turbo",
        temperature=0.1,
        max_tokens=2_000,
        timeout=30,
        input_price=Decimal("0.50"),
        output_price=Decimal("1.50"),
    ),
    "gpt4": ModelConfig(
        name="gpt-4",
        temperature=0.1,
        max_tokens=4_000,
        timeout=60,
        input_price=Decimal(30),
        output_price=Decimal(60),
    ),
}
"""By the id that stands in an ai_version (runbook "Maintenance & Model Updates", 13.3)."""


def model_of(ai_version: str) -> ModelConfig:
    """The model configuration that an ai_version names.

    Raises:
        ValueError: the version is not of the form ai_v1.0.0_gpt35_20240601, or names a model that is not known.
    """
    match = _VERSION.fullmatch(ai_version)
    if match is None:
        raise ValueError(f"ai_version {ai_version!r} does not read ai_v<major>.<minor>.<patch>_<model>_<yyyymmdd>")
    if match["model"] not in MODELS:
        raise ValueError(f"ai_version {ai_version!r} names the model {match['model']!r}: known are {', '.join(MODELS)}")
    return MODELS[match["model"]]
