"""`clotho doctor`: what is wrong, how bad it is, and the next command."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import httpx
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from cli import scheduling
from cli.context import CliSettings, command, env_file, settings
from cli.output import Exit, JsonOption, emit, styled, table
from db import markets, migrate, models
from db.pool import Pool, connect
from domain import review, signing
from domain.base import Model
from domain.model import MODELS
from domain.review import KINDS, TERM, Priority
from domain.steps import Role

PROBE_SECONDS = 5
BACKLOG = 100
"""Tasks of one role that wait (operations: alert above 100)."""
OVERDUE = timedelta(minutes=15)
"""After expiry, settling time included, a market that nothing has looked at is late: P1's response time."""
CERTIFICATE_DAYS = 30
KEY_DAYS = 730
"""A key that signs is to be replaced within two years (NIST SP 800-57, part 1, 5.3.6: one to three)."""


class Level(StrEnum):
    """How bad a finding is, with the time to respond (runbook "Incident Response")."""

    OK = "ok"
    P4 = "P4"
    """Minor: 24 h."""
    P3 = "P3"
    """Degraded: 4 h."""
    P2 = "P2"
    """Partial outage: 1 h."""
    P1 = "P1"
    """Nothing resolves: 15 minutes."""


class Finding(Model):
    """One check's result."""

    check: str
    level: Level
    finding: str
    next: str = ""


class DoctorSettings(BaseSettings):
    """What only the doctor asks for; a part whose setting is missing is somebody else's and is left out."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    redis_url: str | None = None
    openai_base_url: str = "https://api.openai.com/v1"
    openai_api_key: SecretStr | None = None


@command
async def doctor(as_json: JsonOption = False) -> None:
    """Check every part and say what is wrong, how bad it is, and the next command.

    Temporal, workers, backlog, parked steps, reviews, schedules; Postgres and
    overdue markets; Valkey, chain, model; ages of certificate and key.

    Levels: P1 nothing resolves (15 min), P2 partial outage (1 h), P3 degraded (4 h), P4 minor (24 h).
    Exit status: 0 all is well; 1 a warning (P3, P4); 2 critical (P1, P2).
    """
    configured = settings()
    asked = DoctorSettings(_env_file=env_file())
    checked = await asyncio.gather(
        _temporal(configured),
        _postgres(configured),
        _redis(asked),
        _chain(configured),
        _model(asked),
        _certificate(configured),
    )
    found = [finding for findings in checked for finding in findings]

    def show() -> None:
        rows = [(styled(f.level), f.check, f.finding, f.next) for f in found]
        table(["", "check", "finding…", "next"], rows, empty="")

    emit(found, as_json, show)
    levels = {finding.level for finding in found}
    if levels & {Level.P1, Level.P2}:
        raise SystemExit(2)
    if levels - {Level.OK}:
        raise SystemExit(int(Exit.FAILED))


async def _probe(check: str, ask: Callable[[], Awaitable[str]], level: Level, next_command: str) -> Finding:
    """What `ask` answers, or at `level` why it does not."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            return Finding(check=check, level=Level.OK, finding=await ask())
    except Exception as error:
        why = f"does not answer ({type(error).__name__})"
        return Finding(check=check, level=level, finding=why, next=next_command)


async def _temporal(configured: CliSettings) -> list[Finding]:
    client: Client | None = None

    async def ask() -> str:
        nonlocal client
        client = await Client.connect(configured.temporal_address, namespace=configured.temporal_namespace)
        await client.service_client.check_health()
        return "answers"

    answered = await _probe("temporal", ask, Level.P1, "clotho status")
    if client is None:
        return [answered]
    try:
        async with asyncio.timeout(2 * PROBE_SECONDS):
            return [answered, *await _within(client)]
    except (RPCError, TimeoutError) as error:
        why = error.status.name if isinstance(error, RPCError) else "nothing in time"
        said = f"answers {why} about the namespace {configured.temporal_namespace}"
        return [Finding(check="temporal", level=Level.P1, finding=said, next="check TEMPORAL_NAMESPACE")]


async def _within(client: Client) -> list[Finding]:
    """What goes on in the namespace."""
    parked = await _running(client, "Parked = true")
    return [
        *[await _role(client, role) for role in Role],
        Finding(
            check="parked steps",
            level=Level.P3 if parked else Level.OK,
            finding=f"{parked} wait for an operator",
            next="clotho parked list" if parked else "",
        ),
        *await _reviews(client),
        await _schedules(client),
    ]


