"""The registry of AI versions: which prompts, model and rules each is made of, and what still needs it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from db import ai_config, audit
from db.pool import Connection, Pool, insertion
from domain import ai, config
from domain.ai import AiVersion, PromptRef, VersionError
from domain.base import Model
from domain.status import MARKET_MOVES

_OPEN = [status.value for status, moves in MARKET_MOVES.items() if moves]
"""Of markets that are not at their end."""


class Use(Model):
    """A version and what needs it."""

    version: AiVersion
    current: bool
    open_markets: int


class Needed(Model):
    """A version that a worker must be able to load, and the open markets that are bound to it (ten at most)."""

    version: str
    current: bool
    open_markets: int
    examples: tuple[UUID, ...]


async def find(connection: Connection | Pool, version: str) -> AiVersion | None:
    """One version, if it is registered."""
    row = await connection.fetchrow("SELECT * FROM ai_versions WHERE version = $1", version)
    return None if row is None else AiVersion.model_validate(dict(row))


async def get(connection: Connection | Pool, version: str) -> AiVersion:
    """One version.

    Raises:
        VersionError: it is not registered.
    """
    found = await find(connection, version)
    if found is None:
        raise VersionError(f"ai_version {version[:80]!r} is not registered: see `clotho ai-version list`")
    return found


async def every(connection: Connection | Pool) -> list[Use]:
    """All versions, the newest first."""
    rows = await connection.fetch(
        "SELECT v.*, to_jsonb(v.version) = (SELECT value FROM ai_config WHERE key = 'ai_version') AS current,"
        " (SELECT count(*) FROM markets m WHERE m.ai_version = v.version AND m.status = ANY($1)) AS open_markets"
        " FROM ai_versions v ORDER BY created_at DESC, version DESC",
        _OPEN,
    )
    return [_use(dict(row)) for row in rows]


async def needed(connection: Connection | Pool) -> list[Needed]:
    """The current version, and every one that an open market is bound to."""
    rows = await connection.fetch(
        "SELECT ai_version, count(*) AS open_markets, (array_agg(id ORDER BY created_at))[1:10] AS examples"
        " FROM markets WHERE status = ANY($1) GROUP BY ai_version ORDER BY ai_version",
        _OPEN,
    )
    current = str(await ai_config.get(connection, "ai_version"))
    found = [
        Needed(
            version=row["ai_version"],
            current=row["ai_version"] == current,
            open_markets=row["open_markets"],
            examples=row["examples"],
        )
        for row in rows
    ]
    if not any(one.current for one in found):
        found.append(Needed(version=current, current=True, open_markets=0, examples=()))
    return found


async def create(
    pool: Pool, version: str, changes: Mapping[str, str], hashes: Mapping[str, str], by: str, reason: str
) -> AiVersion:
    """Register a version: the current one's prompts with `changes`, and the model that its name says.

    Args:
        pool: where.
        version: its name, like ai_v1.1.0_gpt4_20260701.
        changes: prompt version by prompt type, where another than the current one's.
        hashes: SHA-256 of every prompt file, by `<type>/<version>`.
        by: who.
        reason: why.

    Raises:
        VersionError: the name is bad or taken, a prompt type is unknown, or a file missing; nothing is changed.
    """
    async with pool.acquire() as connection, connection.transaction():
        return await create_in(connection, version, changes, hashes, by, reason)


async def create_in(
    connection: Connection, version: str, changes: Mapping[str, str], hashes: Mapping[str, str], by: str, reason: str
) -> AiVersion:
    """The same within a transaction that does more."""
    ai.parts_of(version)
    base = await get(connection, str(await ai_config.get(connection, "ai_version")))
    if unknown := changes.keys() - base.prompts.keys():
        known = ", ".join(sorted(base.prompts))
        raise VersionError(f"there is no prompt type {min(unknown)[:80]!r}, known are {known}")
    names = {type: changes.get(type, ref.version) for type, ref in base.prompts.items()}
    if missing := [f"{type}/{name}" for type, name in sorted(names.items()) if f"{type}/{name}" not in hashes]:
        raise VersionError(f"prompts/{missing[0]}.md is missing: add the file, or name another version of it")
    made = AiVersion(
        version=version,
        prompts={type: PromptRef(version=name, sha256=hashes[f"{type}/{name}"]) for type, name in names.items()},
        rules_version=ai.RULES_VERSION,
        created_at=datetime.now(UTC),
        created_by=by,
        reason=reason,
    )
    fields = {**made.model_dump(), "prompts": made.model_dump(mode="json")["prompts"]}
    taken = f"{insertion('ai_versions', fields)} ON CONFLICT DO NOTHING RETURNING true"
    if not await connection.fetchval(taken, *fields.values()):
        raise VersionError(f"{version} is registered already and never changes: raise its number")
    details = {"prompts": fields["prompts"], "reason": reason}
    await audit.append(connection, "ai_version_created", "ai_version", version, by, details)
    return made


async def make_current(pool: Pool, version: str, by: str, reason: str) -> str:
    """Bind markets that are drafted from now on to a version, and `llm_model` to its model; audited as one change.

    A deprecated version is supported again by this.

    Returns:
        The version before; `version` itself when nothing had to be changed, and then nothing is written.

    Raises:
        VersionError: it is not registered, or was deprecated more than six months ago.
    """
    async with pool.acquire() as connection, connection.transaction():
        return await switch(connection, version, by, reason)


async def switch(connection: Connection, version: str, by: str, reason: str) -> str:
    """The same within a transaction that does more."""
    model = ai.parts_of(version)[0]
    values = await ai_config.locked(connection)
    old = str(values["ai_version"])
    if old == version:
        return old
    wanted = await get(connection, version)
    until = wanted.usable_until
    if until is not None and until < datetime.now(UTC):
        raise VersionError(f"{version} could be used until {until:%Y-%m-%d}: create a new version of its prompts")
    config.parse({**values, "ai_version": version, "llm_model": model})
    await connection.execute("UPDATE ai_versions SET deprecated_at = NULL WHERE version = $1", version)
    await ai_config.write(connection, "ai_version", version, by)
    if values["llm_model"] != model:
        await ai_config.write(connection, "llm_model", model, by)
    details = {"old": old, "new": version, "reason": reason}
    models = {"old_llm_model": values["llm_model"], "new_llm_model": model}
    await audit.append(connection, "ai_version_update", "ai_version", version, by, {**details, **models})
    return old


async def deprecate(pool: Pool, version: str, by: str, reason: str) -> datetime:
    """Say that a version shall be used no longer: for six months it can be made current again, then no more.

    Returns:
        Until when.

    Raises:
        VersionError: it is not registered, is the current one, or is deprecated already.
    """
    async with pool.acquire() as connection, connection.transaction():
        values = await ai_config.locked(connection)
        if values["ai_version"] == version:
            raise VersionError(f"{version} is the current one: set another first, with `clotho ai-version set`")
        found = await get(connection, version)
        if found.deprecated_at is not None:
            raise VersionError(f"{version} was deprecated on {found.deprecated_at:%Y-%m-%d} already: nothing to do")
        at: datetime = await connection.fetchval(
            "UPDATE ai_versions SET deprecated_at = now() WHERE version = $1 RETURNING deprecated_at", version
        )
        details = {"old": "supported", "new": "deprecated", "reason": reason}
        await audit.append(connection, "ai_version_update", "ai_version", version, by, details)
    return at + ai.SUPPORT


async def fill_hashes(pool: Pool, hashes: Mapping[str, str]) -> None:
    """Record the hashes of prompt files that no worker had seen yet; what is recorded never changes.

    Args:
        pool: where.
        hashes: SHA-256 of every prompt file, by `<type>/<version>`.
    """
    async with pool.acquire() as connection, connection.transaction():
        for row in await connection.fetch("SELECT * FROM ai_versions ORDER BY version FOR UPDATE"):
            found = AiVersion.model_validate(dict(row))
            filled = {
                type: PromptRef(version=ref.version, sha256=ref.sha256 or hashes.get(f"{type}/{ref.version}"))
                for type, ref in found.prompts.items()
            }
            if filled != found.prompts:
                body = {type: ref.model_dump() for type, ref in filled.items()}
                await connection.execute("UPDATE ai_versions SET prompts = $2 WHERE version = $1", found.version, body)


def _use(row: dict[str, Any]) -> Use:
    current, open_markets = row.pop("current"), row.pop("open_markets")
    return Use(version=AiVersion.model_validate(row), current=current, open_markets=open_markets)
