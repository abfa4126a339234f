"""Stored news: each item once, one event once, one market for each item that is worth it, whoever comes first."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from activities.feeds import decided_by_rules
from activities.news import IntakeSteps
from db import audit, feeds, news, proposals
from db.pool import Pool, connect
from domain.news import HandOverRequest
from domain.news_items import RECENT, NewsItem, item_of

NOW = datetime(2026, 6, 1, tzinfo=UTC)
LAUNCH = "Acme to unveil the Roadster on September 9, 2031"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with await connect(database_url) as opened:
        yield opened


def item(title: str, content: str = "") -> NewsItem:
    made = item_of(url="https://news.example.org/1", title=title, content=content)
    assert made is not None
    return made


async def intake(pool: Pool, *items: NewsItem, feed: UUID | None = None) -> news.Stored:
    """What a poll does with a feed's items."""
    async with pool.acquire() as connection, connection.transaction():
        stored = await news.store(connection, feed, items)
        await news.decide(connection, decided_by_rules(stored.first, "wire", NOW))
    return stored


async def test_feeds_that_tell_of_one_event_at_once_have_one_first_and_one_market(pool: Pool) -> None:
    told = [item(f"{LAUNCH} - {name}", f"Says {name}.") for name in ("Reuters", "AP", "AFP", "dpa", "ANSA", "EFE")]
    stored = await asyncio.gather(*(intake(pool, one) for one in told))
    assert sum(len(one.first) for one in stored) == 1
    assert sum(one.duplicates for one in stored) == len(told) - 1
    assert await pool.fetchval("SELECT count(*) FROM news_items") == len(told)
    assert len(await news.to_start(pool, 10)) == 1


async def test_the_same_item_again_is_nothing_new(pool: Pool) -> None:
    assert len((await intake(pool, item(LAUNCH, "In Turin."), item(LAUNCH, "In Turin."))).first) == 1
    again = await intake(pool, item(LAUNCH.upper(), "<p>In Turin.</p>"))
    assert (again.first, again.duplicates) == ((), 0)
    assert await pool.fetchval("SELECT count(*) FROM proposals") == 1


@pytest.mark.parametrize(
    ("title", "retold", "other"),
    [
        ("Fed lifts rates by 25 points", "Update: Fed lifts rates by 25 points", "Fed lifts rates by 50 points"),
        ("ЦБ поднял ставку до 16%", "ЦБ поднял ставку до 16% - ТАСС", "Рубль упал к доллару на 16%"),  # noqa: RUF001 - Russian
        ("日銀が金利を0.5%に引き上げ", "日銀が金利を0.5%に引き上げる", "米国の失業率は0.5%に低下"),
    ],
    ids=["English", "Russian", "Japanese"],
)  # fmt: skip
async def test_one_event_is_found_in_any_letters(pool: Pool, title: str, retold: str, other: str) -> None:
    await intake(pool, item(title, "One."))
    assert (await intake(pool, item(retold, "Two."))).duplicates == 1
    assert (await intake(pool, item(other, "Three."))).duplicates == 0


async def test_what_was_news_long_ago_may_happen_again(pool: Pool) -> None:
    await intake(pool, item("Fed lifts rates by 25 points", "In May."))
    await pool.execute("UPDATE news_items SET created_at = created_at - $1::interval", RECENT + timedelta(hours=1))
    assert len((await intake(pool, item("Fed lifts rates by 25 points", "In June."))).first) == 1


async def test_an_intake_that_fails_leaves_nothing_behind(pool: Pool) -> None:
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        stored = await news.store(connection, None, [item(LAUNCH)])
        await news.decide(connection, decided_by_rules(stored.first, "wire", NOW))
        await transaction.rollback()  # the worker died
    assert await pool.fetchval("SELECT count(*) FROM news_items") == 0
    assert await news.to_start(pool, 10) == []
    assert len((await intake(pool, item(LAUNCH))).first) == 1


async def test_a_candidate_is_handed_over_until_its_start_is_recorded(pool: Pool) -> None:
    await intake(pool, item(LAUNCH))
    steps = IntakeSteps(pool)
    (candidate,) = (await steps.hand_over_candidates(HandOverRequest())).candidates
    assert (await steps.hand_over_candidates(HandOverRequest())).candidates == (candidate,)
    assert (await proposals.get(pool, candidate.market_id)).text == candidate.question
    started = HandOverRequest(started=(candidate.market_id,))
    assert (await steps.hand_over_candidates(started)).candidates == ()
    assert (await steps.hand_over_candidates(started)).candidates == ()
    assert [entry.action for entry in await audit.entries(pool, "market", str(candidate.market_id))] == [
        "candidate_found"
    ]


async def test_a_removed_feed_leaves_its_items(pool: Pool) -> None:
    feed = await feeds.add(pool, "https://news.example.org/feed", "wire", "tests")
    assert feed is not None
    assert await feeds.add(pool, "https://news.example.org/feed", "other", "tests") is None
    await intake(pool, item(LAUNCH), feed=feed.id)
    assert await news.count_by_feed(pool) == {feed.id: 1}
    await feeds.remove(pool, feed, "tests")
    assert await feeds.every(pool) == []
    assert await pool.fetchval("SELECT count(*) FROM news_items") == 1
    assert [entry.action for entry in await audit.entries(pool, "feed", "wire")] == ["feed_added", "feed_removed"]
