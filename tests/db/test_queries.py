"""Query modules: what they promise when attempts repeat, race and break rules."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from temporalio.exceptions import ApplicationError

from db import evidence, markets, proposals, step_results
from db.pool import Connection, Pool, connect
from domain import steps
from domain.canonical import sha256_hex
from domain.extraction import Document
from domain.market import Canceled, Finalized, Proposal
from domain.rules import Answer
from domain.status import MARKET_MOVES, MarketStatus
from domain.verdict import Verdict
from tests.drafts import draft


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[Pool]:
    async with await connect(postgres_url) as opened:
        yield opened


async def new_market(pool: Pool, status: MarketStatus = MarketStatus.DRAFT) -> UUID:
    market_id = uuid4()
    made = draft(title=f"Market {market_id}")
    async with pool.acquire() as connection:
        await markets.store_rules(connection, made.rules)
        row = markets.new_draft(market_id, "manual", made, "ai_v1.0.0_gpt35_20240601")
        await markets.insert(connection, row.model_copy(update={"status": status}))
    return market_id


async def test_of_many_attempts_at_once_one_has_its_effect_and_all_get_its_result(pool: Pool) -> None:
    key, effects = secrets.token_hex(8), []

    async def attempt(number: int) -> Finalized:
        async def effect(_: Connection) -> None:
            effects.append(number)
            await asyncio.sleep(0)

        result = Finalized(signature=f"signature-{number}", slot=number)
        return await step_results.commit_once(pool, steps.FINALIZE_MARKET, key, result, effect)

    results = await asyncio.gather(*(attempt(number) for number in range(8)))
    assert len(effects) == 1
    assert {result.slot for result in results} == set(effects)


async def test_an_effect_that_fails_leaves_no_result(pool: Pool) -> None:
    key = secrets.token_hex(8)

    async def effect(_: Connection) -> None:
        raise RuntimeError("the effect failed")

    with pytest.raises(RuntimeError):
        await step_results.commit_once(pool, steps.CANCEL_MARKET, key, Canceled(signature=None), effect)
    assert await step_results.stored(pool, steps.CANCEL_MARKET, key) is None


@pytest.mark.parametrize("old", list(MarketStatus))
async def test_the_database_makes_legal_moves_only(pool: Pool, old: MarketStatus) -> None:
    for new in MarketStatus:
        market_id = await new_market(pool, old)
        async with pool.acquire() as connection:
            if new is old or new in MARKET_MOVES[old]:
                await markets.move(connection, market_id, new)
                assert (await markets.get(pool, market_id)).status is new
            else:
                with pytest.raises(ApplicationError) as refused:
                    await markets.move(connection, market_id, new)
                assert refused.value.type == "IllegalMove"
                assert (await markets.get(pool, market_id)).status is old


async def test_an_unknown_market_is_named(pool: Pool) -> None:
    unknown = uuid4()
    with pytest.raises(ApplicationError, match=str(unknown)) as refused:
        await markets.get(pool, unknown)
    assert refused.value.type == "UnknownMarket"


async def test_rules_come_back_as_they_went_in(pool: Pool) -> None:
    rules = draft().rules
    stored = await markets.store_rules(pool, rules)
    assert await markets.store_rules(pool, rules) == stored
    assert await markets.load_rules(pool, stored) == rules


async def test_the_same_key_stores_one_proposal(pool: Pool) -> None:
    market_id, key = uuid4(), secrets.token_hex(8)
    first = Proposal(text="Will it rain in Lagos on 2027-01-01?", proposer="somebody")
    other = first.model_copy(update={"text": "Will it snow in Lagos on 2027-01-01?"})
    inserted = await asyncio.gather(*(proposals.insert(pool, market_id, key, first) for _ in range(20)))
    assert sum(inserted) == 1
    assert not await proposals.insert(pool, market_id, key, other)
    assert await proposals.get(pool, market_id) == first


async def test_evidence_is_stored_compressed_once_and_read_back_byte_by_byte(pool: Pool) -> None:
    body = b"<html>" + b"the same line of text\n" * 5_000 + secrets.token_bytes(8)
    document = Document(sha256=sha256_hex(body), content_type="text/html", body=body)
    for market_id in (await new_market(pool), await new_market(pool)):
        async with pool.acquire() as connection:
            await evidence.store(connection, market_id, 1, "a", "https://a.example/", document, datetime.now(UTC))
        (entry,) = await evidence.of_look(pool, market_id, 1)
        assert entry.document() == document
    sizes = await pool.fetch("SELECT length(body) FROM evidence WHERE sha256 = $1", document.sha256)
    assert len(sizes) == 1
    assert sizes[0]["length"] < len(body) / 20


async def test_a_stored_body_that_was_altered_reads_as_missing_or_other_never_as_an_error(pool: Pool) -> None:
    body = b"evidence " * 100
    document = Document(sha256=sha256_hex(body), content_type="text/plain", body=body)
    market_id = await new_market(pool)
    async with pool.acquire() as connection:
        await evidence.store(connection, market_id, 1, "a", "https://a.example/", document, datetime.now(UTC))
    await pool.execute("UPDATE evidence SET body = set_byte(body, 5, 0) WHERE sha256 = $1", document.sha256)
    (entry,) = await evidence.of_look(pool, market_id, 1)
    assert entry.body != body


async def test_a_market_is_overdue_when_nobody_has_looked_at_its_sources_in_time(database_url: str) -> None:
    # A database of its own, since all markets count.
    async with await connect(database_url) as pool:
        late = timedelta(minutes=15)
        assert await markets.overdue(pool, late) == (0, 0)
        waiting, other = [await new_market(pool, MarketStatus.ACTIVE) for _ in range(2)]

        async def expire(market_id: UUID, ago: timedelta) -> None:
            rules = (await markets.get(pool, market_id)).rules_sha256
            settles = timedelta(seconds=(await markets.load_rules(pool, rules)).not_yet_published.settle_after)
            expiry = datetime.now(UTC) - settles - ago
            await pool.execute("UPDATE markets SET expiry = $2 WHERE id = $1", market_id, expiry)

        await expire(waiting, timedelta(minutes=14))
        assert await markets.overdue(pool, late) == (0, 0)
        await expire(waiting, timedelta(minutes=16))
        assert await markets.overdue(pool, late) == (1, 0)
        # Another one is resolved meanwhile: it is not the whole that stands.
        rules = (await markets.get(pool, other)).rules_sha256
        async with pool.acquire() as connection:
            verdict = Verdict(outcome=Answer.YES, abstention=None, results=())
            await evidence.record_resolution(connection, other, 1, rules, verdict, sha256_hex(b""))
        assert await markets.overdue(pool, late) == (1, 1)
