"""The step catalogue: names, models, time-outs."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from domain import steps
from domain.base import Model
from domain.steps import CATALOGUE, Role, Step, Timing, steps_of

STEPS = pytest.mark.parametrize("step", CATALOGUE, ids=lambda step: step.name)
MODELS = sorted({model for step in CATALOGUE for model in (step.takes, step.gives)}, key=lambda model: model.__name__)


def test_names_are_unique_and_every_step_is_listed() -> None:
    assert len({step.name for step in CATALOGUE}) == len(CATALOGUE)
    defined = [step for step in vars(steps).values() if isinstance(step, Step)]
    assert sorted(step.name for step in defined) == sorted(step.name for step in CATALOGUE)
    assert all(getattr(steps, step.name.upper()) is step for step in CATALOGUE)


def test_every_step_has_a_role_that_implements_it() -> None:
    assert sorted(step.name for role in Role for step in steps_of(role)) == sorted(step.name for step in CATALOGUE)


@STEPS
def test_what_may_take_long_heartbeats(step: Step[Any, Any]) -> None:
    timing: Timing = step.timing
    if timing.start_to_close > timedelta(seconds=10):
        assert timing.heartbeat is not None
    if timing.heartbeat is not None:
        assert timing.heartbeat < timing.start_to_close


@STEPS
def test_retries_end(step: Step[Any, Any]) -> None:
    retry = step.timing.retry
    if step.timing is steps.LOOKUP:
        # Somebody waits for the answer: all attempts together take less than the command line's patience, 10 s.
        assert 1 <= retry.maximum_attempts <= 3
        assert retry.maximum_attempts * (step.timing.start_to_close + retry.initial_interval) < timedelta(seconds=10)
        assert not step.parks
        return
    # The runbooks' three retries (1 s, 5 s, 30 s), then a person, or the schedule's next time.
    assert retry.maximum_attempts == 4
    assert retry.initial_interval == timedelta(seconds=1)
    assert retry.maximum_interval == timedelta(seconds=30)


@STEPS
def test_the_page_reads_as_sentences(step: Step[Any, Any]) -> None:
    assert step.does[0].islower()
    assert not step.does.endswith(".")


@STEPS
def test_a_skipped_step_gives_what_it_would_have_given(step: Step[Any, Any]) -> None:
    if step.when_skipped is not None:
        assert isinstance(step.when_skipped, step.gives)
        assert step.gives.model_validate_json(step.when_skipped.model_dump_json()) == step.when_skipped


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_what_steps_take_and_give_is_frozen_and_survives_json(model: type[Model]) -> None:
    example = smallest(model)
    assert model.model_validate_json(example.model_dump_json()) == example
    assert model.model_config["frozen"]
    assert model.model_config["extra"] == "forbid"


VALUES = {
    "uuid": "6b1f0c52-6f0c-5f0e-9a3b-2a4d7c1e9d10",
    "date-time": "2026-01-31T12:00:00Z",
    "string": "abc",
    "integer": 1,
    "number": 0.5,
    "boolean": True,
    "null": None,
    "array": [],
}


def smallest(model: type[BaseModel]) -> Any:
    """An instance made from the model's own JSON schema: every field, the first alternative of each."""
    schema = TypeAdapter(model).json_schema()

    def made(part: dict[str, Any]) -> Any:
        if "$ref" in part:
            return made(schema["$defs"][part["$ref"].rpartition("/")[2]])
        if "anyOf" in part:
            return made(part["anyOf"][0])
        if "enum" in part or "const" in part:
            return part.get("const", (part.get("enum") or [None])[0])
        if "pattern" in part:
            return "a" * 64 if "{64}" in part["pattern"] else "a"
        if part.get("type") == "object":
            return {name: made(field) for name, field in part.get("properties", {}).items()}
        if part.get("type") == "array" and "items" in part:
            return [made(part["items"])]
        if part.get("type") == "integer":
            return max(1, part.get("minimum", 1))
        return VALUES[part["format"] if part.get("format") in VALUES else part["type"]]

    return model.model_validate(made(schema))
