"""The site: hosts and paths to answers."""

from pathlib import Path
from typing import TypeVar, get_args
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Host, Route, Router
from starlette.types import ASGIApp

from deploy.local.data import QUESTIONS_FILE, SERIES_FILE, Series, load_questions, load_series
from deploy.local.source_site import official, pages
from deploy.local.source_site.control import Control, Embargo, Fault, Misprint, Release
from deploy.local.source_site.faults import Faults
from deploy.local.source_site.official import BadRequest, Revision
from domain.base import Model

CONTROL_HOSTS = frozenset({"localhost", "127.0.0.1"})
"""Where /_site/ answers, and nowhere else. These hosts have no faults."""

_FRED = "api.stlouisfed.org"
_DBNOMICS = "api.db.nomics.world"
_YAHOO = ("query1.finance.yahoo.com", "query2.finance.yahoo.com")
_WIKIPEDIA = "en.wikipedia.org"

M = TypeVar("M", bound=Model)


class Site:
    """Series and questions of a data folder, as their official hosts would answer.

    Args:
        data: folder with `series.jsonl` and `questions.jsonl`.
        state: file that keeps the embargoes.
    """

    def __init__(self, data: Path, state: Path) -> None:
        series = load_series(data / SERIES_FILE)
        questions = load_questions(data / QUESTIONS_FILE)
        self._control = Control(state)
        self._series = {one.key: one for one in series}
        self._questions = {one.id: one for one in questions}
        self._dbnomics = {official.dbnomics_path(one): one for one in series if one.source == "dbnomics"}
        articles: dict[str, list[Series]] = {}
        for one in series:
            if one.source == "wikipedia":
                articles.setdefault(_title(_place(one.url)[1].removeprefix("/wiki/")), []).append(one)
        self._articles = {title: (tuple(page), official.revisions(page)) for title, page in articles.items()}
        self._series_pages = {_place(one.url): one for one in series if one.source != "wikipedia"}
        # Questions about series have the series' own page; the others' pages tell their result.
        about_series = get_args(Series.model_fields["source"].annotation)
        self._result_pages = {_place(one.url): one for one in questions if one.source not in about_series}

    @property
    def hosts(self) -> list[str]:
        """Every host that is served, the control's among them."""
        named = {host for host, _ in (*self._series_pages, *self._result_pages)}
        return sorted({*named, _FRED, _DBNOMICS, *_YAHOO, _WIKIPEDIA, *CONTROL_HOSTS})

    def app(self) -> ASGIApp:
        """The ASGI application, faults included."""
        own: dict[str, list[BaseRoute]] = {
            _FRED: [Route("/fred/series/observations", self._fred_observations)],
            _DBNOMICS: [Route("/v22/series/{provider}/{dataset}/{code:path}", self._dbnomics_series)],
            _WIKIPEDIA: [Route("/w/api.php", self._wikipedia_api), Route("/wiki/{title:path}", self._article)],
        }
        own |= {host: [Route("/v8/finance/chart/{symbol}", self._yahoo_chart)] for host in _YAHOO}
        control: list[BaseRoute] = [
            Route("/_site/", self._state),
            Route("/_site/embargo", self._embargo, methods=["POST"]),
            Route("/_site/misprint", self._misprint, methods=["POST"]),
            Route("/_site/faults", self._fault, methods=["POST"]),
            Route("/_site/release", self._release, methods=["POST"]),
        ]
        own |= dict.fromkeys(CONTROL_HOSTS, control)
        shared = [Route("/robots.txt", _robots), Route("/{path:path}", self._page)]
        routes = [Host(host, Router([*own.get(host, []), *shared], redirect_slashes=False)) for host in self.hosts]
        site = Starlette(
            routes=[*routes, Route("/{path:path}", _unknown_host)], exception_handlers={BadRequest: _bad_request}
        )
        return Faults(site, self._control, spared=CONTROL_HOSTS)

    async def _fred_observations(self, request: Request) -> Response:
        params = request.query_params
        series = self._series.get(f"fred:{params.get('series_id')}")
        if series is None or params.get("file_type") != "json":
            why = "The series does not exist." if series is None else "Only file_type=json is served here."
            return JSONResponse({"error_code": 400, "error_message": f"Bad Request.  {why}"}, 400)
        return JSONResponse(official.fred_observations(self._control.published(series), params))

    async def _dbnomics_series(self, request: Request) -> Response:
        path = request.path_params
        series = self._dbnomics.get((path["provider"], path["dataset"], path["code"]))
        if series is None:
            return JSONResponse({"errors": [{"message": "Could not find the series."}]}, 404)
        return JSONResponse(official.dbnomics_series(series, self._control.published(series), request.query_params))

    async def _yahoo_chart(self, request: Request) -> Response:
        symbol = request.path_params["symbol"]
        series = self._series.get(f"yfinance:{symbol}")
        if series is None:
            return JSONResponse(official.YAHOO_NOT_FOUND, 404)
        return JSONResponse(official.yahoo_chart(symbol, self._control.published(series), request.query_params))

    async def _wikipedia_api(self, request: Request) -> Response:
        params = request.query_params
        served = {"action": "query", "prop": "revisions", "format": "json", "formatversion": "2"}
        for name, value in served.items():
            if params.get(name) != value:
                raise BadRequest(f"Only {name}={value} is served here.")
        title = params.get("titles", "")
        return JSONResponse(official.wikipedia_revisions(title, self._history(_title(title)), params))

    async def _article(self, request: Request) -> Response:
        title = _title(request.path_params["title"])
        history = self._history(title)
        if history is None:
            return await self._page(request)
        return HTMLResponse(pages.article_page(title, history[-1] if history else None))

    def _history(self, title: str) -> list[Revision] | None:
        """The article's revisions that are published.

        From the first hidden observation on there is none: its day's revision would show an older value as that day's.
        """
        if title not in self._articles:
            return None
        page, revisions = self._articles[title]
        hidden = [o.date for one in page for o in one.observations[len(self._control.published(one)) :]]
        first_hidden = min(hidden, default=None)
        return [revision for revision in revisions if first_hidden is None or revision.day < first_hidden]

    async def _page(self, request: Request) -> Response:
        place = (request.url.hostname or "", request.scope["path"].rstrip("/"))
        if place in self._result_pages:
            question = self._result_pages[place]
            hidden, mistake = self._control.hides_outcome(question), self._control.misprinted_outcome(question)
            return HTMLResponse(pages.result_page(question, hidden=hidden, mistake=mistake))
        if place in self._series_pages:
            series = self._series_pages[place]
            return HTMLResponse(pages.series_page(series, self._control.published(series)))
        return PlainTextResponse("The embedded source site has no such page.", 404)

    async def _state(self, _: Request) -> Response:
        return JSONResponse(self._control.state.model_dump(mode="json"))

    async def _embargo(self, request: Request) -> Response:
        embargo = await _read(request, Embargo)
        self._check_place(embargo, "embargo", "the first day of the series to hide")
        self._control.embargo(embargo)
        return await self._state(request)

    async def _misprint(self, request: Request) -> Response:
        misprint = await _read(request, Misprint)
        self._check_place(misprint, "misprint", "the day of the series whose value is wrong")
        self._control.misprint(misprint)
        return await self._state(request)

    def _check_place(self, change: Embargo | Misprint, what: str, date: str) -> None:
        if change.id in self._series:
            if change.date is None:
                raise BadRequest(f"The {what} on {change.id} needs a date: {date}.")
        elif change.id not in self._questions:
            raise BadRequest(f"Nothing has the id {change.id}; ids are like fred:AMERIBOR and metaculus:21531.")
        elif change.date is not None:
            raise BadRequest(f"{change.id} is a question, its {what} has no date: leave it out.")

    async def _fault(self, request: Request) -> Response:
        fault = await _read(request, Fault)
        if fault.host is not None and fault.host not in self.hosts:
            raise BadRequest(f"The host {fault.host} is not served; served are {', '.join(self.hosts)}.")
        self._control.fault(fault)
        return await self._state(request)

    async def _release(self, request: Request) -> Response:
        self._control.release(await _read(request, Release))
        return await self._state(request)


def _place(url: str) -> tuple[str, str]:
    """Host and decoded path, by which pages are found."""
    parts = urlsplit(url)
    return parts.hostname or "", unquote(parts.path).rstrip("/")


def _title(text: str) -> str:
    return unquote(text).replace("_", " ")


async def _read(request: Request, model: type[M]) -> M:
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "The body"
        raise BadRequest(f"{field} cannot be read: {first['msg']}.") from error


async def _bad_request(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _robots(_: Request) -> Response:
    return PlainTextResponse("User-agent: *\nAllow: /\n")


async def _unknown_host(request: Request) -> Response:
    return PlainTextResponse(f"The embedded source site does not serve the host {request.url.hostname}.", 421)
