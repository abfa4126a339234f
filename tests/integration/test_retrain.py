"""Retraining at the command line: from a CSV of real outcomes to an active model, and the schedules."""

from pathlib import Path
from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from activities.trainers import ENCODERS
from bench.public_leads import public_leads
from db import models
from domain.artifact import encoded
from domain.model import MODELS, SEED
from domain.outcomes_csv import write_outcomes
from domain.training_data import by_id, split
from tests.conftest import WorkerProcess
from tests.operator import Operator
from tests.support import eventually


async def test_from_a_csv_to_an_active_model(operator: Operator, worker: WorkerProcess, tmp_path: Path) -> None:
    rows = public_leads()
    file = tmp_path / "outcomes.csv"
    file.write_text(write_outcomes(rows), "utf-8")
    imported = await operator.clotho("outcomes", "import", str(file))
    assert imported.code == 0, imported.err
    retrained = await operator.clotho("model", "retrain", "lead", "--wait", "--json")
    assert retrained.code == 0, retrained.err
    assert retrained.data["status"] == "active"
    status = (await operator.clotho("model", "status", "--json")).data
    assert (status["version"], status["health"]) == (retrained.data["version"], "ok")

    # The same split and scikit-learn's own pipeline, nothing of ours in between.
    parts, known = split([row.lead_id for row in rows], [row.label for row in rows], SEED), by_id(rows)
    direct = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5_000))
    direct.fit([encoded(ENCODERS, known[one]) for one in parts.train], [known[one].label for one in parts.train])
    said = direct.predict_proba([encoded(ENCODERS, known[one]) for one in parts.held_out])[:, 1]
    auc = roc_auc_score([known[one].label for one in parts.held_out], said)
    assert status["auc"] == pytest.approx(auc, abs=0.005)

    # By hand a day has as many as somebody asks for; a rejected one leaves the champion.
    rejected = await operator.clotho("model", "retrain", "lead", "--wait", "--min-auc", "0.99")
    assert (rejected.code, rejected.err) == (1, "")
    expected = {"ok": False, "error": "Model AUC below threshold", "min_auc": 0.99, "rejected": True}
    assert rejected.data == expected | {"auc": status["auc"]}
    assert (await operator.clotho("model", "status", "--json")).data["version"] == status["version"]

    # Workers follow both models, so that the activation of either is verified by them.
    async def followed() -> bool:
        return all([len(await models.loads(operator.pool, name)) == 1 for name in MODELS])

    await eventually(followed, "one worker that follows each model")


async def listed(operator: Operator, names: list[str]) -> dict[str, Any]:
    """What the command lists, once Temporal's own list, which lags behind, has all these schedules."""
    found: dict[str, Any] = {}

    async def all_of_them() -> bool:
        found.update({one["id"]: one for one in (await operator.clotho("schedule", "list", "--json")).data})
        return found.keys() >= set(names)

    await eventually(all_of_them, "the list of schedules")
    return found


async def test_schedules_are_made_paused_and_resumed(operator: Operator) -> None:
    created = await operator.clotho("schedule", "create", "--json")
    assert created.data["created"] == ["intake", "retrain-lead", "retrain-transactions", "drift-lead", "pii-backfill"]
    paused = await operator.clotho("schedule", "pause", "retrain-lead", "--reason", "the outcomes are wrong")
    assert paused.code == 0, paused.err
    # Made again, what is paused stays so.
    assert (await operator.clotho("schedule", "create", "--json")).data["created"] == []
    found = await listed(operator, created.data["created"])
    assert found["retrain-lead"]["paused"]
    assert found["retrain-lead"]["next"] is None
    assert "the outcomes are wrong" in found["retrain-lead"]["note"]
    assert found["retrain-transactions"]["next"].endswith("02:00")  # 03:00 in Lagos
    assert found["pii-backfill"]["next"].endswith("02:00")
    assert (await operator.clotho("schedule", "resume", "retrain-lead")).code == 0
    found = await listed(operator, created.data["created"])
    assert found["retrain-lead"]["next"].endswith("03:17")
    unknown = await operator.clotho("schedule", "pause", "retrain-weather", "--reason", "no reason")
    assert unknown.code == 2
    assert "clotho schedule list" in unknown.err
    for name in created.data["created"]:
        await operator.temporal.get_schedule_handle(name).delete()
