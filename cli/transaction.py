"""`clotho transaction`: what an expense is taken for."""

from decimal import Decimal
from typing import Annotated
from uuid import UUID

import typer

from cli.context import command, database
from cli.feedback import naira
from cli.output import CommandError, Exit, JsonOption, emit, say
from cli.redacting import redacting
from db import feedback
from db.pool import Pool
from domain import artifact, classification
from domain.artifact import Classified, TransactionsArtifact
from domain.classification import pattern_of

app = typer.Typer(help="Expenses and their categories.", no_args_is_help=True)


@app.command()
@command
async def classify(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Description of the expense.")],
    amount: Annotated[str | None, typer.Option(help="In naira, such as 12500.00.")] = None,
    business: Annotated[UUID | None, typer.Option(help="Whose corrections count; without it the model alone.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what an expense is: by the business's corrections, the active model, or both; and whether a person decides.

    Thresholds are heuristics, and MODEL_CONFIDENCE_THRESHOLD says below what a person is asked.

    Example: clotho transaction classify "Uber to client" --amount 4500 --business 9c…
    """
    naira_amount = naira(amount)
    if not pattern_of(text):
        raise CommandError("TEXT: it says nothing: describe the expense.", field="TEXT")
    async with database() as (settings, pool):
        text = redacting(settings)(text)  # as feedback is stored, from which patterns and model are made
        pattern = pattern_of(text)
        exact = await feedback.patterns(pool, business, pattern) if business else []
        similar = await feedback.similar(pool, business, pattern) if business else None
        version, model = await _asked(pool, settings.model_verify_key, text, naira_amount)
        made = classification.classify(exact, similar, model, naira_amount, settings.model_confidence_threshold)

        def show() -> None:
            who = "A person decides" if made.ask else "Decided"
            say(f"{made.category or 'unknown'} ({made.confidence:.2f}, by {made.source}). {who}: {made.reason}")

        emit({**made.model_dump(mode="json"), "model_version": version}, as_json, show)


async def _asked(
    pool: Pool, verify_key: str | None, text: str, amount: Decimal | None
) -> tuple[int | None, Classified | None]:
    """The active version and what it says; nothing when no version is active."""
    # Only this command pays for loading it.
    from activities.loading import ModelRefusedError, load_active

    if verify_key is None:
        raise CommandError("MODEL_VERIFY_KEY is missing: set it as in .env.example, or start with `clotho up`.")
    try:
        loaded = await load_active(pool, verify_key, "transactions")
    except ModelRefusedError as error:
        why = f"The model cannot be used, as {error}: go back to a sound version with `clotho model rollback`."
        raise CommandError(why, Exit.FAILED) from None
    if loaded is None:
        return None, None
    assert isinstance(loaded.artifact, TransactionsArtifact), "it was registered as the transactions model"
    return loaded.version, artifact.classify(loaded.artifact, text, None if amount is None else float(amount))
