"""Registered model versions, which of them is active and was when, and what scoring processes have loaded."""

import asyncio
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from db import audit
from db.pool import Connection, Pool, insertion
from domain.base import Actor, Model, Reason, Sha256
from domain.canonical import sha256_hex
from domain.gate import GateDecision
from domain.model import ModelName
from domain.model_metrics import AnyEvaluation

CHANNEL = "ml_models"
"""Notified with the model's name when a promotion is committed."""

SEEN = timedelta(seconds=6)
"""A scoring process reports every second; one that was not seen for this long is gone."""

_LOOK_AGAIN = 0.1
"""Seconds between two looks at what the scoring processes have loaded."""

ERROR_LIMIT = 500
"""Characters of an error that a scoring process reports."""

PromotionKind = Literal["activated", "rolled_back", "switched_back"]


class Registration(Model):
    """What is known of a version when it is registered; its artifact is stored already."""

    model: ModelName
    version: int
    sha256: Sha256
    signature: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]
    """Hex of the Ed25519 signature over model, version and sha256 (`domain/signing.py`)."""
    n_train: int
    n_test: int
    trained_from: datetime | None
    """When the oldest row of its data came in; `cutoff` is the other end of the training window."""
    cutoff: datetime
    data_sha256: Sha256
    code_version: str
    evaluation: AnyEvaluation
    """On the held-out rows."""
    gate: GateDecision

    @property
    def auc(self) -> float | None:
        """AUC on the held-out rows; None for a model that is measured by accuracy."""
        return self.evaluation.quality.value if self.evaluation.metric == "auc" else None

    @property
    def metrics(self) -> dict[str, float]:
        """The figures that people look at first, by name."""
        found = self.evaluation
        if found.metric == "accuracy":
            return {"accuracy": found.quality.value, "macro_f1": found.macro_f1}
        figures = found.model_dump(include={"log_loss", "brier", "precision", "recall", "f1"})
        return {"auc": found.quality.value, **figures}


class RegisteredModel(Registration):
    """One row of ml_models."""

    registered_at: datetime
    approved_by: str | None
    approved_at: datetime | None


class Promotion(Model):
    """One entry of the promotion log; from `at` on `version` is live, until the next entry."""

    model: ModelName
    number: int
    version: int | None
    """None: none is live, since the first one was switched back."""
    kind: PromotionKind
    at: datetime
    by: str
    why: str


class Load(Model):
    """What one scoring process has loaded of a model, as it said itself a moment ago."""

    process: UUID
    model: ModelName
    version: int | None = None
    error: Annotated[str, Field(max_length=ERROR_LIMIT)] | None = None
    """Why it could not load the active version, and has an older one or none."""
    loaded_at: datetime | None = None


class Verification(Model):
    """Whether the scoring processes follow an activation."""

    ok: bool
    processes: int
    """How many score with the model."""
    behind: int
    """How many of them do not report the version."""
    reason: str | None
    """A clause: what the first one behind says; None when all follow."""


class DriftReport(Model):
    """How far the scored rows of a day are from the training data of a version."""

    model: ModelName
    version: int
    day: date
    drift_score: Annotated[float, Field(ge=0)]
    rows: Annotated[int, Field(ge=0)]
    report: dict[str, Any]


class UnknownVersionError(LookupError):
    """No such version of the model is registered."""


async def put_artifact(connection: Connection | Pool, body: bytes) -> Sha256:
    """Store the bytes of an artifact under their hash, which is returned; the same bytes again change nothing."""
    sha256 = sha256_hex(body)
    await connection.execute(
        "INSERT INTO model_artifacts (sha256, body) VALUES ($1, $2) ON CONFLICT DO NOTHING", sha256, body
    )
    return sha256


async def artifact(connection: Connection | Pool, sha256: Sha256) -> bytes | None:
    """The bytes that are stored under a hash; whoever loads them checks that they have it."""
    body: bytes | None = await connection.fetchval("SELECT body FROM model_artifacts WHERE sha256 = $1", sha256)
    return body


async def register(connection: Connection, registration: Registration, by: Actor) -> bool:
    """Register a version, inactive; False, and nothing is written, when the version exists. Audited, so call it last.

    Args:
        connection: in a transaction.
        registration: the version; its artifact was put before.
        by: who.
    """
    fields = registration.model_dump() | {
        "signature": bytes.fromhex(registration.signature),
        "evaluation": registration.evaluation.model_dump(mode="json"),
        "gate": registration.gate.model_dump(mode="json"),
        "metrics": registration.metrics,
    }
    statement = f"{insertion('ml_models', fields)} ON CONFLICT DO NOTHING RETURNING true"
    registered = await connection.fetchval(statement, *fields.values())
    if registered:
        details = registration.model_dump(mode="json", include={"version", "sha256", "n_train", "data_sha256"})
        details["metrics"] = registration.metrics
        await audit.append(connection, "model_registered", "model", registration.model, by, details)
    return bool(registered)


