"""Every prompt type through a real model: `OPENAI_BASE_URL=… OPENAI_API_KEY=… pytest -m real_llm`.

Whatever serves the OpenAI API will do, a small local model too: the schema holds its answers in shape.
"""

import json
import os
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from activities.llm_client import LlmClient
from db import ai_versions
from db.pool import connect
from prompts import loader

pytestmark = [
    pytest.mark.real_llm,
    pytest.mark.skipif("OPENAI_BASE_URL" not in os.environ, reason="OPENAI_BASE_URL names no model"),
    pytest.mark.timeout(600),  # a small model on a slow machine takes minutes
]

VERSION = "ai_v1.0.1_local_20261122"
_INPUTS = [json.loads(line) for line in (loader.BUNDLED / "migration_inputs.jsonl").read_text("utf-8").splitlines()]
FIRST_OF_EACH = {one["prompt_type"]: one["variables"] for one in reversed(_INPUTS)}


@pytest.fixture
async def llm(database_url: str) -> AsyncIterator[LlmClient]:
    async with (
        await connect(database_url) as pool,
        openai.AsyncOpenAI(
            api_key=os.environ.get("OPENAI_API_KEY") or "none",
            base_url=os.environ["OPENAI_BASE_URL"],
            max_retries=0,
        ) as client,
    ):
        await ai_versions.create(pool, VERSION, {}, loader.hashes(), "tests", "a model of one's own")
        yield LlmClient(client, pool)


def test_every_prompt_type_has_an_input() -> None:
    assert FIRST_OF_EACH.keys() == {name.partition("/")[0] for name in loader.hashes()}


@pytest.mark.parametrize("prompt_type", sorted(FIRST_OF_EACH))
async def test_the_answer_keeps_to_the_schema(llm: LlmClient, prompt_type: str) -> None:
    prompt = loader.load(prompt_type)
    values: dict[str, Any] = FIRST_OF_EACH[prompt_type]
    answer = (await llm.ask(VERSION, prompt_type, prompt.output, values)).answer
    assert prompt.output.model_validate_json(answer.model_dump_json(by_alias=True)) == answer
