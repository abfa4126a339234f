"""`clotho doctor` names what is wrong, how bad it is, and the next command."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from temporalio.client import WorkflowHandle
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
        return code in {0, 1} and all(found[f"workers {role}"]["level"] == "ok" for role in ("sources", "chain"))

    await eventually(all_well, "a healthy report")
    _, found = await findings(operator, DATABASE_URL=database_url)
    assert {found[name]["level"] for name in ("temporal", "postgres", "migrations", "chain", "model")} == {"ok"}


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

    async def becomes(level: str) -> dict[str, dict[str, Any]]:
        reports: list[dict[str, dict[str, Any]]] = []

        async def shown() -> bool:
            reports.append((await findings(operator))[1])
            return bool(reports[-1]["breached reviews"]["level"] == level)

        await eventually(shown, f"breached reviews at {level}")
        return reports[-1]

    try:
        found = await becomes("ok")
        assert found["breached reviews"]["next"] == ""
        asked.append(await ask(operator, ReviewKind.DRAFT, -timedelta(hours=1)))
        found = await becomes("P3")
        assert "1 past their deadline, 0 of them" in found["breached reviews"]["finding"]
        assert found["breached reviews"]["next"] == "clotho review list --breached"
        assert waiting(found) == (others[0] + 2, others[1] + 1, others[2] + 1), "two more: one high, one medium"
        asked.append(await ask(operator, ReviewKind.DISPUTE, -timedelta(hours=1)))
        assert "2 past their deadline, 1 of them" in (await becomes("P2"))["breached reviews"]["finding"]
    finally:
        for handle in asked:
            await handle.terminate("the test is over")
