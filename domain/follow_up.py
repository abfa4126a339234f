"""Follow-ups: the messages that a promising lead gets unless it has an outcome before, and when they may be sent.

A message is due some time after the lead was scored. It waits for the end of quiet hours and for its tenant's rate
limit, is tried again while its provider is down, and is missed when its window is over before it could be sent.
"""

from datetime import UTC, datetime, time, timedelta, tzinfo
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from domain.base import Model
from domain.leads import LeadId, Outcome

WORKFLOW = "FollowUp"
"""Name of the workflow type."""

THRESHOLD = 0.70
"""Probability from which on a lead is followed up, unless a flag says otherwise."""

DELAYS = (1_800, 7_200)
"""Seconds from scoring to each message, unless a flag says otherwise."""

WINDOW = timedelta(hours=4)
"""How long after it is due, quiet hours left out, a message may still be sent: later it would surprise."""

_FIRST_RETRY, _LONGEST_RETRY = timedelta(seconds=30), timedelta(minutes=15)


class Channel(StrEnum):
    """How a message travels."""

    WEBHOOK = "webhook"
    EMAIL = "email"
    SMS = "sms"
    WHATSAPP = "whatsapp"


class FollowUpRequest(Model):
    """Starts the follow-ups of a lead. Where it is reached, and with what words, is in Postgres."""

    lead_id: LeadId
    delays: Annotated[tuple[Annotated[int, Field(ge=1, le=30 * 86_400)], ...], Field(max_length=5)] = DELAYS
    """Seconds from the start to each message, growing."""


class SendRequest(Model):
    """One message of a lead, numbered from 1."""

    lead_id: LeadId
    number: Annotated[int, Field(ge=1)]
    due: AwareDatetime
    at: AwareDatetime
    """When it is tried, by the workflow's clock."""


Ending = Literal["sent", "unconfirmed", "failed", "missed", "stopped"]
"""How a message ended. `unconfirmed`: the mail server may have taken it, so it is not sent again; `failed`: it was
refused; `missed`: its window was over first; `stopped`: the lead had an outcome."""


class SendResult(Model):
    """What became of a message at one try; `waits` until `again`."""

    status: Ending | Literal["waits"]
    again: AwareDatetime | None = None
    reason: Annotated[str, StringConstraints(max_length=300)] = ""


class OutcomeTold(Model):
    """A signal: the lead has an outcome, so that no message follows."""

    outcome: Outcome


class FollowUpEnd(Model):
    """How each message ended, in order; those after the last were not sent, because of what `stopped` says."""

    messages: tuple[Ending, ...]
    stopped: str = ""


class QuietHours(Model):
    """When nothing is sent, by the clock where the tenant is; from a moment to the same moment: none."""

    start: time = time(21)
    end: time = time(8)

    def covers(self, clock: time) -> bool:
        """Whether it is quiet at this time of the day; the end is not."""
        if self.start <= self.end:
            return self.start <= clock < self.end
        return clock >= self.start or clock < self.end

    def over(self, moment: datetime, zone: tzinfo) -> datetime:
        """`moment`, or the end of the quiet hours that it falls into; in UTC when it was moved."""
        local = moment.astimezone(zone)
        if not self.covers(local.time()):
            return moment
        day = local.date() + timedelta(days=1 if local.time() >= self.end else 0)
        # When clocks are put back the end comes twice, and when they are put forward it may not come at all.
        ends = sorted(datetime.combine(day, self.end, zone).replace(fold=fold).astimezone(UTC) for fold in (0, 1))
        good = (one for one in ends if one > moment and not self.covers(one.astimezone(zone).time()))
        return next(good, ends[-1])


def closes(due: datetime, quiet: QuietHours, zone: tzinfo) -> datetime:
    """When the window of a message that was due is over."""
    return quiet.over(due, zone) + WINDOW


def retry_after(tries: int) -> timedelta:
    """How long to wait after so many tries that the provider did not take: 30 s, doubled each time up to 15 min."""
    doublings = max(0, min(tries - 1, 10))
    return min(_FIRST_RETRY * (1 << doublings), _LONGEST_RETRY)
