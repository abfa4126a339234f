"""The bundled questions as somebody proposes them. Apart from the data, so that the source site need not load rules."""

import datetime as dt

from deploy.local.data import Question, Series, asked
from domain.market import Proposal


def criteria_of(series: Series) -> str:
    """How every question about a series is to be resolved, in the data set's words."""
    return f"Resolves to the value found at {series.url} once the data is published."


def series_proposal(
    series: Series, due: dt.date, resolution: dt.date, *, expiry: dt.datetime, proposer: str
) -> Proposal:
    """The series' question about two dates; the model makes the draft."""
    return Proposal(
        text=asked(series, due, resolution),
        background=series.description,
        criteria=criteria_of(series),
        expiry=expiry,
        proposer=proposer,
    )


def question_proposal(question: Question, *, expiry: dt.datetime, proposer: str) -> Proposal:
    """A question whose own page tells its result; the model makes the draft."""
    return Proposal(
        text=question.question,
        background=question.background,
        criteria=f"{question.criteria}\nSource: {question.url}",
        expiry=expiry,
        proposer=proposer,
    )
