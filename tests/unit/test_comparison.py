"""How two versions compare over the same inputs."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cli.migration import BUNDLED, read_inputs
from cli.output import CommandError
from domain.ai import AiVersion, PromptRef
from domain.comparison import Answered, MigrationReport, compare, decision_of
from domain.migration import SUMMARY_LIMIT
from prompts import loader


def said(decision: str, confidence: float = 0.8, latency: int = 100, cost: float = 0.01) -> Answered:
    return Answered(answer={"decision": decision, "confidence": confidence}, latency_ms=latency, cost_usd=cost)


VERSION = AiVersion(
    version="ai_v1.0.0_gpt35_20240601",
    prompts={name.partition("/")[0]: PromptRef(version="v1") for name in loader.hashes()},
    rules_version=1,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    created_by="tests",
    reason="for tests",
)
BROKEN = Answered(answer=None, latency_ms=900, cost_usd=0.5)


def test_only_what_both_answered_can_agree() -> None:
    old = [said("approved"), said("approved"), said("rejected"), BROKEN]
    new = [said("approved", 0.9), said("rejected", 0.9), BROKEN, said("approved", 0.9)]
    found = compare("validation", old, new)
    assert found.inputs == 4
    assert (found.old.valid, found.new.valid) == (0.75, 0.75)
    assert found.agreement == 0.5
    assert found.confidence_shift == pytest.approx(0.1)
    assert found.old.cost_usd == pytest.approx(0.53)  # what broke the schema was paid for
    assert found.old.latency_ms == 100


def test_a_model_that_never_keeps_the_schema_agrees_with_nobody() -> None:
    found = compare("validation", [said("approved")], [BROKEN])
    assert (found.new.valid, found.agreement, found.confidence_shift) == (0, None, None)
    assert "valid 100% to 0%" in MigrationReport(types=(found,)).summary


@pytest.mark.parametrize(
    ("prompt_type", "answer", "decision"),
    [
        ("market_generation", {"draft": {"title": "A"}, "refusal": ""}, "given"),
        ("market_generation", {"draft": None, "refusal": "no date"}, "none"),
        ("resolution", {"result": "met"}, "met"),
        ("dispute_review", {"verdict": "upheld"}, "upheld"),
        ("safety_check", {"safe": False}, "false"),
        ("entity_extraction", {"worth_a_market": True}, "true"),
        ("duplicate_detection", {"relation": "same"}, "same"),
    ],
)
def test_each_prompt_type_has_a_field_that_decides(prompt_type: str, answer: dict[str, Any], decision: str) -> None:
    assert decision_of(prompt_type, answer) == decision


def test_a_long_report_has_a_summary_that_a_history_takes() -> None:
    one = compare("validation", [said("approved")], [said("approved")])
    assert len(MigrationReport(types=(one,) * 30).summary) <= SUMMARY_LIMIT


def test_the_bundled_inputs_are_of_every_prompt_type() -> None:
    assert read_inputs(BUNDLED, VERSION, loader.BUNDLED).keys() == VERSION.prompts.keys()


GOOD = {"prompt_type": "safety_check", "variables": {"text": "Will it rain?", "background": "", "criteria": ""}}


@pytest.mark.parametrize(
    "line", ["no JSON", "[]", json.dumps({**GOOD, "prompt_type": "weather"}), json.dumps({**GOOD, "variables": {}})]
)
def test_an_input_that_does_not_fit_its_prompt_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "inputs.jsonl"
    file.write_text(f"{json.dumps(GOOD)}\n{line}\n", "utf-8")
    with pytest.raises(CommandError, match="line 2"):
        read_inputs(file, VERSION, loader.BUNDLED)
