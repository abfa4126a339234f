"""Model migrations: an old and a new ai_version answer the same stored inputs, a person compares, then it switches."""

from typing import Annotated, Literal

from pydantic import StringConstraints

from domain.base import Actor, Model, Reason

WORKFLOW = "MigrateModel"
"""Name of the workflow type."""

SUMMARY_LIMIT = 400
"""Characters; with the command that shows the whole it is why a reviewer is asked."""

MigrationId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,59}$")]


class MigrationRequest(Model):
    """Starts a migration. Inputs and report are in Postgres."""

    id: MigrationId
    old_version: str
    new_version: str
    by: Actor


class Compared(Model):
    """What the comparison found, short enough for a history; the whole report is in Postgres."""

    summary: Annotated[str, StringConstraints(max_length=SUMMARY_LIMIT)]


class EndRequest(Model):
    """What a person decided about a migration."""

    migration: MigrationRequest
    approved: bool
    by: Actor
    reason: Reason


class MigrationEnd(Model):
    """How a migration ended: `stale` when another ai_version had become current meanwhile."""

    status: Literal["switched", "rejected", "stale"]
    reason: str
