"""Configuration and versions in the database: audited, told to whoever listens, and never left half changed."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from activities.configuration import LiveConfiguration
from db import ai_config, ai_versions, audit, markets
from db.pool import Pool, connect
from domain.ai import VersionError
from domain.config import ConfigError
from domain.status import MarketStatus
from prompts import loader
from tests.drafts import draft
from tests.support import eventually
from workers.versions import StartError, check_versions

A, B = "ai_v1.0.0_gpt35_20240601", "ai_v1.1.0_gpt4_20260701"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with await connect(database_url) as opened:
        yield opened


async def value(pool: Pool, key: str) -> Any:
    return await ai_config.get(pool, key)


async def audited(pool: Pool) -> list[tuple[str, str, str, dict[str, Any]]]:
    return [(e.action, e.entity_id, e.actor, e.details) for e in await audit.entries(pool)]


async def market(pool: Pool, version: str, status: MarketStatus = MarketStatus.ACTIVE) -> UUID:
    market_id, made = uuid4(), draft()
    async with pool.acquire() as connection:
        await markets.store_rules(connection, made.rules)
        row = markets.new_draft(market_id, "manual", made, version)
        await markets.insert(connection, row.model_copy(update={"status": status}))
    return market_id


async def create(pool: Pool, version: str = B, **changes: str) -> None:
    await ai_versions.create(pool, version, changes, hashes(), "me", "to test")


def hashes() -> dict[str, str]:
    """Of all prompt types in two versions."""
    types = ("market_generation", "validation", "entity_extraction", "duplicate_detection", "dispute_review",
             "safety_check", "resolution")  # fmt: skip
    return {f"{type}/{name}": digit * 64 for type in types for name, digit in (("v1", "1"), ("v2", "2"))}


async def test_the_migrations_leave_a_configuration_that_can_be_read(pool: Pool) -> None:
    config = (await ai_config.load(pool)).config
    assert (config.ai_version, config.llm_model, config.max_retries) == (A, "gpt35", 3)
    assert config.llm_daily_budget_usd is None


async def test_a_change_is_audited_with_who_old_new_and_why(pool: Pool) -> None:
    assert await ai_config.put(pool, "max_retries", 1, "anna", "an outage") == 3
    assert await value(pool, "max_retries") == 1
    details = {"old": 3, "new": 1, "reason": "an outage"}
    assert await audited(pool) == [("config_update", "max_retries", "anna", details)]
    await ai_config.put(pool, "llm_daily_budget_usd", 5, "anna", "a limit")
    assert await ai_config.put(pool, "llm_daily_budget_usd", None, "anna", "no limit") == 5
    assert await value(pool, "llm_daily_budget_usd") is None
    # The same again changes nothing.
    assert await ai_config.put(pool, "max_retries", 1, "anna", "an outage") == 1
    assert len(await audited(pool)) == 3


@pytest.mark.parametrize(("key", "bad"), [("max_retries", 9), ("colour", "red"), ("llm_model", "gpt4")])
async def test_what_is_refused_changes_nothing(pool: Pool, key: str, bad: Any) -> None:
    before = await ai_config.load(pool)
    with pytest.raises(ConfigError, match=key):
        await ai_config.put(pool, key, bad, "anna", "to try")
    assert await ai_config.load(pool) == before
    assert await audited(pool) == []


async def test_a_live_view_follows_every_change_also_by_sql(database_url: str, pool: Pool) -> None:
    async with LiveConfiguration(database_url, poll=3_600) as live:
        await ai_config.put(pool, "max_retries", 1, "anna", "an outage")
        await eventually(lambda: _is(live, max_retries=1), "the change")
        await pool.execute("UPDATE ai_config SET value = '2' WHERE key = 'max_retries'")
        await eventually(lambda: _is(live, max_retries=2), "the change by SQL")


async def test_a_live_view_survives_a_lost_connection_and_a_lost_notification(database_url: str, pool: Pool) -> None:
    async with LiveConfiguration(database_url, poll=0.2) as live:
        await pool.execute("ALTER TABLE ai_config DISABLE TRIGGER ai_config_tells")
        await ai_config.put(pool, "max_retries", 1, "anna", "nobody is told")
        await eventually(lambda: _is(live, max_retries=1), "what the poll finds")
    async with LiveConfiguration(database_url, poll=3_600) as live:
        await pool.execute("ALTER TABLE ai_config ENABLE TRIGGER ai_config_tells")
        await pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE '%ai_config%' AND pid <> pg_backend_pid()"
        )
        await ai_config.put(pool, "max_retries", 2, "anna", "while it is away")
        await eventually(lambda: _is(live, max_retries=2), "what was changed meanwhile")


async def test_a_bad_value_by_sql_leaves_the_last_good_state_and_stops_a_start(database_url: str, pool: Pool) -> None:
    async with LiveConfiguration(database_url, poll=0.1) as live:
        await pool.execute("UPDATE ai_config SET value = '77' WHERE key = 'max_retries'")
        await ai_config_read(pool)
        assert (await live.now()).max_retries == 3
        await pool.execute("UPDATE ai_config SET value = '0' WHERE key = 'max_retries'")
        await eventually(lambda: _is(live, max_retries=0), "the mended value")
    await pool.execute("UPDATE ai_config SET value = '77' WHERE key = 'max_retries'")
    with pytest.raises(ConfigError, match=r"^max_retries: 77 is refused"):
        async with LiveConfiguration(database_url):
            pass


async def ai_config_read(pool: Pool) -> None:
    """Wait until the live view, which polls ten times a second, has read the table again."""
    seen = await pool.fetchval("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'ai_config'")

    async def again() -> bool:
        now = await pool.fetchval("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'ai_config'")
        return bool(now > seen)

    await eventually(again, "another reading")


async def _is(live: LiveConfiguration, **wanted: Any) -> bool:
    config = await live.now()
    return all(getattr(config, key) == value for key, value in wanted.items())


async def test_a_live_view_without_a_database_fails_at_once() -> None:
    with pytest.raises((OSError, asyncpg.PostgresError)):
        async with LiveConfiguration("postgresql://nobody@127.0.0.1:9/nothing"):
            pass


async def test_a_new_version_takes_the_current_ones_prompts_but_those_named(pool: Pool) -> None:
    await create(pool, resolution="v2")
    made = await ai_versions.get(pool, B)
    assert (made.prompts["resolution"].version, made.prompts["resolution"].sha256) == ("v2", "2" * 64)
    assert (made.prompts["validation"].version, made.prompts["validation"].sha256) == ("v1", "1" * 64)
    assert await value(pool, "ai_version") == A, "it decides nothing until it is set"


@pytest.mark.parametrize(
    ("version", "changes", "why"),
    [
        ("ai_v2_gpt4_20260701", {}, "does not read"),
        (A, {}, "is registered already"),
        (B, {"poetry": "v1"}, "no prompt type 'poetry', known are dispute_review"),
        (B, {"resolution": "v9"}, "prompts/resolution/v9.md is missing"),
    ],
)
async def test_a_bad_new_version_is_refused(pool: Pool, version: str, changes: dict[str, str], why: str) -> None:
    with pytest.raises(VersionError, match=why):
        await create(pool, version, **changes)
    assert await audited(pool) == []
    assert len(await ai_versions.every(pool)) == 1


async def test_version_and_model_are_changed_together_and_back(pool: Pool) -> None:
    await create(pool)
    assert await ai_versions.make_current(pool, B, "anna", "better") == A
    assert (await value(pool, "ai_version"), await value(pool, "llm_model")) == (B, "gpt4")
    action, entity, actor, details = (await audited(pool))[-1]
    assert (action, entity, actor) == ("ai_version_update", B, "anna")
    assert (details["old"], details["new"], details["reason"]) == (A, B, "better")
    await ai_versions.make_current(pool, A, "anna", "worse")
    assert (await value(pool, "ai_version"), await value(pool, "llm_model")) == (A, "gpt35")
    with pytest.raises(VersionError, match="not registered"):
        await ai_versions.make_current(pool, "ai_v9.9.9_gpt4_20260701", "anna", "to try")


async def test_a_deprecated_version_can_be_brought_back_for_six_months(pool: Pool) -> None:
    await create(pool)
    with pytest.raises(VersionError, match="is the current one"):
        await ai_versions.deprecate(pool, A, "anna", "old")
    until = await ai_versions.deprecate(pool, B, "anna", "bad")
    assert timedelta(days=180) < until - datetime.now(UTC) < timedelta(days=185)
    with pytest.raises(VersionError, match="already"):
        await ai_versions.deprecate(pool, B, "anna", "bad")
    await ai_versions.make_current(pool, B, "anna", "not so bad")
    assert (await ai_versions.get(pool, B)).deprecated_at is None
    await ai_versions.make_current(pool, A, "anna", "bad after all")
    await ai_versions.deprecate(pool, B, "anna", "bad")
    await pool.execute("UPDATE ai_versions SET deprecated_at = now() - interval '184 days' WHERE version = $1", B)
    with pytest.raises(VersionError, match="could be used until"):
        await ai_versions.make_current(pool, B, "anna", "too late")


async def test_the_list_counts_open_markets(pool: Pool) -> None:
    await create(pool)
    for status in (MarketStatus.ACTIVE, MarketStatus.DISPUTED, MarketStatus.FINALIZED, MarketStatus.REJECTED):
        await market(pool, A, status)
    found = {use.version.version: (use.current, use.open_markets) for use in await ai_versions.every(pool)}
    assert found == {A: (True, 2), B: (False, 0)}


async def test_a_first_start_records_the_prompts_and_later_ones_compare(pool: Pool) -> None:
    await check_versions(pool, loader.BUNDLED)
    recorded = (await ai_versions.get(pool, A)).prompts
    assert recorded["resolution"].sha256 == loader.load("resolution").sha256
    await ai_versions.fill_hashes(pool, hashes())
    assert (await ai_versions.get(pool, A)).prompts["resolution"] == recorded["resolution"]
    await asyncio.gather(*(check_versions(pool, loader.BUNDLED) for _ in range(4)))


async def test_a_worker_names_the_markets_whose_version_it_cannot_serve(pool: Pool) -> None:
    await ai_versions.fill_hashes(pool, hashes())
    await create(pool, "ai_v1.0.1_gpt35_20260701", resolution="v2")
    await ai_versions.make_current(pool, "ai_v1.0.1_gpt35_20260701", "anna", "to test")
    markets_of_a = [await market(pool, A) for _ in range(2)]
    with pytest.raises(StartError) as refused:
        await check_versions(pool, loader.BUNDLED)
    sentence = str(refused.value)
    assert A in sentence
    assert all(str(id) in sentence for id in markets_of_a)
    assert "prompts/resolution/v1.md has another hash" in sentence
    await pool.execute("UPDATE markets SET status = 'canceled'")
    with pytest.raises(StartError, match=r"^ai_v1\.0\.1_gpt35_20260701, which new markets are bound to"):
        await check_versions(pool, loader.BUNDLED)
