"""Workflow files: what they import, transitively, and what stands in their bodies, read from their source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN = ("workflows", "domain")
"""Packages whose files are followed."""

PURE_MODULES = {
    "collections.abc", "dataclasses", "datetime", "decimal", "enum", "functools", "re", "typing",
    "pydantic",
    "temporalio.common", "temporalio.exceptions",
    "contextlib",
    "asyncio",  # tasks and their cancellation; in a workflow its loop is Temporal's, which knows no I/O
    "hashlib",  # a hash is a function of its bytes, as uuid5 is
    "zoneinfo",  # reads the time zone database, which no two workers of a deployment may have in two versions
}  # fmt: skip
PURE_NAMES = {"temporalio.workflow", "uuid.UUID", "uuid.uuid5"}
"""Of modules that hold other things too: uuid4 is randomness, temporalio.client and activity are I/O."""

IMPURE_BUILTINS = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint", "hash", "id"}
IMPURE_METHODS = ("datetime.now", "datetime.today", "datetime.utcnow", "date.today", "workflow.unsafe")


def module_file(module: str) -> Path | None:
    """The file of one of our modules; None when there is none, as for a name that is no module."""
    place = ROOT.joinpath(*module.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.exists()), None)


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Every import, also one inside a function, as (module, name); the name is empty for `import module`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (("." * node.level + (node.module or ""), alias.name) for alias in node.names)


def reached_from_workflows() -> dict[str, ast.Module]:
    """The syntax trees of all workflow modules and of ours that they import, by module name."""
    found: dict[str, ast.Module] = {}
    waiting = [f"workflows.{file.stem}" for file in sorted((ROOT / "workflows").glob("*.py"))]
    while waiting:
        module = waiting.pop()
        file = module_file(module)
        if module in found or file is None:
            continue
        found[module] = ast.parse(file.read_text("utf-8"))
        for parent, name in imported(found[module]):
            if parent.split(".")[0] in OWN:
                waiting += [parent, f"{parent}.{name}"]
    return found


MODULES = reached_from_workflows()
WORKFLOWS = {name: tree for name, tree in MODULES.items() if name.startswith("workflows.")}


def impure(tree: ast.AST) -> list[str]:
    """The imports and calls of a file that may do another thing at the next replay."""
    faults = [
        f"{module}.{name}".rstrip(".")
        for module, name in imported(tree)
        if module.split(".")[0] not in OWN and module not in PURE_MODULES and f"{module}.{name}" not in PURE_NAMES
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_BUILTINS:
            faults.append(node.func.id)
        elif isinstance(node, ast.Attribute) and ast.unparse(node).endswith(IMPURE_METHODS):
            faults.append(ast.unparse(node))
    return faults


def literal_timings(tree: ast.AST) -> list[str]:
    """Durations and retries that are written into a file instead of the step catalogue or the input."""
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for called in [ast.unparse(node.func).rpartition(".")[2]]
        for given in [[*node.args, *(keyword.value for keyword in node.keywords)]]
        if called == "RetryPolicy"
        or (called in {"timedelta", "sleep"} and all(isinstance(one, ast.Constant) and one.value != 0 for one in given))
    ]


def activity_callers(tree: ast.AST, within: str = "") -> Iterator[str]:
    """Where a file executes activities, as Class.function."""
    for node in ast.iter_child_nodes(tree):
        name = within
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{within}.{node.name}".lstrip(".")
        if isinstance(node, ast.Attribute) and "activity" in node.attr and node.attr.startswith(("execute", "start")):
            yield within
        yield from activity_callers(node, name)


@pytest.mark.parametrize("module", MODULES)
def test_what_a_workflow_reaches_is_deterministic(module: str) -> None:
    assert impure(MODULES[module]) == []


@pytest.mark.parametrize("module", WORKFLOWS)
def test_no_timing_is_written_into_a_workflow(module: str) -> None:
    assert literal_timings(WORKFLOWS[module]) == []


def test_one_place_executes_activities() -> None:
    callers = [f"{module}.{caller}" for module, tree in WORKFLOWS.items() for caller in activity_callers(tree)]
    assert callers == ["workflows.story.Story.run_step"]


@pytest.mark.parametrize("module", WORKFLOWS)
def test_a_story_fits_on_a_page(module: str) -> None:
    for node in ast.walk(WORKFLOWS[module]):
        if isinstance(node, ast.AsyncFunctionDef) and node.name == "run":
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60


def test_the_story_and_the_catalogue_are_among_the_files_read() -> None:
    assert {"workflows.story", "workflows.market_lifecycle", "domain.steps", "domain.market", "domain.rules"} <= set(
        MODULES
    )


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("import os", "os"),
        ("import time", "time"),
        ("import random", "random"),
        ("import asyncpg", "asyncpg"),
        ("import httpx", "httpx"),
        ("from pathlib import Path", "pathlib.Path"),
        ("from uuid import uuid4", "uuid.uuid4"),
        ("from temporalio import activity", "temporalio.activity"),
        ("from temporalio.client import Client", "temporalio.client.Client"),
        ("from workers.settings import WorkerSettings", "workers.settings.WorkerSettings"),
        ("from db import markets", "db.markets"),
        ("from . import story", "..story"),
        ("def late():\n    import socket", "socket"),
        ("now = datetime.now(UTC)", "datetime.now"),
        ("now = datetime.datetime.now()", "datetime.datetime.now"),
        ("today = date.today()", "date.today"),
        ("open('rates.txt')", "open"),
        ("with workflow.unsafe.imports_passed_through(): pass", "workflow.unsafe"),
    ],
)
def test_impurity_is_seen(source: str, fault: str) -> None:
    assert fault in impure(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    [
        "timeout = timedelta(seconds=30)",
        "timeout = datetime.timedelta(1)",
        "retry = RetryPolicy(maximum_attempts=first)",
        "workflow.sleep(60)",
    ],
)
def test_a_literal_timing_is_seen(source: str) -> None:
    assert literal_timings(ast.parse(source))


@pytest.mark.parametrize("source", ["timedelta(seconds=self._request.window)", "timedelta(0)", "workflow.sleep(rest)"])
def test_a_timing_from_the_input_is_fine(source: str) -> None:
    assert not literal_timings(ast.parse(source))


def test_another_caller_of_activities_is_seen() -> None:
    source = "class Hasty:\n    async def run(self):\n        await workflow.execute_activity('draft_market')"
    assert list(activity_callers(ast.parse(source))) == ["Hasty.run"]
