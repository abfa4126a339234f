"""Observations in the shapes of the official APIs. Pure: what to show goes in, the answer's content comes out.

Shapes: FRED `series/observations` (fred.stlouisfed.org/docs/api), DBnomics API v22 (api.db.nomics.world/v22/apidocs),
Yahoo Finance chart v8, MediaWiki `action=query&prop=revisions` (mediawiki.org/wiki/API:Revisions). Only parameters that
choose among observations are honoured; what the data does not hold is left out, never made up.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from deploy.local.data import Observation, Series

Params = Mapping[str, str]
Json = dict[str, Any]

_NEW_YORK = ZoneInfo("America/New_York")
_CLOSE = time(16)
"""When the New York exchanges close; the observations are closing prices."""

_REVISION_LIMIT = 50
"""Revisions with content in one answer, as MediaWiki allows."""


class BadRequest(ValueError):
    """A request cannot be read; the message is a sentence for the one who sent it."""


def fred_observations(observations: Sequence[Observation], params: Params) -> Json:
    """FRED `fred/series/observations` with file_type=json."""
    start = _date(params, "observation_start", date(1600, 1, 1))
    end = _date(params, "observation_end", date(9999, 12, 31))
    limit = _whole(params, "limit", 100_000)
    newest_first = params.get("sort_order") == "desc"
    chosen = [o for o in observations if start <= o.date <= end]
    if newest_first:
        chosen.reverse()
    # The vintage is the day of the last observation, so that the answer changes only when the data does.
    vintage = (observations[-1].date if observations else start).isoformat()
    realtime = {"realtime_start": vintage, "realtime_end": vintage}
    return {
        **realtime,
        "observation_start": start.isoformat(),
        "observation_end": end.isoformat(),
        "units": "lin",
        "output_type": 1,
        "file_type": "json",
        "order_by": "observation_date",
        "sort_order": "desc" if newest_first else "asc",
        "count": len(chosen),
        "offset": 0,
        "limit": limit,
        "observations": [{**realtime, "date": o.date.isoformat(), "value": o.value} for o in chosen[:limit]],
    }


def dbnomics_series(series: Series, observations: Sequence[Observation], params: Params) -> Json:
    """DBnomics `v22/series/{provider}/{dataset}/{series}`."""
    provider, dataset, code = dbnomics_path(series)
    doc: Json = {
        "@frequency": "daily",
        "dataset_code": dataset,
        "provider_code": provider,
        "series_code": code,
        "series_name": series.description,
    }
    if params.get("observations", "0") in {"1", "true"}:
        days = [o.date.isoformat() for o in observations]
        numbers = [_number(o.value) for o in observations]
        doc |= {"period": days, "period_start_day": days, "value": ["NA" if n is None else n for n in numbers]}
    return {"errors": None, "series": {"docs": [doc], "limit": 1000, "num_found": 1, "offset": 0}}


def dbnomics_path(series: Series) -> tuple[str, str, str]:
    """Provider, dataset and series code, which a series' page on DBnomics names in its path."""
    provider, dataset, code = urlsplit(series.url).path.strip("/").split("/", 2)
    return provider, dataset, code


def yahoo_chart(symbol: str, observations: Sequence[Observation], params: Params) -> Json:
    """Yahoo Finance `v8/finance/chart/{symbol}` of daily closes, each at 16:00 in New York."""
    start, end = _whole(params, "period1", 0), _whole(params, "period2", 2**40)
    moments = [int(datetime.combine(o.date, _CLOSE, _NEW_YORK).timestamp()) for o in observations]
    chosen = [
        (moment, _number(o.value)) for moment, o in zip(moments, observations, strict=True) if start <= moment < end
    ]
    result: Json = {
        "meta": {"symbol": symbol, "exchangeTimezoneName": _NEW_YORK.key, "dataGranularity": "1d"},
        "indicators": {"quote": [{}], "adjclose": [{}]},
    }
    if chosen:
        closes = [close for _, close in chosen]
        result["timestamp"] = [moment for moment, _ in chosen]
        # The data has one close a day, adjusted for splits; so both say the same.
        result["indicators"] = {"quote": [{"close": closes}], "adjclose": [{"adjclose": closes}]}
    return {"chart": {"result": [result], "error": None}}


YAHOO_NOT_FOUND: Json = {
    "chart": {"result": None, "error": {"code": "Not Found", "description": "No data found, symbol may be delisted"}}
}


