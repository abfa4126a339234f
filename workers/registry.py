"""What each role runs: the one visible list that workers, tests and the replayer share."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.base import implementations
from domain.steps import Role, steps_of
from workflows.dispute_review import DisputeReview
from workflows.follow_up import FollowUp
from workflows.human_review import HumanReview
from workflows.market_lifecycle import MarketLifecycle
from workflows.model_migration import MigrateModel
from workflows.news_intake import NewsIntake
from workflows.pii_backfill import PiiBackfill
from workflows.retrain import Retrain
from workflows.start_retrain import StartRetrain

WORKFLOWS: dict[Role, tuple[type, ...]] = {
    Role.ORCHESTRATOR: (
        MarketLifecycle,
        HumanReview,
        DisputeReview,
        MigrateModel,
        NewsIntake,
        Retrain,
        StartRetrain,
        FollowUp,
        PiiBackfill,
    ),
    Role.SOURCES: (),
    Role.LLM: (),
    Role.CHAIN: (),
    Role.TRAINING: (),
    Role.CHANNELS: (),
    Role.PRIVACY: (),
}

PASSTHROUGH = (
    "domain",  # pure models and tables: no I/O, clock or randomness; importing them anew for each run costs CPU
)


class RegistryError(RuntimeError):
    """The catalogue and the implementations do not match."""


def activities_of(role: Role, owners: Iterable[object]) -> list[Callable[..., Awaitable[Any]]]:
    """The implementations of a role's steps.

    Args:
        role: whose steps.
        owners: the objects whose methods implement steps.

    Raises:
        RegistryError: a step of the role has no implementation, or two.
    """
    found = [(name, method) for owner in owners for name, method in implementations(owner).items()]
    count = Counter(name for name, _ in found)
    for step in steps_of(role):
        if count[step.name] != 1:
            raise RegistryError(
                f"step {step.name} of role {role} has {count[step.name]} implementations and needs exactly one: see"
                " domain/steps.py and activities/"
            )
    names = {step.name for step in steps_of(role)}
    return [method for name, method in found if name in names]


def workflow_runner() -> SandboxedWorkflowRunner:
    """The sandbox, the same for workers, tests and the replayer."""
    return SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules(*PASSTHROUGH))


def replayer() -> Replayer:
    """Replays histories against all workflows of this code."""
    return Replayer(
        workflows=[workflow for workflows in WORKFLOWS.values() for workflow in workflows],
        workflow_runner=workflow_runner(),
        data_converter=pydantic_data_converter,
    )
