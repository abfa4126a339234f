"""Disputes at the command line: submitted, refused in a sentence, followed to their end."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import cycle
from uuid import UUID, uuid4

import pytest
from solders.keypair import Keypair

from db import disputes
from db.disputes import StoredDispute
from deploy.local.data import Series, load_series
from domain.status import MarketStatus
from tests.desk import Office, Reviewer
from tests.workflows.world import Market, Question

REASON = "The series was read on the wrong day."
WINDOW = timedelta(hours=2)


@pytest.fixture(scope="module")
async def somebody(office: Office) -> Reviewer:
    """At the command line; that they may review does not matter here."""
    return await office.reviewer("dora")


@pytest.fixture(scope="module")
def series() -> Iterator[Series]:
    # Nearly from the end: what a later test asks of the first ones would be what an open market of ours asks already.
    return cycle([one for one in load_series() if one.source == "fred" and len(one.observations) > 1][-3::-1])


@pytest.fixture(scope="module")
async def market(office: Office, series: Iterator[Series]) -> Market:
    """A market that is resolved and open to dispute."""
    question = Question(next(series), office.world.site)
    await question.withhold()
    market = await office.world.start(question.draft(), dispute_window=int(WINDOW.total_seconds()))
    await market.becomes(MarketStatus.ACTIVE)
    await question.publish()
    await market.skip(timedelta(days=30))
    await market.becomes(MarketStatus.RESOLVED)
    return market


async def stored(office: Office, market_id: UUID, address: str) -> list[StoredDispute]:
    return [one for one in await disputes.of_market(office.world.pool, market_id) if one.disputant == address]


def stranger() -> str:
    return str(Keypair().pubkey())


async def test_a_dispute_is_submitted_once_and_followed_to_its_end(
    office: Office, somebody: Reviewer, market: Market
) -> None:
    address = await office.world.holder(market)
    command = ("dispute", "submit", str(market.id), "--address", address, "--evidence", "https://news.example.org/a")
    answer = await office.operator.clotho(
        *command, "--reason", "-", "--json", stdin=f"{REASON}\n".encode(), settings=somebody.settings
    )
    assert answer.code == 0, answer
    dispute_id = answer.data["dispute_id"]
    assert answer.data["known"] is False
    (one,) = await stored(office, market.id, address)
    assert (str(one.id), one.reason) == (dispute_id, REASON)

    await market.until(lambda state: not state.disputes, "no open dispute")
    shown = await somebody.ok("dispute", "show", dispute_id)
    assert shown["dispute"]["status"] == "upheld"
    assert shown["dispute"]["opinion"]["verdict"] == "upheld"
    (page,) = shown["dispute"]["evidence"]
    assert (page["url"], page["sha256"]) == ("https://news.example.org/a", None)
    assert page["why"]
    assert shown["market"]["status"] == "resolved"
    actions = [entry["action"] for entry in shown["audit"]]
    assert (actions[0], actions[-1]) == ("dispute_submitted", "dispute_resolved")
    page = await somebody.clotho("dispute", "show", dispute_id)
    for words in (REASON, address, "https://news.example.org/a", "upheld", "dispute_reviewed"):
        assert words in page.out

    assert [one["id"] for one in await somebody.ok("dispute", "list", "--market", str(market.id))] == [dispute_id]
    assert await somebody.ok("dispute", "list", "--market", str(market.id), "--open") == []
    again = await somebody.ok(*command, "--reason", REASON)
    assert again == {"dispute_id": dispute_id, "known": True}


async def test_who_holds_no_token_is_told_and_can_be_found(office: Office, somebody: Reviewer, market: Market) -> None:
    address = stranger()
    sentence = await somebody.refused("dispute", "submit", str(market.id), "--address", address, "--reason", REASON)
    assert f"{address} holds no YES or NO token of this market" in sentence
    (one,) = await stored(office, market.id, address)
    assert (one.status, one.closed_why) == ("refused", f"{address} holds no YES or NO token of this market")
    assert (await market.state()).status is MarketStatus.RESOLVED


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--address", "nobody", "--reason", REASON), "address: 'nobody' is no address of the chain"),
        (("--address", stranger(), "--reason", REASON, *(("--evidence", "https://a.org") * 6)), "6 URLs, at most 5"),
    ],
    ids=["address", "evidence"],
)
async def test_a_malformed_dispute_writes_nothing(
    office: Office, somebody: Reviewer, options: tuple[str, ...], words: str
) -> None:
    before = await office.world.pool.fetchval("SELECT count(*) FROM disputes")
    # Whether there is such a market does not come into it.
    sentence = await somebody.refused("dispute", "submit", str(uuid4()), *options, code=2)
    assert words in sentence
    assert "Nothing was written" in sentence
    assert await office.world.pool.fetchval("SELECT count(*) FROM disputes") == before


@pytest.mark.parametrize(
    ("text", "words"),
    [(b"x" * 8_001, "8001 characters, at most 2000"), (b"\xff\xfe", "not UTF-8")],
    ids=["long", "not text"],
)
async def test_a_reason_from_standard_input_is_checked(
    office: Office, somebody: Reviewer, text: bytes, words: str
) -> None:
    answer = await office.operator.clotho(
        "dispute", "submit", str(uuid4()), "--address", stranger(), "--reason", "-", stdin=text,
        settings=somebody.settings,
    )  # fmt: skip
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err


async def test_what_does_not_exist_is_named(somebody: Reviewer) -> None:
    missing = str(uuid4())
    submit = ("dispute", "submit", missing, "--address", stranger(), "--reason", REASON)
    assert f"there is no market {missing}" in await somebody.refused(*submit, code=2)
    assert f"there is no dispute {missing}" in await somebody.refused("dispute", "show", missing, code=2)
    assert await somebody.ok("dispute", "list", "--market", missing) == []


async def test_outside_of_the_window_nothing_is_kept(office: Office, somebody: Reviewer, market: Market) -> None:
    """The last test of the market: it ends."""
    address = await office.world.holder(market)
    submit = ("dispute", "submit", str(market.id), "--address", address, "--reason", REASON)
    await market.end()
    sentence = await somebody.refused(*submit)
    assert sentence.startswith("Error: The market is finalized, which is its end")
    assert await stored(office, market.id, address) == []


async def test_a_market_that_still_trades_refuses_and_nothing_is_kept(
    office: Office, somebody: Reviewer, series: Iterator[Series]
) -> None:
    question = Question(next(series), office.world.site)
    await question.withhold()
    trading = await office.world.start(question.draft())
    await trading.becomes(MarketStatus.ACTIVE)
    address = await office.world.holder(trading)
    sentence = await somebody.refused("dispute", "submit", str(trading.id), "--address", address, "--reason", REASON)
    assert "The market is active, and only a resolved one can be disputed" in sentence
    assert await stored(office, trading.id, address) == []
    await question.publish()
