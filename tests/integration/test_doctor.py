"""`clotho doctor` names what is wrong, how bad it is, and the next command."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from temporalio.client import Schedule, ScheduleActionStartWorkflow, ScheduleSpec, ScheduleState, WorkflowHandle
from temporalio.common import SearchAttributePair, TypedSearchAttributes

from domain import review, search_attributes
from domain.ids import review_workflow_id
from domain.review import KINDS, ReviewKind, ReviewRequest
from domain.steps import Role
from tests.conftest import EmbeddedStack, WorkerProcess
from tests.operator import Operator
from tests.support import eventually


async def findings(operator: Operator, **settings: str) -> tuple[int, dict[str, dict[str, Any]]]:
    answer = await operator.clotho("doctor", "--json", settings=settings)
    return answer.code, {finding["check"]: finding for finding in answer.data}


async def test_with_workers_all_is_well(operator: Operator, worker: WorkerProcess, database_url: str) -> None:
    assert await worker.ready()

    async def all_well() -> bool:
        # Other tests leave markets in the shared database, as if nobody had resolved them.
        code, found = await findings(operator, DATABASE_URL=database_url)
        parts = ("temporal", "postgres", "migrations", "chain", "model", "workers sources", "workers chain")
        return code in {0, 1} and {found[name]["level"] for name in parts} == {"ok"}

    await eventually(all_well, "a healthy report")


async def test_an_outage_is_named_with_its_level_and_the_next_command(operator: Operator, stack: EmbeddedStack) -> None:
    await stack.stop("llm")
    try:
        code, found = await findings(operator)
    finally:
        await stack.start("llm")
    assert code == 2
    assert found["model"]["level"] == "P2"
    assert "OPENAI_BASE_URL" in found["model"]["next"]
    assert found["postgres"]["level"] == "ok"


async def test_a_database_that_cannot_be_reached_is_the_worst_level(operator: Operator) -> None:
    answer = await operator.clotho(
        "doctor", "--json", settings={"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    )
    found = {finding["check"]: finding for finding in answer.data}
    assert (found["postgres"]["level"], answer.code) == ("P1", 2)
    assert "migrations" not in found


async def ask(operator: Operator, kind: ReviewKind, left: timedelta) -> WorkflowHandle[Any, Any]:
    """Open a review, as a lifecycle does, which is to be decided within the time left; nobody does."""
    request = ReviewRequest(kind=kind, subject=str(uuid4()), title="Will it rain?", why="to try the doctor")
    marks = TypedSearchAttributes(
        [
            SearchAttributePair(search_attributes.REVIEW_KIND, kind.value),
            SearchAttributePair(search_attributes.REVIEW_PRIORITY, KINDS[kind].priority.value),
            SearchAttributePair(search_attributes.REVIEW_DEADLINE, datetime.now(UTC) + left),
        ]
    )
    return await operator.temporal.start_workflow(
        review.WORKFLOW,
        request,
        id=review_workflow_id(kind, request.subject),
        task_queue=Role.ORCHESTRATOR.value,
        search_attributes=marks,
    )


def waiting(found: dict[str, dict[str, Any]]) -> tuple[int, ...]:
    """How many reviews wait: all, of high and of medium priority; other tests may have left some."""
    return tuple(int(count) for count in re.findall(r"\d+", found["reviews"]["finding"])[:3])


async def test_a_review_that_nobody_decides_in_time_is_named_and_an_urgent_one_is_worse(operator: Operator) -> None:
    others = waiting((await findings(operator))[1])
    asked = [await ask(operator, ReviewKind.RESOLUTION, timedelta(hours=1))]

    async def becomes(late: str, high: int, medium: int) -> dict[str, Any]:
        """Wait until the lists, which lag behind, show so many more reviews, and those of them that are late."""
        reports: list[dict[str, dict[str, Any]]] = []

        async def shown() -> bool:
            reports.append((await findings(operator))[1])
            more = tuple(now - before for now, before in zip(waiting(reports[-1]), others, strict=True))
            return more == (high + medium, high, medium) and late in reports[-1]["breached reviews"]["finding"]

        await eventually(shown, f"{late!r} and {high} more of high, {medium} of medium priority")
        return reports[-1]["breached reviews"]

    try:
        breached = await becomes("0 past their deadline", 1, 0)
        assert (breached["level"], breached["next"]) == ("ok", "")
        asked.append(await ask(operator, ReviewKind.DRAFT, -timedelta(hours=1)))
        breached = await becomes("1 past their deadline, 0 of them", 1, 1)
        assert (breached["level"], breached["next"]) == ("P3", "clotho review list --breached")
        asked.append(await ask(operator, ReviewKind.DISPUTE, -timedelta(hours=1)))
        assert (await becomes("2 past their deadline, 1 of them", 2, 1))["level"] == "P2"
    finally:
        for handle in asked:
            await handle.terminate("the test is over")


async def test_a_namespace_that_is_none_does_not_hide_the_rest(operator: Operator) -> None:
    code, found = await findings(operator, TEMPORAL_NAMESPACE="nowhere")
    assert (code, found["temporal"]["level"], found["temporal"]["next"]) == (2, "P1", "check TEMPORAL_NAMESPACE")
    assert "nowhere" in found["temporal"]["finding"]
    assert found["postgres"]["level"] == "ok"


@pytest.mark.parametrize(("days", "level"), [(-1, "P1"), (12, "P4"), (45, "ok")])
async def test_a_certificate_that_ends_is_named_before_no_source_can_be_read(
    operator: Operator, tmp_path: Path, days: int, level: str
) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(certificate(timedelta(days=days, hours=1)))
    _, found = await findings(operator, SOURCES_CA_FILE=str(file))
    assert found["sources' CA"]["level"] == level
    assert str(abs(days)) in found["sources' CA"]["finding"]


def certificate(lasts: timedelta) -> bytes:
    """A certificate, in PEM, that ends in so long."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = builder.serial_number(1).not_valid_before(now - timedelta(days=9)).not_valid_after(now + lasts)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


async def test_a_schedule_that_is_paused_or_fails_is_named(operator: Operator) -> None:
    id = f"doctor-{uuid4().hex}"
    # On a queue that nobody works at, so that it is not done in time.
    never = ScheduleActionStartWorkflow(
        "Nobody", id=id, task_queue=id, execution_timeout=timedelta(seconds=1), static_summary="nothing"
    )
    schedule = await operator.temporal.create_schedule(
        id, Schedule(action=never, spec=ScheduleSpec(), state=ScheduleState(paused=True))
    )

    async def level(wanted: str, finding: str) -> None:
        async def shown() -> bool:
            found = (await findings(operator))[1]["schedules"]
            return found["level"] == wanted and finding in found["finding"]

        await eventually(shown, f"schedules at {wanted}")

    try:
        await level("P4", f"{id} is paused")
        await schedule.trigger()
        await level("P3", f"{id} failed the last time")
    finally:
        await schedule.delete()
