"""How often somebody does something: one row a use, counted over the minute, hour and day before now."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from db.pool import Connection
from domain.config import Period

_LENGTH: dict[Period, timedelta] = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
}


class LimitReached(Exception):
    """The limit of a period is used up; `again` is when the next use is free."""

    def __init__(self, period: Period, limit: int, now: datetime, again: datetime) -> None:
        super().__init__(f"{limit} in a {period}")
        self.period, self.limit, self.now, self.again = period, limit, now, again


async def use(connection: Connection, action: str, subject: str, limits: Mapping[Period, int]) -> None:
    """Count one use within a transaction, which decides: rolled back, it does not count.

    Uses of one subject at the same time wait for one another, so that a limit holds exactly.

    Args:
        connection: in a transaction.
        action: what is limited, such as `propose`.
        subject: whose uses count: a user, or an IP address where there is none; at most 100 characters.
        limits: how many in each period.

    Raises:
        LimitReached: of the period that is free again last; nothing was written.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"limit:{action}:{subject}")
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    uses: list[datetime] = [
        row["used_at"]
        for row in await connection.fetch(
            "SELECT used_at FROM rate_limits WHERE action = $1 AND subject = $2 AND used_at > $3"
            " ORDER BY used_at DESC LIMIT $4",
            action,
            subject,
            now - max(_LENGTH.values()),
            max(limits.values()),
        )
    ]
    full = [
        LimitReached(period, limit, now, uses[limit - 1] + _LENGTH[period])
        for period, limit in limits.items()
        if len(uses) >= limit and uses[limit - 1] + _LENGTH[period] > now
    ]
    if full:
        raise max(full, key=lambda reached: reached.again)
    await connection.execute(
        "INSERT INTO rate_limits (action, subject, used_at) VALUES ($1, $2, $3)", action, subject, now
    )
    await connection.execute("DELETE FROM rate_limits WHERE used_at <= $1", now - max(_LENGTH.values()))