async def _schedules(client: Client) -> Finding:
    """What starts by itself: whether its last run failed, it is paused, or it is not there."""
    found = await scheduling.every(client)
    if not found:
        return Finding(
            check="schedules", level=Level.OK, finding="nothing starts by itself", next="clotho schedule create"
        )
    failed = [f"{one.id} failed the last time" for one in found if await _failed(client, one.id)]
    paused = [f"{one.id} is paused" for one in found if one.paused]
    missing = [f"{name} is missing" for name in scheduling.PLANS if name not in {one.id for one in found}]
    return Finding(
        check="schedules",
        level=Level.P3 if failed else Level.P4 if paused or missing else Level.OK,
        finding="; ".join([*failed, *paused, *missing]) or f"{len(found)} start work by themselves",
        next="clotho schedule list" if failed or paused else "clotho schedule create" if missing else "",
    )


async def _failed(client: Client, schedule: str) -> bool:
    """Whether the last workflow that a schedule started has failed."""
    info: Any = (await client.get_schedule_handle(schedule).describe()).info
    if not info.recent_actions:
        return False
    last = info.recent_actions[-1].action
    try:
        started = client.get_workflow_handle(last.workflow_id, run_id=last.first_execution_run_id)
        status = (await started.describe()).status
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:  # Temporal keeps it for some time only
            raise
        return False
    return status in {WorkflowExecutionStatus.FAILED, WorkflowExecutionStatus.TIMED_OUT}


async def _running(client: Client, which: str) -> int:
    """How many running workflows a list filter finds."""
    return (await client.count_workflows(f"{which} AND ExecutionStatus = 'Running'")).count


async def _reviews(client: Client) -> list[Finding]:
    """Open reviews, and those that were not decided within their term."""
    of_reviews = f"WorkflowType = '{review.WORKFLOW}'"
    counts = await asyncio.gather(
        *(_running(client, f"{of_reviews} AND ReviewPriority = '{priority}'") for priority in Priority)
    )
    breached = f"{of_reviews} AND ReviewDeadline < '{datetime.now(UTC).isoformat()}'"
    # A breach makes every review more urgent, so what it was about says how bad it is.
    urgent = ", ".join(f"'{kind}'" for kind, told in KINDS.items() if told.priority is Priority.HIGH)
    late, badly = await asyncio.gather(
        _running(client, breached), _running(client, f"{breached} AND ReviewKind IN ({urgent})")
    )
    by_priority = ", ".join(f"{count} {priority}" for count, priority in zip(counts, Priority, strict=True))
    return [
        Finding(
            check="reviews",
            level=Level.OK,
            finding=f"{sum(counts)} wait for a reviewer ({by_priority})",
            next="clotho review list" if any(counts) else "",
        ),
        Finding(
            check="breached reviews",
            level=Level.P2 if badly else Level.P3 if late else Level.OK,
            finding=f"{late} past their deadline, {badly} of them owed within {TERM[Priority.HIGH].seconds // 3600} h",
            next="clotho review list --breached" if late else "",
        ),
    ]


async def _role(client: Client, role: Role) -> Finding:
    queue_type = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
    if role is Role.ORCHESTRATOR:
        queue_type = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
    described = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=role.value),
            task_queue_type=queue_type,
            report_stats=True,
        )
    )
    pollers, backlog = len(described.pollers), described.stats.approximate_backlog_count
    start = f"clotho worker --role {role}"
    if not pollers:
        # Without these two no market is resolved; without the others some wait.
        level = Level.P1 if role in {Role.ORCHESTRATOR, Role.SOURCES} else Level.P2
        return Finding(check=f"workers {role}", level=level, finding="no worker polls", next=start)
    if backlog > BACKLOG:
        return Finding(check=f"workers {role}", level=Level.P3, finding=f"{backlog} tasks wait", next=start)
    return Finding(check=f"workers {role}", level=Level.OK, finding=f"{pollers} polling, {backlog} tasks wait")


async def _postgres(configured: CliSettings) -> list[Finding]:
    found: list[Finding] = []

    async def ask() -> str:
        async with await connect(configured.database_url.get_secret_value(), max_size=1) as pool:
            missing = await migrate.pending(pool)
            found.append(_migrations(missing))
            if not missing:
                found.append(_overdue(*await markets.overdue(pool, OVERDUE)))
                found.extend(await _signing_key(pool, configured))
        return "answers"

    answered = await _probe("postgres", ask, Level.P1, "clotho status")
    return [answered, *found]


