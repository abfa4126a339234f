"""`clotho ingest`: an article by hand, as if a feed had brought it. A full draft is proposed with `market propose`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.context import command, connected
from cli.feed import run
from cli.output import CommandError, Exit, JsonOption, emit, say
from cli.reading import read_text
from db import audit, news
from db.news import Fate
from domain.news import MANUAL
from domain.news_items import NewsItem, item_of

app = typer.Typer(help="Bring in what no feed brings.", no_args_is_help=True)

_FILE_LIMIT = 256 * 1024
"""Bytes of an article's file; only its beginning is kept."""


@app.command()
@command
async def article(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Plain text, the title in the first line; `-` reads it.")
    ],
    url: Annotated[str, typer.Option(help="Where the article stands, for whoever looks it up later.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Take in an article: stored once, decided by rules or the model, and its market started if it is worth one.

    Exit status: 0 decided, worth a market or not; 1 left undecided, because the model did not answer.

    Example: clotho ingest article announcement.txt --url https://example.org/news/1
    """
    item = _item(read_text(file, "FILE", _FILE_LIMIT), url)
    async with connected() as context:
        # Only this command pays for loading the fetcher.
        from activities.feeds import decided_by_rules

        now = datetime.now(UTC)
        async with context.pool.acquire() as connection, connection.transaction():
            stored = await news.store(connection, None, [item])
            made = decided_by_rules(stored.first, MANUAL, now)
            known = not stored.first and not stored.duplicates
            await news.decide(connection, made)
            if not known:
                actor, details = context.settings.identity, {"url": item.url}
                await audit.append(connection, "article_ingested", "news", item.content_sha256, actor, details)
        end = await run(context, MANUAL, poll=False)
        fate = await news.fate(context.pool, item.content_sha256)
        assert fate is not None, "it has just been stored"
        body = {"content_sha256": item.content_sha256, "known": known, **fate.model_dump(mode="json")}
        emit(body, as_json, lambda: say(_sentence(fate, known=known, left=end.left)))
        if fate.extraction is None and fate.duplicate_of is None:
            raise typer.Exit(Exit.FAILED)


def _sentence(fate: Fate, *, known: bool, left: str) -> str:
    before = "It was taken in before. " if known else ""
    if fate.duplicate_of is not None:
        return f"{before}Another item tells of the same event, so it makes no market of its own."
    if fate.extraction is None:
        return f"{before}It waits for the model: {left or 'poll again'}"
    if fate.market_id is None:
        return f"{before}Not worth a market ({fate.decided_by}): {fate.extraction.reason}"
    return f"{before}{fate.extraction.question} Follow it: clotho market show {fate.market_id}"


def _item(text: str, url: str) -> NewsItem:
    title, _, content = text.strip().partition("\n")
    item = item_of(url=url, title=title, content=content)
    if item is None:
        raise CommandError("FILE: it holds no text: write the title in the first line.", field="FILE")
    return item
