"""Flags: their definitions, which leads each concerned, and how the buckets do."""

from typing import Any

import asyncpg

from db import audit
from db.pool import Connection, Pool, insertion
from domain.flags import Bucket, BucketCounts, Flag, FlagReport, Setting, bucket_of, report


async def define(pool: Pool, flag: Flag, reason: str) -> bool:
    """Store a flag; False, and nothing is written, when its id is taken or another flag of its setting runs."""
    fields = flag.model_dump(mode="python", exclude={"winner"})
    try:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(insertion("flags", fields), *fields.values())
            details = flag.model_dump(mode="json", include={"setting", "buckets", "minimum"}) | {"reason": reason}
            await audit.append(connection, "flag_defined", "flag", flag.id, flag.created_by, details)
    except asyncpg.UniqueViolationError:
        return False
    return True


async def get(connection: Connection | Pool, flag: str) -> Flag | None:
    """A flag by its id."""
    row = await connection.fetchrow("SELECT * FROM flags WHERE id = $1", flag)
    return None if row is None else Flag.model_validate(dict(row))


async def every(connection: Connection | Pool) -> list[Flag]:
    """All flags, the newest first."""
    rows = await connection.fetch("SELECT * FROM flags ORDER BY created_at DESC, id")
    return [Flag.model_validate(dict(row)) for row in rows]


async def in_force(connection: Connection | Pool, setting: Setting) -> Flag | None:
    """The flag that decides a setting: the one that runs, else the one promoted last; None: the default holds."""
    row = await connection.fetchrow(
        "SELECT * FROM flags WHERE setting = $1 AND status <> 'stopped'"
        " ORDER BY status = 'running' DESC, created_at DESC LIMIT 1",
        setting,
    )
    return None if row is None else Flag.model_validate(dict(row))


async def bucket_for(connection: Connection | Pool, setting: Setting, lead_id: str) -> Bucket | None:
    """The bucket that a lead is in, which is noted while the flag runs; None when no flag decides the setting."""
    flag = await in_force(connection, setting)
    if flag is None:
        return None
    bucket = bucket_of(flag, lead_id)
    if flag.status == "running":
        await connection.execute(
            "INSERT INTO flag_leads (flag, lead_id, bucket) SELECT $1, lead_id, $3 FROM leads WHERE lead_id = $2"
            " ON CONFLICT DO NOTHING",
            flag.id,
            lead_id,
            bucket.name,
        )
    return bucket


async def counts(connection: Connection | Pool, flag: Flag) -> list[BucketCounts]:
    """How each bucket does, in the order of the flag; the newest outcome of a lead counts."""
    rows = await connection.fetch(
        "SELECT bucket, count(*) AS leads, count(o.outcome) AS decided,"
        " count(*) FILTER (WHERE o.outcome = 'booked') AS booked"
        " FROM flag_leads f LEFT JOIN LATERAL (SELECT outcome FROM lead_outcomes WHERE lead_id = f.lead_id"
        " AND recorded_at >= f.assigned_at ORDER BY recorded_at DESC, id DESC LIMIT 1) o ON true"
        " WHERE flag = $1 GROUP BY bucket",
        flag.id,
    )
    found = {row["bucket"]: row for row in rows}
    return [
        BucketCounts(
            name=bucket.name,
            **(
                {key: found[bucket.name][key] for key in ("leads", "decided", "booked")} if bucket.name in found else {}
            ),
        )
        for bucket in flag.buckets
    ]


async def outcomes(connection: Connection | Pool, flag: Flag) -> list[tuple[str, bool]]:
    """Bucket and whether it booked, of each lead with an outcome, in the order in which the first ones came in.

    The newest outcome of a lead counts, at the place of its first.
    """
    rows = await connection.fetch(
        "SELECT f.bucket, o.booked FROM flag_leads f JOIN LATERAL (SELECT min(id) AS first,"
        " (array_agg(outcome ORDER BY recorded_at DESC, id DESC))[1] = 'booked' AS booked FROM lead_outcomes"
        " WHERE lead_id = f.lead_id AND recorded_at >= f.assigned_at HAVING count(*) > 0) o ON true"
        " WHERE f.flag = $1 ORDER BY o.first",
        flag.id,
    )
    return [(row["bucket"], row["booked"]) for row in rows]


async def report_of(connection: Connection | Pool, flag: Flag) -> FlagReport:
    """How a flag stands."""
    return report(flag, await counts(connection, flag), await outcomes(connection, flag))


async def promote_winners(pool: Pool) -> list[str]:
    """Promote the winner of every flag that has one, so that each lead gets it from now on; returns the flags."""
    promoted = []
    for flag in [one for one in await every(pool) if one.status == "running"]:
        found = await report_of(pool, flag)
        details = {"chi_square": found.chi_square, "p_value": found.p_value}
        if found.winner is not None and await _end(pool, flag.id, "promoted", found.winner, "clotho", details):
            promoted.append(flag.id)
    return promoted


async def stop(pool: Pool, flag: str, by: str, reason: str) -> bool:
    """End a running flag without a winner, so that its first bucket holds; False when it runs no more."""
    return await _end(pool, flag, "stopped", None, by, {"reason": reason})


async def _end(pool: Pool, flag: str, status: str, winner: str | None, by: str, details: dict[str, Any]) -> bool:
    async with pool.acquire() as connection, connection.transaction():
        ended = await connection.fetchval(
            "UPDATE flags SET status = $2, winner = $3 WHERE id = $1 AND status = 'running' RETURNING true",
            flag,
            status,
            winner,
        )
        if ended:
            await audit.append(connection, f"flag_{status}", "flag", flag, by, {"winner": winner, **details})
    return bool(ended)
