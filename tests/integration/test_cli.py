"""The command line as people and scripts use it, and a worker as its platform sees it."""

import asyncio
import fcntl
import json
import os
import pty
import re
import struct
import termios
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import typer.main
from rich.cells import cell_len
from typer.testing import CliRunner

from cli.main import app
from domain.market import Proposal
from tests.conftest import EmbeddedStack, WorkerProcess
from tests.drafts import draft
from tests.operator import CLOTHO, Operator
from tests.support import eventually, free_ports

REASON = ("--reason", "a test says so")
NOW = (*REASON, "--now")
COLOURS = {"TERM": "xterm-256color"}
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LONG_TITLE = (
    "Is the effective federal funds rate of 2025-12-11 higher than that of 2025-11-13, " + "as FRED has it, " * 10
)


def commands(command: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """The words of every command, groups included."""
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, *path, name)


@pytest.mark.parametrize("path", [*commands(typer.main.get_command(app))], ids=lambda path: " ".join(path) or "clotho")
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    shown = CliRunner(env={"COLUMNS": "100"}).invoke(app, [*path, "--help"], prog_name="clotho")
    assert shown.exit_code == 0
    usage, *text = [line.strip() for line in ESCAPE.sub("", shown.output).splitlines() if line.strip()]
    assert usage.startswith(" ".join(("Usage: clotho", *path)))
    assert len(text[0].split()) > 3, "a sentence says what it does"


async def waiting(operator: Operator, **changes: Any) -> UUID:
    """A market that waits for a reviewer, as its draft is not sure of itself."""
    made = draft(confidence=0.3, **changes)
    market_id = await operator.propose(
        Proposal(text=made.rules.exact_question, draft=made, proposer="test"), key=uuid4().hex
    )
    await operator.under_review(market_id)
    return market_id


@pytest.fixture
async def market_id(operator: Operator, worker: WorkerProcess) -> AsyncIterator[str]:
    """A market under review; it is over when the test is."""
    made = await waiting(operator)
    yield str(made)
    await operator.cancel(made)


async def ok(operator: Operator, *arguments: str) -> Any:
    answer = await operator.clotho(*arguments, "--json")
    assert (answer.code, answer.err) == (0, ""), answer
    return answer.data


async def listed(operator: Operator, kind: str, *ids: UUID | str) -> list[Any]:
    """What `clotho review list` or `clotho parked list` shows, once Temporal's lists, which lag behind, have these."""
    shown: list[list[Any]] = []

    async def complete() -> bool:
        shown.append(await ok(operator, kind, "list"))
        return all(str(id) in str(shown[-1]) for id in ids)

    await eventually(complete, f"the {kind} list with {', '.join(map(str, ids))}")
    return shown[-1]


async def refused(operator: Operator, *arguments: str) -> str:
    """The sentence with which a decision is refused."""
    answer = await operator.clotho(*arguments)
    assert (answer.code, answer.out) == (1, ""), answer
    (sentence,) = answer.err.splitlines()
    return sentence


async def test_a_review_from_list_to_approval(operator: Operator, market_id: str) -> None:
    (found,) = [r for r in await listed(operator, "review", market_id) if r["request"]["subject"] == market_id]
    assert "confidence 0.30" in found["request"]["why"].lower()
    shown = await ok(operator, "review", "show", market_id)
    rules, before = shown["draft"]["rules"], shown["state"]["request"]["version"]
    assert shown["draft"]["title"] == found["request"]["title"]

    # The reviewer asks for another wait, looks again, and approves.
    rules["not_yet_published"]["give_up_after"] += 60
    edit = operator.stack.folder / "edit.json"
    edit.write_text(json.dumps(rules))
    await ok(operator, "review", "request-changes", market_id, *REASON, "--edit", str(edit), "--now")
    await operator.shows(UUID(market_id), lambda s: s.rules_sha256 != before, "has new rules")
    await operator.under_review(UUID(market_id))
    (approved,) = await ok(operator, "review", "approve", market_id, *NOW)
    assert (approved["review"], approved["done"]) == (f"review-draft-{market_id}", True)
    await operator.becomes(UUID(market_id), "active")
    assert "is over" in await refused(operator, "review", "approve", market_id, *REASON)
    actions = [entry["action"] for entry in (await ok(operator, "market", "show", market_id))["audit"]]
    assert actions == [
        "draft_generated",
        "validation_completed",
        "review_opened",
        "review_request_changes",
        "validation_completed",
        "review_opened",
        "review_approve",
        "market_published",
    ]


