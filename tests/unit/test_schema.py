"""The schema of each answer as strict modes take it, and what a model is told that takes none."""

from collections.abc import Iterator
from typing import Any

import pytest

from domain import ai, answers
from domain.base import Model
from prompts import schema

ANSWERS = [m for name, m in vars(answers).items() if name.endswith("Answer") and issubclass(m, Model)]
UNKNOWN_TO_STRICT_MODES = {"oneOf", "allOf", "minLength", "maxLength", "discriminator", "default", "uniqueItems"}
"""Of https://platform.openai.com/docs/guides/structured-outputs."""


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Every schema inside a schema."""
    yield node
    for inside in (*node.get("properties", {}).values(), *node.get("$defs", {}).values(), *node.get("anyOf", [])):
        yield from nodes(inside)
    if "items" in node:
        yield from nodes(node["items"])


@pytest.mark.parametrize("answer", ANSWERS)
def test_every_object_is_closed_and_nothing_is_said_that_strict_modes_refuse(answer: type[Model]) -> None:
    for node in nodes(schema.strict_schema(answer)):
        assert node, "a node that says nothing lets everything pass"
        assert not UNKNOWN_TO_STRICT_MODES & node.keys()
        assert len(node) == 1 or "$ref" not in node
        if node.get("type") == "object":
            assert node["additionalProperties"] is False
            assert node["required"] == list(node["properties"])
        assert node.get("pattern", "^$")[0] + node.get("pattern", "^$")[-1] == "^$"


@pytest.mark.parametrize("answer", ANSWERS)
def test_every_field_of_the_answer_is_in_it(answer: type[Model]) -> None:
    fields = {field.alias or name for name, field in answer.model_fields.items()}
    assert set(schema.strict_schema(answer)["properties"]) == fields


def test_the_strictest_form_that_each_model_takes() -> None:
    answer = answers.ResolutionAnswer
    formats = {id: schema.response_format(model, answer)["type"] for id, model in ai.MODELS.items()}
    assert (formats["gpt35"], formats["gpt4"], formats["gpt4o"]) == ("json_object", "text", "json_schema")
    for model in ai.MODELS.values():
        told = schema.in_words(model, answer)
        assert ("JSON" in told and "quotation" in told) is (model.structured != "json_schema")
