"""PII backfill: its runs, how far each part is, what was found in which place; and text columns gone over by page."""

from collections.abc import Iterable, Sequence
from typing import Any

from db import audit
from db.pool import Connection, Pool, insertion
from domain.base import Model
from domain.chat_memory import ENTRY, Place
from domain.pii import KEPT, BackfillRequest, Counts, Listed, Pace, Progress, Report, Tally

LISTED = 1_000
"""Items left as they are that a report lists; all are counted."""

_AT_ONCE = 50_000
"""Places that one statement forgets."""


class PartRow(Model):
    """How far a part is: what the next page begins with."""

    server: str
    cursor: str
    done: bool


async def begin(connection: Connection, run: str, request: BackfillRequest, pattern_set: str) -> None:
    """Store a run that begins."""
    fields = {
        "id": run,
        "execute": request.execute,
        "asked_by": request.by,
        "pattern_set": pattern_set,
        "rate": request.rate,
    }
    await connection.execute(insertion("pii_runs", fields), *fields.values())


async def pace(connection: Connection | Pool, run: str) -> Pace:
    """How fast a run may go now."""
    row = await connection.fetchrow("SELECT rate, halted FROM pii_runs WHERE id = $1", run)
    if row is None:
        raise LookupError(f"there is no PII run {run!r}")
    return Pace(run=run, rate=row["rate"], halted=row["halted"])


async def set_pace(connection: Connection | Pool, wanted: Pace) -> None:
    """Say how fast a run may go from now on."""
    await connection.execute(
        "UPDATE pii_runs SET rate = $2, halted = $3 WHERE id = $1", wanted.run, wanted.rate, wanted.halted
    )


async def part(connection: Connection | Pool, run: str, number: int, name: str) -> PartRow | None:
    """How far a part of a pass is; None when it has not begun."""
    row = await connection.fetchrow(
        "SELECT server, cursor, done FROM pii_parts WHERE run = $1 AND number = $2 AND part = $3", run, number, name
    )
    return None if row is None else PartRow.model_validate(dict(row))


async def start_part(connection: Connection | Pool, run: str, number: int, name: str, server: str) -> None:
    """Begin a part, from the start: also one whose cursor another server gave."""
    await connection.execute(
        "INSERT INTO pii_parts (run, number, part, server, cursor) VALUES ($1, $2, $3, $4, '0')"
        " ON CONFLICT (run, number, part) DO UPDATE SET server = $4, cursor = '0', updated_at = clock_timestamp()",
        run, number, name, server,
    )  # fmt: skip


async def advance(
    connection: Connection | Pool, run: str, number: int, name: str, before: PartRow, after: PartRow
) -> bool:
    """Note that a page is done; False when another attempt has gone on meanwhile, and nothing is noted."""
    return bool(
        await connection.fetchval(
            "UPDATE pii_parts SET cursor = $6, done = $7, updated_at = clock_timestamp()"
            " WHERE run = $1 AND number = $2 AND part = $3 AND server = $4 AND cursor = $5 AND NOT done RETURNING true",
            run, number, name, before.server, before.cursor, after.cursor, after.done,
        )
    )  # fmt: skip


async def places(connection: Connection | Pool, run: str, number: int, names: Iterable[str]) -> dict[str, Place]:
    """What the pass has found so far in places that it meets again."""
    rows = await connection.fetch(
        "SELECT place, tenant, items, large, gone, wrong_type, malformed, without_text, changes, kinds"
        " FROM pii_places WHERE run = $1 AND number = $2 AND place = ANY($3)",
        run, number, list(names),
    )  # fmt: skip
    return {row["place"]: Place(*row) for row in rows}


async def store_places(connection: Connection | Pool, run: str, number: int, found: Iterable[Place]) -> None:
    """Store what a pass found, instead of what it had found there before."""
    columns = ("items", "large", "gone", "wrong_type", "malformed", "without_text", "changes", "kinds")
    await connection.executemany(
        f"INSERT INTO pii_places (run, number, place, tenant, {', '.join(columns)})"  # noqa: S608 - our own names
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (run, number, place)"
        f" DO UPDATE SET {', '.join(f'{column} = excluded.{column}' for column in columns)}",
        [
            (
                run, number, place.name, place.tenant, place.items, place.large, place.gone, place.wrong_type,
                place.malformed, place.without_text, place.changes, place.kinds,
            )
            for place in found
        ],
    )  # fmt: skip


