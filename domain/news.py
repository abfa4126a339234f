"""News intake: what its workflow is told, tells and passes between its steps; counts, ids and questions only.

What an item is and what the rules make of it is in domain/news_items.py.
"""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints

from domain.base import Model
from domain.market import Category

WORKFLOW = "NewsIntake"
"""Name of the workflow type."""

EVERY_FEED = "all"
"""In place of a feed's name in the id of an intake that polls every feed."""

MANUAL = "manual"
"""In place of a feed's name where an operator ingested the item."""

FeedName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
"""Stands in workflow ids and in the proposals that a feed causes."""


class EventType(StrEnum):
    """What kind of event an item tells of."""

    PRODUCT_LAUNCH = "product_launch"
    EARNINGS = "earnings"
    ECONOMY = "economy"
    POLITICS = "politics"
    SPORTS = "sports"
    ENTERTAINMENT = "entertainment"
    TECHNOLOGY = "technology"
    OTHER = "other"


Entity = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]
Question = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)]


class Extraction(Model):
    """What an item is about, and whether it is worth a market."""

    entities: Annotated[tuple[Entity, ...], Field(max_length=10)] = ()
    event_type: EventType = EventType.OTHER
    category: Category = Category.MISC
    deadline: AwareDatetime | None = None
    """When the answer is known at the latest."""
    worth_it: bool = False
    question: Question = ""
    """The yes/no question to make a market of; empty when it is not worth one."""
    reason: Annotated[str, StringConstraints(max_length=300)] = ""
    """Why it is not worth one; empty when it is."""


class PollRequest(Model):
    """Which feeds to poll: one, or every enabled one; `at` is when the intake began."""

    feed_id: UUID | None = None
    at: AwareDatetime


Count = Annotated[int, Field(ge=0)]


class Polled(Model):
    """What a poll found. Items are new ones: what was stored before is not counted."""

    feeds: Count = 0
    failed: Count = 0
    unchanged: Count = 0
    """Of the feeds: those that answered that nothing is new."""
    items: Count = 0
    duplicates: Count = 0
    """Of the items: another one tells of the same event."""
    waiting: Count = 0
    """Items that wait for the model, those of earlier polls too."""
    candidates: Count = 0
    """Markets that are still to be started, those of earlier polls too."""


class ExtractRequest(Model):
    """When the intake began: what is older than news is, seen from there, is left."""

    at: AwareDatetime


class Extracted(Model):
    """What the model decided in one go, and how many items it has still to decide."""

    decided: Count = 0
    left: Count = 0


class Candidate(Model):
    """A market to start: its id, and the question for the Web UI."""

    market_id: UUID
    question: Question


class HandOverRequest(Model):
    """The markets that have been started since the last time."""

    started: tuple[UUID, ...] = ()


class HandedOver(Model):
    """The markets to start next; none when all are started."""

    candidates: tuple[Candidate, ...] = ()


class IntakeRequest(Model):
    """What to poll before what waits is decided and started: one feed, every feed, or (`poll` false) none."""

    feed_id: UUID | None = None
    poll: bool = True


class IntakeEnd(Model):
    """What an intake did."""

    polled: Polled = Polled()
    decided: Count = 0
    """By the model."""
    started: Count = 0
    """Markets."""
    left: Annotated[str, StringConstraints(max_length=500)] = ""
    """Why some items are left for the next intake; empty when none are."""
