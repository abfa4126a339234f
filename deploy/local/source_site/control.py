"""What demos and tests change about the site while it runs: what is published later or wrongly, and faults of hosts."""

import datetime as dt
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, TypeAdapter

from deploy.local.data import Observation, Question, Series
from domain.base import Model


class Embargo(Model):
    """What is published only from `until` on: the observations of a series from `date` on, or a question's outcome."""

    id: str
    """`source:id` of a series (fred:AMERIBOR) or the id of a question (metaculus:21531)."""
    date: dt.date | None = None
    """First day that is hidden; a series needs it, a question has none."""
    until: AwareDatetime


class Misprint(Model):
    """What is published wrongly until it is released: the value of one day of a series, or a question's outcome."""

    id: str
    """As an embargo's."""
    date: dt.date | None = None
    """Day of the series; a question has none."""
    value: str
    """Shown instead; of a question Yes or No."""


class Fault(Model):
    """How a host misbehaves. The delay comes first; `down`, `status`, `redirect_to` and `body` replace the answer."""

    host: str | None = None
    """None: every host that has no fault of its own."""
    delay_ms: Annotated[int, Field(ge=0, le=600_000)] = 0
    down: bool = False
    """The connection is closed without an answer."""
    status: Annotated[int, Field(ge=400, le=599)] | None = None
    retry_after: Annotated[int, Field(ge=0)] | None = None
    """Seconds, sent with `status`."""
    redirect_to: str | None = None
    content_type: str | None = None
    """Sent instead of the right one."""
    body: Literal["huge", "gzip_bomb", "truncated"] | None = None
    """20 MB; 100 MB of zeros as 100 kB of gzip; half of the right body, then the connection is closed."""


class Release(Model):
    """Ends the embargo and misprint of `id`, the fault of `host`, or, with neither, all of them."""

    id: str | None = None
    host: str | None = None


class State(Model):
    """Everything that is in force."""

    embargoes: tuple[Embargo, ...]
    misprints: tuple[Misprint, ...]
    faults: tuple[Fault, ...]


_EMBARGOES = TypeAdapter(tuple[Embargo, ...])


class Control:
    """Embargoes, kept in a file over restarts; misprints and faults, which end with the process."""

    def __init__(self, file: Path) -> None:
        self._file = file
        kept = _EMBARGOES.validate_json(file.read_bytes()) if file.exists() else ()
        self._embargoes = {embargo.id: embargo for embargo in kept}
        self._misprints: dict[str, Misprint] = {}
        self._faults: dict[str | None, Fault] = {}

    @property
    def state(self) -> State:
        """What is in force now; embargoes that have run out are gone."""
        now = dt.datetime.now(dt.UTC)
        embargoes = tuple(embargo for embargo in self._embargoes.values() if embargo.until > now)
        misprints = tuple(self._misprints.values())
        return State(embargoes=embargoes, misprints=misprints, faults=tuple(self._faults.values()))

    def embargo(self, embargo: Embargo) -> None:
        """Put an embargo in force, instead of an earlier one on the same id."""
        self._embargoes[embargo.id] = embargo
        self._keep()

    def misprint(self, misprint: Misprint) -> None:
        """Publish a mistake, instead of an earlier one on the same id."""
        self._misprints[misprint.id] = misprint

    def fault(self, fault: Fault) -> None:
        """Make a host fail, instead of its earlier fault."""
        self._faults[fault.host] = fault

    def release(self, release: Release) -> None:
        """End what is named; what is not there is ended already."""
        if release.id is None and release.host is None:
            self._embargoes.clear()
            self._misprints.clear()
            self._faults.clear()
        if release.host is not None:
            self._faults.pop(release.host, None)
        if release.id is not None:
            self._embargoes.pop(release.id, None)
            self._misprints.pop(release.id, None)
        self._keep()

    def fault_of(self, host: str) -> Fault | None:
        """The host's own fault, or that of all hosts."""
        return self._faults.get(host) or self._faults.get(None)

    def hidden_from(self, series: Series) -> dt.date | None:
        """The first day of a series that is not published yet, if any."""
        embargo = self._in_force(series.key)
        return embargo.date if embargo else None

    def published(self, series: Series) -> tuple[Observation, ...]:
        """The observations that are published now."""
        hidden, mistake = self.hidden_from(series), self._misprints.get(series.key)
        shown = (o for o in series.observations if hidden is None or o.date < hidden)
        if mistake is None:
            return tuple(shown)
        return tuple(Observation(date=o.date, value=mistake.value) if o.date == mistake.date else o for o in shown)

    def hides_outcome(self, question: Question) -> bool:
        """Whether a question's outcome is not published yet."""
        return self._in_force(question.id) is not None

    def misprinted_outcome(self, question: Question) -> str | None:
        """What is published as a question's outcome by mistake, if anything is."""
        mistake = self._misprints.get(question.id)
        return mistake.value if mistake else None

    def _in_force(self, key: str) -> Embargo | None:
        embargo = self._embargoes.get(key)
        return embargo if embargo and embargo.until > dt.datetime.now(dt.UTC) else None

    def _keep(self) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_bytes(_EMBARGOES.dump_json(tuple(self._embargoes.values())))
        os.replace(draft, self._file)
