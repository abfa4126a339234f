"""What becomes of proposals: refused, limited, matched, drafted; at once, waited for, asked for again."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from bench.duplicates import measure
from cli.proposing import Proposed, TooOften, propose, wait
from db import ai_config, proposals
from deploy.local.data import FOLDER, QUESTIONS_FILE
from domain.market import Proposal
from tests.conftest import WorkerProcess
from tests.operator import Operator

YEAR = datetime.now(UTC).year + 2
SOURCE = "Resolves to the value found at https://fred.stlouisfed.org/series/DGS10 once the data is published."


def text(day: int) -> str:
    """A question that no other test asks."""
    return f"Will the 10-year yield have increased by {YEAR}-06-{day:02} as compared to its value on {YEAR}-02-03?"


def asked(words: str, **fields: Any) -> Proposal:
    return Proposal(text=words, criteria=SOURCE, proposer="test", **fields)


async def became(operator: Operator, proposal: Proposal) -> Proposed:
    proposed = await propose(operator.temporal, operator.pool, proposal, key=uuid4().hex)
    return await wait(operator.pool, proposed, 30)


# First, while no worker of this module runs.
async def test_limits_at_the_command_line(operator: Operator) -> None:
    """No worker runs: what is proposed stays pending, and the answer says how to ask again."""
    before = await ai_config.get(operator.pool, "rate_limits")
    settings = {"CLOTHO_IDENTITY": f"somebody-{uuid4().hex[:8]}"}
    command = ("market", "propose", "--criteria", SOURCE, "--wait", "0", "--json")
    await ai_config.put(operator.pool, "rate_limits", before | {"propose": {"minute": 2, "hour": 20}}, "tests", "short")
    try:
        sent = [await operator.clotho(*command, text(day), settings=settings) for day in (11, 12, 13)]
        assert [answer.code for answer in sent] == [0, 0, 1]
        assert sent[0].data["status"] == "pending"
        assert "2 proposals within a minute, which is the limit: try again in" in sent[2].err
        # The same again is an answer and no use, also at the limit; others have limits of their own.
        again = await operator.clotho(*command, text(11), settings=settings)
        assert (again.code, again.data) == (0, sent[0].data | {"known": True})
        counted = await operator.pool.fetchval(
            "SELECT count(*) FROM rate_limits WHERE subject = $1", settings["CLOTHO_IDENTITY"]
        )
        assert counted == 2
        assert (
            await operator.pool.fetchval("SELECT count(*) FROM proposals WHERE proposal ->> 'text' = $1", text(13)) == 0
        )
        with pytest.raises(TooOften):
            await propose(operator.temporal, operator.pool, asked(text(14)), subject=settings["CLOTHO_IDENTITY"])
        await propose(operator.temporal, operator.pool, asked(text(14)), subject=f"203.0.113.{len(sent)}")
    finally:
        texts = [text(day) for day in (11, 12, 14)]
        for row in await operator.pool.fetch(
            "SELECT market_id FROM proposals WHERE proposal ->> 'text' = ANY($1)", texts
        ):
            await operator.lifecycle(row["market_id"]).terminate("the test is over")
        await ai_config.put(operator.pool, "rate_limits", before, "tests", "as before")


async def test_the_same_question_in_other_words_is_matched_with_the_open_market(
    operator: Operator, worker: WorkerProcess
) -> None:
    question = text(1)
    first = await became(operator, asked(question))
    assert (first.status not in {"matched", "rejected"}, first.matched) == (True, None)
    for again in (question.lower(), question.replace(f"{YEAR}-06-01", f"June 1, {YEAR}"), f"Tell me, {question}"):
        matched = await became(operator, asked(again))
        assert (matched.status, matched.matched) == ("matched", first.market_id), again
        assert str(first.market_id) in matched.reason
        (end,) = await operator.ends([matched.market_id])
        assert (end.status, end.reason) == ("rejected", matched.reason)
        assert await operator.status(matched.market_id) is None, "a match has no market of its own"
    other = await became(operator, asked(text(2)))
    assert other.matched is None

    shown = (await operator.clotho("proposal", "show", str(matched.market_id), "--json")).data
    assert (shown["status"], shown["matched"], shown["market"]) == ("matched", str(first.market_id), None)
    assert shown["matched_market"]["id"] == str(first.market_id)
    assert shown["reasons"] == [matched.reason]
    drafted = (await operator.clotho("proposal", "show", str(first.market_id), "--json")).data
    assert drafted["market"]["id"] == str(first.market_id)
    people = await operator.clotho("proposal", "show", str(matched.market_id))
    assert (people.code, str(first.market_id) in people.out) == (0, True)
    unknown = await operator.clotho("proposal", "show", str(uuid4()))
    assert (unknown.code, unknown.out) == (2, "")
    await operator.cancel(first.market_id, other.market_id)
    # What is over is no longer open.
    reopened = await became(operator, asked(question))
    assert reopened.matched is None
    await operator.cancel(reopened.market_id)


async def test_of_the_same_question_sent_at_once_one_becomes_a_market(
    operator: Operator, worker: WorkerProcess
) -> None:
    sent = await asyncio.gather(*(became(operator, asked(f"{text(3)}{' ' * n}", background=f"{n}")) for n in range(6)))
    (market_id,) = {one.market_id for one in sent if one.matched is None}
    assert {one.matched for one in sent} == {None, market_id}
    await operator.cancel(market_id)


async def test_what_is_not_safe_is_rejected_with_the_reason(operator: Operator, worker: WorkerProcess) -> None:
    refused = await became(operator, asked(f"Will more than 100 people die in floods in Italy by {YEAR}-06-04?"))
    assert (refused.status, refused.matched) == ("rejected", None)
    shown = (await operator.clotho("proposal", "show", str(refused.market_id), "--json")).data
    assert (shown["status"], shown["reasons"]) == ("rejected", [refused.reason])
    assert "ask about something else" in refused.reason


async def test_the_bench_finds_what_is_asked_again_and_nothing_else() -> None:
    figures = await measure(24, FOLDER / QUESTIONS_FILE)
    assert (figures["open_markets"], figures["precision"]) == (24, 1.0)
    assert figures["recall"] >= 0.9
    assert figures["not_duplicates"] > 300


async def test_personal_data_is_replaced_before_anything_is_stored(operator: Operator) -> None:
    address, token = "grace.hopper@example.com", "[EMAIL:"
    asked = ("market", "propose", text(30), "--criteria", SOURCE, "--background", f"Ask {address}.", "--wait", "0")
    proposed = await operator.clotho(*asked, "--json")
    assert proposed.code == 0, proposed
    market_id = UUID(proposed.data["market_id"])
    background = (await proposals.get(operator.pool, market_id)).background
    assert address not in background
    assert background.startswith(f"Ask {token}")
    assert (await operator.clotho(*asked, "--json")).data["known"], "the same address has the same token"

    user, business = str(uuid4()), str(uuid4())
    said = ("--user", user, "--business", business, "--entity", "1", "--predicted", "other", "--corrected", "fees")
    assert (await operator.clotho("feedback", "add", *said, "--description", f"Refund to {address}")).code == 0
    (kept,) = (await operator.clotho("feedback", "list", "--business", business, "--json")).data
    assert kept["item_description"].startswith(f"Refund to {token}")
    found = await operator.clotho("transaction", "classify", f"Refund to {address}", "--business", business, "--json")
    assert found.data["category"] == "fees", "the text is compared as the feedback was stored"
