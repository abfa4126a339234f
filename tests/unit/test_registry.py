"""The registry: every step has one implementation, every workflow a role, every handler one model."""

import ast
import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from solders.keypair import Keypair
from temporalio import workflow

from activities.base import implementations
from db.pool import connect
from domain.base import Model
from domain.steps import CATALOGUE, Role, steps_of
from workers.clients import steps_owners
from workers.registry import WORKFLOWS, RegistryError, activities_of
from workers.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
ROLES = pytest.mark.parametrize("role", Role)
STORIES = [story for stories in WORKFLOWS.values() for story in stories]
NOWHERE = "127.0.0.1:9"
"""The clients are built and never used, so that nothing is connected to."""


@pytest.fixture
async def owners() -> AsyncIterator[dict[Role, tuple[object, ...]]]:
    """What the workers of each role build."""
    settings = WorkerSettings.model_validate(
        {
            "database_url": f"postgresql://nobody@{NOWHERE}/nothing",
            "openai_api_key": "none",
            "solana_rpc_url": f"http://{NOWHERE}",
            "publisher_wallet_secret": str(Keypair()),
            "resolver_wallet_secret": str(Keypair()),
            "model_signing_key": "11" * 32,
            "model_verify_key": "22" * 32,
            "redis_url": f"redis://{NOWHERE}/0",
            "pii_hash_key": "33" * 32,
        }
    )
    pool = await connect(settings.database_url.get_secret_value())
    async with AsyncExitStack() as resources:
        yield {role: await steps_owners(role, settings, pool, resources) for role in Role}


def steps_implemented(owners: tuple[object, ...]) -> dict[str, Any]:
    """The methods that implement steps, by name of the step."""
    return {name: method for owner in owners for name, method in implementations(owner).items()}


def decorated(folder: str, decorator: str) -> Iterator[tuple[str, list[str]]]:
    """What stands under a decorator in the files of a package: its name, and the decorator's arguments."""
    for file in (ROOT / folder).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                for one in node.decorator_list:
                    called, given = (one.func, one.args) if isinstance(one, ast.Call) else (one, [])
                    if ast.unparse(called) == decorator:
                        yield node.name, [ast.unparse(argument) for argument in given]


def handlers(story: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The run method, signals, updates and queries of a workflow, each with its kind and name."""
    definition = workflow._Definition.must_from_class(story)
    yield "run", definition.run_fn
    yield from ((f"signal {name}", signal.fn) for name, signal in definition.signals.items())
    yield from ((f"update {name}", update.fn) for name, update in definition.updates.items())
    yield from ((f"query {name}", query.fn) for name, query in definition.queries.items())


HANDLERS = pytest.mark.parametrize(
    "handler",
    [pytest.param(handler, id=f"{story.__name__} {name}") for story in STORIES for name, handler in handlers(story)],
)


def models(function: Callable[..., Any]) -> tuple[list[Any], Any]:
    """The types of what a function takes, self left out, and of what it gives."""
    hints = get_type_hints(function)
    given = hints.pop("return")
    assert len(hints) == len(inspect.signature(function).parameters) - 1
    return list(hints.values()), given


def is_model(given: Any) -> bool:
    return isinstance(given, type) and issubclass(given, Model)


def test_every_step_is_implemented_once() -> None:
    implemented = [step for _, (step,) in decorated("activities", "implements")]
    assert sorted(implemented) == sorted(f"steps.{step.name.upper()}" for step in CATALOGUE)


@ROLES
def test_a_worker_runs_the_steps_of_its_role(role: Role, owners: dict[Role, tuple[object, ...]]) -> None:
    methods = activities_of(role, owners[role])
    own = steps_implemented(owners[role])
    assert {name for name, method in own.items() if method in methods} == {step.name for step in steps_of(role)}
    assert len(methods) == len(steps_of(role))


@ROLES
def test_a_step_without_implementation_is_named(role: Role) -> None:
    missing = steps_of(role)[0].name
    with pytest.raises(RegistryError, match=f"^step {missing} of role {role} has 0 implementations and needs exactly"):
        activities_of(role, [])


@ROLES
def test_a_step_with_two_implementations_is_named(role: Role, owners: dict[Role, tuple[object, ...]]) -> None:
    doubled = steps_of(role)[0].name
    with pytest.raises(RegistryError, match=f"^step {doubled} of role {role} has 2 implementations and needs exactly"):
        activities_of(role, [*owners[role], *owners[role]])


@ROLES
def test_every_step_says_why_it_may_be_repeated(role: Role, owners: dict[Role, tuple[object, ...]]) -> None:
    for name, method in steps_implemented(owners[role]).items():
        why = re.search(r"^Idempotent because: (.+)", inspect.getdoc(method) or "", re.MULTILINE)
        assert why, f"the docstring of {name} has no line 'Idempotent because: …'"
        assert len(why[1]) > 10


@ROLES
def test_every_step_takes_and_gives_what_the_catalogue_says(role: Role, owners: dict[Role, tuple[object, ...]]) -> None:
    own = steps_implemented(owners[role])
    for step in steps_of(role):
        takes, gives = models(own[step.name].__func__)
        assert (takes, gives) == ([step.takes], step.gives)


def test_every_workflow_of_the_code_is_registered_once() -> None:
    written = [name for name, _ in decorated("workflows", "workflow.defn")]
    assert sorted(written) == sorted(story.__name__ for story in STORIES)


@HANDLERS
def test_a_handler_takes_one_model(handler: Callable[..., Any]) -> None:
    takes, gives = models(handler)
    assert len(takes) <= 1
    assert all(is_model(one) for one in takes)
    assert gives is type(None) or is_model(gives)


ANSWERED = {"claim", "release", "postpone", "undo", "dispute"}
"""What nobody sends without reading the answer; everything else is a button of the Web UI too."""


@pytest.mark.parametrize("story", STORIES)
def test_every_update_can_refuse_and_has_a_signal_with_the_same_message(story: type) -> None:
    definition = workflow._Definition.must_from_class(story)
    for name, update in definition.updates.items():
        assert update.validator is not None, f"the update {name} takes whatever is sent"
        assert models(update.validator)[0] == models(update.fn)[0]
        assert (name in definition.signals) is (name not in ANSWERED)
        if name in definition.signals:
            assert models(update.fn)[0] == models(definition.signals[name].fn)[0]
