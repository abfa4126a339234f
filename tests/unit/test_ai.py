"""AI versions: how a name reads, and when a version cannot be served."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from domain import ai
from domain.ai import AiVersion, PromptRef, VersionError

NAME = "ai_v1.0.0_gpt35_20240601"
V1, OTHER = "a" * 64, "b" * 64


def version(**fields: object) -> AiVersion:
    return AiVersion.model_validate(
        {
            "version": NAME,
            "prompts": {"resolution": PromptRef(version="v1", sha256=V1), "validation": PromptRef(version="v3")},
            "rules_version": ai.RULES_VERSION,
            "created_at": datetime(2026, 7, 1, tzinfo=UTC),
            "created_by": "somebody",
            "reason": "to test",
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("v1", "does not read ai_v<major>"),
        ("ai_v1.0_gpt35_20240601", "does not read"),
        ("ai_v1.0.0_gpt35_20240601 ", "does not read"),
        ("ai_v1.0.0_gpt99_20240601", "names the model 'gpt99': known are gpt35, gpt4"),
        ("ai_v1.0.0_gpt35_20240631", "ends in 20240631, which is no day"),
    ],
)
def test_a_name_that_does_not_read_as_one_is_refused(name: str, why: str) -> None:
    with pytest.raises(VersionError, match=why):
        ai.model_of(name)


def test_the_runbooks_models_are_as_they_say() -> None:
    known = {id: (m.name, m.temperature, m.max_tokens, m.timeout) for id, m in ai.MODELS.items()}
    assert known["gpt35"] == ("gpt-3.5-turbo", 0.1, 2_000, 30)
    assert known["gpt4"] == ("gpt-4", 0.1, 4_000, 60)


def test_a_call_costs_its_tokens() -> None:
    assert ai.MODELS["gpt4"].cost(1_000, 500) == Decimal("0.06")


@pytest.mark.parametrize(
    ("hashes", "faults"),
    [
        ({"resolution/v1": V1, "validation/v3": V1}, []),
        ({"resolution/v1": V1}, []),  # nobody has used validation/v3 yet
        ({"resolution/v2": V1}, ["prompts/resolution/v1.md is missing"]),
        ({"resolution/v1": OTHER}, ["prompts/resolution/v1.md has another hash"]),
    ],
)
def test_a_version_is_served_by_the_very_files_it_was_made_with(hashes: dict[str, str], faults: list[str]) -> None:
    assert list(version().faults(hashes)) == faults


def test_a_version_of_other_rules_is_not_served() -> None:
    newer = version(rules_version=ai.RULES_VERSION + 1)
    assert "rules version" in next(newer.faults({"resolution/v1": V1}))


def test_a_deprecated_version_is_usable_for_six_months() -> None:
    assert version().usable_until is None
    until = version(deprecated_at=datetime(2026, 1, 15, tzinfo=UTC)).usable_until
    assert until is not None
    assert abs(until - datetime(2026, 7, 15, tzinfo=UTC)) < timedelta(days=3)
