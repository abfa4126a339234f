"""The embedded source site as a process, read through the fetcher: what it answers is what the data set holds."""

import asyncio
import json
import random
import ssl
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from zoneinfo import ZoneInfo

import httpx
import pytest
from selectolax.lexbor import LexborHTMLParser
from temporalio.exceptions import ApplicationError

from activities.fetch import Fetcher
from deploy.local import data
from deploy.local.data import Question, Series, load_questions, load_series
from tests.support import eventually, free_ports

LATER = "2999-01-01T00:00:00Z"


@dataclass
class Site:
    port: int
    folder: Path
    fetcher: Fetcher
    control: httpx.AsyncClient

    async def json(self, url: str, **params: str) -> Any:
        return json.loads((await self.fetcher.get(f"{url}?{urlencode(params)}" if params else url)).body)

    async def page(self, url: str) -> LexborHTMLParser:
        return LexborHTMLParser((await self.fetcher.get(url)).body)

    async def post(self, path: str, **body: Any) -> httpx.Response:
        return await self.control.post(f"/_site/{path}", json=body)


@asynccontextmanager
async def running(folder: Path, *arguments: str) -> AsyncIterator[Site]:
    """The site as a process of its own, until the block ends."""
    [port] = free_ports(1)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploy.local.source_site", "--port", str(port), "--ca-dir", str(folder), *arguments
    )
    try:
        ca_file = folder / "ca.pem"
        await eventually(lambda: _listens(port), "the site to listen")
        async with (
            Fetcher(connect_to=f"127.0.0.1:{port}", ca_file=ca_file) as fetcher,
            httpx.AsyncClient(
                base_url=f"https://localhost:{port}",
                verify=ssl.create_default_context(cafile=ca_file),
                trust_env=False,
            ) as control,
        ):
            yield Site(port, folder, fetcher, control)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


