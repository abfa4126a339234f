"""`clotho doctor`: what is wrong, how bad it is, and the next command."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import asyncpg
import httpx
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from cli.context import CliSettings, command, env_file, settings
from cli.output import Exit, JsonOption, emit, styled, table
from db import migrate
from domain import review
from domain.base import Model
from domain.review import KINDS, TERM, Priority
from domain.steps import Role

PROBE_SECONDS = 5
BACKLOG = 100
"""Tasks of one role that wait (operations: alert above 100)."""
OVERDUE = timedelta(minutes=15)
"""After expiry, settling time included, a market that nothing has looked at is late: P1's response time."""
CERTIFICATE_DAYS = 30


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
    parked = await _running(client, "Parked = true")
    return [
        answered,
        *[await _role(client, role) for role in Role],
        Finding(
            check="parked steps",
            level=Level.P3 if parked else Level.OK,
            finding=f"{parked} wait for an operator",
            next="clotho parked list" if parked else "",
        ),
        *await _reviews(client),
    ]


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
    found: dict[str, int] = {}

    async def ask() -> str:
        connection = await asyncpg.connect(configured.database_url.get_secret_value(), timeout=PROBE_SECONDS)
        try:
            found["migrations"] = await connection.fetchval("SELECT count(*) FROM schema_migrations")
            found["overdue"] = await connection.fetchval(
                "SELECT count(*) FROM markets JOIN rules USING (rules_sha256) WHERE status = 'active' AND expiry"
                " + make_interval(secs => (body->'not_yet_published'->>'settle_after')::int) < now() - $1::interval",
                OVERDUE,
            )
        finally:
            await connection.close()
        return "answers"

    answered = await _probe("postgres", ask, Level.P1, "clotho status")
    if "overdue" not in found:
        return [answered]
    behind = len(migrate.migrations()) - found["migrations"]
    return [
        answered,
        Finding(
            check="migrations",
            level=Level.P2 if behind else Level.OK,
            finding=f"{behind} to be applied" if behind else "current",
            next="clotho up" if behind else "",
        ),
        Finding(
            check="overdue markets",
            level=Level.P1 if found["overdue"] else Level.OK,
            finding=f"{found['overdue']} expired over {OVERDUE.seconds // 60} min ago and unresolved",
            next="clotho market list --status active" if found["overdue"] else "",
        ),
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

    async def ask() -> str:
        from cryptography import x509

        certificate = x509.load_pem_x509_certificate(await asyncio.to_thread(file.read_bytes))
        days = (certificate.not_valid_after_utc - datetime.now(UTC)).days
        if days < CERTIFICATE_DAYS:
            raise ValueError(f"{days} days left")
        return f"valid for {days} days"

    return [await _probe("sources' CA", ask, Level.P4, "renew SOURCES_CA_FILE")]
