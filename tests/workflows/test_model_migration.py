"""Migrations to another model: compared over stored inputs, approved by a person, switched in one piece."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from temporalio.client import WorkflowHandle

from cli.migration import BUNDLED, read_inputs
from db import ai_config, ai_versions, audit, model_migrations
from db.model_migrations import StoredMigration
from domain import migration
from domain.ids import migration_workflow_id
from domain.migration import MigrationEnd, MigrationRequest
from domain.review import Approve, Reject, RejectCode, ReviewKind
from domain.steps import Role
from prompts import loader
from tests.workflows.world import REVIEWER, Review, World

OLD = "ai_v1.0.0_gpt35_20240601"
NEW = "ai_v1.0.1_gpt41_20260701"
REASON = "a test says so"
APPROVAL = Approve(by=REVIEWER, reason=REASON, at_once=True)


@pytest.fixture(scope="module")
async def prepared(world: World) -> None:
    """The new version, and the bundled inputs."""
    made = await ai_versions.create(world.pool, NEW, {}, loader.hashes(), "tests", REASON)
    await model_migrations.add_inputs(world.pool, read_inputs(BUNDLED, made, loader.BUNDLED))


@pytest.fixture(autouse=True)
async def _current_again(world: World, prepared: None) -> AsyncIterator[None]:
    """Whatever a test makes current, the others find the first version."""
    yield
    await ai_versions.make_current(world.pool, OLD, "tests", REASON)


async def begin(world: World, by: str = "tests") -> tuple[WorkflowHandle[object, MigrationEnd], Review]:
    """A migration whose comparison is done, and its review."""
    request = MigrationRequest(id=f"to-{uuid4().hex[:8]}", old_version=OLD, new_version=NEW, by=by)
    assert await model_migrations.begin(world.pool, request, REASON)
    handle = await world.client.start_workflow(
        migration.WORKFLOW,
        request,
        id=migration_workflow_id(request.id),
        task_queue=Role.ORCHESTRATOR.value,
        result_type=MigrationEnd,
    )
    review = Review(world, ReviewKind.MODEL_MIGRATION, request.id)
    await review.opens()
    return handle, review


async def stored_of(world: World, review: Review) -> StoredMigration:
    stored = await model_migrations.get(world.pool, (await review.state()).request.subject)
    assert stored is not None
    return stored


async def current(world: World) -> tuple[str, str]:
    return await ai_config.get(world.pool, "ai_version"), await ai_config.get(world.pool, "llm_model")


async def test_an_approved_migration_switches_version_and_model_together(world: World) -> None:
    handle, review = await begin(world)
    stored = await stored_of(world, review)
    assert stored.report is not None
    assert stored.status == "reported"
    # The script answers every prompt type by its schema, whatever model is named.
    assert {one.prompt_type for one in stored.report.types} == (await ai_versions.get(world.pool, NEW)).prompts.keys()
    for one in stored.report.types:
        assert (one.old.valid, one.new.valid, one.agreement) == (1, 1, 1)
        assert one.old.latency_ms is not None
        assert 0 < one.old.cost_usd < one.new.cost_usd  # gpt-4.1 costs four times as much
    assert await current(world) == (OLD, "gpt35")

    await review.decide("approve", APPROVAL)
    assert (await handle.result()).status == "switched"
    assert await current(world) == (NEW, "gpt41")
    switch = (await audit.entries(world.pool, "ai_version", NEW))[-1]
    assert (switch.action, switch.actor) == ("ai_version_update", REVIEWER)
    assert (switch.details["old"], switch.details["new_llm_model"]) == (OLD, "gpt41")


async def test_who_began_a_migration_does_not_approve_it(world: World) -> None:
    handle, review = await begin(world, by=REVIEWER)
    assert "somebody else decides" in await review.is_refused("approve", APPROVAL)
    await review.decide("reject", Reject(by=REVIEWER, reason="not yet", at_once=True, code=RejectCode.OTHER))
    assert (await handle.result()).status == "rejected"
    assert await current(world) == (OLD, "gpt35")


async def test_a_rejected_migration_changes_nothing(world: World) -> None:
    handle, review = await begin(world)
    await review.decide("reject", Reject(by=REVIEWER, reason="too dear", at_once=True, code=RejectCode.OTHER))
    assert await handle.result() == MigrationEnd(status="rejected", reason="too dear")
    assert await current(world) == (OLD, "gpt35")
    stored = await stored_of(world, review)
    assert (stored.status, stored.why) == ("rejected", "too dear")


async def test_a_cancelled_migration_withdraws_its_review(world: World) -> None:
    handle, review = await begin(world)
    await handle.cancel()
    assert (await handle.result()).status == "rejected"
    assert (await review.result()).decision == "withdrawn"
    assert await current(world) == (OLD, "gpt35")


async def test_what_was_compared_with_another_version_is_not_switched_to(world: World) -> None:
    handle, review = await begin(world)
    meanwhile = "ai_v1.0.2_gpt35_20260702"
    await ai_versions.create(world.pool, meanwhile, {}, loader.hashes(), "tests", REASON)
    await ai_versions.make_current(world.pool, meanwhile, "tests", REASON)
    await review.decide("approve", APPROVAL)
    end = await handle.result()
    assert end.status == "stale"
    assert meanwhile in end.reason
    assert await current(world) == (meanwhile, "gpt35")
