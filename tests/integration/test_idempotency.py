"""The same cause never makes two markets, however often and however much at once it is sent."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

from cli.proposing import Proposed, propose
from db import proposals
from domain import ids
from domain.market import Proposal
from tests.conftest import WorkerProcess
from tests.drafts import draft
from tests.operator import Operator

NEXT_YEAR = datetime.now(UTC).year + 1
TEXT = f"Will the federal funds rate have increased by {NEXT_YEAR}-03-31 as compared to {NEXT_YEAR}-01-15?"
OTHER_TEXT = f"Will the federal funds rate have increased by {NEXT_YEAR}-06-30 as compared to {NEXT_YEAR}-02-15?"
SOURCE = "Resolves to the value found at https://fred.stlouisfed.org/series/DFF once the data is published."


def proposal(text: str = TEXT) -> Proposal:
    return Proposal(text=text, criteria=SOURCE, proposer="test")


async def stored(operator: Operator, key: str) -> list[tuple[UUID, str]]:
    """Id and text of every proposal with the key."""
    rows = await operator.pool.fetch("SELECT market_id, proposal FROM proposals WHERE idempotency_key = $1", key)
    return [(row["market_id"], row["proposal"]["text"]) for row in rows]


async def markets_of(operator: Operator, *texts: str) -> int:
    count: int = await operator.pool.fetchval(
        "SELECT count(*) FROM markets JOIN proposals ON proposals.market_id = markets.id"
        " WHERE proposal ->> 'text' = ANY($1)",
        texts,
    )
    return count


async def test_sixty_senders_make_one_market(operator: Operator, worker: WorkerProcess) -> None:
    key = "sixty-senders"
    command = ("market", "propose", TEXT, "--criteria", SOURCE, "--key", key, "--json")
    commands = [asyncio.create_task(operator.clotho(*command)) for _ in range(8)]
    sent = await asyncio.gather(*(propose(operator.temporal, operator.pool, proposal(), key=key) for _ in range(52)))
    answers = await asyncio.gather(*commands)
    assert all(answer.code == 0 for answer in answers)
    sent += [Proposed.model_validate(answer.data) for answer in answers]
    (market_id,) = {one.market_id for one in sent}
    assert [one.known for one in sent].count(False) == 1

    await operator.becomes(market_id, "active")
    assert await stored(operator, key) == [(market_id, TEXT)]
    assert await markets_of(operator, TEXT) == 1
    assert await operator.runs(market_id) == 1

    # Of texts with the same key the first one stays, whether text or full draft.
    for other in (proposal(OTHER_TEXT), Proposal(text=OTHER_TEXT, draft=draft(), proposer="test")):
        again = await propose(operator.temporal, operator.pool, other, key=key)
        assert (again.market_id, again.known) == (market_id, True)
    assert await stored(operator, key) == [(market_id, TEXT)]

    # And after the end nothing begins again.
    (end,) = await operator.cancel(market_id)
    assert (end.status, end.outcome) == ("canceled", "VOID")
    answer = await operator.clotho(*command)
    assert (answer.code, answer.data["market_id"], answer.data["known"]) == (0, str(market_id), True)
    assert await operator.runs(market_id) == 1
    assert await markets_of(operator, TEXT, OTHER_TEXT) == 1
    assert len(await operator.records(market_id)) == 1
    assert await operator.purposes(market_id) == [("publish", "landed"), ("cancel", "landed")]


async def test_a_sender_that_died_before_the_start_is_made_up_for(operator: Operator, worker: WorkerProcess) -> None:
    key = "died-before-the-start"
    market_id = ids.market_id("proposal", key)
    assert await proposals.insert(operator.pool, market_id, key, proposal(OTHER_TEXT))
    sent = await propose(operator.temporal, operator.pool, proposal(TEXT), key=key)
    assert (sent.market_id, sent.known) == (market_id, True)
    state = await operator.shows(sent.market_id, lambda state: state.expiry is not None, "is drafted")
    assert await stored(operator, key) == [(sent.market_id, OTHER_TEXT)]
    assert "06-30" in state.title
    await operator.cancel(sent.market_id)
