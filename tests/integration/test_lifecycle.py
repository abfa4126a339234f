"""Real questions from proposal to final outcome, and what verification finds when somebody changes the record."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import zstandard
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import CountWorkflowExecutionsRequest, RegisterNamespaceRequest
from temporalio.service import RPCError

from domain.market import MarketEnd
from tests.conftest import WorkerProcess
from tests.operator import Operator, Question, soon
from tests.support import eventually

pytestmark = pytest.mark.timeout(300)  # the batch lives in real time: half a minute before it expires

MOST_ACTIONS, MOST_EVENTS = 14, 70
"""Of a lifecycle without a hitch (design: Thrift)."""

YES_IN_WORDS, NO_IN_WORDS = "metaculus:15370", "manifold:LhX5FOZNhVvaI79gtvni"
"""Questions that no series answers, with both outcomes."""


@dataclass(frozen=True)
class Lived:
    """A market that has come to its end."""

    id: UUID
    question: Question
    end: MarketEnd

    @property
    def address(self) -> str:
        assert self.end.address is not None
        return self.end.address


@dataclass(frozen=True)
class Batch:
    """Markets that traded until the same moment."""

    punctual: list[Lived]
    """One of each official source, and two whose page has to be judged."""
    late: Lived
    """Its value is published after its expiry."""
    published: datetime


@pytest.fixture(scope="module")
async def batch(operator: Operator, worker: WorkerProcess) -> Batch:
    """Proposed at the command line, and lived to the end."""
    expiry = soon()
    published = expiry + timedelta(seconds=8)  # so long that even a busy machine has looked before
    punctual = [
        *[await operator.question(source, expiry) for source in ("fred", "dbnomics", "yfinance", "wikipedia")],
        *[await operator.text_question(id, expiry) for id in (YES_IN_WORDS, NO_IN_WORDS)],
    ]
    late = await operator.drafted_question(expiry, published=published)
    ids = [await operator.propose(late)]
    for question in punctual:
        answer = await operator.clotho("market", "propose", *question.arguments(), "--dispute-window", "2", "--json")
        assert answer.code == 0, answer.err
        ids.append(UUID(answer.data["market_id"]))
    ends = await operator.ends(ids, seconds=180)
    first, *others = map(Lived, ids, (late, *punctual), ends)
    return Batch(others, first, published)


@pytest.fixture
def lived(batch: Batch) -> list[Lived]:
    """The markets in which nothing unusual happened."""
    return batch.punctual


async def test_every_question_ends_with_the_true_outcome(lived: list[Lived]) -> None:
    assert [(one.end.status, one.end.outcome) for one in lived] == [("finalized", one.question.truth) for one in lived]
    assert {one.question.truth for one in lived} == {"YES", "NO"}


async def test_a_value_that_comes_late_is_waited_for(operator: Operator, batch: Batch) -> None:
    late = batch.late
    assert (late.end.status, late.end.outcome) == ("finalized", late.question.truth)
    *before, last = await operator.pool.fetch(
        "SELECT outcome, abstention, created_at FROM resolutions WHERE market_id = $1 ORDER BY look", late.id
    )
    assert {look["abstention"] for look in before} == {"too_early"}
    # One may have asked before the publication and been written after it.
    assert all(look["created_at"] < batch.published for look in before[:-1])
    assert last["outcome"] == late.question.truth
    assert last["created_at"] >= batch.published


async def test_the_chain_holds_one_record_and_three_changes_of_it(operator: Operator, lived: list[Lived]) -> None:
    for one in lived:
        assert await operator.records(one.id) == [one.address]
        assert len(await operator.written(one.address)) == 3
        assert await operator.purposes(one.id) == [
            ("publish", "landed"),
            ("settle:1", "landed"),
            ("finalize", "landed"),
        ]


async def test_a_lifecycle_is_thrifty(operator: Operator, lived: list[Lived]) -> None:
    for one in lived:
        cost = await operator.cost(one.id)
        assert cost.actions <= MOST_ACTIONS, one.question
        assert cost.events <= MOST_EVENTS, one.question


async def test_verification_finds_nothing(operator: Operator, lived: list[Lived]) -> None:
    answers = await asyncio.gather(*(operator.clotho("market", "verify", str(one.id), "--json") for one in lived))
    for one, answer in zip(lived, answers, strict=True):
        assert (answer.code, answer.err) == (0, "")
        checks = {check["name"]: check for check in answer.data}
        assert all(check["ok"] for check in checks.values())
        for place in ("Postgres", "chain", "workflow", "recomputed"):
            assert checks[f"outcome: {place}"]["found"] == one.question.truth
        assert any(name.startswith("evidence: ") for name in checks)
        assert any(name.startswith("condition: ") for name in checks)


async def failed_checks(operator: Operator, market_id: UUID) -> set[str]:
    """Names of the checks that fail, told in the table, in JSON and in the sentence at the end alike."""
    answer, table = await asyncio.gather(
        operator.clotho("market", "verify", str(market_id), "--json"),
        operator.clotho("market", "verify", str(market_id)),
    )
    assert (answer.code, table.code) == (1, 1)
    failed = {check["name"] for check in answer.data if not check["ok"]}
    assert failed == {line.split("\t")[1] for line in table.out.splitlines() if line.startswith("failed\t")}
    (sentence,) = table.err.splitlines()
    assert all(name in sentence for name in failed)
    assert json.loads(answer.err)["error"]["status"] == 1
    return failed


@pytest.fixture
async def machine_checked(operator: Operator, lived: list[Lived]) -> AsyncIterator[Lived]:
    """A market resolved by its program alone; what a test changes in its rows is put back."""
    one = lived[0]
    market = await operator.pool.fetchrow("SELECT outcome, rules_sha256 FROM markets WHERE id = $1", one.id)
    assert market is not None
    rules = await operator.pool.fetchval("SELECT body FROM rules WHERE rules_sha256 = $1", market["rules_sha256"])
    bodies = await evidence_of(operator, one.id)
    yield one
    await operator.pool.execute("UPDATE markets SET outcome = $2 WHERE id = $1", one.id, market["outcome"])
    await operator.pool.execute("UPDATE rules SET body = $2 WHERE rules_sha256 = $1", market["rules_sha256"], rules)
    for entry in bodies:
        await operator.pool.execute("UPDATE evidence SET body = $2 WHERE sha256 = $1", entry["sha256"], entry["body"])


async def evidence_of(operator: Operator, market_id: UUID) -> list[Any]:
    return await operator.pool.fetch(
        "SELECT source, sha256, body FROM evidence JOIN market_evidence USING (sha256) WHERE market_id = $1", market_id
    )


async def test_one_changed_byte_of_evidence_is_found(operator: Operator, machine_checked: Lived) -> None:
    (entry,) = await evidence_of(operator, machine_checked.id)
    content = bytearray(zstandard.decompress(entry["body"]))
    digit = next(place for place, byte in enumerate(content) if chr(byte).isdigit())
    content[digit] = ord("1") if content[digit] != ord("1") else ord("2")
    await operator.pool.execute(
        "UPDATE evidence SET body = $2 WHERE sha256 = $1", entry["sha256"], zstandard.compress(bytes(content))
    )
    assert f"evidence: {entry['source']}" in await failed_checks(operator, machine_checked.id)


async def test_evidence_that_cannot_be_unpacked_is_found(operator: Operator, machine_checked: Lived) -> None:
    (entry,) = await evidence_of(operator, machine_checked.id)
    broken = bytearray(entry["body"])
    broken[len(broken) // 2] ^= 0xFF
    await operator.pool.execute("UPDATE evidence SET body = $2 WHERE sha256 = $1", entry["sha256"], bytes(broken))
    assert f"evidence: {entry['source']}" in await failed_checks(operator, machine_checked.id)


async def test_a_changed_outcome_is_found(operator: Operator, machine_checked: Lived) -> None:
    other = "NO" if machine_checked.question.truth == "YES" else "YES"
    await operator.pool.execute("UPDATE markets SET outcome = $2 WHERE id = $1", machine_checked.id, other)
    assert await failed_checks(operator, machine_checked.id) == {"outcome: Postgres"}


async def test_changed_rules_are_found(operator: Operator, machine_checked: Lived) -> None:
    market_id = machine_checked.id
    await operator.pool.execute(
        """UPDATE rules SET body = jsonb_set(body, '{quorum}', '9') WHERE rules_sha256 =
        (SELECT rules_sha256 FROM markets WHERE id = $1)""",
        market_id,
    )
    places = {f"rules hash: {place}" for place in ("Postgres", "resolution", "chain", "workflow")}
    assert places <= await failed_checks(operator, market_id)


async def test_what_temporal_has_forgotten_is_verified_and_does_not_begin_again(
    operator: Operator, lived: list[Lived]
) -> None:
    # A namespace that knows of no market, as after the time for which histories are kept.
    service, namespace = operator.temporal.workflow_service, "forgetful"
    await service.register_namespace(
        RegisterNamespaceRequest(namespace=namespace, workflow_execution_retention_period=Duration(seconds=86_400))
    )

    async def workflows() -> int:
        return (await service.count_workflow_executions(CountWorkflowExecutionsRequest(namespace=namespace))).count

    async def known() -> bool:
        try:
            return await workflows() == 0
        except RPCError:
            return False

    await eventually(known, "the new namespace")
    settings = {"TEMPORAL_NAMESPACE": namespace}
    one = lived[1]
    checks = (await operator.clotho("market", "verify", str(one.id), "--json", settings=settings)).data
    assert all(check["ok"] for check in checks)
    assert not any("workflow" in check["name"] for check in checks)
    again = await operator.clotho("market", "propose", *one.question.arguments(), "--json", settings=settings)
    assert again.code == 0, again.err
    assert (again.data["market_id"], again.data["known"]) == (str(one.id), True)
    assert await workflows() == 0