def _migrations(missing: int) -> Finding:
    if missing < 0:
        newer = f"the database is {-missing} ahead of this code"
        return Finding(check="migrations", level=Level.P2, finding=newer, next="install the newer clotho")
    return Finding(
        check="migrations",
        level=Level.P2 if missing else Level.OK,
        finding=f"{missing} to be applied" if missing else "current",
        next="clotho up" if missing else "",
    )


def _overdue(overdue: int, resolved: int) -> Finding:
    """Where others are resolved meanwhile, it is not the whole that stands."""
    said = f"{overdue} expired over {OVERDUE.seconds // 60} min ago and unresolved"
    return Finding(
        check="overdue markets",
        level=Level.OK if not overdue else Level.P3 if resolved else Level.P1,
        finding=f"{said}, {resolved} looked at since" if overdue else said,
        next="clotho market list --status active" if overdue else "",
    )


async def _signing_key(pool: Pool, configured: CliSettings) -> list[Finding]:
    """Since when the key of MODEL_VERIFY_KEY has signed models."""
    if configured.model_verify_key is None:
        return []
    key, check = configured.verify_key, "models' key"
    signed = [
        one.registered_at
        for model in MODELS
        for one in await models.every(pool, model)
        if signing.verify(key, bytes.fromhex(one.signature), one.model, one.version, one.sha256)
    ]
    if not signed:
        return [Finding(check=check, level=Level.OK, finding="has signed nothing yet")]
    days = (datetime.now(UTC) - min(signed)).days
    old = days > KEY_DAYS
    return [
        Finding(
            check=check,
            level=Level.P4 if old else Level.OK,
            finding=f"has signed for {days} days",
            next="draw another MODEL_SIGNING_KEY, as in .env.example" if old else "",
        )
    ]


async def _redis(asked: DoctorSettings) -> list[Finding]:
    url = asked.redis_url
    if url is None:
        return []

    async def ask() -> str:
        import redis.asyncio as redis  # only here: every command would wait for it

        async with redis.from_url(url) as client:
            await client.ping()
        return "answers"

    return [await _probe("valkey", ask, Level.P3, "clotho status")]


async def _chain(configured: CliSettings) -> list[Finding]:
    url = configured.solana_rpc_url
    if url is None:
        return []

    async def ask() -> str:
        async with httpx.AsyncClient(trust_env=False) as client:
            request = {"jsonrpc": "2.0", "id": 1, "method": "getHealth"}
            answer = (await client.post(url, json=request)).raise_for_status().json()
        return f"answers {answer['result']}"

    return [await _probe("chain", ask, Level.P2, "clotho status")]


async def _model(asked: DoctorSettings) -> list[Finding]:
    if asked.openai_api_key is None:
        return []
    headers = {"Authorization": f"Bearer {asked.openai_api_key.get_secret_value()}"}

    async def ask() -> str:
        async with httpx.AsyncClient(headers=headers) as client:
            (await client.get(f"{asked.openai_base_url}/models")).raise_for_status()
        return "answers"

    return [await _probe("model", ask, Level.P2, "check OPENAI_BASE_URL and OPENAI_API_KEY")]


async def _certificate(configured: CliSettings) -> list[Finding]:
    file = configured.sources_ca_file
    if file is None:
        return []
    check, renew = "sources' CA", "renew SOURCES_CA_FILE"
    try:
        from cryptography import x509  # only here: every command would wait for it

        certificate = x509.load_pem_x509_certificate(await asyncio.to_thread(file.read_bytes))
    except (OSError, ValueError) as error:
        why = f"cannot be read ({type(error).__name__})"
        return [Finding(check=check, level=Level.P1, finding=why, next=renew)]
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    if left < timedelta(0):
        # Then no source is read any more.
        return [Finding(check=check, level=Level.P1, finding=f"expired {-left.days} days ago", next=renew)]
    soon = left.days < CERTIFICATE_DAYS
    return [
        Finding(
            check=check,
            level=Level.P4 if soon else Level.OK,
            finding=f"valid for {left.days} days",
            next=renew if soon else "",
        )
    ]