async def test_a_rejected_draft_is_over(operator: Operator, worker: WorkerProcess) -> None:
    market_id = await waiting(operator)
    await ok(operator, "review", "reject", str(market_id), "--code", "no_interest", *NOW)
    (end,) = await operator.ends([market_id])
    assert (end.status, end.reason) == ("rejected", "a test says so")
    for command in ("cancel", "pause", "resume"):
        assert "rejected" in await refused(operator, "market", command, str(market_id), *REASON)
    assert await operator.records(market_id) == []


async def test_pause_holds_a_market_and_resume_lets_it_go_on(operator: Operator, market_id: str) -> None:
    await ok(operator, "market", "pause", market_id, *REASON)
    assert "paused already" in await refused(operator, "market", "pause", market_id, *REASON)
    await ok(operator, "review", "approve", market_id, *NOW)
    await operator.shows(UUID(market_id), lambda state: state.paused, "is paused")
    await ok(operator, "market", "resume", market_id, *REASON)
    assert "not paused" in await refused(operator, "market", "resume", market_id, *REASON)
    await operator.becomes(UUID(market_id), "active")


async def test_a_market_cancelled_when_published_is_void(operator: Operator, market_id: str) -> None:
    await ok(operator, "review", "approve", market_id, *NOW)
    await operator.becomes(UUID(market_id), "active")
    await ok(operator, "market", "cancel", market_id, *REASON)
    (end,) = await operator.ends([UUID(market_id)])
    assert (end.status, end.outcome) == ("canceled", "VOID")
    assert "canceled" in await refused(operator, "market", "cancel", market_id, *REASON)
    assert all(check["ok"] for check in await ok(operator, "market", "verify", market_id))


async def parked_draft(operator: Operator) -> UUID:
    """A market whose drafting is parked, as the model's provider knows no such key."""
    await operator.llm_fault("status", status=401)
    year = datetime.now(UTC).year + 1
    text = f"Will the federal funds rate have increased by {year}-03-31 as compared to {year}-01-15? ({uuid4().hex})"
    source = "Resolves to the value found at https://fred.stlouisfed.org/series/DFF once the data is published."
    market_id = await operator.propose(Proposal(text=text, criteria=source, proposer="test"))
    await operator.shows(market_id, lambda state: state.parked is not None, "is parked")
    return market_id


async def test_a_parked_step_is_listed_retried_and_given_up(operator: Operator, worker: WorkerProcess) -> None:
    retried, aborted = [await parked_draft(operator) for _ in range(2)]
    found = await listed(operator, "parked", retried, aborted)
    parked = {state["workflow_id"].removeprefix("market-"): state["parked"] for state in found}
    for market_id in (retried, aborted):
        assert (parked[str(market_id)]["step"], parked[str(market_id)]["kind"]) == ("draft_market", "LlmUnauthorized")
    assert await ok(operator, "parked", "list", "--step", "settle_market") == []
    assert "cannot be skipped" in await refused(operator, "parked", "skip", str(aborted), *REASON)

    await ok(operator, "parked", "abort", str(aborted), *REASON)
    (end,) = await operator.ends([aborted])
    assert (end.status, end.outcome) == ("canceled", None)

    await ok(operator, "market", "retry", str(retried))
    await operator.shows(retried, lambda state: state.rules_sha256 is not None, "has a draft")
    assert "no step is parked" in (await refused(operator, "parked", "retry", str(retried))).lower()
    assert str(retried) not in str(await ok(operator, "parked", "list"))
    await operator.cancel(retried)


async def test_a_parked_validation_may_be_skipped_to_a_person(operator: Operator, worker: WorkerProcess) -> None:
    await operator.llm_fault("status", status=401)
    made = draft(title=f"Higher? {uuid4().hex}")
    market_id = await operator.propose(Proposal(text=made.rules.exact_question, draft=made, proposer="test"))
    await operator.shows(market_id, lambda state: state.parked is not None, "is parked")
    await ok(operator, "parked", "skip", str(market_id), *REASON)
    state = await operator.shows(market_id, lambda state: state.status == "pending_review", "waits for a person")
    assert state.validation is not None
    assert "skipped" in state.validation.reason
    await operator.cancel(market_id)


async def test_replay_of_histories_from_server_and_file(operator: Operator, market_id: str, tmp_path: Path) -> None:
    (result,) = await ok(operator, "replay", f"market-{market_id}")
    assert (result["workflow"], result["outcome"]) == (f"market-{market_id}", "ok")
    await ok(operator, "replay", f"market-{market_id}", "--save", str(tmp_path))
    file = tmp_path / f"market-{market_id}.json"
    assert [row["outcome"] for row in await ok(operator, "replay", str(file))] == ["ok"]

    async def is_found() -> bool:
        query = f"WorkflowId = 'market-{market_id}'"
        return [row["outcome"] for row in await ok(operator, "replay", "--query", query)] == ["ok"]

    await eventually(is_found, "the market in Temporal's lists")

    # A history that this code would not write: the first step is another one.
    file.write_text(file.read_text().replace("draft_market", "settle_market"))
    answer = await operator.clotho("replay", str(file), "--json")
    assert (answer.code, answer.data[0]["outcome"]) == (1, "failed")
    assert json.loads(answer.err)["error"]["status"] == 1


