"""Feedback, classification, follow-ups and flags at the command line."""

import json
import math
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from db import audit, follow_ups, leads, models
from db.models import Registration
from db.pool import connect
from domain import signing
from domain.artifact import Term, TransactionsArtifact, TransactionsMetrics, artifact_bytes
from domain.follow_up import Channel
from domain.ids import follow_up_workflow_id
from domain.leads import LeadRow
from tests.operator import Answer, Operator
from tests.versions import CUTOFF, SIGNING_KEY, VERIFY_KEY, evaluation, gate

USER = str(uuid4())
METRICS = TransactionsMetrics(accuracy=0.9, n_train=320, n_test=80, baseline_rate=0.5)


def message(answer: Answer) -> str:
    body: dict[str, Any] = json.loads(answer.err)["error"]
    return str(body["message"])


def line(business: str, **changes: Any) -> str:
    fields = {
        "user_id": USER, "business_id": business, "entity_type": "expense_category", "entity_id": uuid4().hex,
        "ai_prediction": "other", "user_correction": "transport", "item_description": "Uber to client",
        "amount": "1500.00", "correction_type": "full_override",
    }  # fmt: skip
    return json.dumps({**fields, **changes})


@pytest.fixture
async def lead(operator: Operator) -> str:
    row = LeadRow(
        lead_id=f"lead-{uuid4().hex[:12]}", tenant_hash=1, intent="info", sentiment="neutral", urgency="normal",
        score=0.5, details_len=10, hour_of_day=9,
    )  # fmt: skip
    await leads.add(operator.pool, row, tenant=f"tenant-{row.lead_id}")
    return row.lead_id


async def test_corrections_teach_what_an_expense_is(operator: Operator, tmp_path: Path) -> None:
    business = str(uuid4())
    asked = ("transaction", "classify", "uber to CLIENT", "--amount", "4,500", "--business", business, "--json")
    nothing = (await operator.clotho(*asked)).data
    assert (nothing["category"], nothing["ask"]) == (None, True)
    file = tmp_path / "said.jsonl"
    file.write_text("\n".join(line(business) for _ in range(17)), "utf-8")
    taken = await operator.clotho("feedback", "import", str(file), "--json")
    assert (taken.code, taken.data["given"], taken.data["new"]) == (0, 17, 17)
    assert (await operator.clotho("feedback", "import", str(file), "--json")).data["new"] == 0
    known = (await operator.clotho(*asked)).data
    assert (known["category"], known["source"], known["ask"]) == ("transport", "pattern", False)
    large = (await operator.clotho(*asked[:4], "600000", *asked[5:])).data
    assert large["ask"]
    assert "500,000 naira" in large["reason"]
    listed = (await operator.clotho("feedback", "list", "--business", business, "--json")).data
    assert len(listed) == 17


