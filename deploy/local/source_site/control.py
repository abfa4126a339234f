"""What demos and tests change about the site while it runs: observations published later, and faults of hosts."""

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
    """Ends the embargo on `id`, the fault of `host`, or, with neither, all embargoes and faults."""

    id: str | None = None
    host: str | None = None


class State(Model):
    """Everything that is in force."""

    embargoes: tuple[Embargo, ...]
    faults: tuple[Fault, ...]


_EMBARGOES = TypeAdapter(tuple[Embargo, ...])


class Control:
    """Embargoes, kept in a file over restarts, and faults, which end with the process."""

    def __init__(self, file: Path) -> None:
        self._file = file
        kept = _EMBARGOES.validate_json(file.read_bytes()) if file.exists() else ()
        self._embargoes = {embargo.id: embargo for embargo in kept}
        self._faults: dict[str | None, Fault] = {}

    @property
    def state(self) -> State:
        """What is in force now; embargoes that have run out are gone."""
        now = dt.datetime.now(dt.UTC)
        embargoes = tuple(embargo for embargo in self._embargoes.values() if embargo.until > now)
        return State(embargoes=embargoes, faults=tuple(self._faults.values()))

    def embargo(self, embargo: Embargo) -> None:
        """Put an embargo in force, instead of an earlier one on the same id."""
        self._embargoes[embargo.id] = embargo
        self._keep()

    def fault(self, fault: Fault) -> None:
        """Make a host fail, instead of its earlier fault."""
        self._faults[fault.host] = fault

    def release(self, release: Release) -> None:
        """End what is named; what is not there is ended already."""
        if release.id is None and release.host is None:
            self._embargoes.clear()
            self._faults.clear()
        if release.host is not None:
            self._faults.pop(release.host, None)
        if release.id is not None:
            self._embargoes.pop(release.id, None)
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
        hidden = self.hidden_from(series)
        return tuple(o for o in series.observations if hidden is None or o.date < hidden)

    def hides_outcome(self, question: Question) -> bool:
        """Whether a question's outcome is not published yet."""
        return self._in_force(question.id) is not None

    def _in_force(self, key: str) -> Embargo | None:
        embargo = self._embargoes.get(key)
        return embargo if embargo and embargo.until > dt.datetime.now(dt.UTC) else None

    def _keep(self) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_bytes(_EMBARGOES.dump_json(tuple(self._embargoes.values())))
        os.replace(draft, self._file)
