"""Models, leads and outcomes at the command line; without Temporal wherever it is not needed."""

import asyncio
import functools
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.service import RPCError

from bench.public_leads import public_leads
from db import audit, leads, models
from db.pool import Pool, connect
from domain import signing
from domain.ids import follow_up_workflow_id
from domain.leads import EXPORT_COLUMNS, LabelledLead, LeadRow, Outcome
from domain.outcomes_csv import write_outcomes
from tests.operator import CLOTHO, Answer, Operator
from tests.support import free_ports
from tests.versions import VERIFY_KEY, register_lead

Clotho = Callable[..., Awaitable[Answer]]


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with await connect(database_url) as opened:
        yield opened


@pytest.fixture
async def clotho(operator: Operator, database_url: str) -> Clotho:
    """Runs the command line where Postgres is all that can be reached."""
    (nobody,) = free_ports(1)
    settings = {"DATABASE_URL": database_url, "MODEL_VERIFY_KEY": VERIFY_KEY, "CLOTHO_IDENTITY": "anna",
                "TEMPORAL_ADDRESS": f"127.0.0.1:{nobody}"}  # fmt: skip
    return functools.partial(operator.clotho, settings=settings)


async def activate(pool: Pool, version: int) -> models.Promotion:
    async with pool.acquire() as connection, connection.transaction():
        done = await models.activate(connection, "lead", version, "clotho", "a test")
    assert done is not None
    return done


async def live(pool: Pool) -> int | None:
    active = await models.active(pool, "lead")
    return active.version if active else None


async def test_one_command_goes_back_and_a_poor_version_is_refused(pool: Pool, clotho: Clotho) -> None:
    await register_lead(pool, 5, auc=0.68)
    await register_lead(pool, 6, auc=0.8)
    first, second = await activate(pool, 5), await activate(pool, 6)
    refused = await clotho("model", "rollback", "--min-auc", "0.70")
    assert (refused.code, refused.data) == (
        1,
        {"ok": False, "error": "Model AUC below threshold", "auc": 0.68, "min_auc": 0.7, "rejected": True},
    )
    assert await live(pool) == 6
    back = await clotho("model", "rollback", "--reason", "leads look odd", "--json")
    assert (back.code, back.data["version"], await live(pool)) == (0, 5, 5)
    trail = (await audit.entries(pool, "model", "lead"))[-1]
    assert (trail.action, trail.actor, trail.details) == (
        "model_rolled_back",
        "anna",
        {"version": 5, "before": 6, "reason": "leads look odd"},
    )
    again, unknown, just_before, before, whole = await asyncio.gather(
        clotho("model", "rollback"),
        clotho("model", "activate", "7"),
        clotho("model", "history", "--at", (second.at - timedelta(microseconds=1)).isoformat(), "--json"),
        clotho("model", "history", "--at", (first.at - timedelta(microseconds=1)).isoformat(), "--json"),
        clotho("model", "history"),
    )
    assert (again.code, unknown.code) == (1, 2)
    assert "No earlier version of lead was live" in again.err
    assert "VERSION: lead has no version 7" in unknown.err
    assert (just_before.data["version"], before.data["version"]) == (5, None)
    assert [line.split("\t")[1:3] for line in whole.out.splitlines()] == [
        ["5", "activated"],
        ["6", "activated"],
        ["5", "rolled back"],
    ]


