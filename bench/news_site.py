"""An HTTPS site of news feeds for measurements: most are in order, five are broken, each in a way of its own.

`python -m bench.news_site --port PORT --folder FOLDER --items N --feeds M`: makes `ca.pem` in the folder. The feeds
publish their items in four editions; which one is out stands in the folder's file `edition`.
"""

import argparse
import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from html import escape
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from deploy.local.source_site.certificates import authority, server_context

BROKEN = ("bad-xml", "wrong-charset", "too-large", "endless-redirect", "hangs")
"""Names of the broken feeds: what is wrong with each."""

EDITIONS = 4

ANNOUNCED = 0.02
"""Share of the items that announce something with a date, and so are worth a market."""

_SYLLABLES = [consonant + vowel for consonant in "bdgklmnprst" for vowel in "aeiou"]
_VERBS = ("opened", "reported", "closed", "hired", "bought", "sold", "moved", "repaired", "doubled", "lost", "left")
_PLACES = ("Lisbon", "Oslo", "Nairobi", "Quito", "Hanoi", "Turin", "Perth", "Austin", "Lagos", "Kyoto", "Cork", "Graz")
_TODAY = datetime(2026, 6, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Piece:
    """One item of a feed; `event` is the number of what it tells of, `copy` whether another one has the same words."""

    feed: str
    edition: int
    event: int
    title: str
    content: str


def host_of(feed: str) -> str:
    """The host of a feed."""
    return f"{feed}.example.org"


def url_of(feed: str) -> str:
    """The address of a feed."""
    return f"https://{host_of(feed)}/feed"


def feeds_of(count: int) -> list[str]:
    """Names of `count` feeds, the broken ones last."""
    return [*(f"feed-{number:02}" for number in range(count - len(BROKEN))), *BROKEN]


def pieces(items: int, feeds: int) -> list[Piece]:
    """What the feeds in order publish: a third repeats another feed's event, half of that word for word."""
    chance = random.Random(7)
    good = feeds_of(feeds)[: feeds - len(BROKEN)]
    made: list[Piece] = []
    for number in range(items):
        feed, edition = good[number % len(good)], number * EDITIONS // items
        if number % 3 == 2:
            first = made[number - chance.randint(1, min(number, 60))]
            if number % 2:
                made.append(Piece(feed, edition, first.event, first.title, first.content))
            else:
                title = chance.choice((f"{first.title} - Reuters", first.title.upper(), f"Update: {first.title}"))
                made.append(Piece(feed, edition, first.event, title, f"{first.content} Seen in {feed}."))
            continue
        name, other = _name(chance), _name(chance)
        if chance.random() < ANNOUNCED:
            title = f"{name} to unveil the {other} on September {chance.randint(1, 30)}, 2031"
        else:
            place, verb = chance.choice(_PLACES), chance.choice(_VERBS)
            title = f"{name} {verb} {chance.randint(2, 900)} {other} {_name(chance)} in {place}"
        made.append(Piece(feed, edition, number, title, f"<p>{' '.join(_name(chance) for _ in range(60))}.</p>"))
    return made


def _name(chance: random.Random) -> str:
    return "".join(chance.choices(_SYLLABLES, k=4)).title()


def rss(of: list[Piece]) -> bytes:
    """The feed's document."""
    items = "".join(
        f"<item><title>{escape(piece.title)}</title><link>{url_of(piece.feed)}/{piece.event}</link>"
        f"<pubDate>{format_datetime(_TODAY + timedelta(minutes=piece.event))}</pubDate>"
        f"<description>{escape(piece.content)}</description></item>"
        for piece in of
    )
    head = '<?xml version="1.0" encoding="utf-8"?><rss version="2.0"><channel><title>News</title>'
    return f"{head}{items}</channel></rss>".encode()


class NewsSite:
    """The ASGI application."""

    def __init__(self, folder: Path, items: int, feeds: int) -> None:
        self._edition = folder / "edition"
        self._published: dict[tuple[str, int], list[Piece]] = {}
        for piece in pieces(items, feeds):
            self._published.setdefault((piece.feed, piece.edition), []).append(piece)
        self._broken: dict[str, Callable[[], Awaitable[Response]]] = {
            "bad-xml": _bad_xml,
            "wrong-charset": _wrong_charset,
            "too-large": _too_large,
            "endless-redirect": _endless_redirect,
            "hangs": _hangs,
        }
        self.app = Starlette()
        self.app.add_route("/{path:path}", self._answer)

    async def _answer(self, request: Request) -> Response:
        feed = (request.url.hostname or "").split(".")[0]
        if feed in self._broken:
            return await self._broken[feed]()
        edition = int(self._edition.read_text())
        etag = f'"{feed}-{edition}"'
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304)
        body = rss(self._published.get((feed, edition), []))
        return Response(body, media_type="application/rss+xml", headers={"etag": etag})


async def _bad_xml() -> Response:
    return Response(rss([Piece("bad-xml", 0, 1, "Cut short", "")])[:-30], media_type="application/rss+xml")


async def _wrong_charset() -> Response:
    body = rss([Piece("wrong-charset", 0, 1, "Caf\u00e9 opened", "")]).decode().encode("latin-1")
    return Response(body, media_type="application/rss+xml")


async def _too_large() -> Response:
    async def megabytes() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 1_000_000

    return StreamingResponse(megabytes(), media_type="application/rss+xml")


async def _endless_redirect() -> Response:
    return RedirectResponse(url_of("endless-redirect"))


async def _hangs() -> Response:
    await asyncio.sleep(3_600)
    return Response()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.news_site", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--feeds", type=int, required=True)
    arguments = parser.parse_args()
    site = NewsSite(arguments.folder, arguments.items, arguments.feeds)
    hosts = [host_of(feed) for feed in feeds_of(arguments.feeds)]
    config = uvicorn.Config(site.app, host="127.0.0.1", port=arguments.port, log_level="error")
    config.load()
    config.ssl = server_context(authority(arguments.folder), hosts)
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