@pytest.fixture(scope="module")
async def _site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with running(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
async def site(_site: Site) -> AsyncIterator[Site]:
    """The site with no embargo and no fault, before and after."""
    yield _site
    (await _site.post("release")).raise_for_status()


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    """The data set's rows as they are in its file, by source and id."""
    lines = (data.FOLDER / data.SERIES_FILE).read_text("utf-8").splitlines()
    return {f"{row['source']}:{row['id']}": row for row in map(json.loads, lines)}


def some(rows: dict[str, dict[str, Any]], source: str, count: int = 12) -> list[dict[str, Any]]:
    return random.Random(source).sample([row for row in rows.values() if row["source"] == source], count)


def observed(row: dict[str, Any]) -> list[tuple[str, float]]:
    return [(o["date"], float(o["value"])) for o in row["observations"]]


# The official APIs


async def fred(site: Site, series_id: str, **params: str) -> Any:
    url = "https://api.stlouisfed.org/fred/series/observations"
    return await site.json(url, series_id=series_id, file_type="json", **params)


async def test_fred_answers_with_what_was_observed(site: Site, rows: dict[str, dict[str, Any]]) -> None:
    for row in some(rows, "fred"):
        answer = await fred(site, row["id"])
        assert [{"date": o["date"], "value": o["value"]} for o in answer["observations"]] == row["observations"]
        assert answer["count"] == len(row["observations"])
        assert {"realtime_start", "realtime_end"} <= set(answer["observations"][0])


async def test_fred_chooses_by_date_order_and_limit(site: Site, rows: dict[str, dict[str, Any]]) -> None:
    row = rows["fred:ANFCI"]
    days = [o["date"] for o in row["observations"]]
    middle = await fred(site, "ANFCI", observation_start=days[1], observation_end=days[-2])
    assert [o["date"] for o in middle["observations"]] == days[1:-1]
    newest = await fred(site, "ANFCI", sort_order="desc", limit="2")
    assert [o["date"] for o in newest["observations"]] == [days[-1], days[-2]]


async def test_dbnomics_answers_with_what_was_observed(site: Site, rows: dict[str, dict[str, Any]]) -> None:
    for row in some(rows, "dbnomics"):
        path = urlsplit(row["url"]).path
        answer = await site.json(f"https://api.db.nomics.world/v22/series{path}", observations="1")
        [doc] = answer["series"]["docs"]
        assert list(zip(doc["period"], doc["value"], strict=True)) == observed(row)
        assert doc["period_start_day"] == doc["period"]
        assert "/" + "/".join((doc["provider_code"], doc["dataset_code"], doc["series_code"])) == path


async def test_yahoo_answers_with_what_was_observed(site: Site, rows: dict[str, dict[str, Any]]) -> None:
    for row in some(rows, "yfinance"):
        answer = await site.json(f"https://query1.finance.yahoo.com/v8/finance/chart/{row['id']}", interval="1d")
        [result] = answer["chart"]["result"]
        zone = ZoneInfo(result["meta"]["exchangeTimezoneName"])
        moments = [datetime.fromtimestamp(moment, zone) for moment in result["timestamp"]]
        closes = result["indicators"]["quote"][0]["close"]
        assert list(zip([f"{m:%Y-%m-%d}" for m in moments], closes, strict=True)) == observed(row)
        assert {(m.hour, m.minute) for m in moments} == {(16, 0)}
        assert (answer["chart"]["error"], result["meta"]["symbol"]) == (None, row["id"])


async def test_yahoo_chooses_by_period(site: Site, rows: dict[str, dict[str, Any]]) -> None:
    first, second, *_ = rows["yfinance:ABBV"]["observations"]
    start = int(datetime.fromisoformat(f"{first['date']}T00:00:00+00:00").timestamp())
    end = int(datetime.fromisoformat(f"{second['date']}T00:00:00+00:00").timestamp())
    url = "https://query1.finance.yahoo.com/v8/finance/chart/ABBV"
    answer = await site.json(url, period1=str(start), period2=str(end))
    [result] = answer["chart"]["result"]
    assert result["indicators"]["quote"] == [{"close": [float(first["value"])]}]
    nothing = await site.json(url, period1="0", period2=str(start))
    assert "timestamp" not in nothing["chart"]["result"][0]


async def revisions(site: Site, start: str, **params: str) -> list[dict[str, Any]]:
    asked = {
        "action": "query", "prop": "revisions", "titles": "FIDE_rankings", "rvlimit": "1", "rvslots": "main",
        "rvprop": "timestamp|content", "rvdir": "older", "format": "json", "formatversion": "2",
    }  # fmt: skip
    answer = await site.json("https://en.wikipedia.org/w/api.php", **(asked | {"rvstart": start} | params))
    [page] = answer["query"]["pages"]
    assert page["title"] == "FIDE rankings"
    found: list[dict[str, Any]] = page.get("revisions", [])
    return found


def shown(revision: dict[str, Any], row: dict[str, Any]) -> float:
    """The cell of a player's row that a series is about: the rank before the name, or the rating behind it."""
    player = row["description"].split("'s ")[0]
    [line] = [line for line in revision["slots"]["main"]["content"].splitlines() if f"[[{player}]]" in line]
    rank, _, rating = line.removeprefix("| ").split(" || ")
    return float(rank if row["description"].endswith("FIDE ranking.") else rating)


async def test_wikipedia_shows_on_a_day_what_was_observed_on_it(site: Site, rows: dict[str, dict[str, Any]]) -> None:
    for row in some(rows, "wikipedia"):
        for day, value in observed(row):
            [revision] = await revisions(site, f"{day}T23:59:59Z")
            assert revision["timestamp"] == f"{day}T00:00:00Z"
            assert shown(revision, row) == value


async def test_wikipedia_keeps_the_last_value_until_the_next(site: Site, rows: dict[str, dict[str, Any]]) -> None:
    row = next(row for row in rows.values() if row["description"] == "Fabiano Caruana's ELO rating.")
    days = {day for other in rows.values() if other["source"] == "wikipedia" for day, _ in observed(other)}
    for (start, value), (end, _) in zip(observed(row), observed(row)[1:], strict=False):
        for day in sorted(day for day in days if start < day < end):
            [revision] = await revisions(site, f"{day}T00:00:00Z")
            assert shown(revision, row) == value


async def test_wikipedia_goes_through_the_revisions_both_ways(site: Site, rows: dict[str, dict[str, Any]]) -> None:
    days = sorted({day for row in rows.values() if row["source"] == "wikipedia" for day, _ in observed(row)})
    assert await revisions(site, f"{date.fromisoformat(days[0]) - timedelta(days=1)}T00:00:00Z") == []
    older = await revisions(site, f"{days[4]}T00:00:00Z", rvlimit="3", rvprop="timestamp")
    assert older == [{"timestamp": f"{day}T00:00:00Z"} for day in (days[4], days[3], days[2])]
    newer = await revisions(
        site, f"{days[4]}T00:00:00Z", rvdir="newer", rvend=f"{days[5]}T00:00:00Z", rvlimit="9", rvprop="timestamp"
    )
    assert newer == [{"timestamp": f"{day}T00:00:00Z"} for day in (days[4], days[5])]


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("https://api.stlouisfed.org/fred/series/observations?series_id=NOSUCH&file_type=json", 400),
        ("https://api.stlouisfed.org/fred/series/observations?series_id=ANFCI&file_type=xml", 400),
        ("https://api.stlouisfed.org/fred/series/observations?series_id=ANFCI&file_type=json&limit=x", 400),
        ("https://api.db.nomics.world/v22/series/no/such/series?observations=1", 404),
        ("https://query1.finance.yahoo.com/v8/finance/chart/NOSUCH", 404),
        ("https://en.wikipedia.org/w/api.php?action=parse", 400),
        ("https://en.wikipedia.org/wiki/No_such_page", 404),
        ("https://polymarket.com/market/no-such-market", 404),
        ("https://polymarket.com/_site/", 404),
    ],
)
async def test_what_the_data_does_not_hold_is_not_answered(url: str, status: int, site: Site) -> None:
    with pytest.raises(ApplicationError, match=f"answered {status}"):
        await site.fetcher.get(url)


