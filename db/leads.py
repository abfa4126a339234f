"""Leads, what became of them, and what models said of them."""

from collections.abc import Sequence
from datetime import datetime

from db.pool import Connection, Pool, insertion
from domain.base import Actor, Model
from domain.leads import LabelledLead, LeadRow, Outcome
from domain.training_data import gaps_of


class KnownOtherwiseError(ValueError):
    """A lead is stored with other features than these: a lead stays as it came in."""

    def __init__(self, lead_id: str) -> None:
        super().__init__(lead_id)
        self.lead_id = lead_id


class ScoredLead(Model):
    """One scoring of a lead."""

    row: LeadRow
    tenant: str | None
    version: int
    probability: float


class OutcomeCounts(Model):
    """What became of the leads so far."""

    recorded: dict[Outcome, int]
    """Outcomes that were recorded, all that a lead had; only ever grows."""
    newest: dict[Outcome, int]
    """Leads by their newest outcome."""

    @property
    def conversion_rate(self) -> float:
        """Share of the leads with an outcome whose newest is booked; 0 without any."""
        return self.newest.get(Outcome.BOOKED, 0) / max(sum(self.newest.values()), 1)


_FEATURES = ", ".join(LeadRow.model_fields)

_KNOWN = f"SELECT {_FEATURES} FROM leads WHERE lead_id = ANY($1)"  # noqa: S608 - columns are ours

_COMPLETE = "UPDATE leads SET ({}) = ROW ({}) WHERE lead_id = $1".format(  # noqa: S608 - columns are ours
    _FEATURES, ", ".join(f"${number}" for number, _ in enumerate(LeadRow.model_fields, 1))
)

_NEWEST = """
    SELECT DISTINCT ON (lead_id) lead_id, outcome FROM lead_outcomes
    WHERE $1::timestamptz IS NULL OR recorded_at <= $1 ORDER BY lead_id, recorded_at DESC, id DESC"""


async def add(
    connection: Connection | Pool, row: LeadRow, *, tenant: str | None = None, created_at: datetime | None = None
) -> bool:
    """Store a lead's features; False, and nothing is written, when the same lead is stored already.

    Args:
        connection: where.
        row: the features.
        tenant: whose lead it is; None where only the hash is known.
        created_at: when it came in; None: now.

    Raises:
        KnownOtherwiseError: the lead is stored with other features.
    """
    fields = row.model_dump() | {"tenant": tenant} | ({"created_at": created_at} if created_at else {})
    added = await connection.fetchval(
        f"{insertion('leads', fields)} ON CONFLICT DO NOTHING RETURNING true", *fields.values()
    )
    if not added and await get(connection, row.lead_id) != row:
        raise KnownOtherwiseError(row.lead_id)
    return bool(added)


async def get(connection: Connection | Pool, lead_id: str) -> LeadRow | None:
    """A lead's features."""
    row = await connection.fetchrow(f"SELECT {_FEATURES} FROM leads WHERE lead_id = $1", lead_id)  # noqa: S608 - columns are ours
    return None if row is None else LeadRow.model_validate(dict(row))


async def record_outcome(
    connection: Connection | Pool, lead_id: str, outcome: Outcome, by: Actor, *, source: str | None = None
) -> bool:
    """Record what became of a lead; False, and nothing is written, when it has this outcome, or `source` was read.

    Args:
        connection: where.
        lead_id: a lead that is stored.
        outcome: the newest one counts.
        by: who says so.
        source: names one line of one file, which counts once.
    """
    recorded = await connection.fetchval(
        "INSERT INTO lead_outcomes (lead_id, outcome, source, recorded_by) SELECT $1, $2, $3, $4"
        " WHERE $2 IS DISTINCT FROM (SELECT outcome FROM lead_outcomes WHERE lead_id = $1"
        " ORDER BY recorded_at DESC, id DESC LIMIT 1) ON CONFLICT (source) DO NOTHING RETURNING true",
        lead_id,
        outcome,
        source,
        by,
    )
    return bool(recorded)


async def import_outcomes(pool: Pool, rows: Sequence[LabelledLead], file_sha256: str, by: Actor) -> list[str]:
    """Store the leads of a file and what became of them, all or nothing; the same file again changes nothing.

    Of a lead that is stored with gaps the missing features are taken from the file. No model was ever trained on them,
    since rows with gaps are not fit.

    Args:
        pool: where.
        rows: in the order of the file, each lead once.
        file_sha256: hash of the file.
        by: who brought it.

    Returns:
        The leads with an outcome that they did not have.

    Raises:
        KnownOtherwiseError: a lead is stored with other features; nothing is written.
    """
    features = [row.model_dump(exclude={"outcome"}) for row in rows]
    ids = [row.lead_id for row in rows]
    async with pool.acquire() as connection, connection.transaction():
        if features:
            await connection.executemany(
                f"{insertion('leads', features[0])} ON CONFLICT DO NOTHING", [tuple(one.values()) for one in features]
            )
        known = {row["lead_id"]: LeadRow.model_validate(dict(row)) for row in await connection.fetch(_KNOWN, ids)}
        completed = []
        for one in features:
            stored = known[one["lead_id"]]
            gaps = gaps_of(stored)
            if stored.model_copy(update={name: one[name] for name in gaps}).model_dump() != one:
                raise KnownOtherwiseError(one["lead_id"])
            if gaps:
                completed.append(tuple(one.values()))
        await connection.executemany(_COMPLETE, completed)
        changed = await connection.fetch(
            f"""
            INSERT INTO lead_outcomes (lead_id, outcome, source, recorded_by)
            SELECT new.lead_id, new.outcome, $4 || ':' || new.line, $5
            FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS new (lead_id, outcome, line)
            LEFT JOIN ({_NEWEST}) now USING (lead_id)
            WHERE new.outcome IS DISTINCT FROM now.outcome
            ON CONFLICT (source) DO NOTHING RETURNING lead_id""",  # noqa: S608 - a query of ours
            None,
            ids,
            [row.outcome for row in rows],
            file_sha256,
            by,
        )
    return [row["lead_id"] for row in changed]


