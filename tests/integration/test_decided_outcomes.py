"""Outcomes that a person decided or a dispute overturned: shown, verified, and found when somebody changes them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.context import CliSettings, Context
from cli.verification import verification_of
from db import disputes
from deploy.local.data import load_series
from deploy.local.source_site.control import Misprint
from domain.review import Resolve, ReviewKind
from domain.status import MarketStatus
from domain.verify import Check
from tests.desk import Office, Reviewer
from tests.workflows.world import REVIEWER, Market, Question, Review

WHY = "the agency printed it in its yearbook"


@dataclass(frozen=True)
class Decided:
    """A market whose source published a word for a number, so that a person named the outcome: the wrong one."""

    office: Office
    somebody: Reviewer
    market: Market
    question: Question
    wrong: str

    async def checks(self) -> dict[str, Check]:
        """What `clotho market verify` checks, by name."""
        world = self.office.world
        environment = self.office.operator.stack.environment
        configured = CliSettings.model_validate({name.lower(): value for name, value in environment.items()})
        checks = await verification_of(Context(configured, world.client, world.pool), self.market.id)
        return {check.name: check for check in checks}

    async def failed(self) -> set[str]:
        """Names of the checks that fail."""
        return {name for name, check in (await self.checks()).items() if not check.ok}

    @asynccontextmanager
    async def changed(self, **columns: Any) -> AsyncIterator[set[str]]:
        """The checks that fail while somebody has changed the row of the last resolution."""
        pool = self.office.world.pool
        of_last = "market_id = $1 AND look = (SELECT max(look) FROM resolutions WHERE market_id = $1)"
        before = await pool.fetchrow(f"SELECT {', '.join(columns)} FROM resolutions WHERE {of_last}", self.market.id)
        assert before is not None

        async def put(values: Any) -> None:
            assigned = ", ".join(f"{column} = ${place}" for place, column in enumerate(columns, start=2))
            await pool.execute(f"UPDATE resolutions SET {assigned} WHERE {of_last}", self.market.id, *values)

        await put(columns.values())
        try:
            yield await self.failed()
        finally:
            await put(before.values())


@pytest.fixture(scope="module")
async def decided(office: Office) -> Decided:
    # From the end, where no other test takes its series.
    series = [one for one in load_series() if one.source == "fred" and len(one.observations) > 1][-2]
    question = Question(series, office.world.site)
    await question.withhold()
    market = await office.world.start(question.draft(), dispute_window=7 * 86_400)
    await market.becomes(MarketStatus.ACTIVE)
    await question.publish()
    await office.world.site.misprint(Misprint(id=series.key, date=question.resolution, value="soon"))
    await market.skip(timedelta(days=30, hours=1))
    wrong = "NO" if question.truth == "YES" else "YES"
    await (await market.review(ReviewKind.RESOLUTION)).decide("resolve", by_hand(wrong))
    await market.becomes(MarketStatus.RESOLVED)
    await question.publish()
    return Decided(office, await office.reviewer("dora"), market, question, wrong)


def by_hand(outcome: str) -> Resolve:
    return Resolve(by=REVIEWER, reason=WHY, outcome=outcome, at_once=True)


async def test_an_outcome_decided_by_hand_is_verified_as_such(decided: Decided) -> None:
    checks = await decided.checks()
    assert await decided.failed() == set()
    assert f"{REVIEWER} decided {decided.wrong}" in checks["outcome: by hand"].detail
    assert WHY in checks["outcome: by hand"].detail
    assert checks["outcome: recomputed"].expected == "no outcome: invalid_question"
    shown = await decided.somebody.clotho("market", "show", str(decided.market.id))
    assert f"{decided.wrong}: decided by hand by {REVIEWER}: {WHY}" in shown.out.splitlines()


@pytest.mark.parametrize(
    ("columns", "failing"),
    [
        ({"decided_by": "somebody else"}, {"outcome: by hand"}),
        ({"reason": "I like it so"}, {"outcome: by hand"}),
        ({"decided_by": None, "reason": None}, {"outcome: by hand", "outcome: recomputed"}),
    ],
    ids=["who", "why", "that anybody did"],
)
async def test_a_changed_decision_is_found(decided: Decided, columns: dict[str, Any], failing: set[str]) -> None:
    async with decided.changed(**columns) as failed:
        assert failed == failing


async def test_another_outcome_is_found(decided: Decided) -> None:
    async with decided.changed(outcome=decided.question.truth) as failed:
        assert failed == {"outcome: by hand", "outcome: Postgres", "outcome: chain", "outcome: workflow"}


async def test_an_overturned_outcome_is_verified_to_its_end_and_offline(decided: Decided, tmp_path: Path) -> None:
    market, world, truth = decided.market, decided.office.world, decided.question.truth
    dispute_id = await world.dispute(market, await world.holder(market))
    # What a person has decided, no model overturns.
    review = Review(world, ReviewKind.DISPUTE, str(dispute_id))
    await review.opens()
    await review.decide("resolve", by_hand(truth))
    await market.until(lambda state: state.outcome == truth and not state.disputes, "overturned")

    assert await decided.failed() == set()
    checks = await decided.checks()
    closed = await disputes.get(world.pool, dispute_id)
    assert f"{closed.closed_by} decided {truth} in dispute {dispute_id}" in checks["outcome: dispute"].detail
    assert checks["outcome: chain"].found == checks["outcome: workflow"].found == truth
    # The rules alone give the same from today's sources, so only the audit knows that somebody decided.
    async with decided.changed(decided_by=None, reason=None, dispute_id=None) as failed:
        assert failed == {"outcome: dispute"}
    (entry,) = (await decided.somebody.ok("market", "show", str(market.id)))["disputes"]
    assert (entry["id"], entry["status"], entry["outcome"]) == (str(dispute_id), "overturned", decided.wrong)
    shown = await decided.somebody.clotho("market", "show", str(market.id))
    assert f"{truth}: decided in dispute {dispute_id} by {closed.closed_by}" in shown.out

    file = tmp_path / "market.json"
    end = await market.end()
    assert (end.status, end.outcome) == (MarketStatus.FINALIZED, truth)
    assert (await decided.somebody.clotho("market", "export", str(market.id), str(file))).code == 0
    nothing = {"DATABASE_URL": "", "TEMPORAL_ADDRESS": "", "SOLANA_RPC_URL": ""}
    offline = await decided.somebody.clotho("market", "verify", "--bundle", str(file), **nothing)
    assert offline.code == 0, offline
    assert "outcome: dispute" in offline.out