async def test_the_active_model_is_asked_and_one_that_was_tampered_with_is_not(
    operator: Operator, database_url: str
) -> None:
    by_hand = TransactionsArtifact(
        version=1, categories=("fuel", "rent"), words={"diesel": Term(idf=1, weights=(2, -2))}, pieces={},
        amount_weights=(0, 0), amount_fill=0, intercepts=(0, 0), metrics=METRICS,
    )  # fmt: skip
    settings = {"DATABASE_URL": database_url, "MODEL_VERIFY_KEY": VERIFY_KEY}
    business = str(uuid4())
    diesel = ("transaction", "classify", "diesel for generator", "--amount", "35000", "--business", business, "--json")
    async with await connect(database_url) as pool:
        async with pool.acquire() as connection, connection.transaction():
            sha256 = await models.put_artifact(connection, artifact_bytes(by_hand))
            wanted = Registration(
                model="transactions", version=1, sha256=sha256,
                signature=signing.sign(SIGNING_KEY, "transactions", 1, sha256).hex(),
                n_train=320, n_test=80, trained_from=None, cutoff=CUTOFF, data_sha256="1" * 64, code_version="0",
                evaluation=evaluation(0.9), gate=gate(0.9),
            )  # fmt: skip
            assert await models.register(connection, wanted, "tests")
        async with pool.acquire() as connection, connection.transaction():
            await models.activate(connection, "transactions", 1, "tests", "a test says so")
        said = (await operator.clotho(*diesel, settings=settings)).data
        assert (said["category"], said["source"], said["model_version"]) == ("fuel", "model", 1)
        assert said["confidence"] == pytest.approx(1 / (1 + math.exp(-4)))
        # Eight corrections are worth 0.55: the model agrees, and adds 0.20.
        file = "\n".join(
            line(business, user_correction="fuel", item_description="Diesel for generator") for _ in range(8)
        )
        taken = await operator.clotho("feedback", "import", "-", "--json", stdin=file.encode(), settings=settings)
        assert taken.code == 0, taken
        both = (await operator.clotho(*diesel, settings=settings)).data
        assert (both["category"], both["source"], both["ask"]) == ("fuel", "pattern_and_model", False)
        assert both["confidence"] == pytest.approx(1 - math.exp(-0.8) + 0.2)
        await pool.execute("UPDATE model_artifacts SET body = set_byte(body, 100, 0)")
    refused = await operator.clotho(*diesel, settings=settings)
    assert refused.code == 1
    assert "another hash than was registered" in message(refused)


async def test_one_correction_by_hand(operator: Operator) -> None:
    business = str(uuid4())
    said = ("--user", USER, "--business", business, "--entity", "41", "--description", "Rent, March")
    done = await operator.clotho("feedback", "add", *said, "--predicted", "other", "--corrected", "rent", "--json")
    assert (done.code, done.data["new"]) == (0, 1)
    empty = await operator.clotho("feedback", "add", *said[:-2], "--predicted", "a", "--corrected", "b", "--json")
    assert empty.code == 2
    assert "item_description" in message(empty)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"amount": "much"}, "amount"),
        ({"correction_type": "confirmation"}, "correction_type"),
        ({"surprise": 1}, "surprise"),
        ({"user_id": "me"}, "user_id"),
    ],
)
async def test_a_wrong_line_is_named_and_nothing_is_taken_in(
    operator: Operator, changes: dict[str, Any], named: str
) -> None:
    business = str(uuid4())
    body = "\n".join([line(business), "", line(business, **changes)])
    done = await operator.clotho("feedback", "import", "-", "--json", stdin=body.encode())
    assert done.code == 2
    assert "line 3" in message(done)
    assert named in message(done)
    assert (await operator.clotho("feedback", "list", "--business", business, "--json")).data == []


async def test_a_tenant_is_shown_and_changed(operator: Operator) -> None:
    name = f"tenant-{uuid4().hex[:8]}"
    usual = (await operator.clotho("follow-up", "tenant", name, "--json")).data
    assert (usual["quiet_start"], usual["quiet_end"], usual["limits"]["hour"]) == ("21:00:00", "08:00:00", 100)
    options = ("--time-zone", "Africa/Lagos", "--quiet", "20:00-07:30", "--per-hour", "5", "--text", "Hi, $business")
    hook = ("--webhook", "https://hooks.example.org/let-me-in")
    changed = (await operator.clotho("follow-up", "tenant", name, *options, *hook, "--json")).data
    (trail,) = await audit.entries(operator.pool, "tenant", name)
    assert trail.details["webhook_host"] == "hooks.example.org"
    assert "let-me-in" not in str(trail.details)
    assert changed == (await operator.clotho("follow-up", "tenant", name, "--json")).data
    assert (changed["time_zone"], changed["quiet_end"]) == ("Africa/Lagos", "07:30:00")
    assert changed["texts"] == ["Hi, $business"]
    assert changed["limits"] == {**usual["limits"], "hour": 5}
    wrong = {"--time-zone": "Lagos", "--quiet": "25:00-08:00", "--webhook": "http://a.example", "--text": "$x"}
    for bad in wrong.items():
        refused = await operator.clotho("follow-up", "tenant", name, *bad, "--json")
        assert refused.code == 2, bad
    assert changed == (await operator.clotho("follow-up", "tenant", name, "--json")).data


