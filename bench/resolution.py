"""Questions with known answers through the real draft, rehearsal and resolver code.

`python -m bench.resolution --json`: 500 questions made from random pairs of dates over all bundled series, each
drafted by the model, rehearsed and resolved by the steps themselves against the embedded source site. Series of one's
own: `--data-dir` with a `series.jsonl` of the same shape.
"""

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.llm import LlmSteps
from activities.sources import SourceSteps
from db import markets, proposals
from db.pool import Pool, connect
from deploy.local.data import FOLDER, SERIES_FILE, Series, load_series, truth
from deploy.local.proposals import series_proposal
from deploy.local.temporary import temporary_stack
from domain import ids
from domain.market import CollectRequest, DraftRequest, RehearseRequest
from domain.status import MarketStatus
from domain.steps import Role
from workers import settings as worker_settings
from workers.clients import steps_owners

TRADING = timedelta(hours=1)


def questions(series: list[Series], count: int, chance: random.Random) -> list[tuple[Series, date, date]]:
    """Random pairs of dates; every series comes once before one comes twice."""
    usable = [one for one in series if len(one.observations) > 1]
    pairs = sum(len(one.observations) * (len(one.observations) - 1) // 2 for one in usable)
    # The same question twice is one market, so a series with few observations comes as often as it has pairs.
    asked: dict[tuple[str, date, date], tuple[Series, date, date]] = {}
    while len(asked) < min(count, pairs):
        for one in chance.sample(usable, len(usable)):
            due, resolution = sorted(chance.sample([o.date for o in one.observations], 2))
            asked.setdefault((one.key, due, resolution), (one, due, resolution))
    return list(asked.values())[:count]


async def measure(count: int, seed: int, data_dir: Path) -> dict[str, Any]:
    """Resolve `count` questions and compare with the truth."""
    asked_about = questions(list(load_series(data_dir / SERIES_FILE)), count, random.Random(seed))
    parts = ("workers", "temporal", "solana", "valkey")
    with temporary_stack(without=parts, site_data_dir=data_dir) as stack:
        await stack.supervisor.start()
        try:
            async with AsyncExitStack() as resources:
                settings = worker_settings.WorkerSettings.model_validate(
                    {name.lower(): value for name, value in stack.environment.items()}
                )
                pool = await resources.enter_async_context(await connect(stack.environment["DATABASE_URL"]))
                llm, *_ = await steps_owners(Role.LLM, settings, pool, resources)
                sources, *_ = await steps_owners(Role.SOURCES, settings, pool, resources)
                assert isinstance(llm, LlmSteps)
                assert isinstance(sources, SourceSteps)
                started = time.monotonic()
                gate = asyncio.Semaphore(8)
                outcomes = await asyncio.gather(
                    *(_one(gate, number, question, pool, llm, sources) for number, question in enumerate(asked_about))
                )
                seconds = time.monotonic() - started
        finally:
            await stack.supervisor.stop()
    resolved = [right for kind, right in outcomes if kind == "resolved"]
    return {
        "questions": len(outcomes),
        "series": len({one.key for one, _, _ in asked_about}),
        "resolved_without_llm": round(len(resolved) / len(outcomes), 4),
        "right": round(sum(resolved) / len(resolved), 4) if resolved else None,
        "abstentions": dict(Counter(kind for kind, _ in outcomes if kind != "resolved")),
        "seconds": round(seconds, 1),
    }


async def _one(
    gate: asyncio.Semaphore,
    number: int,
    question: tuple[Series, date, date],
    pool: Pool,
    llm: LlmSteps,
    sources: SourceSteps,
) -> tuple[str, bool]:
    """What became of one question (`resolved`, or why not), and whether the outcome is the true one."""
    series, due, resolution = question
    market_id = ids.market_id("proposal", str(number))
    expiry = (datetime.now(UTC) + TRADING).replace(microsecond=0)
    proposal = series_proposal(series, due, resolution, expiry=expiry, proposer="bench")
    environment = ActivityEnvironment()
    async with gate:
        await proposals.insert(pool, market_id, str(number), proposal)
        drafted = (await environment.run(llm.draft_market, DraftRequest(market_id=market_id))).draft
        if drafted is None:
            return "refused_by_draft", False
        if drafted.has_text_conditions:
            return "needs_judgement", False
        rehearsal = await environment.run(
            sources.rehearse_rules, RehearseRequest(market_id=market_id, rules_sha256=drafted.rules_sha256)
        )
        if rehearsal.blocking:
            return f"rehearsal_{rehearsal.blocking[0].code}", False
        async with pool.acquire() as connection:
            await markets.move(connection, market_id, MarketStatus.ACTIVE)
        request = CollectRequest(
            market_id=market_id, rules_sha256=drafted.rules_sha256, look=1, at=drafted.expiry + timedelta(seconds=1)
        )
        try:
            verdict = await environment.run(sources.collect_evidence, request)
        except ApplicationError as error:
            return str(error.type), False
        if verdict.outcome is None:
            return str(verdict.abstention), False
        return "resolved", verdict.outcome == truth(series, due, resolution)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.resolution", description=__doc__)
    parser.add_argument("--questions", type=int, default=500, help="how many (default 500)")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of dates (default 1)")
    parser.add_argument("--data-dir", type=Path, default=FOLDER, help="folder with series.jsonl and questions.jsonl")
    parser.add_argument("--json", action="store_true", help="one JSON line (it is the only form)")
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(measure(arguments.questions, arguments.seed, arguments.data_dir))))


if __name__ == "__main__":
    main()
