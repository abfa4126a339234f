"""`clotho`: the command line. One module for each noun; this one only puts them together."""

import typer

from cli import demo, market, parked, replay, review, stack, worker

app = typer.Typer(
    help="Durable workflows for prediction markets, on Temporal.",
    epilog="Exit status: 0 done; 1 a check failed or a decision was refused; 2 wrong input, nothing was changed;"
    " 3 Temporal, Postgres or the chain cannot be reached. Every command takes --help, and --json where it answers.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals can hold keys
)
app.add_typer(stack.app)
app.command("demo")(demo.demo)
app.command("worker")(worker.worker)
app.add_typer(market.app, name="market")
app.add_typer(review.app, name="review")
app.add_typer(parked.app, name="parked")
app.command("replay")(replay.replay)


def main() -> None:
    """Entry point of the `clotho` command."""
    app(prog_name="clotho")