async def test_a_lead_is_followed_up_once_and_can_be_let_be(operator: Operator, lead: str) -> None:
    refused = await operator.clotho("follow-up", "contact", lead, "080", "--channel", "sms", "--json")
    assert refused.code == 2
    assert "+2348012345678" in message(refused)
    assert (await operator.clotho("follow-up", "contact", lead, "+2348011112222", "--channel", "sms")).code == 0
    reached = await follow_ups.addressee(operator.pool, lead)
    assert reached is not None
    assert (reached.channel, reached.address) == (Channel.SMS, "+2348011112222")
    entries = await audit.entries(operator.pool, "lead", lead)
    assert "+2348011112222" not in str(entries)
    started = await operator.clotho("follow-up", "start", lead, "--json")
    assert started.data["workflow"] == follow_up_workflow_id(lead)
    again = await operator.clotho("follow-up", "start", lead, "--json")
    assert again.code == 1
    assert "already" in message(again)
    assert (await operator.clotho("follow-up", "stop", lead)).code == 0
    assert (await audit.entries(operator.pool, "lead", lead))[-1].action == "follow_ups_stopped"
    for command in ("start", "stop"):
        assert (await operator.clotho("follow-up", command, "no-such-lead", "--json")).code == 2
    await operator.temporal.get_workflow_handle(follow_up_workflow_id(lead)).terminate()


async def test_a_flag_from_definition_to_its_end(operator: Operator, lead: str) -> None:
    name, reason = f"f-{uuid4().hex[:8]}", ("--reason", "a test says so")
    buckets = ("--bucket", "today=true", "--bucket", "never:2=false")
    done = await operator.clotho("flag", "define", name, "--setting", "memory", *buckets, *reason, "--json")
    assert done.code == 0, done
    second = await operator.clotho("flag", "define", f"{name}-2", "--setting", "memory", *buckets, *reason, "--json")
    assert second.code == 1
    report = (await operator.clotho("flag", "report", name, "--json")).data
    assert [one["leads"] for one in report["buckets"]] == [0, 0]
    assert report["winner"] is None
    given = [(await operator.clotho("flag", "bucket", "memory", lead, "--json")).data for _ in range(2)]
    assert given[0] == given[1]
    assert given[0]["value"] == (given[0]["bucket"] == "today")
    report = (await operator.clotho("flag", "report", name, "--json")).data
    assert {one["name"]: one["leads"] for one in report["buckets"]} == {"today": 0, "never": 0} | {
        given[0]["bucket"]: 1
    }
    assert (await operator.clotho("flag", "bucket", "memory", "nobody", "--json")).code == 2
    assert (await operator.clotho("flag", "bucket", "enrichment", lead, "--json")).data["bucket"] is None
    assert (await operator.clotho("flag", "stop", name, *reason)).code == 0
    listed = (await operator.clotho("flag", "list", "--json")).data
    mine = next(one for one in listed if one["id"] == name)
    assert (mine["status"], [one["weight"] for one in mine["buckets"]]) == ("stopped", [1, 2])


@pytest.mark.parametrize(
    ("setting", "buckets"),
    [
        ("memory", ["today=true"]),
        ("memory", ["today=true", "other=maybe"]),
        ("prediction_threshold", ["today=0.7", "other=7"]),
        ("follow_up_timing", ["today=[1800,7200]", "other=[7200,1800]"]),
    ],
)
async def test_a_flag_that_cannot_be_is_refused(operator: Operator, setting: str, buckets: list[str]) -> None:
    options = [option for one in buckets for option in ("--bucket", one)]
    done = await operator.clotho("flag", "define", "bad", "--setting", setting, *options, "--reason", "no", "--json")
    assert done.code == 2
    assert message(done).endswith(".")