async def tally(connection: Connection | Pool, run: str, number: int) -> Tally:
    """What a pass has found so far."""
    row = await connection.fetchrow(
        "SELECT count(*) AS places, coalesce(sum(items), 0) AS items, coalesce(sum(length(changes)), 0) AS changes,"
        " coalesce(sum((SELECT sum(kind.value::bigint) FROM jsonb_each_text(kinds) AS kind)), 0)::bigint AS redactions,"
        " coalesce(sum(gone), 0) AS gone, coalesce(sum(cardinality(malformed)), 0) AS malformed,"
        " coalesce(sum(cardinality(without_text)), 0) AS without_text, coalesce(sum(large), 0) AS large,"
        " count(*) FILTER (WHERE wrong_type) AS wrong_type FROM pii_places WHERE run = $1 AND number = $2",
        run, number,
    )  # fmt: skip
    assert row is not None, "an aggregate gives a row"
    counts: dict[str, int] = dict(row)
    return Tally.model_validate(counts | {"changed": counts.pop("changes") // ENTRY})


async def end(connection: Connection, run: str, status: str, why: str) -> None:
    """Note how a run ended."""
    await connection.execute(
        "UPDATE pii_runs SET status = $2, why = $3, halted = false, ended_at = clock_timestamp()"
        " WHERE id = $1 AND ended_at IS NULL",
        run, status, why,
    )  # fmt: skip


async def count(connection: Connection | Pool, run: str, last: int) -> Counts:
    """Count what a run found, the pass `last` being its last."""
    kinds = _kinds(await by_tenant(connection, run))
    return Counts(first=await tally(connection, run, 1), last=await tally(connection, run, last), kinds=kinds)


async def by_tenant(connection: Connection | Pool, run: str) -> dict[str, dict[str, int]]:
    """Redactions of a run's first pass by tenant and kind."""
    rows = await connection.fetch(
        "SELECT tenant, kind.key AS kind, sum(kind.value::bigint)::bigint AS redactions"
        " FROM pii_places, jsonb_each_text(kinds) AS kind WHERE run = $1 AND number = 1 GROUP BY 1, 2 ORDER BY 1, 2",
        run,
    )
    tenants: dict[str, dict[str, int]] = {}
    for row in rows:
        tenants.setdefault(row["tenant"], {})[row["kind"]] = row["redactions"]
    return tenants


def _kinds(tenants: dict[str, dict[str, int]]) -> dict[str, int]:
    kinds: dict[str, int] = {}
    for counts in tenants.values():
        for kind, number in counts.items():
            kinds[kind] = kinds.get(kind, 0) + number
    return kinds


async def forget(connection: Connection | Pool) -> None:
    """Forget what was found where, but for the newest runs."""
    kept = "SELECT id FROM pii_runs ORDER BY started_at DESC LIMIT $1"
    some = f"SELECT ctid FROM pii_places WHERE run NOT IN ({kept}) LIMIT $2"  # noqa: S608 - our own words
    query = f"DELETE FROM pii_places WHERE ctid = ANY(ARRAY({some}))"  # noqa: S608
    while await connection.execute(query, KEPT, _AT_ONCE) == f"DELETE {_AT_ONCE}":
        pass


async def is_kept(connection: Connection | Pool, run: str) -> bool:
    """Whether it is kept what a run found where: it is one of the newest."""
    query = "SELECT $1 IN (SELECT id FROM pii_runs ORDER BY started_at DESC LIMIT $2)"
    return bool(await connection.fetchval(query, run, KEPT))


async def _audited(connection: Connection | Pool, run: str) -> Counts | None:
    """What a run came to by its audit entry; None when it never came to its end."""
    for entry in reversed(await audit.entries(connection, "pii_run", run)):
        if "last" in entry.details:
            return Counts.model_validate({name: entry.details.get(name, {}) for name in Counts.model_fields})
    return None


async def newest(connection: Connection | Pool, *, running: bool = False) -> str | None:
    """The run that began last, of those that have not ended when `running`."""
    query = "SELECT id FROM pii_runs WHERE NOT $1 OR ended_at IS NULL ORDER BY started_at DESC LIMIT 1"
    found: str | None = await connection.fetchval(query, running)
    return found


async def progress(connection: Connection | Pool, run: str) -> Progress | None:
    """How far a run is; None when there is no such run."""
    row = await connection.fetchrow(
        "SELECT id AS run, execute, status, asked_by AS by, pattern_set, halted, rate, started_at, ended_at,"
        " extract(epoch FROM coalesce(ended_at, clock_timestamp()) - started_at)::float AS seconds,"
        " (SELECT coalesce(max(number), 0) FROM pii_parts WHERE run = id) AS number FROM pii_runs WHERE id = $1",
        run,
    )
    if row is None:
        return None
    done = "SELECT count(*) FROM pii_parts WHERE run = $1 AND number = $2 AND done"
    parts_done = await connection.fetchval(done, run, row["number"])
    audited = None if await is_kept(connection, run) else await _audited(connection, run)
    counted = audited.last if audited else await tally(connection, run, row["number"])
    return Progress.model_validate(dict(row) | {"parts_done": parts_done, "tally": counted})


async def report(connection: Connection | Pool, run: str) -> Report | None:
    """What a run found, or changed, in its first pass; None when there is no such run."""
    live = await progress(connection, run)
    if live is None:
        return None
    kept, tenants = await is_kept(connection, run), await by_tenant(connection, run)
    counts = None if kept else await _audited(connection, run)
    if counts is None:
        counts = Counts(first=await tally(connection, run, 1), last=live.tally, kinds=_kinds(tenants))
    left = await connection.fetch(
        "SELECT place, index, why FROM pii_places, LATERAL ("
        " SELECT unnest(malformed) AS index, 'malformed' AS why UNION ALL"
        " SELECT unnest(without_text), 'without text' UNION ALL SELECT NULL, 'wrong type' WHERE wrong_type) AS item"
        " WHERE run = $1 AND number = 1 AND (wrong_type OR malformed <> '{}' OR without_text <> '{}')"
        " ORDER BY place, index, why LIMIT $2",
        run, LISTED,
    )  # fmt: skip
    return Report(
        progress=live,
        first=counts.first,
        kinds=counts.kinds,
        tenants=tenants,
        kept=kept,
        left=tuple(Listed.model_validate(dict(row)) for row in left),
    )


async def differences(connection: Connection | Pool, run: str, other: str, *, limit: int = 20) -> list[str]:
    """Places whose first passes differ between two runs, in any item: its index, its redacted bytes, its kinds."""
    compared = "items, large, wrong_type, malformed, without_text, changes, kinds"
    rows = await connection.fetch(
        f"SELECT place FROM (SELECT place, {compared} FROM pii_places WHERE run = $1 AND number = 1) a"  # noqa: S608
        f" FULL JOIN (SELECT place, {compared} FROM pii_places WHERE run = $2 AND number = 1) b USING (place)"
        " WHERE (a.items, a.large, a.wrong_type, a.malformed, a.without_text, a.changes, a.kinds) IS DISTINCT FROM"
        " (b.items, b.large, b.wrong_type, b.malformed, b.without_text, b.changes, b.kinds) ORDER BY place LIMIT $3",
        run, other, limit,
    )  # fmt: skip
    return [row["place"] for row in rows]


# Columns. A page is a stretch of a table's blocks: it needs no key, and tells nothing about the rows.


class Column(Model):
    """A text column, and what it is stored in."""

    table: str
    column: str
    filenode: int
    """Changes when the table is written anew, and its blocks with it."""

    @property
    def name(self) -> str:
        """`table.column`."""
        return f"{self.table}.{self.column}"


async def column(connection: Connection | Pool, name: str) -> Column | None:
    """The column `table.column`, if there is one, and it holds text."""
    table, _, column_name = name.partition(".")
    filenode = await connection.fetchval(
        "SELECT pg_relation_filenode(c.oid) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.oid = to_regclass(quote_ident($1)) AND c.relkind = 'r' AND a.attname = $2 AND NOT a.attisdropped"
        " AND a.atttypid IN ('text'::regtype, 'varchar'::regtype)",
        table, column_name,
    )  # fmt: skip
    return None if filenode is None else Column(table=table, column=column_name, filenode=filenode)


async def blocks(connection: Connection | Pool, of: Column) -> int:
    """How many blocks the table has now."""
    query = "SELECT pg_relation_size(to_regclass(quote_ident($1))) / current_setting('block_size')::int"
    return int(await connection.fetchval(query, of.table))


async def sizes(connection: Connection | Pool, of: Column, first: int, end: int) -> list[tuple[Any, int]]:
    """Where the texts of some blocks are, in order, and their bytes."""
    rows = await connection.fetch(
        f'SELECT ctid, octet_length("{of.column}") AS bytes FROM "{of.table}"'  # noqa: S608 - checked to exist
        f' WHERE ctid >= $1::tid AND ctid < $2::tid AND "{of.column}" <> \'\' ORDER BY ctid',
        (first, 0), (end, 0),
    )  # fmt: skip
    return [(row["ctid"], row["bytes"]) for row in rows]


async def texts(connection: Connection | Pool, of: Column, where: Sequence[Any]) -> dict[Any, str]:
    """The texts of some rows; of those that are still there."""
    query = f'SELECT ctid, "{of.column}" AS text FROM "{of.table}" WHERE ctid = ANY($1::tid[])'  # noqa: S608
    rows = await connection.fetch(query, list(where))
    return {row["ctid"]: row["text"] for row in rows}


async def replace(connection: Connection | Pool, of: Column, where: Any, old: str, new: str) -> bool:
    """Replace a text where it is still the one that was read; False when somebody else was first."""
    query = f'UPDATE "{of.table}" SET "{of.column}" = $3 WHERE ctid = $1::tid AND "{of.column}" = $2 RETURNING true'  # noqa: S608
    return bool(await connection.fetchval(query, where, old, new))