async def training_set(pool: Pool, cutoff: datetime | None = None) -> list[LabelledLead]:
    """Leads with an outcome by `cutoff` (None: by now) and the newest one by then, in an order that stays.

    The same cut-off, once past, gives the same rows for ever: whoever is still writing is waited for, outcomes are
    never changed, and leads stay as they came in, but for gaps, with which nothing is trained.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE lead_outcomes IN SHARE MODE")
        rows = await connection.fetch(
            f"SELECT {_FEATURES}, outcome FROM leads JOIN ({_NEWEST}) newest USING (lead_id) ORDER BY lead_id",  # noqa: S608 - columns are ours
            cutoff,
        )
    return [LabelledLead.model_validate(dict(row)) for row in rows]


async def trained_from(connection: Connection | Pool, cutoff: datetime) -> datetime | None:
    """When the first outcome was recorded that a training set as of `cutoff` may hold; None without any."""
    first: datetime | None = await connection.fetchval(
        "SELECT min(recorded_at) FROM lead_outcomes WHERE recorded_at <= $1", cutoff
    )
    return first


async def store_scored(pool: Pool, scored: Sequence[ScoredLead]) -> None:
    """Keep what a model said of leads, and the leads where they are new; one transaction for all."""
    async with pool.acquire() as connection, connection.transaction():
        tenants = [{**one.row.model_dump(), "tenant": one.tenant} for one in scored]
        await connection.executemany(
            f"{insertion('leads', tenants[0])} ON CONFLICT DO NOTHING", [tuple(lead.values()) for lead in tenants]
        )
        await connection.executemany(
            "INSERT INTO scored_rows (lead_id, version, probability) VALUES ($1, $2, $3)",
            [(one.row.lead_id, one.version, one.probability) for one in scored],
        )


async def last_scored(connection: Connection | Pool, rows: int = 1_000) -> list[LeadRow]:
    """The features of the leads scored last, the newest first, whatever version scored them."""
    found = await connection.fetch(
        f"SELECT {_FEATURES} FROM (SELECT id, lead_id FROM scored_rows ORDER BY id DESC LIMIT $1) newest"  # noqa: S608 - columns are ours
        " JOIN leads USING (lead_id) ORDER BY newest.id DESC",
        rows,
    )
    return [LeadRow.model_validate(dict(row)) for row in found]


async def scored_between(connection: Connection | Pool, version: int, start: datetime, end: datetime) -> list[LeadRow]:
    """The features of the leads that a version scored from `start` on and before `end`, in order of their scoring."""
    found = await connection.fetch(
        f"SELECT {_FEATURES} FROM (SELECT id, lead_id FROM scored_rows"  # noqa: S608 - columns are ours
        " WHERE version = $1 AND scored_at >= $2 AND scored_at < $3) scored JOIN leads USING (lead_id) ORDER BY id",
        version,
        start,
        end,
    )
    return [LeadRow.model_validate(dict(row)) for row in found]


async def scored_among(connection: Connection | Pool, lead_ids: Sequence[str]) -> frozenset[str]:
    """Those of the leads that a model has scored."""
    rows = await connection.fetch("SELECT DISTINCT lead_id FROM scored_rows WHERE lead_id = ANY($1)", lead_ids)
    return frozenset(row["lead_id"] for row in rows)


async def last_outcome(connection: Connection | Pool) -> int | None:
    """Number of the outcome that was recorded last; None without any."""
    number: int | None = await connection.fetchval("SELECT max(id) FROM lead_outcomes")
    return number


async def count_outcomes(connection: Connection | Pool) -> OutcomeCounts:
    """How many outcomes were recorded, and how many leads have which."""
    recorded = await connection.fetch("SELECT outcome, count(*) AS n FROM lead_outcomes GROUP BY outcome")
    newest = await connection.fetch(
        f"SELECT outcome, count(*) AS n FROM ({_NEWEST}) newest GROUP BY outcome",  # noqa: S608 - ours
        None,
    )
    return OutcomeCounts(
        recorded={row["outcome"]: row["n"] for row in recorded}, newest={row["outcome"]: row["n"] for row in newest}
    )