async def approve(connection: Connection, model: ModelName, version: int, by: Actor, why: Reason) -> bool:
    """Note who approved a version; False, and nothing is written, when somebody has. Audited, so call it last."""
    approved = await connection.fetchval(
        "UPDATE ml_models SET approved_by = $3, approved_at = clock_timestamp()"
        " WHERE model = $1 AND version = $2 AND approved_by IS NULL RETURNING true",
        model,
        version,
        by,
    )
    if approved:
        details = {"version": version, "reason": why}
        await audit.append(connection, "model_approved", "model", model, by, details)
    return bool(approved)


async def get(connection: Connection | Pool, model: ModelName, version: int) -> RegisteredModel | None:
    """A version of a model."""
    row = await connection.fetchrow("SELECT * FROM ml_models WHERE model = $1 AND version = $2", model, version)
    return None if row is None else _registered(row)


async def find(connection: Connection | Pool, version: int) -> list[RegisteredModel]:
    """The models that have a version of this number: one, unless two were trained as of the same second."""
    rows = await connection.fetch("SELECT * FROM ml_models WHERE version = $1 ORDER BY model", version)
    return [_registered(row) for row in rows]


async def every(connection: Connection | Pool, model: ModelName) -> list[RegisteredModel]:
    """All versions of a model, the newest first."""
    rows = await connection.fetch("SELECT * FROM ml_models WHERE model = $1 ORDER BY version DESC", model)
    return [_registered(row) for row in rows]


async def newest_version(connection: Connection | Pool, model: ModelName) -> int | None:
    """The highest version of a model; None when none is registered."""
    version: int | None = await connection.fetchval("SELECT max(version) FROM ml_models WHERE model = $1", model)
    return version


async def lock(connection: Connection, model: ModelName) -> None:
    """Keep others from promoting until the transaction is over: before reading what an activation depends on."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"model:{model}")


async def activate(
    connection: Connection, model: ModelName, version: int, by: Actor, why: Reason, kind: PromotionKind = "activated"
) -> Promotion | None:
    """Make a version the active one, in the caller's transaction; two at once wait for each other. Call it last.

    Scoring processes hear of it when the transaction is committed. The change is audited.

    Returns:
        The entry of the promotion log; None, and nothing is written, when the version is the active one already.

    Raises:
        UnknownVersionError: the version is not registered; nothing is changed.
    """
    await lock(connection, model)
    if await get(connection, model, version) is None:
        raise UnknownVersionError(f"{model} has no version {version}")
    before = await active(connection, model)
    if before is not None and before.version == version:
        return None
    return await _promote(connection, model, version, by, why, kind)


async def switch_back(
    connection: Connection, model: ModelName, number: int, by: Actor, why: Reason
) -> Promotion | None:
    """Undo the promotion `number` that proved bad: the version before it is active again, or none is. Call it last.

    Returns:
        The new entry; None, and nothing is written, when another was made since: a repeated attempt, or a person.
    """
    await lock(connection, model)
    last = await _last(connection, model)
    if last is None or last.number != number:
        return None
    before = await connection.fetchval(
        "SELECT version FROM model_promotions WHERE model = $1 AND number = $2", model, number - 1
    )
    return await _promote(connection, model, before, by, why, "switched_back")


async def active(connection: Connection | Pool, model: ModelName) -> Promotion | None:
    """The entry that made the active version active; None when no version is."""
    row = await connection.fetchrow(
        "SELECT p.* FROM active_models a JOIN model_promotions p USING (model, number) WHERE model = $1", model
    )
    return None if row is None else Promotion.model_validate(dict(row))


async def history(connection: Connection | Pool, model: ModelName) -> list[Promotion]:
    """The whole promotion log of a model, the oldest first."""
    rows = await connection.fetch("SELECT * FROM model_promotions WHERE model = $1 ORDER BY number", model)
    return [Promotion.model_validate(dict(row)) for row in rows]


async def live_at(connection: Connection | Pool, model: ModelName, at: datetime) -> Promotion | None:
    """The entry that held at a moment; None before the first."""
    row = await connection.fetchrow(
        "SELECT * FROM model_promotions WHERE model = $1 AND at <= $2 ORDER BY at DESC LIMIT 1", model, at
    )
    return None if row is None else Promotion.model_validate(dict(row))


async def live_before(connection: Connection | Pool, model: ModelName) -> int | None:
    """The version that was live before the active one was activated: where a roll-back goes. None: there is none.

    Rolled back once more it goes one further back, not forth again.
    """
    now = await active(connection, model)
    if now is None:
        return None
    before: int | None = await connection.fetchval(
        "SELECT version FROM model_promotions WHERE model = $1 AND version IS NOT NULL AND version <> $2 AND number <"
        " (SELECT max(number) FROM model_promotions WHERE model = $1 AND version = $2 AND kind = 'activated')"
        " ORDER BY number DESC LIMIT 1",
        model,
        now.version,
    )
    return before


async def report_load(connection: Connection | Pool, load: Load) -> None:
    """Say what a scoring process has loaded; it says so every second."""
    fields = load.model_dump()
    await connection.execute(
        "INSERT INTO model_loads (process, model, version, error, loaded_at, seen_at)"
        " VALUES ($1, $2, $3, $4, $5, clock_timestamp()) ON CONFLICT (process, model) DO UPDATE SET"
        " version = $3, error = $4, loaded_at = $5, seen_at = clock_timestamp()",
        *fields.values(),
    )


async def forget_load(connection: Connection | Pool, process: UUID) -> None:
    """A scoring process ends; rows of processes that died long ago go with it."""
    await connection.execute(
        "DELETE FROM model_loads WHERE process = $1 OR seen_at < now() - interval '1 hour'", process
    )


async def loads(connection: Connection | Pool, model: ModelName) -> list[Load]:
    """What the scoring processes that live have loaded."""
    rows = await connection.fetch(
        "SELECT process, model, version, error, loaded_at FROM model_loads"
        " WHERE model = $1 AND seen_at > clock_timestamp() - $2::interval ORDER BY process",
        model,
        SEEN,
    )
    return [Load.model_validate(dict(row)) for row in rows]


async def verify_activation(pool: Pool, model: ModelName, version: int, within: float) -> Verification:
    """Wait until every scoring process reports a version, for at most `within` seconds."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        found = await loads(pool, model)
        behind = [load for load in found if load.version != version]
        late = asyncio.get_running_loop().time() >= deadline
        if not behind or late:
            break
        await asyncio.sleep(_LOOK_AGAIN)
    reason = None
    if behind:
        errors = [load for load in behind if load.error]
        what = errors[0].error if errors else f"it has version {behind[0].version or 'none'}"
        reason = f"{len(behind)} of {len(found)} scoring processes did not follow within {within:g} s: {what}"
    return Verification(ok=not behind, processes=len(found), behind=len(behind), reason=reason)


