"""What a reviewer sees of an outcome that the sources leave open, and of a dispute: the evidence side by side."""

from datetime import timedelta
from typing import Any

import pytest

from db import evidence
from deploy.local.data import Series, load_series
from deploy.local.source_site.control import Fault, Release
from domain.review import ReviewKind
from domain.rules import ResolutionRules
from domain.status import MarketStatus
from tests.desk import Office, Reviewer
from tests.drafts import draft
from tests.workflows.world import Market, Question, Review

TO_EXPIRY = timedelta(days=30, hours=1)
DBNOMICS = "api.db.nomics.world"


@pytest.fixture
async def anna(office: Office) -> Reviewer:
    return await office.reviewer("anna")


def questions(office: Office, source: str) -> list[Question]:
    """About all series of a source, the last first, since other tests begin with the first."""
    found = [one for one in load_series() if one.source == source and len(one.observations) > 1]
    return [Question(one, office.world.site) for one in reversed(found)]


def of_both(first: Question, second: Question) -> ResolutionRules:
    """Rules whose one condition two sources answer, each from its own series."""
    rules = first.rules().model_dump(mode="json", by_alias=True)
    (condition,), (source,) = rules["criteria"]["must_meet_all"], rules["criteria"]["allowed_sources"]
    other = second.rules().model_dump(mode="json", by_alias=True)["criteria"]
    (check,), (added,) = other["must_meet_all"][0]["checks"], other["allowed_sources"]
    for reading in check.values():
        reading["source"] = "second"
    added["name"] = "second"
    if second.series.source == "dbnomics":
        as_dbnomics(added, check, second.series)
    condition["checks"].append(check)
    rules["criteria"]["allowed_sources"] = [source, added]
    rules["source_order"] = ["fred", "second"]
    return ResolutionRules.model_validate(rules)


def as_dbnomics(source: dict[str, Any], check: dict[str, Any], series: Series) -> None:
    path = series.url.removeprefix("https://db.nomics.world/")
    source |= {"url": f"https://{DBNOMICS}/v22/series/{path}?observations=1", "json_path": "$.series.docs[0]"}
    for reading in check.values():
        reading |= {
            "json_path": "$.series.docs[0].value[*]",
            "date_path": "$.series.docs[0].period_start_day[*]",
        }


async def trading(office: Office, anna: Reviewer, *asked: Question, rules: ResolutionRules) -> Market:
    """A market whose sources have published nothing yet of what it asks for; a reviewer has let it pass."""
    for question in asked:
        await question.withhold()
    market = await office.world.start(draft(rules=rules, confidence=0.5), dispute_window=7 * 86_400)
    await market.review()
    await anna.ok("review", "approve", str(market.id), "--now", "--reason", "two sources are better than one")
    await market.becomes(MarketStatus.ACTIVE)
    return market


async def test_sources_that_contradict_each_other_stand_side_by_side(office: Office, anna: Reviewer) -> None:
    of_fred = questions(office, "fred")
    up = next(one for one in of_fred if one.truth == "YES")
    down = next(one for one in of_fred if one.truth == "NO")
    market = await trading(office, anna, up, down, rules=of_both(up, down))
    for question in (up, down):
        await question.publish()
    await market.skip(TO_EXPIRY)
    await market.review(ReviewKind.RESOLUTION)
    page = await anna.ok("review", "show", str(market.id))
    (look,) = page["looks"]
    assert "conflict" in look["verdict"]
    assert look["silent"] == []
    said = {one["source"]: one for one in look["said"]}
    assert (said["fred"]["result"], said["second"]["result"]) == ("met", "not_met")
    stored = {entry.source: entry.sha256 for entry in await evidence.of_look(office.world.pool, market.id, 1)}
    for name, question in (("fred", up), ("second", down)):
        assert question.series.observations[-1].value in said[name]["found"]
        assert said[name]["sha256"] == stored[name]
    plain = (await anna.clotho("review", "show", str(market.id))).out
    assert all(sha256 in plain for sha256 in stored.values())
    async with anna.terminal("review", "show", str(market.id)) as terminal:
        await terminal.shows("not_met")
        assert await terminal.ends() == 0
        assert terminal.width <= 100

    await anna.ok("review", "resolve", str(market.id), "--outcome", "NO", "--now", "--reason", "second is right")
    assert (await market.becomes(MarketStatus.RESOLVED)).outcome == "NO"


async def test_a_source_that_gave_nothing_is_named_beside_what_the_others_gave(office: Office, anna: Reviewer) -> None:
    first, second = questions(office, "fred")[0], questions(office, "dbnomics")[0]
    market = await trading(office, anna, first, second, rules=of_both(first, second))
    await first.publish()
    await office.world.site.fault(Fault(host=DBNOMICS, status=404))
    try:
        await market.skip(TO_EXPIRY)
        await market.review(ReviewKind.RESOLUTION)
        page = await anna.ok("review", "show", str(market.id))
    finally:
        await office.world.site.release(Release(host=DBNOMICS))
        await second.publish()
    (look,) = page["looks"]
    assert look["silent"] == ["second"]
    said = {one["source"]: one for one in look["said"]}
    assert said["fred"]["result"] == ("met" if first.truth == "YES" else "not_met")
    assert (said["second"]["result"], said["second"]["sha256"]) == ("unknown", None)
    await anna.ok("review", "look-again", str(market.id), "--now", "--reason", "it answers again")
    await market.until(lambda state: state.parked is None, "the end of the waiting")


async def test_the_page_of_a_dispute_has_its_words_the_opinion_and_both_looks(office: Office, anna: Reviewer) -> None:
    question = questions(office, "fred")[1]
    await question.withhold()
    market = await office.world.start(question.draft(), dispute_window=7 * 86_400)
    await market.becomes(MarketStatus.ACTIVE)
    await question.publish()
    await question.misprint()
    await market.skip(TO_EXPIRY)
    wrong = (await market.becomes(MarketStatus.RESOLVED)).outcome
    await question.publish()
    words = "The value was corrected\x1b[31m within the hour."
    dispute = await office.world.dispute(market, await office.world.holder(market), words)
    await Review(office.world, ReviewKind.DISPUTE, str(dispute)).opens()

    page = await anna.ok("review", "show", str(dispute))
    assert page["dispute"]["reason"] == words
    assert page["state"]["request"]["outcome"] == wrong
    assert page["dispute"]["opinion"]["verdict"] == "escalate"
    before, now = page["looks"]
    assert before["verdict"] == wrong
    right = question.series.observations[-1].value
    assert right not in before["said"][0]["found"]
    assert right in now["said"][0]["found"]
    assert before["said"][0]["sha256"] != now["said"][0]["sha256"]
    shown = await anna.clotho("review", "show", str(dispute))
    # The words of a stranger are shown, and no terminal obeys them.
    assert "\x1b" not in shown.out
    assert "corrected\\x1b[31m within" in shown.out
    await anna.ok("review", "resolve", str(dispute), "--outcome", question.truth, "--now", "--reason", "corrected")
    await market.until(lambda state: not state.disputes, "the end of the dispute")
    assert (await market.state()).outcome == question.truth
