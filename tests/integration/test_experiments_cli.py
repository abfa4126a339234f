"""A/B tests of prompts, migrations and rule templates at the command line; and which prompt a market really gets."""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import openai
import pytest
from temporalio.client import WorkflowExecutionStatus
from temporalio.exceptions import ApplicationError

from activities.llm_client import LlmClient
from db import ai_versions, audit, experiments, model_migrations, templates
from domain import errors
from domain.answers import SafetyCheckAnswer
from domain.experiments import Arm, Experiment, arm_of
from domain.ids import migration_workflow_id
from domain.market import Category
from domain.templates import RuleTemplate
from prompts import loader
from tests.operator import Answer, Operator

CURRENT = "ai_v1.0.0_gpt35_20240601"
REASON = ("--reason", "a test says so")
VALUES = {"text": "Will it rain in Examplia on 2027-03-01?", "background": "", "criteria": ""}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All prompts, a second version of the safety check, and a third that asks for something else."""
    folder = tmp_path_factory.mktemp("folder") / "prompts"
    shutil.copytree(loader.BUNDLED, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    checks = folder / "safety_check"
    (checks / "v2.md").write_bytes((checks / "v1.md").read_bytes() + b"\nBe brief.\n")
    (checks / "v3.md").write_bytes((folder / "validation" / "v1.md").read_bytes())
    return folder


@pytest.fixture
async def provider(operator: Operator) -> AsyncIterator[openai.AsyncOpenAI]:
    url = operator.stack.environment["OPENAI_BASE_URL"]
    async with openai.AsyncOpenAI(api_key="for tests", base_url=url, max_retries=0) as opened:
        yield opened


@pytest.fixture(scope="module")
async def trial(operator: Operator, prompts: Path) -> AsyncIterator[Experiment]:
    """A test of the safety check's second version, which half of the markets get."""
    done = await define(operator, prompts, "v2")
    assert done.code == 0, done
    found = await experiments.running(operator.pool, "safety_check")
    assert found is not None
    yield found
    await experiments.stop(operator.pool, found.id, "tests", "the tests are over")


async def define(operator: Operator, prompts: Path, variant: str, *options: str) -> Answer:
    what = ("--type", "safety_check", "--variant", variant, "--metric", "approved_without_person", "--share", "0.5")
    settings = {"PROMPTS_DIR": str(prompts)}
    return await operator.clotho("experiment", "define", "brief", *what, *options, *REASON, "--json", settings=settings)


def message(done: Answer) -> str:
    """The sentence of a refusal."""
    assert done.out == ""
    return str(json.loads(done.err)["error"]["message"])


async def sent(operator: Operator, market: UUID) -> list[str]:
    """Hashes of the prompts that were paid for on behalf of a market."""
    rows = await operator.pool.fetch(
        "SELECT prompt_sha256 FROM llm_calls JOIN experiment_calls USING (input_sha256) WHERE subject = $1", str(market)
    )
    return [row["prompt_sha256"] for row in rows]


@pytest.mark.parametrize(
    ("variant", "options", "fault"),
    [
        ("v3", (), "has other variables"),
        ("v9", (), "there is no prompt"),
        ("v2", ("--metric", "undisputed"), "choose market_generation, validation, resolution"),
    ],
)
async def test_a_bad_definition_is_refused_in_one_sentence(
    operator: Operator, prompts: Path, variant: str, options: tuple[str, ...], fault: str
) -> None:
    done = await define(operator, prompts, variant, *options)
    assert done.code == 2
    assert fault in message(done)
    assert await experiments.get(operator.pool, "brief") is None


async def test_a_market_gets_its_arm_and_a_repeated_attempt_the_same(
    operator: Operator, provider: openai.AsyncOpenAI, trial: Experiment, prompts: Path
) -> None:
    client = LlmClient(provider, operator.pool, prompts=prompts)
    nobodys = {**VALUES, "background": "Nobody's."}
    await client.ask(CURRENT, "safety_check", SafetyCheckAnswer, nobodys)
    assert await experiments.asked(operator.pool, trial) == ({}, {})
    hashes = loader.hashes(prompts)
    seen = set()
    for number in range(8):
        market = UUID(int=number)
        values = {**VALUES, "background": f"Asked {number} times."}
        for _ in range(2):
            await client.ask(CURRENT, "safety_check", SafetyCheckAnswer, values, subject=str(market))
        arm = arm_of(trial, str(market))
        seen.add(arm)
        assert await sent(operator, market) == [hashes[f"safety_check/{'v2' if arm is Arm.VARIANT else 'v1'}"]]
    assert seen == set(Arm)
    found = (await operator.clotho("experiment", "report", trial.id, "--json")).data
    assert found["control"]["subjects"] + found["variant"]["subjects"] == 8
    assert found["winner"] is None
    refused = await operator.clotho("experiment", "promote", trial.id, "ai_v9.0.0_gpt35_20260701", *REASON, "--json")
    assert refused.code == 1
    assert message(refused).startswith("Nothing is promoted. No winner yet")


async def test_a_market_of_another_version_is_in_no_test(
    operator: Operator, provider: openai.AsyncOpenAI, trial: Experiment
) -> None:
    other = "ai_v1.0.8_gpt35_20260701"
    await ai_versions.create(operator.pool, other, {}, loader.hashes(), "tests", "to try")
    before = await experiments.asked(operator.pool, trial)
    client = LlmClient(provider, operator.pool)  # which has no second version
    for number in range(20, 28):
        await client.ask(other, "safety_check", SafetyCheckAnswer, VALUES, subject=str(UUID(int=number)))
    assert await experiments.asked(operator.pool, trial) == before


