"""`clotho experiment`: A/B tests of prompts."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer

from cli.context import Context, command, connected, unknown
from cli.output import CommandError, Exit, JsonOption, emit, say, table
from cli.reasons import ReasonOption, reason_of
from db import ai_config, ai_versions, experiments
from domain.ai import VersionError
from domain.experiments import METRICS_OF, Arm, Experiment, ExperimentReport, Metric, report
from prompts import loader

app = typer.Typer(help="A/B tests of prompts, sound at every look.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `clotho experiment list` has it.")]


@app.command()
@command
async def define(
    experiment_id: Annotated[str, typer.Argument(metavar="ID", help="Small letters, digits, - and _.")],
    prompt_type: Annotated[str, typer.Option("--type", help=f"One of {', '.join(METRICS_OF)}.")],
    variant: Annotated[str, typer.Option(help="Version of the prompt that is tried: prompts/TYPE/VERSION.md.")],
    metric: Annotated[Metric, typer.Option(help="The outcome that matters.")],
    reason: ReasonOption,
    share: Annotated[float, typer.Option(min=0.05, max=0.5, help="Of the markets that get the variant.")] = 0.1,
    minimum: Annotated[int, typer.Option(min=10, help="Outcomes that each arm needs before a winner is named.")] = 100,
    start: Annotated[datetime | None, typer.Option(help="In UTC, instead of now.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Start a test of one prompt type against the prompt of the current ai_version; one at a time for each type.

    Example: clotho experiment define ties --type resolution --variant v2 --metric undisputed --reason "clearer on ties"
    """
    why = reason_of(reason)
    if metric not in METRICS_OF.get(prompt_type, frozenset()):
        fit = ", ".join(type for type, metrics in METRICS_OF.items() if metric in metrics)
        raise CommandError(f"--type: {prompt_type!r} cannot be measured by {metric}: choose {fit}.", field="--type")
    async with connected() as context:
        version = await ai_versions.get(context.pool, str(await ai_config.get(context.pool, "ai_version")))
        control = version.prompts[prompt_type].version
        wanted = Experiment(
            id=experiment_id,
            prompt_type=prompt_type,
            ai_version=version.version,
            control=control,
            variant=variant,
            variant_sha256=await asyncio.to_thread(_interchangeable, context, prompt_type, control, variant),
            share=share,
            metric=metric,
            minimum=minimum,
            start=datetime.now(UTC) if start is None else start.replace(tzinfo=UTC),
            created_by=context.settings.identity,
        )
        if not await experiments.define(context.pool, wanted, why):
            raise CommandError(
                f"ID: {experiment_id} exists, or another test of {prompt_type} runs: see `clotho experiment list`.",
                Exit.FAILED,
                field="ID",
            )
        since = "now" if start is None else f"{wanted.start:%Y-%m-%d %H:%M} UTC"
        sentence = f"{share:.0%} of the markets of {version.version} get {prompt_type} {variant} from {since} on."
        emit(wanted, as_json, lambda: say(sentence))


@app.command("list")
@command
async def list_experiments(as_json: JsonOption = False) -> None:
    """List all tests, the newest first."""
    async with connected() as context:
        found = await experiments.every(context.pool)

        def show() -> None:
            rows = [
                (
                    e.id, e.status, f"{e.start:%Y-%m-%d}", f"{e.prompt_type} {e.variant} against {e.control}",
                    f"{e.share:.0%}", e.metric,
                )
                for e in found
            ]  # fmt: skip
            table(["id", "status", "from", "what…", "share", "metric"], rows, empty="There are no tests.")

        emit(found, as_json, show)


@app.command()
@command
async def show(experiment_id: IdArgument, as_json: JsonOption = False) -> None:
    """Show how a test was defined."""
    async with connected() as context:
        found = await _get(context, experiment_id)
        rows = [(name, str(value)) for name, value in found.model_dump(mode="json").items()]
        emit(found, as_json, lambda: table(["", "test…"], rows, empty=""))


@app.command("report")
@command
async def show_report(experiment_id: IdArgument, as_json: JsonOption = False) -> None:
    """Report how a test stands; looking often does no harm."""
    async with connected() as context:
        found = await _report(context, await _get(context, experiment_id))

        def page() -> None:
            rows = [
                (arm, one.subjects, one.decided, one.successes, _points(one.mean), _points(one.confidence))
                for arm, one in ((Arm.CONTROL, found.control), (Arm.VARIANT, found.variant))
            ]
            table(["arm…", "markets", "decided", "successes", "mean", "confidence"], rows, empty="")
            say(found.sentence)

        emit(found, as_json, page)


@app.command()
@command
async def promote(
    experiment_id: IdArgument,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Name of the new ai_version.")],
    reason: ReasonOption,
    as_json: JsonOption = False,
) -> None:
    """Make a variant that has won part of a new ai_version, which becomes the current one; the test ends.

    Example: clotho experiment promote ties ai_v1.0.1_gpt35_20260701 --reason "it won"
    """
    why = reason_of(reason)
    async with connected() as context:
        found = await _get(context, experiment_id)
        standing = await _report(context, found)
        if standing.winner is not Arm.VARIANT:
            raise CommandError(f"Nothing is promoted. {standing.sentence}", Exit.FAILED)
        hashes = await asyncio.to_thread(loader.hashes, context.settings.prompts_dir)
        try:
            done = await experiments.promote(context.pool, found, version, hashes, context.settings.identity, why)
        except VersionError as error:
            raise CommandError(f"VERSION: {error}.", Exit.FAILED, field="VERSION") from None
        if not done:
            raise _over(found)
        sentence = f"{version} is current, with {found.prompt_type} {found.variant}."
        emit({"id": found.id, "ai_version": version}, as_json, lambda: say(sentence))


@app.command()
@command
async def stop(experiment_id: IdArgument, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """End a test without a winner: every market gets the prompts of its own ai_version again."""
    why = reason_of(reason)
    async with connected() as context:
        found = await _get(context, experiment_id)
        if not await experiments.stop(context.pool, found.id, context.settings.identity, why):
            raise _over(found)
        emit({"id": found.id, "status": "stopped"}, as_json, lambda: say(f"{found.id} is stopped."))


async def _get(context: Context, experiment_id: str) -> Experiment:
    found = await experiments.get(context.pool, experiment_id)
    if found is None:
        raise unknown(f"test {experiment_id[:80]!r}", "clotho experiment list")
    return found


async def _report(context: Context, experiment: Experiment) -> ExperimentReport:
    outcomes = await experiments.outcomes(context.pool, experiment)
    subjects, confidence = await experiments.asked(context.pool, experiment)
    return await asyncio.to_thread(report, experiment, outcomes, subjects, confidence)


def _interchangeable(context: Context, prompt_type: str, control: str, variant: str) -> str:
    """SHA-256 of the variant's file, which must take and give what the control does."""
    try:
        old, new = (loader.load(prompt_type, name, context.settings.prompts_dir) for name in (control, variant))
    except loader.PromptError as error:
        raise CommandError(f"--variant: {error}.", field="--variant") from None
    if new.sha256 == old.sha256 or (new.variables, new.output) != (old.variables, old.output):
        what = "is the same text as" if new.sha256 == old.sha256 else "has other variables or another answer than"
        raise CommandError(f"--variant: {variant} {what} {control}: name another file.", field="--variant")
    return new.sha256


def _over(experiment: Experiment) -> CommandError:
    return CommandError(f"{experiment.id} runs no more: see `clotho experiment list`.", Exit.FAILED)


def _points(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"
