"""`clotho parked`: steps that wait for an operator, in place of a dead-letter queue."""

import functools
from typing import Annotated, Any, Literal
from uuid import UUID

import typer

from cli.context import Context, command, connected, gather_all, gather_bounded, query, unknown, update
from cli.output import CommandError, Exit, JsonOption, emit, say, table
from cli.reasons import redacted
from domain.ids import market_workflow_id
from domain.market import Accepted, ParkedState, Unpark

app = typer.Typer(help="Steps that used up their retries and wait for an operator.", no_args_is_help=True)

StepOption = Annotated[str | None, typer.Option("--step", help="Only steps of this name, e.g. collect_evidence.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, in a sentence.", callback=redacted)]
IdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the market, or of the workflow, whose step is parked.")
]


async def unpark(context: Context, id: str, decision: Literal["retry", "skip", "abort"], reason: str) -> Accepted:
    """Decide about the parked step of a market, or of any other workflow.

    Args:
        context: open connections.
        id: a market's id, or a workflow's.
        decision: what to do with the step.
        reason: why.
    """
    workflow_id = _workflow_id(id)
    message = Unpark(decision=decision, by=context.settings.identity, reason=reason)

    async def over() -> CommandError:
        return unknown(f"running workflow {workflow_id}")

    return await update(context.temporal, workflow_id, "unpark", message, Accepted, f"workflow {workflow_id}", over)


def _workflow_id(id: str) -> str:
    """A market may be named by its own id."""
    try:
        return market_workflow_id(UUID(id))
    except ValueError:
        return id


async def parked_steps(context: Context, step: str | None) -> list[ParkedState]:
    """The workflows with a parked step, longest parked first."""
    listed = "Parked = true AND ExecutionStatus = 'Running'"
    found = [execution.id async for execution in context.temporal.list_workflows(listed)]
    states = await gather_all([functools.partial(_parked, context, workflow_id) for workflow_id in found])
    chosen = [
        (state.parked.since, state)
        for state in states
        if state.parked is not None and step in {None, state.parked.step}
    ]
    return [state for _, state in sorted(chosen, key=lambda one: one[0])]


async def _parked(context: Context, workflow_id: str) -> ParkedState:
    return await query(
        context.temporal, workflow_id, "parked", ParkedState, f"workflow {workflow_id}", look_up="the Web UI"
    )


@app.command("list")
@command
async def list_parked(step: StepOption = None, as_json: JsonOption = False) -> None:
    """List parked steps, longest parked first."""
    async with connected() as context:
        states = await parked_steps(context, step)

        def show() -> None:
            rows = [(s.workflow_id, s.parked.step, s.parked.kind, s.parked.message) for s in states if s.parked]
            table(["workflow", "step", "kind", "why…"], rows, empty="Nothing is parked.")

        emit(states, as_json, show)


@app.command("retry")
@command
async def retry_parked(
    id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Id of one market or workflow; or --all.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every parked step.")] = False,
    step: StepOption = None,
    reason: ReasonOption = "retried from the command line",
    as_json: JsonOption = False,
) -> None:
    """Try parked steps again: one workflow's, or all of them after an outage."""
    if (id is None) is not everything:
        raise CommandError(
            "ID: name one market or workflow, or say --all for every parked step, and not both.", field="ID"
        )
    async with connected() as context:
        chosen = [_workflow_id(id)] if id else [state.workflow_id for state in await parked_steps(context, step)]
        answers = await gather_bounded([functools.partial(unpark, context, one, "retry", reason) for one in chosen])
        if id and isinstance(answers[0], BaseException):
            raise answers[0]
        results: list[dict[str, Any]] = [
            {"workflow_id": one, "retried": False, "why": str(getattr(a, "cause", a) or "")}
            if isinstance(a, BaseException)
            else {"workflow_id": one, "retried": True, "why": ""}
            for one, a in zip(chosen, answers, strict=True)
        ]

        def show() -> None:
            rows = [(r["workflow_id"], "retried" if r["retried"] else "refused", r["why"]) for r in results]
            table(["workflow", "", "why…"], rows, empty="Nothing is parked.")

        emit(results, as_json, show)
        if not all(r["retried"] for r in results):
            raise CommandError("Some steps were not retried: look at them with `clotho parked list`.", Exit.FAILED)


@app.command("skip")
@command
async def skip_parked(id: IdArgument, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Go on without a parked step, where the step allows it."""
    async with connected() as context:
        accepted = await unpark(context, id, "skip", reason)
        emit(accepted, as_json, lambda: say(f"{id} goes on without the step."))


@app.command("abort")
@command
async def abort_parked(id: IdArgument, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Give a parked step up: the market is canceled."""
    async with connected() as context:
        accepted = await unpark(context, id, "abort", reason)
        emit(accepted, as_json, lambda: say(f"{id} is being canceled."))