async def store_drift(connection: Connection | Pool, report: DriftReport) -> None:
    """Keep a day's report; a later one of the same day replaces it."""
    fields = report.model_dump()
    await connection.execute(
        f"{insertion('drift_reports', fields)} ON CONFLICT (model, version, day) DO UPDATE SET"
        " drift_score = excluded.drift_score, rows = excluded.rows, report = excluded.report, created_at = now()",
        *fields.values(),
    )


async def drift_reports(
    connection: Connection | Pool, model: ModelName, version: int, *, last: int = 30
) -> list[DriftReport]:
    """The last daily reports about a version, the oldest first."""
    rows = await connection.fetch(
        "SELECT * FROM (SELECT model, version, day, drift_score, rows, report FROM drift_reports"
        " WHERE model = $1 AND version = $2 ORDER BY day DESC LIMIT $3) newest ORDER BY day",
        model,
        version,
        last,
    )
    return [DriftReport.model_validate(dict(row)) for row in rows]


async def _last(connection: Connection, model: ModelName) -> Promotion | None:
    row = await connection.fetchrow(
        "SELECT * FROM model_promotions WHERE model = $1 ORDER BY number DESC LIMIT 1", model
    )
    return None if row is None else Promotion.model_validate(dict(row))


async def _promote(
    connection: Connection, model: ModelName, version: int | None, by: Actor, why: Reason, kind: PromotionKind
) -> Promotion:
    last = await _last(connection, model)
    row = await connection.fetchrow(
        # After the last one even where the clock was set back.
        "INSERT INTO model_promotions (model, number, version, kind, at, by, why) VALUES"
        " ($1, $2, $3, $4, greatest(clock_timestamp(), $5::timestamptz + interval '1 microsecond'), $6, $7)"
        " RETURNING *",
        model,
        last.number + 1 if last else 1,
        version,
        kind,
        last.at if last else None,
        by,
        why,
    )
    assert row is not None, "an insert returns its row"
    promotion = Promotion.model_validate(dict(row))
    if version is None:
        await connection.execute("DELETE FROM active_models WHERE model = $1", model)
    else:
        await connection.execute(
            "INSERT INTO active_models (model, version, number) VALUES ($1, $2, $3)"
            " ON CONFLICT (model) DO UPDATE SET version = excluded.version, number = excluded.number",
            model,
            version,
            promotion.number,
        )
    details = {"version": version, "before": last.version if last else None, "reason": why}
    await audit.append(connection, f"model_{kind}", "model", model, by, details)
    return promotion


def _registered(row: Any) -> RegisteredModel:
    fields = {name: row[name] for name in RegisteredModel.model_fields}
    return RegisteredModel.model_validate(fields | {"signature": row["signature"].hex()})
