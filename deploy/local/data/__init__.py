"""The bundled real questions and series (see README.md for origin and licence), and their loader."""

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AwareDatetime, Field, StringConstraints, ValidationError, field_validator

from domain.base import Model

FOLDER = Path(__file__).parent
SERIES_FILE = "series.jsonl"
QUESTIONS_FILE = "questions.jsonl"

Url = Annotated[str, StringConstraints(pattern=r"^https://[^/\s]+/\S*$")]


class Observation(Model):
    """What a series was observed to be on a day, as the text that the data set has."""

    date: dt.date
    value: str


class Series(Model):
    """One official series; observations are in order of their dates.

    `question` is a template: any two dates, as `{forecast_due_date}` and `{resolution_date}`, give a question whose
    true answer the observations tell.
    """

    source: Literal["fred", "dbnomics", "yfinance", "wikipedia"]
    id: str
    url: Url
    question: str
    description: str
    observations: Annotated[tuple[Observation, ...], Field(min_length=1)]

    @field_validator("observations")
    @classmethod
    def _in_order(cls, observations: tuple[Observation, ...]) -> tuple[Observation, ...]:
        return tuple(sorted(observations, key=lambda observation: observation.date))

    @property
    def key(self) -> str:
        """`source:id`, like the ids of questions: unique over all sources."""
        return f"{self.source}:{self.id}"


class Resolution(Model):
    """What a question resolved to on a day: 1 yes, 0 no, between them a share."""

    date: dt.date
    outcome: Annotated[float, Field(ge=0, le=1)]


class Question(Model):
    """One question as it was asked elsewhere, with what it resolved to (several days for questions about series)."""

    id: str
    source: str
    asked_on: dt.date
    question: str
    background: str
    criteria: str
    url: Url
    opens: str | None
    """A date or a moment, as the source has it."""
    closes: AwareDatetime | None
    value_at_asking: str
    resolutions: tuple[Resolution, ...]

    @property
    def truth(self) -> Literal["YES", "NO"]:
        """The true answer: what it last resolved to."""
        return "YES" if self.resolutions[-1].outcome == 1 else "NO"


def load_series(path: Path = FOLDER / SERIES_FILE) -> tuple[Series, ...]:
    """The series of a JSON Lines file.

    Raises:
        ValueError: a line is no series; names file, line and field.
    """
    return _load(path, Series)


def load_questions(path: Path = FOLDER / QUESTIONS_FILE) -> tuple[Question, ...]:
    """The questions of a JSON Lines file.

    Raises:
        ValueError: a line is no question; names file, line and field.
    """
    return _load(path, Question)


M = TypeVar("M", bound=Model)


def _load(path: Path, model: type[M]) -> tuple[M, ...]:
    rows = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        try:
            rows.append(model.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "the line"
            raise ValueError(f"{path.name}, line {number}: {field} cannot be read: {first['msg']}") from error
    return tuple(rows)


def asked(series: Series, due: dt.date, resolution: dt.date) -> str:
    """The series' question about two dates."""
    return series.question.format(forecast_due_date=due, resolution_date=resolution)


def truth(series: Series, due: dt.date, resolution: dt.date) -> Literal["YES", "NO"]:
    """The true answer to `asked`, from the values that were observed.

    The four kinds of question that the data set's README names: a FIDE ranking "as high or higher" is a number as low
    or lower, an Elo rating "at least 1 % higher", every other value simply higher.
    """
    values = {observation.date: Decimal(observation.value) for observation in series.observations}
    before, after = values[due], values[resolution]
    if "FIDE ranking" in series.question:
        return "YES" if after <= before else "NO"
    if "at least 1% higher" in series.question:
        return "YES" if after >= before * Decimal("1.01") else "NO"
    return "YES" if after > before else "NO"
