"""`clotho config`: what can be changed while everything runs."""

import json
from typing import Annotated, Any

import typer

from cli.context import command, connected
from cli.output import CommandError, JsonOption, emit, say, table
from cli.reasons import ReasonOption, reason_of
from db import ai_config
from domain import config
from domain.config import ConfigError
from domain.text import cut

app = typer.Typer(help="What can be changed while everything runs.", no_args_is_help=True)

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="As `clotho config list` has it.")]


@app.command("list")
@command
async def list_config(as_json: JsonOption = False) -> None:
    """List all keys: value (`get` shows it whole), who changed it last, meaning and range."""
    async with connected() as context:
        found = await ai_config.every(context.pool)

        def show() -> None:
            rows = [(one.key, cut(json.dumps(one.value), 26), one.updated_by, config.KEYS[one.key]) for one in found]
            table(["key", "value", "by", "is…"], rows, empty="Nothing: run the migrations.", whole_text=True)

        emit(found, as_json, show)


@app.command("get")
@command
async def get_key(key: KeyArgument, as_json: JsonOption = False) -> None:
    """Print the value of a key, as JSON."""
    _known(key)
    async with connected() as context:
        value = await ai_config.get(context.pool, key)
        emit({"key": key, "value": value}, as_json, lambda: say(json.dumps(value)))


@app.command("set")
@command
async def set_key(
    key: KeyArgument,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="As JSON; text may go without quotes.")],
    reason: ReasonOption,
    as_json: JsonOption = False,
) -> None:
    """Change a key; recorded in the audit log, and known to every worker within two seconds.

    Example: clotho config set llm_daily_budget_usd 25 --reason "the budget of this quarter"
    """
    _known(key)
    if key == "ai_version":  # which is registered, has its prompt files, and brings its model with it
        raise CommandError("KEY: ai_version is changed with `clotho ai-version set VERSION`.", field="KEY")
    why, wanted = reason_of(reason), _value(value)
    async with connected() as context:
        by = context.settings.identity
        try:
            old = await ai_config.put(context.pool, key, wanted, by, why)
        except ConfigError as error:
            raise CommandError(f"{_of_key(key, str(error))}.", field=key) from None
        new = await ai_config.get(context.pool, key)
        done = f"{key} is {json.dumps(new)}" + (" already." if old == new else f", it was {json.dumps(old)}.")
        emit({"key": key, "old": old, "new": new, "changed": old != new}, as_json, lambda: say(done))


def _known(key: str) -> None:
    try:
        config.known(key)
    except ConfigError as error:
        raise CommandError(f"{error}.", field="KEY") from None


def _of_key(key: str, sentence: str) -> str:
    return sentence if sentence.startswith(key) else f"{key}: {sentence}"


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