async def test_lists_choose_and_limit(operator: Operator, market_id: str) -> None:
    ids = [market["id"] for market in await ok(operator, "market", "list", "--status", "pending_review")]
    assert market_id in ids
    assert market_id not in [m["id"] for m in await ok(operator, "market", "list", "--status", "finalized")]
    assert market_id in [m["id"] for m in await ok(operator, "market", "list", "--category", "finance")]
    assert len(await ok(operator, "market", "list", "--limit", "1")) == 1


async def test_what_goes_into_a_pipe_is_plain_and_whole(operator: Operator, worker: WorkerProcess) -> None:
    market_id = await waiting(operator, title=LONG_TITLE)
    await listed(operator, "review", market_id)
    markets, reviews, shown, again = await asyncio.gather(
        operator.clotho("market", "list", "--limit", "1000", settings=COLOURS),
        operator.clotho("review", "list", settings=COLOURS),
        operator.clotho("market", "show", str(market_id), settings=COLOURS),
        operator.clotho("market", "pause", str(market_id), *REASON, settings=COLOURS),
    )
    for answer in (markets, reviews, shown, again):
        assert answer.code == 0
        assert "\x1b" not in answer.out
    rows = [line.split("\t") for line in markets.out.splitlines()]
    assert len(rows) == await operator.pool.fetchval("SELECT count(*) FROM markets")
    assert {len(row) for row in rows} == {5}
    assert LONG_TITLE.strip() in [row[-1] for row in rows if row[0] == str(market_id)]
    assert any(LONG_TITLE.strip() in line for line in reviews.out.splitlines())
    assert any(line == f"title\t{LONG_TITLE.strip()}" for line in shown.out.splitlines())
    assert len(again.out.splitlines()) == 1
    await operator.cancel(market_id)