# Pages


async def test_every_question_has_a_page_with_its_result(site: Site) -> None:
    questions = load_questions()
    assert {question.resolutions[0].outcome for question in questions} == {0, 1}
    for question in questions:
        page = await site.page(question.url)
        assert _text(page, "#question") == question.question
        expected = "Yes" if question.resolutions[0].outcome == 1 else "No"
        assert _text(page, "#resolution") == f"Resolution: {expected}"
        assert "made by Clotho's embedded site from the data set's outcome" in _text(page, "#embedded-notice")


async def test_every_series_has_its_page(site: Site, rows: dict[str, dict[str, Any]]) -> None:
    for source in ("fred", "dbnomics", "yfinance"):
        for row in some(rows, source, 4):
            page = await site.page(row["url"])
            assert _text(page, "#latest-value") == row["observations"][-1]["value"]
            for observation in row["observations"]:
                assert _text(page, f"#on-{observation['date']}") == observation["value"]
    article = await site.page("https://en.wikipedia.org/wiki/FIDE_rankings")
    assert _text(article, "#revision") == max(o["date"] for o in rows.values() for o in o["observations"])


async def test_text_of_the_data_cannot_become_markup(tmp_path: Path) -> None:
    question = load_questions()[0].model_dump(mode="json")
    question |= {"question": "<script>alert(1)</script>?", "background": '<p id="resolution">Resolution: Yes</p>'}
    question["resolutions"] = []
    _write(tmp_path, [load_series()[0].model_dump(mode="json")], [question])
    async with running(tmp_path / "ca", "--data-dir", str(tmp_path)) as site:
        page = await site.page(question["url"])
        assert _text(page, "#resolution") == "Resolution: not yet resolved"
        assert page.css_first("script") is None


async def test_every_answer_says_that_it_is_embedded_and_head_works_everywhere(site: Site) -> None:
    urls = [
        "https://polymarket.com/robots.txt",
        load_questions()[0].url,
        load_series()[0].url,
        "https://polymarket.com/no",
    ]
    for url in urls:
        host, path = urlsplit(url).hostname, urlsplit(url).path
        answers = [await site.control.request(way, path, headers={"Host": str(host)}) for way in ("GET", "HEAD")]
        assert answers[0].status_code == answers[1].status_code
        assert answers[1].content == b""
        assert all("Clotho's embedded source site" in answer.headers["X-Clotho-Embedded"] for answer in answers)
    robots = await site.fetcher.get(urls[0])
    assert robots.body == b"User-agent: *\nAllow: /\n"


async def test_a_host_that_is_not_in_the_data_is_not_served(site: Site) -> None:
    with pytest.raises(ApplicationError, match="certificate"):
        await site.fetcher.get("https://www.example.org/")
    assert (await site.control.get("/", headers={"Host": "www.example.org"})).status_code == 421


def _text(page: LexborHTMLParser, selector: str) -> str:
    [node] = page.css(selector)
    return node.text()


# Publishing later


async def test_an_embargo_hides_a_series_from_its_day_on_until_it_is_released(
    site: Site, rows: dict[str, dict[str, Any]]
) -> None:
    days = [o["date"] for o in rows["fred:ANFCI"]["observations"]]
    (await site.post("embargo", id="fred:ANFCI", date=days[2], until=LATER)).raise_for_status()
    assert [o["date"] for o in (await fred(site, "ANFCI"))["observations"]] == days[:2]
    page = await site.page(rows["fred:ANFCI"]["url"])
    assert _text(page, "#latest-date") == days[1]
    assert len((await fred(site, "BAA10Y"))["observations"]) == len(rows["fred:BAA10Y"]["observations"])
    (await site.post("release", id="fred:ANFCI")).raise_for_status()
    assert [o["date"] for o in (await fred(site, "ANFCI"))["observations"]] == days


