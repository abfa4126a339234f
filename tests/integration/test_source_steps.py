"""What the steps that read sources leave for people, and for those who check an outcome later."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.fetch import Fetcher
from activities.sources import SourceSteps
from activities.store import StoreSteps
from db import ai_config, audit, disputes, evidence, markets
from db.pool import Pool
from deploy.local.data import Series, load_series
from deploy.local.site_control import SiteControl
from deploy.local.source_site.control import Fault, Misprint, Release
from domain import steps
from domain.canonical import evidence_root, sha256_hex
from domain.dispute import Dispute, DisputeRequest, Recheck
from domain.extraction import Document
from domain.market import CollectRequest, HandResolution, Rehearsal, RehearseRequest, Resolution
from domain.resolver import resolve
from domain.rules import Answer, Check, Criteria, MachineCondition, Method, Op, Reading, ResolutionRules, Source
from domain.status import MarketStatus
from tests.drafts import draft, fred_rules
from tests.operator import Operator
from tests.support import eventually

PAGE_HOST = "fred.stlouisfed.org"
API_HOST = "api.stlouisfed.org"
LAST_ATTEMPT = steps.RECHECK_SOURCES.timing.retry.maximum_attempts
EXPIRED = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)


@dataclass(frozen=True)
class Expired:
    """A market past its expiry, with two sources: the values of one series, and a page."""

    steps: SourceSteps
    pool: Pool
    site: SiteControl
    series: Series
    rules: ResolutionRules
    rules_sha256: str
    id: UUID

    async def collect(self) -> Resolution:
        request = CollectRequest(
            market_id=self.id, rules_sha256=self.rules_sha256, look=1, at=EXPIRED + timedelta(seconds=1)
        )
        resolution: Resolution = await ActivityEnvironment().run(self.steps.collect_evidence, request)
        return resolution

    async def misprint(self, value: str) -> None:
        """Have the API tell another last value, as before it is revised."""
        last = self.series.observations[-1].date
        await self.site.misprint(Misprint(id=self.series.key, date=last, value=value))

    async def down(self, host: str) -> None:
        await self.site.fault(Fault(host=host, down=True))

    async def up(self) -> None:
        for host in (PAGE_HOST, API_HOST):
            await self.site.release(Release(host=host))
        await self.site.release(Release(id=self.series.key))

    async def kept(self, look: int = 1) -> dict[str, str]:
        """Hashes of a look's evidence, by source."""
        return {entry.source: entry.sha256 for entry in await evidence.of_look(self.pool, self.id, look)}

    async def dispute(self, *urls: str) -> DisputeRequest:
        """Dispute the outcome YES of the first look."""
        contested = Dispute(market_id=self.id, disputant="1" * 32, reason="It fell.", evidence_urls=urls)
        request = DisputeRequest(
            dispute_id=uuid4(),
            market_id=self.id,
            title="Higher?",
            rules_sha256=self.rules_sha256,
            look=1,
            recheck=2,
            outcome=Answer.YES,
        )
        await disputes.submit(self.pool, request.dispute_id, contested)
        return request

    async def recheck(self, *urls: str) -> tuple[DisputeRequest, Recheck]:
        """The same, and fetch the sources again."""
        request = await self.dispute(*urls)
        return request, await self.again(request)

    async def again(self, request: DisputeRequest, *, attempt: int = 1) -> Recheck:
        environment = ActivityEnvironment()
        environment.info = replace(environment.info, attempt=attempt)
        recheck: Recheck = await environment.run(self.steps.recheck_sources, request)
        return recheck

    async def decide(self, by: str) -> Resolution:
        """Name the outcome of the first look by hand."""
        request = HandResolution(
            market_id=self.id, rules_sha256=self.rules_sha256, look=1, outcome=Answer.NO, by=by, reason="I read it so"
        )
        resolution: Resolution = await ActivityEnvironment().run(StoreSteps(self.pool).resolve_by_hand, request)
        return resolution


def two_sources(series: Series) -> ResolutionRules:
    """Whether the last value is higher than the one before, and FRED has its pages."""
    first, last = series.observations[-2].date, series.observations[-1].date
    rules = fred_rules(series.id, first, last, expiry=EXPIRED)
    # Of another series, so that only one source changes with the value.
    page = Source(
        name="page",
        url=f"https://{PAGE_HOST}/series/DFF",
        method=Method.HTML_SCRAPE,
        condition="The series.",
        selector="body",
    )
    there = MachineCondition(
        id="there",
        text="FRED has the page.",
        op=Op.EXISTS,
        checks=(Check(value=Reading(source="page", selector="h1", type="text")),),
    )
    criteria = Criteria(
        must_meet_all=(*rules.criteria.must_meet_all, there),
        allowed_sources=(*rules.criteria.allowed_sources, page),
    )
    return rules.model_copy(update={"criteria": criteria, "source_order": ("fred", "page")})


