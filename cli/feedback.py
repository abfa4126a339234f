"""`clotho feedback`: what people say about classifications, of which patterns and the transactions model learn."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from pydantic import ValidationError

from cli import retraining
from cli.context import Context, command, connected
from cli.output import CommandError, JsonOption, emit, say, table
from cli.reading import read_text
from cli.redacting import redacting
from db import feedback
from domain.classification import CorrectionType, EntityType, Feedback
from domain.model import RetrainRequest

app = typer.Typer(help="Corrections and confirmations of classifications.", no_args_is_help=True)

UserOption = Annotated[UUID, typer.Option("--user", help="Who says it.")]
BusinessOption = Annotated[UUID | None, typer.Option("--business", help="Whose expense it is.")]

_FILE_LIMIT = 50 * 2**20
"""Bytes of an imported file."""


@app.command()
@command
async def add(
    user: UserOption,
    entity: Annotated[str, typer.Option(help="Id of the thing that was classified.")],
    predicted: Annotated[str, typer.Option(help="Category that Clotho said.")],
    corrected: Annotated[str, typer.Option(help="Category that the person says; the same confirms it.")],
    description: Annotated[str, typer.Option(help="Of the expense.")] = "",
    business: BusinessOption = None,
    type_: Annotated[EntityType, typer.Option("--type", help="What was classified.")] = (
        EntityType.TRANSACTION_CLASSIFICATION
    ),
    amount: Annotated[
        str | None, typer.Option(help="In naira, such as 12500.00; the model learns nothing without.")
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="A part was changed, not the whole.")] = False,
    model_version: Annotated[str | None, typer.Option(help="Of the model that predicted.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Take in one correction or confirmation; the same one again changes nothing.

    With enough feedback that no model has used, a retraining of transactions starts; on a day on which one registered
    nothing, no other.

    Example: clotho feedback add --user 7b… --business 9c… --entity 41 --predicted other --corrected transport
    --description "Uber to client" --amount 4500
    """
    changed = CorrectionType.PARTIAL_EDIT if partial else CorrectionType.FULL_OVERRIDE
    given = {
        "user_id": user,
        "business_id": business,
        "entity_type": type_,
        "entity_id": entity,
        "ai_prediction": predicted,
        "user_correction": corrected,
        "item_description": description,
        "amount": None if amount is None else amount.replace(",", ""),
        "correction_type": CorrectionType.CONFIRMATION if predicted.strip() == corrected.strip() else changed,
        "ai_model_version": model_version,
    }
    wanted = Feedback.model_validate(given)
    if (fault := wanted.fault()) is not None:
        raise CommandError(f"{fault}: correct it.", field=fault.split()[0])
    await _take_in([wanted], as_json)


@app.command("import")
@command
async def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="One JSON object a line; `-` reads it.")],
    as_json: JsonOption = False,
) -> None:
    """Take in a file of feedback, all of it or, when a line is wrong, nothing; what is known already counts once.

    Fields: user_id, business_id, entity_type, entity_id, ai_prediction, user_correction, item_description, amount
    (naira), correction_type, ai_model_version.
    """
    await _take_in(_parsed(read_text(file, "FILE", _FILE_LIMIT)), as_json)


@app.command("list")
@command
async def list_feedback(
    business: BusinessOption = None,
    unused: Annotated[bool, typer.Option("--unused", help="What no model has used yet, oldest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List feedback, the newest first, and the training batch that has used it."""
    if unused and business is not None:
        raise CommandError("--business: a training knows no businesses: leave out --unused.", field="--business")
    async with connected() as context:
        if unused:
            found = await feedback.unused(context.pool, datetime.now(UTC), limit)
        else:
            found = await feedback.recent(context.pool, business, limit)

        def show() -> None:
            rows = [
                (
                    f"{one.created_at:%Y-%m-%d %H:%M}",
                    one.user_correction,
                    "confirmed" if one.correction_type is CorrectionType.CONFIRMATION else f"not {one.ai_prediction}",
                    "-" if one.amount is None else f"{one.amount:,}",
                    one.training_batch_id or "-",
                    one.item_description,
                )
                for one in found
            ]
            headings = ["at (UTC)", "category", "", "naira", "batch", "description…"]
            table(headings, rows, empty="There is no feedback: `clotho feedback add`.")

        emit(found, as_json, show)


async def _take_in(given: list[Feedback], as_json: bool) -> None:
    async with connected() as context:
        redacted = redacting(context.settings)
        stored = [one.model_copy(update={"item_description": redacted(one.item_description)}) for one in given]
        new = await feedback.add(context.pool, stored)
        waiting = await feedback.count_unused(context.pool, datetime.now(UTC))
        started = await _retrain(context, waiting) if new else False
        known = f" {len(given) - new} were known already." if new < len(given) else ""
        sentence = f"Took in {new} of {len(given)}.{known} {waiting} wait for a training."
        if started:
            sentence += " The transactions model is being retrained."
        body = {"given": len(given), "new": new, "unused": waiting, "retraining": started}
        emit(body, as_json, lambda: say(sentence))


async def _retrain(context: Context, waiting: int) -> bool:
    """Whether a retraining was started because of so much feedback."""
    if waiting < context.settings.retraining_threshold:
        return False
    request = RetrainRequest(model="transactions", cause="feedback", by=context.settings.identity)
    return await retraining.start_for_feedback(context.temporal, request)


def _parsed(text: str) -> list[Feedback]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            one = Feedback.model_validate_json(line)
            fault = one.fault()
        except ValidationError as error:
            first = error.errors()[0]
            fault = f"{'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}"
        if fault is not None:
            raise CommandError(f"FILE: line {number}: {fault}: correct it, nothing was taken in.", field="FILE")
        found.append(one)
    return found


def naira(text: str | None) -> Decimal | None:
    """An amount given on the command line, with or without commas.

    Raises:
        CommandError: it is none.
    """
    if text is None:
        return None
    try:
        amount = Decimal(text.replace(",", ""))
    except ArithmeticError:
        amount = Decimal("nan")
    if not amount.is_finite() or abs(amount) >= 10**16:
        raise CommandError("--amount: it is no amount in naira: write one like 12500.00.", field="--amount")
    return amount