@dataclass(frozen=True)
class Revision:
    """A Wikipedia page as it was from a day on."""

    day: date
    players: tuple[tuple[str, str, str], ...]
    """(rank, name, rating) of each player; a dash where no series tells."""
    others: tuple[tuple[str, str], ...]
    """(description, value) of series that are no ranking and no rating."""

    @property
    def wikitext(self) -> str:
        """The revision's content. A row of a table is one line."""
        ranks = "".join(f"|-\n| {rank} || [[{name}]] || {rating}\n" for rank, name, rating in self.players)
        values = "".join(f"|-\n| {description} || {value}\n" for description, value in self.others)
        return (
            (f'{{| class="wikitable sortable"\n! Rank !! Player !! Rating\n{ranks}|}}\n' if ranks else "")
            + (f'{{| class="wikitable"\n! Subject !! Value\n{values}|}}\n' if values else "")
        )  # fmt: skip


_RANKED = re.compile(r"(?P<player>.+)'s (?P<what>FIDE ranking|ELO rating)\.?", re.IGNORECASE)


def revisions(page: Sequence[Series]) -> tuple[Revision, ...]:
    """The revisions of a page, oldest first: one for each day on which anything on it was observed.

    The revision of a day shows exactly the values observed on that day, and for whom there was none the latest earlier
    one.
    """
    days = sorted({o.date for series in page for o in series.observations})
    return tuple(_revision(page, day) for day in days)


def _revision(page: Sequence[Series], day: date) -> Revision:
    ranks: dict[str, str] = {}
    ratings: dict[str, str] = {}
    others: dict[str, str] = {}
    for series in page:
        values = [o.value for o in series.observations if o.date <= day]
        if not values:
            continue
        ranked = _RANKED.fullmatch(series.description)
        if ranked is None:
            others[series.description] = values[-1]
        else:
            column = ranks if "ranking" in ranked["what"].lower() else ratings
            column[ranked["player"]] = values[-1].removesuffix(".0")
    players = tuple((ranks.get(name, "—"), name, ratings.get(name, "—")) for name in sorted({*ranks, *ratings}))
    return Revision(day, players, tuple(sorted(others.items())))


def wikipedia_revisions(title: str, history: Sequence[Revision] | None, params: Params) -> Json:
    """MediaWiki `action=query&prop=revisions&formatversion=2` for one title; `history` is None for an unknown page."""
    name = title.replace("_", " ")
    query: Json = {"pages": [{"ns": 0, "title": name}]}
    if name != title:
        query["normalized"] = [{"fromencoded": False, "from": title, "to": name}]
    page = query["pages"][0]
    if history is None:
        page["missing"] = True
        return {"batchcomplete": True, "query": query}
    oldest_first = params.get("rvdir") == "newer"
    start, end = _moment(params, "rvstart"), _moment(params, "rvend")
    lowest, highest = (start, end) if oldest_first else (end, start)
    chosen = [r for r in history if (lowest or _moment_of(r)) <= _moment_of(r) <= (highest or _moment_of(r))]
    if not oldest_first:
        chosen.reverse()
    shown = chosen[: min(_whole(params, "rvlimit", 1), _REVISION_LIMIT)]
    if shown:
        page["revisions"] = [_revision_json(revision, params) for revision in shown]
    return {"batchcomplete": True, "query": query}


def _revision_json(revision: Revision, params: Params) -> Json:
    wanted = params.get("rvprop", "timestamp").split("|")
    shown: Json = {}
    if "timestamp" in wanted:
        shown["timestamp"] = f"{revision.day.isoformat()}T00:00:00Z"
    if "content" in wanted:
        main = {"contentmodel": "wikitext", "contentformat": "text/x-wiki", "content": revision.wikitext}
        shown["slots"] = {"main": main}
    return shown


def _moment_of(revision: Revision) -> datetime:
    return datetime.combine(revision.day, time(), UTC)


def _moment(params: Params, name: str) -> datetime | None:
    if name not in params:
        return None
    try:
        moment = datetime.fromisoformat(params[name])
    except ValueError as error:
        raise BadRequest(f"{name} is {params[name]!r}, it must be a moment such as 2026-01-31T00:00:00Z.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _date(params: Params, name: str, default: date) -> date:
    try:
        return date.fromisoformat(params[name]) if name in params else default
    except ValueError as error:
        raise BadRequest(f"{name} is {params[name]!r}, it must be a date such as 2026-01-31.") from error


def _whole(params: Params, name: str, default: int) -> int:
    text = params.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise BadRequest(f"{name} is {text!r}, it must be a whole number.")
    return int(text)


def _number(value: str) -> float | None:
    """The value as JSON has numbers; None for a gap."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
