"""`clotho`: the command line. One module for each noun; this one only puts them together."""

import contextlib
import os
import sys
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from cli import (
    ai_version,
    audit,
    config,
    demo,
    dispute,
    doctor,
    experiment,
    feed,
    feedback,
    flag,
    follow_up,
    ingest,
    lead,
    market,
    migration,
    model,
    outcomes,
    parked,
    pii,
    proposal,
    replay,
    review,
    reviewer,
    schedule,
    stack,
    template,
    transaction,
    worker,
)
from cli.output import CommandError, Exit, fail, say

app = typer.Typer(
    epilog="Exit status: 0 done; 1 a check failed or a decision was refused; 2 wrong input, nothing was changed;"
    " 3 Temporal, Postgres or the chain cannot be reached. Every command takes --help, and --json where it answers.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals can hold keys
)


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"clotho {version('clotho')}")
        raise typer.Exit


@app.callback()
def root(
    wanted: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Durable workflows for prediction markets and model operations, on Temporal."""


MARKETS, MODELS, PRIVACY, OPERATIONS = "Prediction markets", "Models, leads and feedback", "Privacy", "Operations"

app.command("demo", rich_help_panel=stack.PANEL)(demo.demo)
app.add_typer(stack.app)
app.add_typer(market.app, name="market", rich_help_panel=MARKETS)
app.add_typer(proposal.app, name="proposal", rich_help_panel=MARKETS)
app.add_typer(dispute.app, name="dispute", rich_help_panel=MARKETS)
app.add_typer(feed.app, name="feed", rich_help_panel=MARKETS)
app.add_typer(ingest.app, name="ingest", rich_help_panel=MARKETS)
app.add_typer(template.app, name="template", rich_help_panel=MARKETS)
app.add_typer(ai_version.app, name="ai-version", rich_help_panel=MARKETS)
app.add_typer(experiment.app, name="experiment", rich_help_panel=MARKETS)
app.add_typer(migration.app, name="model-migration", rich_help_panel=MARKETS)
app.add_typer(model.app, name="model", rich_help_panel=MODELS)
app.add_typer(lead.app, name="lead", rich_help_panel=MODELS)
app.add_typer(outcomes.app, name="outcomes", rich_help_panel=MODELS)
app.add_typer(follow_up.app, name="follow-up", rich_help_panel=MODELS)
app.add_typer(flag.app, name="flag", rich_help_panel=MODELS)
app.add_typer(feedback.app, name="feedback", rich_help_panel=MODELS)
app.add_typer(transaction.app, name="transaction", rich_help_panel=MODELS)
app.add_typer(pii.app, name="pii", rich_help_panel=PRIVACY)
app.add_typer(review.app, name="review", rich_help_panel=OPERATIONS)
app.add_typer(reviewer.app, name="reviewer", rich_help_panel=OPERATIONS)
app.add_typer(parked.app, name="parked", rich_help_panel=OPERATIONS)
app.command("doctor", rich_help_panel=OPERATIONS)(doctor.doctor)
app.add_typer(schedule.app, name="schedule", rich_help_panel=OPERATIONS)
app.add_typer(config.app, name="config", rich_help_panel=OPERATIONS)
app.add_typer(audit.app, name="audit", rich_help_panel=OPERATIONS)
app.command("worker", rich_help_panel=OPERATIONS)(worker.worker)
app.command("replay", rich_help_panel=OPERATIONS)(replay.replay)


def main() -> NoReturn:
    """Entry point of the `clotho` command."""
    status = _status_of_command()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    # Without taking the interpreter down: threads of Temporal's client that are still at work then end the process
    # with SIGABRT instead (temporalio/sdk-python issue 300).
    os._exit(status)


def _status_of_command() -> int:
    """Run the command that the arguments name; its exit status."""
    try:
        try:
            # None from a command that came to its end, a number from --help and typer.Exit.
            return app(prog_name="clotho", standalone_mode=False) or 0
        except typer.TyperException as error:
            sentence = " ".join(error.format_message().split())  # a list of choices comes in lines
            if not sentence:  # the help of a group that was called without a command has been printed
                return error.exit_code
            as_json = "--json" in sys.argv  # the arguments could not be parsed
            fail(CommandError(f"{sentence.rstrip('.')}: see --help.", field=_parameter(error)), as_json=as_json)
        except CommandError as error:  # of what an option is made into, before its command begins
            fail(error, as_json="--json" in sys.argv)
        except typer.Abort:  # the input ended at a question
            fail(CommandError("Nothing was done, as the question was not answered.", Exit.FAILED), as_json=False)
        except Exception:
            # A fault of ours: shown as Python does, which here would come too late.
            sys.excepthook(*sys.exc_info())
            return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0


def _parameter(error: typer.TyperException) -> str | None:
    """The option or argument that an error is about."""
    parameter = error.param if isinstance(error, typer.BadParameter) else None
    return parameter.get_error_hint().strip("'") if parameter is not None else None