async def test_a_variant_that_was_changed_is_not_served(
    operator: Operator, provider: openai.AsyncOpenAI, trial: Experiment, prompts: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "prompts"
    shutil.copytree(prompts, folder)
    with (folder / "safety_check" / "v2.md").open("a", encoding="utf-8") as file:
        file.write("Approve everything.\n")
    subject = next(one for one in map(str, range(50)) if arm_of(trial, one) is Arm.VARIANT)
    client = LlmClient(provider, operator.pool, prompts=folder)
    with pytest.raises(ApplicationError) as caught:
        await client.ask(CURRENT, "safety_check", SafetyCheckAnswer, VALUES, subject=subject)
    assert caught.value.type == errors.AI_VERSION_UNUSABLE.type


async def test_one_test_runs_at_a_time_until_it_is_stopped(
    operator: Operator, trial: Experiment, prompts: Path
) -> None:
    assert "another test of safety_check runs" in message(await define(operator, prompts, "v2"))
    stopped = await operator.clotho("experiment", "stop", trial.id, *REASON)
    assert stopped.code == 0, stopped
    listed = (await operator.clotho("experiment", "list", "--json")).data
    mine = next(one for one in listed if one["id"] == trial.id)
    assert (mine["status"], mine["control"], mine["ai_version"]) == ("stopped", "v1", CURRENT)
    assert (await operator.clotho("experiment", "stop", trial.id, *REASON)).code == 1


# Migrations.


@pytest.mark.parametrize(
    ("version", "fault"), [(CURRENT, "is the current one"), ("ai_v7.7.7_gpt4_20260701", "is not registered")]
)
async def test_a_migration_that_cannot_be_is_refused(operator: Operator, version: str, fault: str) -> None:
    done = await operator.clotho("model-migration", "start", "no-such", version, *REASON, "--json")
    assert done.code == 2
    assert fault in message(done)
    assert await model_migrations.get(operator.pool, "no-such") is None


async def test_a_migration_starts_once_and_is_shown(operator: Operator) -> None:
    version = "ai_v1.0.7_gpt4_20260701"
    await ai_versions.create(operator.pool, version, {}, loader.hashes(), "tests", "to try")
    for _ in range(2):
        done = await operator.clotho("model-migration", "start", "to-gpt4", version, *REASON, "--json")
        assert done.code == 0, done
    handle = operator.temporal.get_workflow_handle(migration_workflow_id("to-gpt4"))
    assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
    shown = (await operator.clotho("model-migration", "show", "to-gpt4", "--json")).data
    assert (shown["status"], shown["old_version"], shown["new_version"]) == ("comparing", CURRENT, version)
    trail = [entry.action for entry in await audit.entries(operator.pool, "model_migration", "to-gpt4")]
    assert trail == ["model_migration_started"]
    await handle.terminate()


# Rule templates.

SERVED = "https://api.stlouisfed.org/fred/series/observations?series_id=DFF&file_type=json*"
NEVER = {"kind": "text", "id": "preliminary", "text": "Only a preliminary value was published.", "sources": ["fred"]}


def template(**changes: Any) -> dict[str, Any]:
    patterns = [{"pattern": SERVED, "method": "api_check"}]
    return {"must_not_count": [NEVER], "source_patterns": patterns, **changes}


async def put(operator: Operator, tmp_path: Path, body: Any, category: str = "entertainment") -> Answer:
    file = tmp_path / "template.json"
    file.write_text(body if isinstance(body, str) else json.dumps(body), "utf-8")
    return await operator.clotho("template", "set", category, str(file), *REASON, "--json")


@pytest.fixture
async def no_template(operator: Operator) -> AsyncIterator[None]:
    """Other tests' markets are measured by no template."""
    yield
    await templates.put(operator.pool, RuleTemplate(category=Category.ENTERTAINMENT), "tests", "the test is over")


@pytest.mark.usefixtures("no_template")
async def test_a_template_is_put_in_force_and_replaced(operator: Operator, tmp_path: Path) -> None:
    for version, body in ((1, template()), (2, template(must_not_count=[]))):
        done = await put(operator, tmp_path, body)
        assert done.code == 0, done
        assert done.data == {"category": "entertainment", "version": version}
    stored = await templates.current(operator.pool, Category.ENTERTAINMENT)
    assert stored is not None
    assert stored.body.must_not_count == ()
    trail = await audit.entries(operator.pool, "rule_template", "entertainment")
    assert [entry.details["version"] for entry in trail] == [1, 2]
    shown = (await operator.clotho("template", "show", "entertainment")).out
    assert (await put(operator, tmp_path, shown)).data["version"] == 2


async def test_all_that_is_wrong_is_named_together_and_nothing_is_changed(operator: Operator, tmp_path: Path) -> None:
    unreachable = {"pattern": "https://nowhere.example.org/data/*", "method": "api_check"}
    short = {"pattern": "https://bit.ly/abc", "method": "html_scrape"}
    bad = {**NEVER, "id": "Bad Id"}
    body = template(must_meet_all=[{**NEVER, "sources": []}, bad], source_patterns=[unreachable, short])
    done = await put(operator, tmp_path, body, "sports")
    assert done.code == 2
    for named in ("4 to correct", "must_meet_all.0", "must_meet_all.1", "nowhere.example.org", "bit.ly"):
        assert named in message(done)
    assert await templates.current(operator.pool, Category.SPORTS) is None
