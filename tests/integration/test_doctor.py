"""`clotho doctor` names what is wrong, how bad it is, and the next command."""

from typing import Any

from tests.conftest import EmbeddedStack
from tests.operator import Operator
from tests.support import eventually


async def findings(operator: Operator) -> tuple[int, dict[str, dict[str, Any]]]:
    answer = await operator.clotho("doctor", "--json")
    return answer.code, {finding["check"]: finding for finding in answer.data}


async def test_without_workers_nothing_resolves_and_with_them_all_is_well(
    operator: Operator, stack: EmbeddedStack
) -> None:
    worker = await stack.start_worker()

    async def all_well() -> bool:
        code, found = await findings(operator)
        return code in {0, 1} and all(found[f"workers {role}"]["level"] == "ok" for role in ("sources", "chain"))

    await eventually(all_well, "a healthy report")
    await worker.stop()
    _, found = await findings(operator)
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
