"""PII runs: chat lists in Redis or Valkey and text columns in Postgres, gone over page by page and redacted in place.

How far a part is stands in Postgres, committed with each page; the heartbeat tells it too. What a place held is stored
*before* anything in it is rewritten, so that an attempt that dies leaves no change unreported, and counts none twice.
"""

import asyncio
import contextlib
import time
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import asyncpg
from prometheus_client import Counter, Gauge
from temporalio.exceptions import ApplicationError

from activities.base import heartbeating, implements
from db import ai_config, audit, pii, step_results
from db.pii import Column, PartRow
from db.pool import Connection, Pool
from domain import errors, steps
from domain.chat_memory import Change, Found, Place, redact_items, tenant_of
from domain.pii import (
    PREFIX,
    BackfillEnd,
    Beat,
    BeginRequest,
    EndRequest,
    Pace,
    PartEnd,
    PartRequest,
    PassRequest,
    Tally,
    Terms,
)
from domain.redaction import Redactor

BATCH_KEYS = 250
"""Lists read at once."""

BATCH_BYTES = 4_000_000
"""Read at once; a list that is larger is read in pieces. A single item may be larger still."""

SCAN_COUNT = 2_000
"""Keys of one page of the scan, of all shards."""

PAGE_BLOCKS = 32
"""Of a table's page: 256 KB and what is stored out of line."""

STRETCH = 3_600.0
"""Seconds after which a part ends, to be started again: no attempt outlives its time-out, however slow the rate."""

LOOK = 1.0
"""Seconds between looks at the run's pace."""

# Items at their places, or where a message pushed meanwhile has moved them; LSET keeps place and time to live.
COMPARE_AND_SET = """
local done = {}
if redis.call('TYPE', KEYS[1]).ok ~= 'list' then return done end
for i = 1, #ARGV, 3 do
  local index, old = tonumber(ARGV[i]), ARGV[i + 1]
  if redis.call('LINDEX', KEYS[1], index) ~= old then
    index = redis.call('LPOS', KEYS[1], old)
  end
  if index then
    redis.call('LSET', KEYS[1], index, ARGV[i + 2])
    done[#done + 1] = (i + 2) / 3
  end
end
return done
"""

_REDACTIONS = Counter("pii_redactions", "Values replaced by tokens where they were stored.", ["kind"])
_ITEMS = Counter("clotho_pii_items", "Items that PII runs have gone over.")
_LEFT = Gauge("clotho_pii_leftovers", "Items that still held PII when the last run ended that this worker has seen.")
_CLEAN = Gauge("clotho_pii_last_clean_timestamp_seconds", "When a run last ended clean, as far as this worker knows.")


class RunSteps:
    """Beginning, pacing, counting and ending a run."""

    def __init__(self, pool: Pool, redactor: Redactor) -> None:
        self._pool, self._redactor = pool, redactor

    @implements(steps.BEGIN_PII_RUN)
    async def begin_pii_run(self, request: BeginRequest) -> Terms:
        """Record a run, and the terms that hold for the whole of it.

        Idempotent because: keyed by the run, committed once with its result.
        """
        config = (await ai_config.load(self._pool)).config
        terms = Terms(approval=config.pii_approval, columns=config.pii_columns)

        async def effect(connection: Connection) -> None:
            await pii.begin(connection, request.run, request.backfill, self._redactor.version)
            details = request.backfill.model_dump(mode="json", exclude={"by"})
            details["pattern_set"] = self._redactor.version
            await audit.append(connection, "pii_run_begun", "pii_run", request.run, request.backfill.by, details)

        return await step_results.commit_once(self._pool, steps.BEGIN_PII_RUN, request.run, terms, effect)

    @implements(steps.PACE_PII_RUN)
    async def pace_pii_run(self, request: Pace) -> Pace:
        """Set how fast the run may go; its parts look once a second.

        Idempotent because: it sets the same values again (pii_runs).
        """
        await pii.set_pace(self._pool, request)
        return request

    @implements(steps.TALLY_PII_PASS)
    async def tally_pii_pass(self, request: PassRequest) -> Tally:
        """Count what a pass found.

        Idempotent because: it only reads.
        """
        return await pii.tally(self._pool, request.run, request.number)

    @implements(steps.END_PII_RUN)
    async def end_pii_run(self, request: EndRequest) -> BackfillEnd:
        """Record and audit how a run ended: counts, duration, pattern set, who asked.

        Idempotent because: keyed by the run, committed once with its result.
        """
        progress = await pii.progress(self._pool, request.run)
        counts = await pii.count(self._pool, request.run, request.passes)
        end = BackfillEnd(
            run=request.run,
            status=request.status,
            reason=request.reason,
            seconds=round(progress.seconds, 1) if progress else 0,
            first=counts.first,
            last=counts.last,
        )

        async def effect(connection: Connection) -> None:
            await pii.end(connection, request.run, request.status, request.reason)
            details = {
                "seconds": end.seconds,
                "passes": request.passes,
                **counts.model_dump(),
                "asked_by": progress.by if progress else "",
                "pattern_set": progress.pattern_set if progress else "",
                "reason": request.reason,
            }
            await audit.append(connection, f"pii_run_{request.status}", "pii_run", request.run, request.by, details)

        end = await step_results.commit_once(self._pool, steps.END_PII_RUN, request.run, end, effect)
        if end.status == "clean":
            _CLEAN.set_to_current_time()
        if end.status in {"clean", "leftovers"}:
            _LEFT.set(end.last.changed)
        return end