@pytest.fixture
async def market(operator: Operator) -> AsyncIterator[Expired]:
    settings = operator.stack.environment
    # From the end, where no other test takes its series.
    series = [one for one in load_series() if one.source == "fred" and len(one.observations) > 1][-1]
    rules = two_sources(series)
    row = markets.new_draft(uuid4(), "manual", draft(rules=rules), "ai_v1.0.0_gpt35_20240601")
    async with operator.pool.acquire() as connection:
        rules_sha256 = await markets.store_rules(connection, rules)
        await markets.insert(connection, row.model_copy(update={"status": MarketStatus.ACTIVE}))
    async with Fetcher(connect_to=settings["SOURCES_CONNECT_TO"], ca_file=Path(settings["SOURCES_CA_FILE"])) as fetcher:
        made = Expired(
            SourceSteps(operator.pool, fetcher), operator.pool, operator.site, series, rules, rules_sha256, row.id
        )
        try:
            await made.up()
            yield made
        finally:
            await made.up()


async def test_what_the_others_gave_is_kept_when_a_source_gives_nothing(market: Expired) -> None:
    await market.misprint("999999999")
    await market.down(PAGE_HOST)
    with pytest.raises(ApplicationError, match=PAGE_HOST) as failed:
        await market.collect()
    assert failed.value.type == "SourceUnreachable"
    (entry,) = await evidence.of_look(market.pool, market.id, 1)
    assert entry.source == "fred"
    assert b"999999999" in (entry.body or b"")
    assert await evidence.latest_resolution(market.pool, market.id) is None
    assert (await markets.get(market.pool, market.id)).status is MarketStatus.ACTIVE

    # The next attempt counts whole: the API has corrected its value meanwhile.
    await market.up()
    resolution = await market.collect()
    kept = await market.kept()
    assert set(kept) == {"fred", "page"}
    assert kept["fred"] != entry.sha256
    assert resolution.evidence_root == evidence_root(kept.values())


async def test_an_attempt_given_up_long_ago_changes_nothing_that_a_person_decided_from(market: Expired) -> None:
    await market.down(PAGE_HOST)
    with pytest.raises(ApplicationError):
        await market.collect()
    before = await market.kept()
    verdict = resolve(market.rules, {e.source: e.document() for e in await evidence.of_look(market.pool, market.id, 1)})
    root = evidence_root(before.values())
    async with market.pool.acquire() as connection:
        decided = (Answer.NO, verdict.results, root, "ana", "the page says so in print")
        await evidence.record_decided(connection, market.id, 1, market.rules_sha256, *decided)

    await market.misprint("999999999")
    with pytest.raises(ApplicationError):
        await market.collect()
    assert await market.kept() == before
    await market.site.release(Release(host=PAGE_HOST))
    with pytest.raises(ApplicationError, match="decided by hand") as refused:
        await market.collect()
    assert refused.value.type == "IllegalMove"
    assert await market.kept() == before
    async with market.pool.acquire() as connection:
        await evidence.record_resolution(connection, market.id, 1, market.rules_sha256, verdict, root)
    stored = await evidence.resolution_of_look(market.pool, market.id, 1)
    assert (stored.outcome, stored.decided_by, stored.reason) == ("NO", "ana", "the page says so in print")


async def test_a_dispute_has_the_sources_fetched_again(market: Expired) -> None:
    await market.misprint("999999999")
    assert (await market.collect()).outcome is Answer.YES
    await market.misprint("0")
    request, recheck = await market.recheck()
    fresh = await market.kept(look=2)
    assert (recheck.changed, recheck.unreachable, recheck.fresh) == (("fred",), (), Answer.NO)
    assert recheck.evidence_root == evidence_root(fresh.values())
    assert fresh["page"] == (await market.kept())["page"]
    entry = (await audit.entries(market.pool, "market", str(market.id)))[-1]
    assert (entry.action, entry.details["dispute_id"]) == ("dispute_rechecked", str(request.dispute_id))

    # Asked again after the process died: what was found stands.
    await market.down(API_HOST)
    assert await market.again(request) == recheck


async def test_a_source_that_gives_nothing_is_named_and_leaves_the_outcome_open(market: Expired) -> None:
    await market.misprint("0")
    await market.collect()
    await market.down(PAGE_HOST)
    request = await market.dispute()
    for attempt in range(1, LAST_ATTEMPT):
        with pytest.raises(ApplicationError, match=PAGE_HOST) as failed:
            await market.again(request, attempt=attempt)
        assert not failed.value.non_retryable
    assert await market.kept(look=2) == {}
    recheck = await market.again(request, attempt=LAST_ATTEMPT)
    # The rules would give NO without it; but they want all their sources.
    assert (recheck.changed, recheck.unreachable, recheck.fresh) == ((), ("page",), None)
    assert set(await market.kept(look=2)) == {"fred"}


