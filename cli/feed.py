"""`clotho feed`: which news feeds are read, and how that goes."""

import re
from typing import Annotated
from urllib.parse import urlsplit
from uuid import UUID

import typer
from pydantic import TypeAdapter, ValidationError

from cli import feeding
from cli.context import Context, command, connected, end_of
from cli.output import CommandError, Exit, JsonOption, emit, say, styled, table
from db import feeds, news
from db.feeds import StoredFeed
from domain.news import EVERY_FEED, MANUAL, FeedName, IntakeEnd
from domain.source_urls import check_url

app = typer.Typer(help="News feeds: which are read every 15 minutes, and how that goes.", no_args_is_help=True)

FeedArgument = Annotated[str, typer.Argument(metavar="FEED", help="Its name or its URL; see `clotho feed list`.")]


@app.command()
@command
async def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Of the feed: RSS or Atom, over HTTPS.")],
    name: Annotated[str | None, typer.Option(help="a-z, 0-9 and hyphens, at most 40; else made of the host.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Add a feed; it is read from the next poll on. Recorded in the audit log.

    Example: clotho feed add https://www.federalreserve.gov/feeds/press_all.xml --name fed
    """
    if (refusal := check_url(url)) is not None:
        raise CommandError(f"URL: {refusal} Name the feed's own public address.", field="URL")
    wanted = _name(name if name is not None else _name_of(url))
    async with connected() as context:
        added = await feeds.add(context.pool, url, wanted, context.settings.identity)
        if added is None:
            same = await feeds.find(context.pool, url)
            if same is None:
                why = f"--name: another feed is called {wanted}: choose another name with --name."
                raise CommandError(why, field="--name")
            raise CommandError(f"URL: it is read already, as {same.name}: see `clotho feed list`.", field="URL")
        emit(added, as_json, lambda: say(_added(added.name)))


@app.command("list")
@command
async def list_feeds(as_json: JsonOption = False) -> None:
    """List the feeds, when each was last read, and why not where that failed."""
    async with connected() as context:
        found = await feeds.every(context.pool)
        items = await news.count_by_feed(context.pool)

        def show() -> None:
            rows = [
                (
                    feed.name,
                    styled(_state(feed)),
                    f"{feed.last_polled:%Y-%m-%d %H:%M:%S}" if feed.last_polled else "never",
                    items.get(feed.id, 0),
                    feed.last_error or feed.url,
                )
                for feed in found
            ]
            headings = ["feed", "state", "last read (UTC)", "items", "address, or what is wrong…"]
            table(headings, rows, empty="No feed is read: `clotho feed add URL`.", whole_text=True)

        emit([feed.model_dump(mode="json") | {"items": items.get(feed.id, 0)} for feed in found], as_json, show)


@app.command()
@command
async def remove(feed: FeedArgument, as_json: JsonOption = False) -> None:
    """Read a feed no longer and forget it; its items and their markets stay. Recorded in the audit log."""
    async with connected() as context:
        found = await _find(context, feed)
        await feeds.remove(context.pool, found, context.settings.identity)
        emit({"name": found.name, "removed": True}, as_json, lambda: say(f"{found.name} is removed; its items stay."))


@app.command()
@command
async def enable(feed: FeedArgument, as_json: JsonOption = False) -> None:
    """Read a feed again. Recorded in the audit log."""
    await _enable(feed, True, as_json)


@app.command()
@command
async def disable(feed: FeedArgument, as_json: JsonOption = False) -> None:
    """Do not read a feed until it is enabled again. Recorded in the audit log."""
    await _enable(feed, False, as_json)


@app.command()
@command
async def poll(
    feed: Annotated[str | None, typer.Argument(metavar="[FEED]", help="Its name or its URL, enabled or not.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every enabled feed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read feeds now, decide what is new and start the markets that it is worth.

    Exit status: 0 all were read; 1 one could not be, or something is left for the next poll.
    """
    if every is (feed is not None):
        raise CommandError("FEED: name one feed, or say --all.", field="FEED")
    async with connected() as context:
        found = await _find(context, feed) if feed is not None else None
        name = found.name if found else EVERY_FEED
        end = await run(context, name, feed_id=found.id if found else None)
        emit(end, as_json, lambda: _show(end))
        if end.polled.failed or end.left:
            raise typer.Exit(Exit.FAILED)


async def run(context: Context, name: str, *, feed_id: UUID | None = None, poll: bool = True) -> IntakeEnd:
    """Run an intake to its end.

    Raises:
        CommandError: it failed, or no worker runs it.
    """
    intake = await feeding.start(context.temporal, name, feed_id=feed_id, poll=poll)
    return await end_of(intake, f"the intake {intake.id}", "poll again")


def _added(name: str) -> str:
    return f"Added {name}. Read it now: clotho feed poll {name}. Every 15 minutes: clotho schedule create intake"


def _show(end: IntakeEnd) -> None:
    polled = end.polled
    read = f"Read {polled.feeds - polled.failed} of {polled.feeds} feeds, {polled.unchanged} unchanged"
    say(f"{read}: {polled.items} new items, {polled.duplicates} of them duplicates; {end.started} markets started.")
    if polled.failed:
        say("See what is wrong: clotho feed list")
    if end.left:
        say(f"Some items are left for the next poll: {end.left}")


async def _enable(name: str, enabled: bool, as_json: bool) -> None:
    async with connected() as context:
        feed = await _find(context, name)
        await feeds.enable(context.pool, feed, enabled, context.settings.identity)
        sentence = f"{feed.name} is {'read' if enabled else 'not read'} from now on."
        emit({"name": feed.name, "enabled": enabled}, as_json, lambda: say(sentence))


async def _find(context: Context, name: str) -> StoredFeed:
    feed = await feeds.find(context.pool, name)
    if feed is None:
        raise CommandError("FEED: there is no such feed: see `clotho feed list`.", field="FEED")
    return feed


def _state(feed: StoredFeed) -> str:
    if not feed.enabled:
        return "disabled"
    return "failed" if feed.last_error else "ok"


def _name(name: str) -> str:
    try:
        valid = TypeAdapter(FeedName).validate_python(name)
    except ValidationError:
        valid = ""
    if not valid or valid in {EVERY_FEED, MANUAL}:
        why = f"--name: {name!r} is no name for a feed: use a-z, 0-9 and hyphens, at most 40, not all or manual."
        raise CommandError(why, field="--name")
    return valid


def _name_of(url: str) -> str:
    """A name made of the host and the path of a URL."""
    parts = urlsplit(url)
    words = re.sub(r"[^a-z0-9]+", "-", f"{(parts.hostname or '').removeprefix('www.')}{parts.path}".lower())
    return words.strip("-")[:40].rstrip("-")
