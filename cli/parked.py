"""`clotho parked`: steps that wait for an operator, in place of a dead-letter queue."""

import functools
from typing import Annotated, Any, Literal
from uuid import UUID

import typer

from cli.context import Context, command, connected, gather_bounded
from cli.output import CommandError, Exit, JsonOption, emit, say, table
from domain.market import Accepted, MarketState, Unpark

app = typer.Typer(help="Steps that used up their retries and wait for an operator.", no_args_is_help=True)

StepOption = Annotated[str | None, typer.Option("--step", help="Only steps of this name, e.g. collect_evidence.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, in a sentence.")]
IdArgument = Annotated[UUID, typer.Argument(metavar="ID", help="Id of the market whose step is parked.")]


async def unpark(
    context: Context, market_id: UUID, decision: Literal["retry", "skip", "abort"], reason: str
) -> Accepted:
    """Decide about a market's parked step."""
    return await context.tell(
        market_id, "unpark", Unpark(decision=decision, by=context.settings.identity, reason=reason)
    )


async def parked_states(context: Context, step: str | None) -> list[MarketState]:
    """The lifecycles with a parked step, longest parked first."""
    states = await context.states("Parked = true AND ExecutionStatus = 'Running'")
    chosen = [s for s in states if s.parked is not None and step in {None, s.parked.step}]
    return sorted(chosen, key=lambda s: s.parked.since if s.parked else s.market_id)


@app.command("list")
@command
async def list_parked(step: StepOption = None, as_json: JsonOption = False) -> None:
    """List parked steps, longest parked first."""
    async with connected() as context:
        states = await parked_states(context, step)

        def show() -> None:
            rows = [(s.market_id, s.parked.step, s.parked.kind, s.parked.message) for s in states if s.parked]
            table(["market", "step", "kind", "why…"], rows, empty="Nothing is parked.")

        emit(states, as_json, show)


@app.command("retry")
@command
async def retry_parked(
    market_id: Annotated[UUID | None, typer.Argument(metavar="[ID]", help="Id of one market; or --all.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every parked step.")] = False,
    step: StepOption = None,
    reason: ReasonOption = "retried from the command line",
    as_json: JsonOption = False,
) -> None:
    """Try parked steps again: one market's, or all of them after an outage."""
    if (market_id is None) is not everything:
        raise CommandError("ID: name one market, or say --all for every parked step, and not both.", field="ID")
    async with connected() as context:
        chosen = [market_id] if market_id else [state.market_id for state in await parked_states(context, step)]
        answers = await gather_bounded([functools.partial(unpark, context, m, "retry", reason) for m in chosen])
        if market_id and isinstance(answers[0], BaseException):
            raise answers[0]
        results: list[dict[str, Any]] = [
            {"market_id": str(m), "retried": not isinstance(a, BaseException), "why": str(getattr(a, "cause", a) or "")}
            if isinstance(a, BaseException)
            else {"market_id": str(m), "retried": True, "why": ""}
            for m, a in zip(chosen, answers, strict=True)
        ]

        def show() -> None:
            rows = [(r["market_id"], "retried" if r["retried"] else "refused", r["why"]) for r in results]
            table(["market", "", "why…"], rows, empty="Nothing is parked.")

        emit(results, as_json, show)
        if not all(r["retried"] for r in results):
            raise CommandError("Some steps were not retried: look at them with `clotho parked list`.", Exit.FAILED)


@app.command("skip")
@command
async def skip_parked(market_id: IdArgument, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Go on without a parked step, where the step allows it."""
    async with connected() as context:
        accepted = await unpark(context, market_id, "skip", reason)
        emit(accepted, as_json, lambda: say(f"Market {market_id} goes on without the step."))


@app.command("abort")
@command
async def abort_parked(market_id: IdArgument, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Give a parked step up: the market is canceled."""
    async with connected() as context:
        accepted = await unpark(context, market_id, "abort", reason)
        emit(accepted, as_json, lambda: say(f"Market {market_id} is being canceled."))