async def test_an_embargo_ends_at_its_moment(site: Site, rows: dict[str, dict[str, Any]]) -> None:
    days = [o["date"] for o in rows["fred:ANFCI"]["observations"]]
    until = datetime.now(UTC) + timedelta(seconds=1)
    (await site.post("embargo", id="fred:ANFCI", date=days[0], until=until.isoformat())).raise_for_status()

    async def published() -> bool:
        shown = (await fred(site, "ANFCI"))["observations"]
        assert not shown or datetime.now(UTC) >= until
        return len(shown) == len(days)

    await eventually(published, "the embargo's end")


async def test_an_embargo_on_a_player_keeps_the_article_from_being_edited(
    site: Site, rows: dict[str, dict[str, Any]]
) -> None:
    row = next(row for row in rows.values() if row["description"] == "Fabiano Caruana's ELO rating.")
    days = sorted({day for other in rows.values() if other["source"] == "wikipedia" for day, _ in observed(other)})
    hidden = observed(row)[-1][0]
    (await site.post("embargo", id=f"wikipedia:{row['id']}", date=hidden, until=LATER)).raise_for_status()
    [revision] = await revisions(site, f"{hidden}T23:59:59Z")
    assert revision["timestamp"] == f"{max(day for day in days if day < hidden)}T00:00:00Z"


async def test_an_embargo_on_a_question_hides_its_outcome(site: Site) -> None:
    question = load_questions()[0]
    (await site.post("embargo", id=question.id, until=LATER)).raise_for_status()
    page = await site.page(question.url)
    assert _text(page, "#resolution") == "Resolution: not yet resolved"
    assert page.css_first("#resolved-on") is None


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"id": "fred:NOSUCH", "date": "2026-01-01", "until": LATER}, "fred:NOSUCH"),
        ({"id": "fred:ANFCI", "until": LATER}, "needs a date"),
        ({"id": "fred:ANFCI", "date": "tomorrow", "until": LATER}, "date"),
        ({"id": "fred:ANFCI", "date": "2026-01-01", "until": "2026-01-01T00:00:00"}, "until"),
        ({"id": "metaculus:21531", "date": "2026-01-01", "until": LATER}, "has no date"),
        ({"id": "fred:ANFCI", "date": "2026-01-01", "until": LATER, "why": "?"}, "why"),
    ],
)
async def test_a_wrong_embargo_is_answered_with_a_sentence(body: dict[str, str], names: str, site: Site) -> None:
    answer = await site.post("embargo", **body)
    assert answer.status_code == 400
    assert names in answer.json()["error"]
    assert (await site.control.get("/_site/")).json()["embargoes"] == []


async def test_certificates_and_embargoes_survive_a_restart_and_faults_do_not(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        assert stat.S_IMODE((tmp_path / "ca.key").stat().st_mode) == 0o600
        (await site.post("embargo", id="fred:ANFCI", date="2000-01-01", until=LATER)).raise_for_status()
        (await site.post("faults", host="api.stlouisfed.org", status=500)).raise_for_status()
        before = (tmp_path / "ca.pem").read_bytes()
    async with running(tmp_path) as site:
        assert (tmp_path / "ca.pem").read_bytes() == before
        assert (await fred(site, "ANFCI"))["observations"] == []
        assert (await site.control.get("/_site/")).json()["faults"] == []


# Faults


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ({"down": True}, "SourceUnreachable", "no whole answer"),
        ({"status": 503, "retry_after": 9}, "SourceUnreachable", "503"),
        ({"status": 404}, "SourceRefused", "404"),
        ({"redirect_to": "https://elsewhere.example.net/"}, "SourceRefused", "elsewhere.example.net"),
        ({"content_type": "image/png"}, "SourceRefused", "image/png"),
        ({"body": "huge"}, "SourceRefused", "5,000,000 bytes"),
        ({"body": "gzip_bomb"}, "SourceRefused", "5,000,000 bytes"),
        ({"body": "truncated"}, "SourceUnreachable", "no whole answer"),
    ],
)
async def test_a_fault_is_met_by_the_fetcher_and_ends_when_released(
    fault: dict[str, Any], kind: str, says: str, site: Site
) -> None:
    (await site.post("faults", host="api.stlouisfed.org", **fault)).raise_for_status()
    with pytest.raises(ApplicationError, match=says) as caught:
        await fred(site, "ANFCI")
    assert caught.value.type == kind
    await site.fetcher.get("https://polymarket.com/robots.txt")
    (await site.post("release", host="api.stlouisfed.org")).raise_for_status()
    await fred(site, "ANFCI")


