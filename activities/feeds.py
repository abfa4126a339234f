"""The step that reads news feeds: fetched, parsed, stored once, decided by rules. One bad feed never stops the rest."""

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import reduce

from temporalio.exceptions import ApplicationError

from activities.base import heartbeating, implements
from activities.fetch import FeedDocument, Fetcher
from db import feeds, news
from db.feeds import StoredFeed
from db.news import Decision
from db.pool import Pool
from domain import errors, steps
from domain.feed_reading import read_feed
from domain.intake import check_proposal
from domain.news import Extraction, Polled, PollRequest
from domain.news_items import NewsItem, extract, proposal_of
from domain.text import clean, cut

RULES = "rules"
"""Who decided, where no model was asked."""

AT_ONCE = 8
"""Feeds that are read at the same time; with 5 MB each it bounds the memory that a poll takes."""

_WHY_LIMIT = 400
"""Characters of what is wrong with a feed."""

_OF_THE_FEED = {kind.type: kind for kind in (errors.SOURCE_UNREACHABLE, errors.SOURCE_REFUSED)}

log = logging.getLogger(__name__)


class FeedSteps:
    """Steps of the role sources that read news feeds."""

    def __init__(self, pool: Pool, fetcher: Fetcher) -> None:
        self._pool = pool
        self._fetcher = fetcher

    @implements(steps.POLL_FEEDS)
    async def poll_feeds(self, request: PollRequest) -> Polled:
        """Read one feed or every enabled one; what is wrong with a feed is recorded with it and stops no other.

        Idempotent because: a feed's items, what the rules make of them and when it was read are committed together, so
        that a repeated attempt reads only the feeds that the first one has not; an item is stored and decided once for
        its hash. The repeated attempt's counts are of what it did itself.
        """
        due = await feeds.due(self._pool, request.feed_id, request.at)
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(feed: StoredFeed) -> Polled:
            async with gate:
                return await self._read(feed, request.at)

        async with heartbeating():
            found = await asyncio.gather(*(one(feed) for feed in due))
        return reduce(_sum, found, Polled()).model_copy(
            update={
                "waiting": await news.count_waiting(self._pool, request.at),
                "candidates": await news.count_to_start(self._pool),
            }
        )

    async def _read(self, feed: StoredFeed, at: datetime) -> Polled:
        now = max(datetime.now(UTC), at)
        try:
            document = await self._fetcher.get_feed(feed.url, feed.etag, feed.last_modified)
            # In a thread: a large document takes a while, and the other feeds go on.
            items = await asyncio.to_thread(_items, document) if document is not None else []
        except ApplicationError as error:
            if error.type not in _OF_THE_FEED:
                raise
            return await self._failed(feed, now, error.message.removesuffix(f": {_OF_THE_FEED[error.type].next}."))
        except Exception as error:  # whatever a parser makes of a strange document is the document's fault
            why = str(error) if isinstance(error, ValueError) else f"the document cannot be parsed ({error!r})"
            return await self._failed(feed, now, why)
        if document is None:
            await feeds.record_read(self._pool, feed.id, now, feed.etag, feed.last_modified)
            return Polled(feeds=1, unchanged=1)
        async with self._pool.acquire() as connection, connection.transaction():
            stored = await news.store(connection, feed.id, items)
            await feeds.record_read(connection, feed.id, now, document.etag, document.last_modified)
            await news.decide(connection, decided_by_rules(stored.first, feed.name, now))
        return Polled(feeds=1, items=len(stored.first) + stored.duplicates, duplicates=stored.duplicates)

    async def _failed(self, feed: StoredFeed, now: datetime, why: str) -> Polled:
        why = cut(clean(why).rstrip("."), _WHY_LIMIT)
        sentence = f"The feed was not read, as {why}: if it stays so, `clotho feed disable {feed.name}`."
        await feeds.record_failure(self._pool, feed.id, now, sentence)
        log.warning("feed failed", extra={"feed": feed.name, "why": sentence})
        return Polled(feeds=1, failed=1)


def _items(document: FeedDocument) -> list[NewsItem]:
    return read_feed(document.url, document.content_type, document.body)


def _sum(one: Polled, other: Polled) -> Polled:
    counts = other.model_dump()
    return Polled.model_validate({name: count + counts[name] for name, count in one.model_dump().items()})


def decided_by_rules(items: Iterable[NewsItem], source: str, now: datetime) -> list[Decision]:
    """What the keyword rules decide; items on which they are silent are left out."""
    found = ((item, extract(item, now)) for item in items)
    return [decision(item, extraction, RULES, source, now) for item, extraction in found if extraction is not None]


def decision(item: NewsItem, extraction: Extraction, decided_by: str, source: str, now: datetime) -> Decision:
    """What is recorded of an item; the door that every proposal passes may still turn it away."""
    proposal = proposal_of(item, extraction, source) if extraction.worth_it else None
    if proposal is not None and (issues := check_proposal(proposal, now)):
        why = f"It is refused at the door: {issues[0].field} {issues[0].message}"
        extraction = extraction.model_copy(update={"worth_it": False, "question": "", "reason": cut(why, 300)})
        proposal = None
    return Decision(content_sha256=item.content_sha256, extraction=extraction, decided_by=decided_by, proposal=proposal)