async def test_a_source_that_is_down_for_a_moment_only_is_read_by_the_next_attempt(market: Expired) -> None:
    await market.misprint("0")
    await market.collect()
    await market.down(PAGE_HOST)
    request = await market.dispute()
    with pytest.raises(ApplicationError):
        await market.again(request)
    await market.site.release(Release(host=PAGE_HOST))
    recheck = await market.again(request, attempt=2)
    assert (recheck.unreachable, recheck.fresh) == ((), Answer.NO)


async def test_where_the_configuration_wants_no_retries_a_dispute_goes_on_at_once(market: Expired) -> None:
    await market.collect()
    await market.down(PAGE_HOST)
    wanted, before = (
        "UPDATE ai_config SET value = $1 WHERE key = 'max_retries'",
        await ai_config.get(market.pool, "max_retries"),
    )
    await market.pool.execute(wanted, 0)
    try:
        _, recheck = await market.recheck()
    finally:
        await market.pool.execute(wanted, before)
    assert recheck.unreachable == ("page",)


async def test_a_decision_by_hand_rests_on_all_that_the_look_has(market: Expired) -> None:
    await market.down(PAGE_HOST)
    with pytest.raises(ApplicationError):
        await market.collect()

    async def decision_waits() -> bool:
        return bool(
            await market.pool.fetchval(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND query LIKE 'UPDATE markets SET status%')"
            )
        )

    page = Document(sha256=sha256_hex(b"late"), content_type="text/html", body=b"late")
    async with market.pool.acquire() as connection:
        # An attempt that everybody has given up stores its page while the decision is being written down.
        async with connection.transaction():
            assert await evidence.is_open(connection, market.id, 1)
            deciding = asyncio.create_task(market.decide("ana"))
            await eventually(decision_waits, "the decision")
            url = market.rules.source("page").url
            await evidence.store(connection, market.id, 1, "page", url, page, datetime.now(UTC))
        with pytest.raises(ApplicationError) as changed:
            await deciding
    assert (changed.value.type, changed.value.non_retryable) == ("EvidenceChanged", False)
    # Tried again, it takes in what there is now.
    root = evidence_root((await market.kept()).values())
    assert (await market.decide("ana")).evidence_root == root
    stored = await evidence.resolution_of_look(market.pool, market.id, 1)
    assert (stored.evidence_root, stored.outcome, stored.decided_by) == (root, "NO", "ana")


async def test_of_a_disputants_urls_those_of_allowed_sources_alone_are_read(market: Expired) -> None:
    await market.collect()
    other = f"https://{API_HOST}/fred/series/observations?series_id=DFF&file_type=json"
    gone = f"https://{PAGE_HOST}/no/such/page"
    refused = {
        "https://blog.example.org/it-fell": "none of the market's sources",
        market.series.url.replace("https", "http"): "only https",
        "https://bit.ly/it-fell": "shortened",
        f"https://{API_HOST}.example.org/fred": "none of the market's sources",
    }
    request, recheck = await market.recheck(other, *refused)
    assert recheck.evidence_read == 1
    read, *unread = (await disputes.get(market.pool, request.dispute_id)).evidence
    assert read.url == other
    assert read.sha256 is not None
    document = (await evidence.by_hash(market.pool, [read.sha256]))[read.sha256]
    assert sha256_hex(document.body) == read.sha256
    assert b"observations" in document.body
    assert read.sha256 not in (await market.kept(look=2)).values(), "it is no evidence of the market's own"
    assert {entry.url: entry.sha256 for entry in unread} == dict.fromkeys(refused)
    assert all(refused[entry.url] in entry.why for entry in unread), unread

    request, recheck = await market.recheck(gone)
    assert recheck.evidence_read == 0
    (entry,) = (await disputes.get(market.pool, request.dispute_id)).evidence
    assert (entry.sha256, "404" in entry.why) == (None, True)


async def test_a_reviewer_sees_what_each_source_gave(market: Expired) -> None:
    last = market.series.observations[-1]

    async def rehearsed() -> tuple[Rehearsal, dict[str, tuple[bool, str]]]:
        request = RehearseRequest(market_id=market.id, rules_sha256=market.rules_sha256)
        rehearsal: Rehearsal = await ActivityEnvironment().run(market.steps.rehearse_rules, request)
        states = (await markets.get(market.pool, market.id)).rehearsal or ()
        return rehearsal, {state.source: (state.ok, state.found) for state in states}

    _, states = await rehearsed()
    assert states["fred"][0]
    assert f"{last.value} on {last.date}" in states["fred"][1]
    assert states["page"][0]
    await market.site.fault(Fault(host=PAGE_HOST, status=503))
    rehearsal, states = await rehearsed()
    assert "source_unreachable" in {issue.code for issue in rehearsal.blocking}
    assert states["fred"][0]
    assert not states["page"][0]
    assert states["page"][1].startswith("answered 503")