async def test_a_process_that_cannot_load_a_version_has_it_switched_back(
    pool: Pool, clotho: Clotho, database_url: str, tmp_path: Path
) -> None:
    """The process has the public key of another training, which signed version 5 and not version 6."""
    other = "33" * 32
    await register_lead(pool, 5, key=other)
    await register_lead(pool, 6)
    await activate(pool, 5)
    stranger = await asyncio.create_subprocess_exec(
        CLOTHO, "lead", "score", "-", "--dry-run", cwd=tmp_path,
        env=os.environ | {"DATABASE_URL": database_url, "MODEL_VERIFY_KEY": signing.public_key(other)},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert stranger.stdin is not None
    assert stranger.stdout is not None
    lead = json.dumps({"lead_id": "a", "tenant": "acme", "details": "hello"}).encode() + b"\n"
    stranger.stdin.write(lead)
    assert json.loads(await stranger.stdout.readline())["version"] == 5
    switched = await clotho("model", "activate", "6", "--within", "1")
    assert switched.code == 1
    assert "6 was switched back to 5, as 1 of 1 scoring processes did not follow within 1 s" in switched.err
    assert await live(pool) == 5
    stranger.stdin.write(lead)
    assert json.loads(await stranger.stdout.readline())["version"] == 5
    stranger.terminate()
    assert await stranger.wait() == 0
    kinds = [entry.kind for entry in await models.history(pool, "lead")]
    assert kinds == ["activated", "activated", "switched_back"]


async def test_card_and_status_check_what_is_stored(pool: Pool, clotho: Clotho) -> None:
    await register_lead(pool, 5)
    bad = await register_lead(pool, 6, intercept=2.0)
    none = await clotho("model", "status", "--json")
    assert (none.code, none.data["health"]) == (1, "no_model")
    await activate(pool, 5)
    page, listed, standing = await asyncio.gather(
        clotho("model", "card", "--format", "html"),
        clotho("model", "list", "--json"),
        clotho("model", "status", "--json"),
    )
    assert page.code == 0
    assert page.out.startswith("<!doctype html>")
    assert page.out.count("<svg") == 4
    assert [(one["version"], one["active"]) for one in listed.data] == [(6, False), (5, True)]
    assert (standing.code, standing.data["auc"], standing.data["health"]) == (0, 0.7, "warning_stale")  # made in 1970
    await pool.execute("UPDATE model_artifacts SET body = body || ' ' WHERE sha256 = $1", bad.sha256)
    card, refused = await asyncio.gather(
        clotho("model", "card", "6", "--format", "json"), clotho("model", "activate", "6")
    )
    assert (card.code, card.data["digest_ok"], card.data["signature_ok"]) == (1, False, True)
    assert refused.code == 1
    assert "another hash than was registered" in refused.err
    assert await live(pool) == 5
    await activate(pool, 6)  # by somebody who does not look
    error = await clotho("model", "status", "--json")
    assert (error.code, error.data["health"], error.data["loaded"]) == (1, "error", False)


def labelled(number: int, outcome: Outcome) -> LabelledLead:
    return LabelledLead(lead_id=f"l{number}", tenant_hash=7, intent="info", sentiment="neutral", urgency="normal",
                        score=0.5, details_len=number, hour_of_day=3, outcome=outcome)  # fmt: skip


async def test_outcomes_go_out_and_come_in_once(
    pool: Pool, database_url: str, operator: Operator, tmp_path: Path
) -> None:
    async def clotho(*arguments: str) -> Answer:
        return await operator.clotho(*arguments, settings={"DATABASE_URL": database_url})

    rows = [labelled(0, Outcome.BOOKED), labelled(1, Outcome.GHOSTED), labelled(2, Outcome.SPAM)]
    file = tmp_path / "outcomes.csv"
    file.write_text(write_outcomes(rows))
    first = await clotho("outcomes", "import", str(file), "--json")
    assert first.data == {"leads": 3, "changed": 3}
    recorded = await clotho("outcomes", "record", "l1", "booked", "--json")
    assert recorded.data["new"]
    # The file says what was, not what is: read again, it does not go before what was recorded since.
    again, export, check = await asyncio.gather(
        clotho("outcomes", "import", str(file), "--json"),
        clotho("outcomes", "export"),
        clotho("outcomes", "check", "--json"),
    )
    assert again.data == {"leads": 3, "changed": 0}
    assert export.out.splitlines() == [
        ",".join(EXPORT_COLUMNS),
        "l0,7,info,neutral,normal,0.5,0,3,booked,1",
        "l1,7,info,neutral,normal,0.5,1,3,booked,1",
        "l2,7,info,neutral,normal,0.5,2,3,spam,0",
    ]
    assert (check.code, check.data["ok"], check.data["numbers"]["rows"]) == (1, False, 3)
    contradiction = tmp_path / "other.csv"
    contradiction.write_text(write_outcomes([labelled(9, Outcome.SPAM), rows[0].model_copy(update={"score": 0.8})]))
    refused = await clotho("outcomes", "import", str(contradiction))
    assert refused.code == 2
    assert "lead l0 is stored with other features" in refused.err
    assert await leads.get(pool, "l9") is None


async def test_a_lead_with_gaps_is_named_and_completed_by_an_import(
    pool: Pool, database_url: str, operator: Operator, tmp_path: Path
) -> None:
    async def clotho(*arguments: str) -> Answer:
        return await operator.clotho(*arguments, settings={"DATABASE_URL": database_url})

    rows = public_leads()[:120]
    gap = rows[7].model_copy(update={"intent": "telepathy", "urgency": None, "score": None})
    await leads.add(pool, LeadRow(**gap.model_dump(exclude={"outcome"})))
    await leads.record_outcome(pool, gap.lead_id, gap.outcome, "anna")
    file, other = tmp_path / "outcomes.csv", tmp_path / "other.csv"
    file.write_text(write_outcomes([*rows[:7], *rows[8:]]))
    assert (await clotho("outcomes", "import", str(file))).code == 0
    check = await clotho("outcomes", "check")
    assert check.code == 1
    assert f"score (1), intent (1), urgency (1), first of {gap.lead_id}." in check.out
    other.write_text(write_outcomes([rows[7].model_copy(update={"hour_of_day": 23})]))
    refused = await clotho("outcomes", "import", str(other))
    assert (refused.code, f"lead {gap.lead_id} is stored with other features" in refused.err) == (2, True)
    assert (await leads.get(pool, gap.lead_id)) == LeadRow(**gap.model_dump(exclude={"outcome"}))
    other.write_text(write_outcomes([rows[7]]))
    assert (await clotho("outcomes", "import", str(other), "--json")).data == {"leads": 1, "changed": 0}
    assert await leads.get(pool, gap.lead_id) == LeadRow(**rows[7].model_dump(exclude={"outcome"}))
    fit = await clotho("outcomes", "check")
    assert fit.code == 0, fit.out


async def test_a_file_of_leads_is_scored_and_bad_lines_are_named(pool: Pool, clotho: Clotho) -> None:
    await register_lead(pool, 5)
    await activate(pool, 5)
    lines = [
        {"lead_id": "a", "tenant": "acme", "details": "please call", "created_at": "2026-11-20T23:30:00-05:00"},
        {"lead_id": "b", "tenant": "acme"} | {"details": 7},
        {"lead_id": "c", "intent": "never seen"},
    ]
    stdin = "\n".join([*(json.dumps(line) for line in lines), "no JSON", ""]).encode()
    done = await clotho("lead", "score", "-", "--no-follow-up", stdin=stdin)
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 1
    assert [answer.get("probability", answer.get("line")) for answer in answers] == [0.5, 2, 0.5, 4]
    assert "details" in answers[1]["error"]
    scored = await leads.last_scored(pool)
    assert [(row.lead_id, row.hour_of_day) for row in scored] == [("c", None), ("a", 4)]
    assert await leads.scored_among(pool, ["a", "b", "c"]) == {"a", "c"}


async def test_a_promising_lead_is_followed_up_once(pool: Pool, database_url: str, operator: Operator) -> None:
    await register_lead(pool, 5, intercept=2.0)  # 0.88 for everyone
    await activate(pool, 5)
    lead = f"promising-{uuid4()}"
    stdin = json.dumps({"lead_id": lead, "tenant": "acme", "details": "a demo, please"}).encode()
    settings = {"DATABASE_URL": database_url, "MODEL_VERIFY_KEY": VERIFY_KEY}
    handle = operator.temporal.get_workflow_handle(follow_up_workflow_id(lead))
    dry = await operator.clotho("lead", "score", "-", "--dry-run", stdin=stdin, settings=settings)
    assert dry.code == 0
    with pytest.raises(RPCError):
        await handle.describe()
    assert await leads.last_scored(pool) == []
    runs = set()
    for _ in range(2):
        scored = await operator.clotho("lead", "score", "-", stdin=stdin, settings=settings)
        assert (scored.code, scored.data["version"]) == (0, 5)
        runs.add((await handle.describe()).run_id)
    await handle.terminate("the test is over")
    assert len(runs) == 1