async def test_a_fault_of_all_hosts_spares_the_control(site: Site) -> None:
    (await site.post("faults", down=True)).raise_for_status()
    for host in ("api.stlouisfed.org", "polymarket.com"):
        with pytest.raises(ApplicationError):
            await site.fetcher.reachable(f"https://{host}/robots.txt")
    assert (await site.control.get("/_site/")).json()["faults"][0]["down"] is True


async def test_a_delay_only_delays(site: Site) -> None:
    (await site.post("faults", host="polymarket.com", delay_ms=300)).raise_for_status()
    started = asyncio.get_running_loop().time()
    await site.fetcher.get("https://polymarket.com/robots.txt")
    assert asyncio.get_running_loop().time() - started >= 0.3


async def test_a_fault_of_a_host_that_is_not_served_is_refused(site: Site) -> None:
    answer = await site.post("faults", host="www.example.org", down=True)
    assert answer.status_code == 400
    assert "www.example.org" in answer.json()["error"]


# Other data


async def test_another_data_folder_of_the_same_format_is_served(tmp_path: Path) -> None:
    days = [{"date": "2030-02-02", "value": "-1.5"}, {"date": "2030-01-01", "value": "7"}]
    made = [
        ("fred", "MADE", "https://fred.stlouisfed.org/series/MADE", "A rate."),
        ("dbnomics", "p_d_s.x", "https://db.nomics.world/p/d/s.x", "A temperature."),
        ("yfinance", "MADE", "https://finance.yahoo.com/quote/MADE", "A price."),
        ("wikipedia", "a1", "https://en.wikipedia.org/wiki/Made_page", "Ana Example's ELO rating."),
        ("wikipedia", "b2", "https://en.wikipedia.org/wiki/Made_page", "Records in total"),
    ]
    keys = ("source", "id", "url", "description")
    series = [dict(zip(keys, row, strict=True)) | {"question": "Up?", "observations": days} for row in made]
    _write(tmp_path, series, [])
    async with running(tmp_path / "ca", "--data-dir", str(tmp_path)) as site:
        assert [o["value"] for o in (await fred(site, "MADE"))["observations"]] == ["7", "-1.5"]
        answer = await site.json("https://api.db.nomics.world/v22/series/p/d/s.x", observations="1")
        assert answer["series"]["docs"][0]["value"] == [7, -1.5]
        answer = await site.json("https://query1.finance.yahoo.com/v8/finance/chart/MADE")
        assert answer["chart"]["result"][0]["indicators"]["quote"] == [{"close": [7, -1.5]}]
        [_, page] = (await site.fetcher.get("https://en.wikipedia.org/wiki/Made_page")).body.decode().split("<main>")
        assert all(cell in page for cell in ("Ana Example", "Records in total", "-1.5"))


@pytest.mark.parametrize(
    ("line", "says"),
    [('{"source": "fred"}', "series.jsonl, line 2: id"), ("not JSON", "series.jsonl, line 2: the line")],
)
def test_a_line_that_is_no_series_is_named(line: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "series.jsonl"
    path.write_text(load_series()[0].model_dump_json() + "\n" + line + "\n")
    with pytest.raises(ValueError, match=says):
        load_series(path)


def test_the_loader_changes_nothing() -> None:
    for name, load in ((data.SERIES_FILE, load_series), (data.QUESTIONS_FILE, load_questions)):
        loaded: tuple[Series | Question, ...] = load()
        lines = (data.FOLDER / name).read_text("utf-8").splitlines()
        for line, row in zip(lines, loaded, strict=True):
            assert type(row).model_validate(row.model_dump()) == row
            written, kept = json.loads(line), json.loads(row.model_dump_json())
            assert written.keys() == kept.keys()
            assert {k: v for k, v in written.items() if k != "closes"} == {
                k: v for k, v in kept.items() if k != "closes"
            }


def _write(folder: Path, series: list[dict[str, Any]], questions: list[dict[str, Any]]) -> None:
    for name, rows in ((data.SERIES_FILE, series), (data.QUESTIONS_FILE, questions)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
