"""News intake from feed to market: at the command line, over HTTPS, with a worker, the scripted model and Temporal."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
from temporalio.client import WorkflowExecutionStatus

from bench.intake import site
from bench.news_site import BROKEN, feeds_of, url_of
from db import feeds, proposals
from domain.ids import market_workflow_id
from domain.market import MarketEnd
from tests.conftest import EmbeddedStack
from tests.operator import Operator

ITEMS, FEEDS = 200, 8


@asynccontextmanager
async def news_worker(stack: EmbeddedStack) -> AsyncIterator[Path]:
    """A worker whose sources are news feeds; the site's folder, in which the edition stands."""
    async with site(ITEMS, FEEDS) as (folder, address):
        settings = {"SOURCES_CONNECT_TO": address, "SOURCES_CA_FILE": str(folder / "ca.pem")}
        await stack.end_workflows()
        worker = await stack.start_worker(environment=settings)
        try:
            yield folder
        finally:
            await worker.stop()


@pytest.fixture(scope="module")
async def folder(stack: EmbeddedStack) -> AsyncIterator[Path]:
    async with news_worker(stack) as folder:
        yield folder


async def test_feeds_become_markets_once_and_bad_feeds_stop_nobody(folder: Path, operator: Operator) -> None:
    *names, hanging = feeds_of(FEEDS)
    for name in names:
        added = await feeds.add(operator.pool, url_of(name), name, "tests")
        assert added is not None
    assert (await operator.clotho("feed", "add", url_of(hanging), "--name", hanging)).code == 0
    assert (await operator.clotho("feed", "disable", hanging)).code == 0
    started = {}
    for edition in range(4):
        (folder / "edition").write_text(str(edition))
        polled = await operator.clotho("feed", "poll", "--all", "--json")
        assert polled.code == 1  # four feeds are broken, and that is told
        counts = polled.data["polled"]
        assert (counts["feeds"], counts["failed"]) == (FEEDS - 1, len(BROKEN) - 1)
        assert counts["items"] > 0
        started[edition] = polled.data["started"]
    found = await operator.pool.fetch("SELECT market_id, started_at FROM candidates WHERE worth_it")
    assert len(found) == sum(started.values()) > 0
    for row in found:
        assert row["started_at"] is not None
        market = operator.temporal.get_workflow_handle(market_workflow_id(row["market_id"]), result_type=MarketEnd)
        assert (await market.describe()).status is not WorkflowExecutionStatus.TERMINATED
        assert (await proposals.get(operator.pool, row["market_id"])).proposer.startswith("news:feed-")
    again = await operator.clotho("feed", "poll", "feed-00", "--json")
    assert again.code == 0
    assert again.data == {
        "polled": {
            "feeds": 1, "failed": 0, "unchanged": 1, "items": 0, "duplicates": 0, "waiting": 0, "candidates": 0
        },
        "decided": 0, "started": 0, "left": "",
    }  # fmt: skip
    listed = {feed["name"]: feed for feed in (await operator.clotho("feed", "list", "--json")).data}
    assert {name for name, feed in listed.items() if feed["last_error"]} == set(names) & set(BROKEN)
    assert "redirects" in listed["endless-redirect"]["last_error"]


async def test_an_article_by_hand_is_one_market_however_often_it_is_sent(folder: Path, operator: Operator) -> None:
    title = b"Acme to unveil the Roadster on September 9, 2031"
    first = await operator.clotho("ingest", "article", "-", "--json", stdin=title + b"\nAt its plant in Turin.")
    assert first.code == 0
    assert first.data["decided_by"] == "rules"
    market_id = UUID(first.data["market_id"])
    await operator.temporal.get_workflow_handle(market_workflow_id(market_id)).describe()
    again = await operator.clotho("ingest", "article", "-", "--json", stdin=title + b"\n  At its plant in TURIN.")
    assert (again.data["known"], again.data["market_id"]) == (True, str(market_id))
    retold = await operator.clotho("ingest", "article", "-", "--json", stdin=title + b" - Wire\nIn Turin, it says.")
    assert retold.data["duplicate_of"] == first.data["content_sha256"]
    assert retold.data["market_id"] is None


async def test_where_the_rules_are_silent_the_model_decides(folder: Path, operator: Operator) -> None:
    text = b"Zebras to return to the park\nThe park's keepers plan it until September 9, 2031."
    asked = await operator.clotho("ingest", "article", "-", "--json", stdin=text)
    assert asked.code == 0
    assert asked.data["decided_by"].startswith("ai_v")
    assert asked.data["extraction"]["question"] == "Will Zebras return to the park by September 9, 2031?"
    assert asked.data["market_id"] is not None


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", "http://news.example.org/feed"),
        ("add", "https://127.0.0.1/feed"),
        ("add", "https://news.example.org/feed", "--name", "All of it"),
        ("add", "https://news.example.org/feed", "--name", "all"),
        ("remove", "no-such-feed"),
        ("poll",),
    ],
)
async def test_bad_input_is_told_in_a_sentence_and_changes_nothing(
    operator: Operator, arguments: tuple[str, ...]
) -> None:
    before = await feeds.every(operator.pool)
    answer = await operator.clotho("feed", *arguments)
    assert answer.code == 2
    assert answer.err.strip().endswith(".")
    assert await feeds.every(operator.pool) == before


async def test_the_schedule_is_made_once(operator: Operator) -> None:
    """The last test: should a quarter of an hour begin meanwhile, feeds are read."""
    try:
        assert (await operator.clotho("schedule", "create", "intake", "--json")).data["created"]
        assert not (await operator.clotho("schedule", "create", "intake", "--json")).data["created"]
        described = await operator.temporal.get_schedule_handle("intake").describe()
        first, second, *_ = described.info.next_action_times
        assert (second - first).total_seconds() == 900
    finally:
        await operator.temporal.get_schedule_handle("intake").delete()