class _Part:
    """One attempt at a part: where it goes on, how fast it may, and what it tells."""

    def __init__(self, pool: Pool, request: PartRequest, parts: int, server: str, row: PartRow, pace: Pace) -> None:
        self.pool, self.request = pool, request
        self._parts, self._server, self._row, self._pace = parts, server, row, pace
        self._began = self._looked = self._due = time.monotonic()
        self._places = self._items = 0

    @classmethod
    async def resume(cls, pool: Pool, request: PartRequest, parts: int, server: str) -> "_Part":
        """Go on where the last attempt was, or begin anew on a server that never gave that cursor."""
        row = await pii.part(pool, request.run, request.number, request.part)
        if row is None or (row.server != server and not row.done):
            await pii.start_part(pool, request.run, request.number, request.part, server)
            row = PartRow(server=server, cursor="0", done=False)
        return cls(pool, request, parts, server, row, await pii.pace(pool, request.run))

    @property
    def cursor(self) -> int:
        """What the next page begins with."""
        return int(self._row.cursor)

    @property
    def done(self) -> bool:
        """Whether nothing is left of it."""
        return self._row.done

    def beat(self) -> Beat:
        """What the heartbeat tells."""
        return Beat(cursor=self._row.cursor, places=self._places, items=self._items)

    async def may_take(self, keys: int) -> bool:
        """Wait until the rate allows so many keys more; False when the part is to end instead."""
        while True:
            now = time.monotonic()
            if now - self._looked >= LOOK:
                before, self._pace = self._pace, await pii.pace(self.pool, self.request.run)
                self._looked = now
                if before.rate != self._pace.rate:
                    self._due = now
            if self._pace.halted or now - self._began >= STRETCH:
                return False
            if self._pace.rate is None:
                return True
            if now >= self._due:
                self._due = max(self._due, now - LOOK) + keys * self._parts / self._pace.rate
                return True
            await asyncio.sleep(min(LOOK, self._due - now))

    @property
    def batch(self) -> int:
        """Keys to take at once: no more than a second's worth."""
        if self._pace.rate is None:
            return BATCH_KEYS
        return max(1, min(BATCH_KEYS, self._pace.rate // self._parts))

    async def advance(self, cursor: int, *, done: bool) -> None:
        """Note that a page is done.

        Raises:
            ApplicationError: PiiRunFault when another attempt is at this part; what both did is the same.
        """
        after = PartRow(server=self._server, cursor=str(cursor), done=done)
        request = self.request
        if not await pii.advance(self.pool, request.run, request.number, request.part, self._row, after):
            raise errors.failure(errors.PII_RUN_FAULT, f"another attempt is at {request.part}")
        self._row = after

    async def known(self, names: dict[str, str]) -> dict[str, tuple[Place, frozenset[bytes]]]:
        """The places of these names (with their tenants), to count anew, and what they had before."""
        before = await pii.places(self.pool, self.request.run, self.request.number, names)
        known = {}
        for name, tenant in names.items():
            earlier = before.get(name)
            known[name] = (
                (Place(name, tenant), frozenset[bytes]())
                if earlier is None
                else (earlier.seen_again(), earlier.digests())
            )
        return known

    async def store(self, places: Sequence[Place]) -> None:
        """Store what was found, before anything is rewritten."""
        await pii.store_places(self.pool, self.request.run, self.request.number, places)

    def count(self, found: Found) -> None:
        """Count what was gone over, for heartbeat and metrics."""
        self._items += found.items
        _ITEMS.inc(found.items)

    def count_place(self) -> None:
        """Count a place that is done."""
        self._places += 1


def _written(place: Place, changes: Sequence[Change], done: Sequence[int]) -> bool:
    """Count what was rewritten; whether something was gone before it could be."""
    for number in done:
        for kind in changes[number].kinds:
            _REDACTIONS.labels(kind).inc()
    place.gone += len(changes) - len(done)
    return len(done) < len(changes)


class MemorySteps:
    """The step for chat lists."""

    def __init__(self, pool: Pool, redis_url: str, redactor: Redactor) -> None:
        self._pool, self._url, self._redactor = pool, redis_url, redactor

    @implements(steps.SCRUB_MEMORY)
    async def scrub_memory(self, request: PartRequest) -> PartEnd:
        """Go over the lists of one shard, in the server's own order; every list belongs to one shard by its key's CRC.

        A cursor means nothing to another server, nor to one that was started again: then the part begins anew. The
        first shard also forgets what old runs found where, which may take longer than a step that only counts may.

        Idempotent because: redacting twice changes nothing, an item is replaced only while it still has the bytes that
        were read, and places are stored under (run, pass, place).

        Raises:
            ApplicationError: RedisUnavailable.
        """
        shard = int(request.part.rpartition(":")[2])
        with _no_content():
            # A connection of its own: one that breaks ends the attempt, so that no other server is met unawares.
            async with _connected(self._url) as redis:
                server = str((await redis.info("server"))["run_id"])
                compare_and_set = str(await redis.script_load(COMPARE_AND_SET))
                part = await _Part.resume(self._pool, request, request.shards, server)
                lists = _Lists(redis, compare_and_set, self._redactor, part)
                async with heartbeating(part.beat):
                    if shard == 0 and request.number <= 1:
                        await pii.forget(self._pool)
                    while not part.done:
                        cursor, keys = await redis.scan(part.cursor, match=f"{PREFIX}*", count=SCAN_COUNT)
                        own = [key for key in dict.fromkeys(keys) if zlib.crc32(key) % request.shards == shard]
                        if not await lists.scrub(own):
                            return PartEnd(done=False)
                        await part.advance(int(cursor), done=int(cursor) == 0)
        return PartEnd(done=True)


class _Lists:
    """Chat lists of one part."""

    def __init__(self, redis: Any, compare_and_set: str, redactor: Redactor, part: _Part) -> None:
        self._redis, self._compare_and_set, self._redactor, self._part = redis, compare_and_set, redactor, part

    async def scrub(self, keys: Sequence[bytes]) -> bool:
        """Go over some lists; False when the part was halted before all were done."""
        start = 0
        while start < len(keys):
            batch = keys[start : start + self._part.batch]
            if not await self._part.may_take(len(batch)):
                return False
            await self._batch(batch)
            start += len(batch)
        return await self._part.may_take(0)

    async def _batch(self, keys: Sequence[bytes]) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.memory_usage(key, samples=0)
            sizes = await pipe.execute(raise_on_error=False)
        told = {key: key.decode(errors="backslashreplace") for key in keys}
        names = {key: self._redactor.called(told[key]) for key in keys}
        tenants = {names[key]: self._redactor.redact(tenant_of(told[key])).text for key in keys}
        known = await self._part.known(tenants)
        group: list[bytes] = []
        room = BATCH_BYTES
        for key, size in zip(keys, sizes, strict=True):
            place, before = known[names[key]]
            if not isinstance(size, int):  # gone meanwhile, or no answer: read as if it were small
                size = 0
            if size > BATCH_BYTES:
                await self._large(key, size, place, before)
                continue
            if size > room:
                await self._small(group, names, known)
                group, room = [], BATCH_BYTES
            group.append(key)
            room -= size
        await self._small(group, names, known)

    async def _small(
        self, keys: Sequence[bytes], names: dict[bytes, str], known: dict[str, tuple[Place, frozenset[bytes]]]
    ) -> None:
        """Lists that are read whole, many at once."""
        if not keys:
            return
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.lrange(key, 0, -1)
            answers = await pipe.execute(raise_on_error=False)
        read = [(key, *known[names[key]], answer) for key, answer in zip(keys, answers, strict=True)]
        lists = []
        for key, place, before, answer in read:
            if not isinstance(answer, Exception):
                lists.append((key, place, before, answer))
            elif _is_wrong_type(answer):
                place.wrong_type = True
            else:
                raise answer
        # CPU in a thread, so that heartbeats go on.
        found = await asyncio.to_thread(self._redact, [answer for _, _, _, answer in lists])
        for (_, place, before, _), one in zip(lists, found, strict=True):
            place.add(one, before)
        await self._part.store([place for _, place, _, _ in read])
        await self._write([(key, place, one) for (key, place, _, _), one in zip(lists, found, strict=True)])
        for _ in read:
            self._part.count_place()

    async def _large(self, key: bytes, size: int, place: Place, before: frozenset[bytes]) -> None:
        """One list in pieces. What is pushed meanwhile moves items behind the reader, where they are read again."""
        try:
            length = await self._redis.llen(key)
        except Exception as error:
            if not _is_wrong_type(error):
                raise
            place.wrong_type = True
            await self._part.store([place])
            return
        step, start = max(1, BATCH_BYTES * length // size), 0
        while answer := await self._redis.lrange(key, start, start + step - 1):
            found = await asyncio.to_thread(redact_items, answer, self._redactor, start)
            place.add(found, before)
            await self._part.store([place])
            await self._write([(key, place, found)])
            start += len(answer)
        self._part.count_place()

    def _redact(self, lists: Sequence[list[bytes]]) -> list[Found]:
        return [redact_items(one, self._redactor) for one in lists]

    async def _write(self, found: Sequence[tuple[bytes, Place, Found]]) -> None:
        """Replace the items that changed, each list by one call; a dry run replaces none."""
        for _, _, one in found:
            self._part.count(one)
        writes = [(key, place, one.changes) for key, place, one in found if one.changes]
        if not writes or not self._part.request.execute:
            return
        async with self._redis.pipeline(transaction=False) as pipe:
            for key, _, changes in writes:
                pipe.evalsha(self._compare_and_set, 1, key, *(part for change in changes for part in change[:3]))
            answers = await pipe.execute()
        gone = [
            place
            for (_, place, changes), done in zip(writes, answers, strict=True)
            if _written(place, changes, [int(number) - 1 for number in done])
        ]
        if gone:
            await self._part.store(gone)


class ColumnSteps:
    """The step for text columns."""

    def __init__(self, pool: Pool, redactor: Redactor) -> None:
        self._pool, self._redactor = pool, redactor

    @implements(steps.SCRUB_COLUMN)
    async def scrub_column(self, request: PartRequest) -> PartEnd:
        """Go over the rows of one column, by the table's blocks.

        Idempotent because: redacting twice changes nothing, a text is replaced only while it is still the one that was
        read, and places are stored under (run, pass, place).

        Raises:
            ApplicationError: PiiColumnUnusable when there is no such text column, or it cannot be written.
        """
        name = request.part.partition(":")[2]
        with _no_content():
            column = await pii.column(self._pool, name)
            if column is None:
                raise errors.failure(errors.PII_COLUMN_UNUSABLE, f"{name} is no text column of a table")
            part = await _Part.resume(self._pool, request, 1, str(column.filenode))
            async with heartbeating(part.beat):
                while not part.done:
                    if not await self._page(column, part):
                        return PartEnd(done=False)
        return PartEnd(done=True)

    async def _page(self, column: Column, part: _Part) -> bool:
        """Go over some blocks; False when the part was halted."""
        first, end = part.cursor, part.cursor + PAGE_BLOCKS
        rows = await pii.sizes(self._pool, column, first, end)
        name = f"{column.name}#{first}"
        place, before = (await part.known({name: column.table}))[name]
        start = 0
        while start < len(rows):
            group = _group(rows[start : start + part.batch])
            if not await part.may_take(len(group)):
                return False
            await self._rows(column, part, place, before, group, start)
            start += len(group)
        await part.advance(end, done=end >= await pii.blocks(self._pool, column))
        return await part.may_take(0) or part.done

    async def _rows(
        self, column: Column, part: _Part, place: Place, before: frozenset[bytes], group: Sequence[Any], start: int
    ) -> None:
        texts = await pii.texts(self._pool, column, group)
        found, changes = await asyncio.to_thread(self._redact, [texts.get(row) for row in group], start)
        place.add(found, before)
        await part.store([place])
        part.count(found)
        if part.request.execute and changes:
            done = [
                number
                for number, (index, old, new) in enumerate(changes)
                if await self._replaced(column, group[index], old, new)
            ]
            if _written(place, found.changes, done):
                await part.store([place])
        part.count_place()

    def _redact(self, texts: Sequence[str | None], start: int) -> tuple[Found, list[tuple[int, str, str]]]:
        found, changes = Found(), []
        for index, text in enumerate(texts):
            if text is None:  # changed or deleted since its place was read: the next pass sees it
                continue
            found.items += 1
            redacted = self._redactor.redact(text)
            if redacted.findings and redacted.text != text:
                kinds = tuple(str(finding.kind) for finding in redacted.findings)
                found.changes.append(Change(start + index, b"", redacted.text.encode(), kinds))
                changes.append((index, text, redacted.text))
        return found, changes

    async def _replaced(self, column: Column, where: Any, old: str, new: str) -> bool:
        try:
            return await pii.replace(self._pool, column, where, old, new)
        except asyncpg.IntegrityConstraintViolationError:  # the token is longer than the table allows
            return False
        except (asyncpg.InsufficientPrivilegeError, asyncpg.RaiseError):
            what = f"{column.name} cannot be written: the table is append-only, or not ours"
            raise errors.failure(errors.PII_COLUMN_UNUSABLE, what) from None


def _group(rows: Sequence[tuple[Any, int]]) -> list[Any]:
    """The first rows that are read together."""
    group: list[Any] = []
    room = BATCH_BYTES
    for where, size in rows:
        if group and size > room:
            break
        group.append(where)
        room -= size
    return group


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    # Not at the top: the command line loads this module's siblings.
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    redis = Redis.from_url(
        url, single_connection_client=True, retry=Retry(NoBackoff(), 0), socket_timeout=30, socket_connect_timeout=5
    )
    async with redis:
        yield redis


def _is_wrong_type(error: Exception) -> bool:
    return str(error).startswith("WRONGTYPE")


@contextlib.contextmanager
def _no_content() -> Iterator[None]:
    """Whatever goes wrong is told by its name alone: messages of others quote what they were given."""
    from redis.exceptions import RedisError

    try:
        yield
    except ApplicationError:
        raise
    except RedisError as error:
        what = f"Redis cannot be used ({type(error).__name__})"
        raise errors.failure(errors.REDIS_UNAVAILABLE, what) from None
    except (
        OSError,
        asyncpg.PostgresConnectionError,
        asyncpg.OperatorInterventionError,
        asyncpg.InterfaceError,
    ) as error:
        what = f"Postgres cannot be used ({type(error).__name__})"
        raise errors.failure(errors.DATABASE_UNAVAILABLE, what) from None
    except Exception as error:
        raise errors.failure(errors.PII_RUN_FAULT, f"it failed ({type(error).__name__})") from None
