"""HTML pages: a question's result, a series, a Wikipedia article. Every text of the data is escaped.

Element ids are stable: `#question`, `#resolution` and `#resolved-on` of a result; `#description`, `#latest-date`,
`#latest-value` and `#on-YYYY-MM-DD` of a series; `#revision` of an article.
"""

from collections.abc import Sequence
from html import escape
from urllib.parse import urlsplit

from deploy.local.data import Observation, Question, Series
from deploy.local.source_site.official import Revision


def result_page(question: Question, *, hidden: bool, mistake: str | None = None) -> str:
    """What a question resolved to, last when several times; `hidden` while that is not published, or a `mistake`."""
    answer, resolved_on = "not yet resolved", ""
    if question.resolutions and not hidden:
        last = question.resolutions[-1]
        answer = mistake or {1.0: "Yes", 0.0: "No"}.get(last.outcome, f"{last.outcome:g}")
        resolved_on = f'<p>Resolved on <time id="resolved-on">{last.date}</time></p>\n'
    host = urlsplit(question.url).hostname or ""
    return _page(
        question.question,
        f"This page is made by Clotho's embedded site from the data set's outcome. It is not a page of {host}.",
        f'<h1 id="question">{escape(question.question)}</h1>\n'
        f'<p id="resolution">Resolution: {answer}</p>\n{resolved_on}'
        f'<section id="background"><h2>Background</h2>{_paragraphs(question.background)}</section>\n'
        f'<section id="criteria"><h2>Criteria</h2>{_paragraphs(question.criteria)}</section>',
    )


def series_page(series: Series, observations: Sequence[Observation]) -> str:
    """A series with the observations that are published."""
    host = urlsplit(series.url).hostname or ""
    latest = (
        f'<p>Latest: <span id="latest-value">{escape(observations[-1].value)}</span> on '
        f'<time id="latest-date">{observations[-1].date}</time></p>\n'
        if observations
        else ""
    )
    rows = "".join(
        f'<tr><th scope="row">{o.date}</th><td id="on-{o.date}">{escape(o.value)}</td></tr>\n' for o in observations
    )
    return _page(
        series.id,
        f"This page is made by Clotho's embedded site from the data set's observations. It is not a page of {host}.",
        f'<h1 id="series">{escape(series.id)}</h1>\n<p id="description">{escape(series.description)}</p>\n{latest}'
        f'<table id="observations">\n<tr><th>Date</th><th>Value</th></tr>\n{rows}</table>',
    )


def article_page(title: str, revision: Revision | None) -> str:
    """A Wikipedia article as it is now; without a revision it has no content yet."""
    tables = ""
    if revision:
        players = [f"<tr><td>{_cells(row)}</td></tr>\n" for row in revision.players]
        others = [f"<tr><td>{_cells(row)}</td></tr>\n" for row in revision.others]
        tables = (
            f'<p>Revision of <time id="revision">{revision.day}</time></p>\n'
            f'<table id="players">\n<tr><th>Rank</th><th>Player</th><th>Rating</th></tr>\n{"".join(players)}</table>\n'
            f'<table id="values">\n<tr><th>Subject</th><th>Value</th></tr>\n{"".join(others)}</table>'
        )
    return _page(
        title,
        "This page is made by Clotho's embedded site from the data set's observations. It is not a page of Wikipedia.",
        f"<h1>{escape(title)}</h1>\n{tables}",
    )


def _cells(row: Sequence[str]) -> str:
    return "</td><td>".join(escape(cell) for cell in row)


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n"))


def _page(title: str, notice: str, content: str) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>{escape(title)}</title></head>\n<body>\n"
        f'<p id="embedded-notice"><strong>{escape(notice)}</strong></p>\n<main>\n{content}\n</main>\n</body>\n</html>\n'
    )
