"""Histories of released code: today's workflows still tell them, and they hold nothing that they must not."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from bench.histories import payloads, readable
from deploy.local.data import load_questions
from domain import steps
from domain.steps import Role
from tests.drafts import draft
from tests.replay.changed_story import OneStepMore
from tests.replay.histories import PAYLOAD_LIMIT, fingerprint, stored
from tests.replay.stories import STORIES
from workers.registry import WORKFLOWS, replayer, workflow_runner
from workflows.market_lifecycle import MarketLifecycle

HISTORIES = stored()
EACH = pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES.keys())

PROMPTS = Path(__file__).parents[2] / "prompts"
TEXT_LIMIT = 500
"""Characters: the longest reason or error message that a history holds."""


def test_every_story_was_recorded() -> None:
    assert {name.partition("/")[2] for name in HISTORIES} >= STORIES.keys()


@EACH
async def test_a_history_is_told_again(history: WorkflowHistory) -> None:
    result = await replayer().replay_workflow(history, raise_on_replay_failure=False)
    if result.replay_failure:
        pytest.fail(
            f"Today's workflows tell this recorded story another way, so running markets would be stuck:"
            f" {result.replay_failure}. Guard the change with workflow.patched; only histories of a version that was"
            " never released may be recorded anew: python -m tests.replay.record",
            pytrace=False,
        )


@EACH
async def test_an_unguarded_change_is_caught(history: WorkflowHistory) -> None:
    changed = Replayer(
        workflows=[OneStepMore, *(set(WORKFLOWS[Role.ORCHESTRATOR]) - {MarketLifecycle})],
        workflow_runner=workflow_runner(),
        data_converter=pydantic_data_converter,
    )
    result = await changed.replay_workflow(history, raise_on_replay_failure=False)
    # The change comes after publishing: what was never published is told as before, and so are all other workflows.
    if f"activity {steps.PUBLISH_MARKET.name} " in fingerprint(history.events):
        assert isinstance(result.replay_failure, NondeterminismError)
    else:
        assert result.replay_failure is None


@EACH
def test_payloads_stay_small(history: WorkflowHistory) -> None:
    assert max(len(payload.data) for payload in payloads(history.events)) <= PAYLOAD_LIMIT
    assert max(len(text) for _, text in texts(history)) <= TEXT_LIMIT


@EACH
def test_no_page_is_in_a_history(history: WorkflowHistory) -> None:
    told = readable(history.events).lower()
    # Of the source site's pages and of the APIs' answers.
    for mark in ("<html", "<!doctype", "embedded-notice", "realtime_start", '"observations"'):
        assert mark not in told


@EACH
def test_no_prompt_is_in_a_history(history: WorkflowHistory) -> None:
    told = readable(history.events)
    lines = [line for file in PROMPTS.glob("*/*.md") for line in file.read_text("utf-8").splitlines() if len(line) > 40]
    assert lines
    assert not [line for line in lines if line in told]


@EACH
def test_no_background_is_in_a_history(history: WorkflowHistory) -> None:
    told = readable(history.events)
    asked = [question for question in load_questions() if question.question in told]
    long = [text for question in asked for text in (question.background, question.criteria)] + [draft().description]
    # A source's address may stand in an error.
    long = [re.sub(r"https?://\S+", "", text) for text in long]
    assert not [
        sentence for text in long for sentence in re.split(r"[.\n]", text) if len(sentence) > 40 and sentence in told
    ]


@EACH
def test_no_secret_key_is_in_a_history(history: WorkflowHistory) -> None:
    # A wallet's secret and a signature are both base58 of 64 bytes; only signatures may be there, and say so.
    keys = [name for name, text in texts(history) if re.search(r"[1-9A-HJ-NP-Za-km-z]{80,}", text)]
    assert set(keys) <= {"signature"}
    assert not re.search(r"\[(\d{1,3},\s*){31,}", readable(history.events)), "a key as an array of its bytes"
    assert not re.search(r"postgres(ql)?://|sk-[A-Za-z0-9]{8}|-----BEGIN", readable(history.events))


@EACH
def test_nothing_of_the_machine_is_in_a_history(history: WorkflowHistory) -> None:
    told = readable(history.events)
    identities = set(re.findall(r'"identity": "([^"]*)"', told))
    assert identities <= {"recorder", "history-service"}
    assert not re.search(
        r"site-packages|\.py\b|(?<![\w/:])/(?:home|root|tmp|usr|work|Users)/|localhost|127\.0\.0\.1", told
    )


def texts(history: WorkflowHistory) -> Iterator[tuple[str, str]]:
    """Every text in the payloads, with the name of its field."""

    def within(name: str, part: Any) -> Iterator[tuple[str, str]]:
        if isinstance(part, str):
            yield name, part
        elif isinstance(part, dict):
            for key, value in part.items():
                yield from within(key, value)
        elif isinstance(part, list):
            for value in part:
                yield from within(name, value)

    for payload in payloads(history.events):
        if payload.metadata["encoding"] == b"json/plain":
            yield from within("", json.loads(payload.data))
