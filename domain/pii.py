"""PII backfill: what its workflow is told, what its steps take and give, and how it may end.

A run goes over everything in *passes*; a pass has *parts* (a shard of the chat lists, or a column of a table), a part
*places* (a list, or some pages of a table). Keys, counts, cursors and hashes only: what people wrote stays where it is.
"""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from domain.base import Actor, Model, Reason

WORKFLOW = "PiiBackfill"
"""Name of the workflow type; its workflows are `pii-backfill-<date>`."""

PREFIX = "mem:"
"""Of the keys of chat lists: `mem:{tenant}:{chat}`."""

SHARDS = 4
"""Parts of the chat lists that are gone over at once, by as many workers as there are."""

PASSES = 4
"""The last passes of a run verify: one has to find nothing. After so many that found something a person is asked."""

KEPT = 8
"""Runs, the newest, of which it is kept what was found where; of the others the audit has the counts."""

Rate = Annotated[int, Field(ge=1, le=1_000_000)]
"""Keys (of a table: rows) a second, over all parts together."""

RunName = Annotated[str, StringConstraints(min_length=1, max_length=100)]
"""Of a run, the id of its workflow."""

ColumnName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,62}\.[a-z_][a-z0-9_]{0,62}$")]
"""`table.column` of a text column."""

Count = Annotated[int, Field(ge=0)]


class BackfillRequest(Model):
    """Starts a run: a dry one, which writes nothing, unless told to execute."""

    execute: bool = False
    by: Actor = "schedule"
    rate: Rate | None = None
    """None: as fast as it goes."""


class BeginRequest(Model):
    """A run to be recorded."""

    run: RunName
    backfill: BackfillRequest


class Terms(Model):
    """What holds for a run, as the configuration has it when it begins."""

    approval: bool
    """Whether a person approves before anything is written (ai_config `pii_approval`)."""
    columns: tuple[str, ...]
    """Text columns to go over as well (ai_config `pii_columns`)."""
    shards: Annotated[int, Field(ge=1, le=64)] = SHARDS


class PartRequest(Model):
    """One part of one pass."""

    run: RunName
    number: Count
    """Of the pass; 0 is the dry one before an approval."""
    part: str
    """`memory:<shard>` or `column:<table.column>`."""
    shards: Annotated[int, Field(ge=1, le=64)]
    execute: bool


class PartEnd(Model):
    """Whether a part is done; else it was paused, or has worked for its hour, and goes on where it is."""

    done: bool


class Beat(Model):
    """What a part's heartbeat tells; what it resumes from is in Postgres, which is never older."""

    cursor: str
    places: Count
    items: Count


class Pace(Model):
    """How fast a run may go."""

    run: RunName
    rate: Rate | None
    halted: bool
    """Parts return at the next place."""


class PassRequest(Model):
    """A pass whose parts are done."""

    run: RunName
    number: Count


class Tally(Model):
    """What a pass found. Kinds, tenants and places are in Postgres."""

    places: Count = 0
    """Lists, and stretches of tables."""
    items: Count = 0
    changed: Count = 0
    """Items that held PII: those that were rewritten, or would be."""
    redactions: Count = 0
    """Values replaced by tokens."""
    gone: Count = 0
    """Items that were trimmed or changed by somebody else before they could be rewritten."""
    malformed: Count = 0
    """Items that are no JSON object; left as they are."""
    without_text: Count = 0
    large: Count = 0
    """Items of 1 MB and more."""
    wrong_type: Count = 0
    """Keys under the prefix that are no lists; left as they are."""


Status = Literal["reported", "clean", "leftovers", "rejected", "stopped"]
"""A dry run is reported; a real one is clean when a pass found nothing, and has leftovers when a person left it so."""


class EndRequest(Model):
    """How a run ended, to be recorded and audited."""

    run: RunName
    status: Status
    passes: Count
    by: Actor
    """Who ended it: who asked for the run, or who rejected or stopped it."""
    reason: Reason


class BackfillEnd(Model):
    """A run's result."""

    run: RunName
    status: Status
    reason: str
    seconds: Annotated[float, Field(ge=0)]
    first: Tally
    """What the first pass found, or changed."""
    last: Tally
    """What the verification found last; of a dry run the first pass again."""


class SetRate(Model):
    """Go at another rate, or (None) as fast as it goes."""

    by: Actor
    rate: Rate | None = None


class BackfillState(Model):
    """A look at a run; what is done of the pass under way is in Postgres, see `clotho pii status`."""

    run: RunName
    backfill: BackfillRequest
    stage: str
    number: Count
    """Of the pass under way, or the last."""
    parts: Count
    parts_done: Count
    paused: bool
    rate: Rate | None
    tallies: tuple[Tally, ...]
    """Of the passes that are over."""
    ended: BackfillEnd | None = None
    refused: tuple[str, ...] = ()
    """The last signals that were refused, and why."""


class Progress(Model):
    """How far a run is, live."""

    run: RunName
    execute: bool
    status: Status | Literal["running"]
    by: str
    pattern_set: str
    number: Count
    """Of the pass under way, or the last."""
    parts_done: Count
    halted: bool
    rate: Rate | None
    tally: Tally
    """Of the pass so far."""
    started_at: AwareDatetime
    ended_at: AwareDatetime | None
    seconds: Annotated[float, Field(ge=0)]


class Counts(Model):
    """What a run came to, as its audit entry has it."""

    first: Tally
    last: Tally
    kinds: dict[str, int]
    """Redactions of the first pass by kind."""


class Listed(Model):
    """An item that was left as it is: by key and index, never by content."""

    place: str
    index: int | None
    why: Literal["malformed", "without text", "wrong type"]


class Report(Model):
    """What a run found, or changed, in its first pass."""

    progress: Progress
    first: Tally
    kinds: dict[str, int]
    """Redactions by kind."""
    tenants: dict[str, dict[str, int]]
    """Redactions by tenant (of a column: its table) and kind."""
    left: tuple[Listed, ...]
    """Items left as they are, at most a thousand."""
    kept: bool
    """Whether it is one of the newest; of the others tenants and items are no longer known."""
