"""AI versions and model configurations: what is bound to a market when it is drafted, and what a call may cost."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, StringConstraints

from domain.base import Model, Reason, Sha256

_VERSION = re.compile(r"ai_v(?P<major>\d+)\.(?P<minor>\d+)\.(?P<patch>\d+)_(?P<model>[a-z0-9]+)_(?P<day>\d{8})")

RULES_VERSION = 1
"""Of the code that reads and resolves rules (domain/rules, domain/resolver); raised when the same rules would resolve
otherwise than before."""

SUPPORT = timedelta(days=183)
"""How long a deprecated version can still be made current again: six months. Markets keep theirs to the end."""


class VersionError(ValueError):
    """An ai_version cannot be what is asked of it; the message is a sentence without a full stop."""


class ModelConfig(Model):
    """One model. Prices in US dollars for a million tokens; `timeout` in seconds, for a whole answer."""

    name: str
    """As the provider knows it."""
    temperature: float
    max_tokens: int
    timeout: float
    input_price: Decimal
    output_price: Decimal
    structured: Literal["json_schema", "json_object", "text"]
    """The strictest `response_format` that the model takes; below `json_schema` the schema is told in words."""

    def cost(self, input_tokens: int, output_tokens: int) -> Decimal:
        """US dollars of one call."""
        return (self.input_price * input_tokens + self.output_price * output_tokens) / 1_000_000


def _model(
    name: str, dollars: str, structured: Literal["json_schema", "json_object", "text"], *, timeout: float = 60
) -> ModelConfig:
    input_price, output_price = map(Decimal, dollars.split())
    return ModelConfig(
        name=name,
        temperature=0.1,
        max_tokens=4_000,
        timeout=timeout,
        input_price=input_price,
        output_price=output_price,
        structured=structured,
    )


MODELS: dict[str, ModelConfig] = {
    "gpt35": _model("gpt-3.5-turbo", "0.50 1.50", "json_object", timeout=30).model_copy(update={"max_tokens": 2_000}),
    "gpt4": _model("gpt-4", "30 60", "text"),
    "gpt4o": _model("gpt-4o", "2.50 10", "json_schema"),
    "gpt4omini": _model("gpt-4o-mini", "0.15 0.60", "json_schema"),
    "gpt41": _model("gpt-4.1", "2 8", "json_schema"),
    "gpt41mini": _model("gpt-4.1-mini", "0.40 1.60", "json_schema"),
    "gpt41nano": _model("gpt-4.1-nano", "0.10 0.40", "json_schema"),
    "local": _model("local", "0 0", "json_schema", timeout=110),
}
"""By the id that stands in an ai_version.

`gpt35` and `gpt4` as in runbook "Maintenance & Model Updates", 13.3. Prices: the provider's list for standard
processing, 2026. `local` is whatever a server of one's own (llama.cpp, vLLM) serves at OPENAI_BASE_URL. Models that
think before they answer are left out: their hidden tokens would use up the prompts' limits.
"""


def parts_of(ai_version: str) -> tuple[str, str]:
    """Id of the model and day (yyyymmdd) that an ai_version names.

    Raises:
        VersionError: it does not read like ai_v1.0.0_gpt35_20240601, or names a model or day that there is not.
    """
    match = _VERSION.fullmatch(ai_version)
    if match is None:
        raise VersionError(
            f"ai_version {ai_version[:80]!r} does not read ai_v<major>.<minor>.<patch>_<model>_<yyyymmdd>"
        )
    if match["model"] not in MODELS:
        known = ", ".join(MODELS)
        raise VersionError(f"ai_version {ai_version!r} names the model {match['model']!r}: known are {known}")
    try:
        # An aware moment, though only the day is looked at.
        datetime.strptime(f"{match['day']}+0000", "%Y%m%d%z")
    except ValueError:
        raise VersionError(f"ai_version {ai_version!r} ends in {match['day']}, which is no day") from None
    return match["model"], match["day"]


def model_of(ai_version: str) -> ModelConfig:
    """The model configuration that an ai_version names.

    Raises:
        VersionError: as of `parts_of`.
    """
    return MODELS[parts_of(ai_version)[0]]


def _checked(ai_version: str) -> str:
    parts_of(ai_version)
    return ai_version


AiVersionName = Annotated[str, AfterValidator(_checked)]
"""Reads ai_v1.0.0_gpt35_20240601 and names a known model."""

PromptVersion = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,39}$")]
"""Name of a prompt's file without its ending, e.g. v1."""


class PromptRef(Model):
    """The version of one prompt type. `sha256` is of its file; None until a worker has seen the file first."""

    version: PromptVersion
    sha256: Sha256 | None = None


class AiVersion(Model):
    """One row of ai_versions: what exactly a version is made of."""

    version: AiVersionName
    prompts: dict[str, PromptRef]
    """By prompt type."""
    rules_version: int
    created_at: datetime
    created_by: str
    reason: Reason
    deprecated_at: datetime | None = None

    @property
    def usable_until(self) -> datetime | None:
        """Until when it can be made current; None: as long as nobody deprecates it."""
        return None if self.deprecated_at is None else self.deprecated_at + SUPPORT

    @property
    def fixed(self) -> bool:
        """Whether every prompt's hash is known, so that nothing about it changes any more."""
        return all(ref.sha256 is not None for ref in self.prompts.values())

    def ref(self, type: str) -> PromptRef:
        """Its prompt of a type.

        Raises:
            VersionError: it has none.
        """
        if type not in self.prompts:
            raise VersionError(f"{self.version} has no prompt of the type {type!r}")
        return self.prompts[type]

    def faults(self, hashes: Mapping[str, str]) -> Iterator[str]:
        """Why this code and these prompt files cannot serve it, one clause each.

        Args:
            hashes: SHA-256 of every prompt file, by `<type>/<version>`.
        """
        if self.rules_version != RULES_VERSION:
            yield f"it needs rules version {self.rules_version} and this code has {RULES_VERSION}"
        for type, ref in sorted(self.prompts.items()):
            name = f"{type}/{ref.version}"
            if ref.sha256 is not None and name not in hashes:
                yield f"prompts/{name}.md is missing"
            elif ref.sha256 is not None and hashes[name] != ref.sha256:
                yield f"prompts/{name}.md has another hash"