async def on_terminal(operator: Operator, *arguments: str) -> list[str]:
    """The lines that a command shows on a terminal of 100 columns."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    settings = {**os.environ, **operator.stack.environment, "TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES", "NO_COLOR", "CI"):
        settings.pop(name, None)
    process = await asyncio.create_subprocess_exec(CLOTHO, *arguments, env=settings, stdin=its, stdout=its, stderr=its)
    os.close(its)

    def read() -> bytes:
        shown = b""
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:  # EIO: nobody has the terminal open any more
                return shown
            if not part:
                return shown
            shown += part

    shown = await asyncio.to_thread(read)
    os.close(ours)
    assert await process.wait() == 0, shown
    assert b"\x1b[" in shown, "a terminal gets colours"
    return ESCAPE.sub("", shown.decode()).splitlines()


async def test_tables_fit_a_terminal(operator: Operator, worker: WorkerProcess) -> None:
    market_id = await waiting(operator, title=LONG_TITLE)
    parked = await parked_draft(operator)
    await listed(operator, "review", market_id)
    await listed(operator, "parked", parked)
    shown = await asyncio.gather(
        on_terminal(operator, "market", "list"),
        on_terminal(operator, "market", "show", str(market_id)),
        on_terminal(operator, "review", "list"),
        on_terminal(operator, "parked", "list"),
        on_terminal(operator, "market", "verify", str(market_id)),
        on_terminal(operator, "replay", f"market-{market_id}"),
        on_terminal(operator, "--help"),
    )
    for lines in shown:
        assert len(lines) > 1
        assert max(map(cell_len, lines)) <= 100
    assert any(str(market_id) in line for line in shown[0])
    assert any(str(parked) in line for line in shown[3])
    await operator.cancel(market_id, parked)


async def unreachable(operator: Operator, *command: str, setting: str, value: str) -> None:
    """A setting that leads nowhere is one sentence that names it, and exit status 3."""
    answer, as_json = await asyncio.gather(
        operator.clotho(*command, settings={setting: value}),
        operator.clotho(*command, "--json", settings={setting: value}),
    )
    assert (answer.code, answer.out, as_json.code, as_json.out) == (3, "", 3, ""), answer
    (sentence,) = answer.err.splitlines()
    assert setting in sentence
    assert "secret" not in sentence
    assert json.loads(as_json.err)["error"] == {"message": sentence.removeprefix("Error: "), "field": None, "status": 3}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("TEMPORAL_ADDRESS", "127.0.0.1:{free}"),
        ("TEMPORAL_ADDRESS", "nowhere"),
        ("TEMPORAL_NAMESPACE", "nobodys"),
        ("DATABASE_URL", "postgresql://clotho:secret@127.0.0.1:{free}/clotho"),
        ("DATABASE_URL", "{url}_not"),
        ("DATABASE_URL", "rubbish"),
    ],
)
async def test_what_cannot_be_reached_is_one_sentence(operator: Operator, setting: str, value: str) -> None:
    (free,) = free_ports(1)
    value = value.format(free=free, url=operator.stack.environment["DATABASE_URL"])
    command = ("market", "list") if setting == "DATABASE_URL" else ("review", "list")
    await unreachable(operator, *command, setting=setting, value=value)


async def test_a_chain_that_cannot_be_reached_is_one_sentence(operator: Operator, market_id: str) -> None:
    await ok(operator, "review", "approve", market_id, *NOW)
    await operator.becomes(UUID(market_id), "active")
    (free,) = free_ports(1)
    await unreachable(
        operator, "market", "verify", market_id, setting="SOLANA_RPC_URL", value=f"http://127.0.0.1:{free}"
    )


# Workers.


@pytest.mark.parametrize(
    ("missing", "roles"),
    [
        ("DATABASE_URL", ()),
        ("OPENAI_API_KEY", ("llm",)),
        ("PUBLISHER_WALLET_SECRET", ("sources", "chain")),
        ("SOLANA_RPC_URL", ()),
    ],
)
async def test_a_worker_without_a_setting_does_not_start(
    operator: Operator, missing: str, roles: tuple[str, ...]
) -> None:
    answer = await operator.clotho("worker", *(f"--role={role}" for role in roles), settings={missing: ""})
    assert (answer.code, answer.out) == (2, "")
    (sentence,) = answer.err.splitlines()
    assert sentence.startswith(f"Error: {missing} is missing: ")


@pytest.mark.parametrize(
    ("setting", "nowhere", "said"),
    [
        ("TEMPORAL_ADDRESS", "127.0.0.1:1", "Error: Temporal cannot be reached at TEMPORAL_ADDRESS: "),
        ("DATABASE_URL", "postgresql://clotho@127.0.0.1:1/clotho", "Error: Postgres cannot be used "),
    ],
)
async def test_a_worker_without_its_servers_says_so_in_a_sentence(
    operator: Operator, setting: str, nowhere: str, said: str
) -> None:
    answer = await operator.clotho("worker", settings={setting: nowhere})
    assert answer.code == 3
    assert answer.err.splitlines()[-1].startswith(said)
    assert "Traceback" not in answer.err


async def test_a_worker_answers_its_platform(operator: Operator, market_id: str, worker: WorkerProcess) -> None:
    async with httpx.AsyncClient(base_url=worker.health, trust_env=False) as http:
        assert (await http.get("/health")).json() == {"status": "alive"}
        ready = await http.get("/ready")
        metrics = (await http.get("/metrics")).text
    assert (ready.status_code, ready.json()["checks"]) == (200, {"temporal": "ok", "database": "ok"})
    assert re.search(r'^temporal_activity_execution_latency_\w*{.*activity_type="draft_market"', metrics, re.MULTILINE)
    assert re.search(r"^process_cpu_seconds_total ", metrics, re.MULTILINE)

    whole, _, _ = worker.log.read_text().rpartition("\n")  # it may be writing its next line
    lines = [json.loads(line) for line in whole.splitlines()]
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    about = [line for line in lines if f"market-{market_id}" in json.dumps(line)]
    assert any(
        isinstance(value, dict) and value.get("workflow_id") == f"market-{market_id}" and "activity_type" in value
        for line in about
        for value in line.values()
    ), about[:3]
    text = worker.log.read_text()
    for secret in ("PUBLISHER_WALLET_SECRET", "RESOLVER_WALLET_SECRET", "OPENAI_API_KEY", "DATABASE_URL"):
        assert operator.stack.environment[secret] not in text


async def test_a_worker_that_lost_its_database_is_not_ready(operator: Operator, stack: EmbeddedStack) -> None:
    worker = await stack.start_worker("sources")
    try:
        await stack.stop("postgres")
        async with httpx.AsyncClient(base_url=worker.health, trust_env=False, timeout=10) as http:
            answer = await http.get("/ready")
            assert (answer.status_code, (await http.get("/health")).status_code) == (503, 200)
            assert answer.json()["checks"]["database"] != "ok"
    finally:
        await stack.start("postgres")
    await eventually(worker.ready, "the worker's return")
    assert await worker.stop() == 0
