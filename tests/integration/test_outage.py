"""Outages: nothing is lost, nothing is guessed, and one command resumes everything."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from domain.ids import market_workflow_id
from domain.market import ParkedState, Proposal
from tests.conftest import EmbeddedStack, WorkerProcess
from tests.drafts import draft, fred_rules
from tests.operator import Operator, soon
from tests.support import eventually

PARKS = 90
"""Seconds: retries take 31, a busy machine some more."""


@pytest.mark.timeout(240)  # retries and outage take a minute; a busy machine takes more
async def test_what_an_outage_parks_one_command_resumes(
    operator: Operator, stack: EmbeddedStack, worker: WorkerProcess
) -> None:
    # The outage begins before the first, and is over before the second, on a busy machine too.
    expiry, later = soon(timedelta(seconds=14)), soon(timedelta(seconds=68))
    questions = [
        await operator.question("fred", expiry),
        await operator.question("dbnomics", expiry),
        await operator.drafted_question(later, confidence=0.3),
        await operator.question("fred", later),
    ]
    ids = [await operator.propose(question) for question in questions[:3]]
    for market_id in ids[:2]:
        await operator.becomes(market_id, "active")
    await operator.under_review(ids[2])

    await asyncio.gather(*(stack.stop(part) for part in ("site", "llm", "solana")))
    try:
        approved = await operator.clotho("review", "approve", str(ids[2]), "--now", "--reason", "the question is clear")
        assert approved.code == 0, approved
        ids.append(await operator.propose(questions[3]))
        expected = {
            ids[0]: ("collect_evidence", "SourceUnreachable"),
            ids[1]: ("collect_evidence", "SourceUnreachable"),
            ids[2]: ("publish_market", "ChainUnreachable"),
            ids[3]: ("draft_market", "LlmUnavailable"),
        }

        async def parked() -> bool:
            found = [execution.id async for execution in operator.temporal.list_workflows("Parked = true")]
            return {f"market-{market_id}" for market_id in ids} <= set(found)

        await eventually(parked, "four parked steps", PARKS)
        listed = (await operator.clotho("parked", "list", "--json")).data
        states = {state["workflow_id"]: ParkedState.model_validate(state) for state in listed}
        for market_id, (step, kind) in expected.items():
            step_parked = states[market_workflow_id(market_id)].parked
            assert step_parked is not None
            assert (step_parked.step, step_parked.kind) == (step, kind)
            assert step_parked.message.endswith("then `clotho parked retry`.")
        shown = await operator.clotho("market", "show", str(ids[0]))
        assert "parked at collect_evidence" in shown.out
        assert await operator.pool.fetchval("SELECT count(*) FROM resolutions WHERE market_id = ANY($1)", ids) == 0
    finally:
        await asyncio.gather(*(stack.start(part) for part in ("site", "llm", "solana")))

    retried = await operator.clotho("parked", "retry", "--all", "--json")
    assert retried.code == 0, retried
    done = {row["workflow_id"] for row in retried.data if row["retried"]}
    assert done >= {market_workflow_id(market_id) for market_id in ids}
    ends = await operator.ends(ids)
    assert [(end.status, end.outcome) for end in ends] == [("finalized", question.truth) for question in questions]
    for market_id in ids:
        (address,) = await operator.records(market_id)
        assert len(await operator.written(address)) == 3
        assert (await operator.clotho("market", "verify", str(market_id))).code == 0


async def test_a_wrong_selector_is_stopped_before_anyone_trades(operator: Operator, worker: WorkerProcess) -> None:
    wrong = draft(rules=fred_rules(value_path="$.observations[*].worth"))
    market_id = await operator.propose(
        Proposal(text=wrong.rules.exact_question, draft=wrong, proposer="test"), key=uuid4().hex
    )
    state = await operator.shows(market_id, lambda state: state.status == "pending_review", "waits for a reviewer")
    assert state.validation is not None
    assert "higher.checks.0.value" in state.validation.reason
    await operator.under_review(market_id)
    refused = await operator.clotho("review", "approve", str(market_id), "--reason", "I like it")
    assert refused.code == 1
    assert "the rehearsal failed" in refused.err.lower()
    assert await operator.records(market_id) == []
    reject = ("--code", "unfit_source", "--now", "--reason", "its selector finds nothing")
    await operator.clotho("review", "reject", str(market_id), *reject)
    (end,) = await operator.ends([market_id])
    assert (end.status, end.outcome) == ("rejected", None)
