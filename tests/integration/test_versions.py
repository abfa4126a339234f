"""What is changed while everything runs: configuration, and the prompts that a market is bound to."""

import asyncio
import functools
import re
import shutil
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from domain.canonical import sha256_hex
from prompts import loader
from tests.conftest import EmbeddedStack, WorkerProcess
from tests.operator import Operator, soon
from tests.support import eventually

A, B = "ai_v1.0.0_gpt35_20240601", "ai_v1.1.0_gpt4omini_20260701"
ROLES = ("orchestrator", "sources", "llm", "chain")
FIRST, SECOND = "infer:1675", "manifold:AZNPqIQuA0"
"""Questions that no series answers, and no other test asks."""


async def config_version(worker: WorkerProcess) -> float:
    """What a worker shows of its configuration."""
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:  # plain HTTP: no authorities to load
        page = (await client.get(f"{worker.health}/metrics")).text
    (line,) = [line for line in page.splitlines() if line.startswith("clotho_config_version ")]
    return float(line.split()[1])


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all prompts, and a second version of the one that judges text conditions."""
    folder = tmp_path_factory.mktemp("deployed") / "prompts"
    shutil.copytree(loader.BUNDLED, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (folder / "resolution" / "v2.md").write_bytes((folder / "resolution" / "v1.md").read_bytes() + b"\nBe brief.\n")
    return folder


@pytest.fixture(scope="module")
async def workers(stack: EmbeddedStack, prompts: Path) -> AsyncIterator[list[WorkerProcess]]:
    """Four processes, one for each role, with that folder."""
    settings = {"PROMPTS_DIR": str(prompts)}
    await stack.end_workflows()
    started = await asyncio.gather(*(stack.start_worker(role, environment=settings) for role in ROLES))
    yield started
    await asyncio.gather(*(worker.stop() for worker in started))


@pytest.fixture
async def current_again(operator: Operator) -> AsyncIterator[None]:
    yield
    await operator.clotho("ai-version", "set", A, "--reason", "the test is over")
    # Whatever became of the test: no open market may need prompts that other tests' workers have not.
    await operator.pool.execute("UPDATE markets SET status = 'canceled' WHERE ai_version = $1", B)


async def test_a_change_reaches_four_worker_processes_within_two_seconds(
    operator: Operator, workers: list[WorkerProcess]
) -> None:
    for wanted in ("50", "null"):
        done = await operator.clotho("config", "set", "llm_daily_budget_usd", wanted, "--reason", "to test")
        committed = time.monotonic()
        assert done.code == 0, done
        version = await operator.pool.fetchval("SELECT max(version) FROM ai_config")
        await asyncio.gather(
            *(eventually(functools.partial(_has, worker, version), "the change", 2) for worker in workers)
        )
        assert time.monotonic() - committed < 2
    refused = await operator.clotho("config", "set", "max_retries", "many", "--reason", "to try")
    assert (refused.code, refused.out) == (2, "")
    assert 'max_retries: "many" is refused' in refused.err
    assert [await config_version(worker) for worker in workers] == [version] * 4


async def _has(worker: WorkerProcess, version: int) -> bool:
    return await config_version(worker) == version


async def asked(operator: Operator, market_id: UUID) -> dict[str, Any]:
    """Version, model and prompt's hash of the judgements that a market was resolved by."""
    version = await operator.pool.fetchval("SELECT ai_version FROM markets WHERE id = $1", market_id)
    calls = await operator.pool.fetch(
        "SELECT DISTINCT model, prompt_sha256 FROM llm_calls WHERE ai_version = $1 AND prompt_type = 'resolution'",
        version,
    )
    return {"version": version, "asked": [(call["model"], call["prompt_sha256"]) for call in calls]}


@pytest.mark.usefixtures("current_again")
async def test_a_market_keeps_its_prompts_to_the_end(
    operator: Operator, workers: list[WorkerProcess], prompts: Path
) -> None:
    here = {"PROMPTS_DIR": str(prompts)}
    old = await operator.propose(await operator.text_question(FIRST, soon(timedelta(seconds=20))))
    await operator.becomes(old, "active")
    create = ("ai-version", "create", B, "--prompt", "resolution=v2", "--reason", "brevity")
    for command in (create, ("ai-version", "set", B, "--reason", "brevity")):
        done = await operator.clotho(*command, settings=here)
        assert done.code == 0, done
    new = await operator.propose(await operator.text_question(SECOND, soon(timedelta(seconds=14))))

    without_v1 = prompts.with_name("without")
    shutil.copytree(prompts, without_v1)
    (without_v1 / "resolution" / "v1.md").unlink()
    refused = await operator.clotho("worker", "--role", "llm", settings={"PROMPTS_DIR": str(without_v1)})
    assert refused.code == 1
    named = set(re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", refused.err))
    bound = await operator.pool.fetch("SELECT id FROM markets WHERE ai_version = $1 AND status <> 'finalized'", A)
    assert named
    assert named <= {str(row["id"]) for row in bound}
    assert "prompts/resolution/v1.md is missing" in refused.err

    assert await operator.status(old) == "active", "it was resolved before the version was another"
    listed = (await operator.clotho("ai-version", "list", "--json")).data
    states = {row["version"]: (row["current"], row["open_markets"] > 0) for row in listed}
    assert (states[A], states[B]) == ((False, True), (True, True))
    await operator.ends([old, new])
    v1, v2 = (sha256_hex((prompts / "resolution" / f"{name}.md").read_bytes()) for name in ("v1", "v2"))
    assert await asked(operator, old) == {"version": A, "asked": [("gpt-3.5-turbo", v1)]}
    assert await asked(operator, new) == {"version": B, "asked": [("gpt-4o-mini", v2)]}
