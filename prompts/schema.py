"""The schema of an answer as providers take it, and as models are told it that take none.

A provider's strict mode knows a part of JSON Schema: every object closed, every field required, no `oneOf`, no limits
of length (https://platform.openai.com/docs/guides/structured-outputs). What is left out here is checked by the answer's
model afterwards all the same.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from domain.ai import ModelConfig
from domain.base import Model

if TYPE_CHECKING:
    from openai.types.chat.completion_create_params import ResponseFormat

_KEPT = frozenset({
    "$ref", "type", "description", "enum", "const", "format", "pattern",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems",
})  # fmt: skip
_FORMATS = frozenset({"date-time", "date", "time", "uuid"})


@functools.cache
def strict_schema(answer: type[Model]) -> dict[str, Any]:
    """The JSON schema of an answer in the dialect of strict modes; to be read, not changed."""
    whole = answer.model_json_schema(by_alias=True)
    schema = _strict(whole)
    definitions = {name: _strict(definition) for name, definition in whole.get("$defs", {}).items()}
    return {**schema, "$defs": definitions} if definitions else schema


def _strict(node: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in node:  # nothing may stand beside it
        return {"$ref": node["$ref"]}
    kept = {key: value for key, value in node.items() if key in _KEPT}
    if kept.get("format", "date") not in _FORMATS:
        del kept["format"]
    if "properties" in node:
        fields = {name: _strict(field) for name, field in node["properties"].items()}
        kept |= {"properties": fields, "required": list(fields), "additionalProperties": False}
    if "items" in node:
        kept["items"] = _strict(node["items"])
    if choices := node.get("anyOf") or node.get("oneOf"):
        kept["anyOf"] = [_strict(choice) for choice in choices]
    return kept


def response_format(model: ModelConfig, answer: type[Model]) -> ResponseFormat:
    """The strictest form that a model can be held to."""
    match model.structured:
        case "json_schema":
            schema = {"name": answer.__name__, "schema": strict_schema(answer), "strict": True}
            return {"type": "json_schema", "json_schema": schema}  # type: ignore[typeddict-item] # keys as promised
        case "json_object":
            return {"type": "json_object"}
        case "text":
            return {"type": "text"}


def in_words(model: ModelConfig, answer: type[Model]) -> str:
    """What the instructions must add for a model that takes no schema; empty for one that does."""
    if model.structured == "json_schema":
        return ""
    schema = json.dumps(strict_schema(answer), ensure_ascii=False, separators=(",", ":"))
    return f"\n\n# The schema\n\nAnswer with one JSON object, and nothing around it, by this JSON Schema:\n{schema}"
