"""What every command needs: settings, connections that close, and errors turned into sentences."""

import asyncio
import functools
import getpass
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec
from uuid import UUID

import asyncpg
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from cli.output import CommandError, Exit, fail
from db.pool import Pool, connect
from domain.base import Model
from domain.ids import market_workflow_id
from domain.market import Accepted, MarketState

P = ParamSpec("P")


class CliSettings(BaseSettings):
    """What the command line reads, from the environment first, then from the env file that `clotho up` writes."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    database_url: SecretStr
    temporal_address: str = "127.0.0.1:7233"
    temporal_namespace: str = "default"
    solana_rpc_url: str | None = None
    sources_connect_to: str | None = None
    sources_ca_file: Path | None = None
    clotho_identity: str = ""

    @property
    def identity(self) -> str:
        """Who acts: CLOTHO_IDENTITY, or the name of the operating system's user."""
        return self.clotho_identity or getpass.getuser()


def env_file() -> Path:
    """CLOTHO_ENV_FILE, or `env` in the data folder of the embedded stack; it need not exist."""
    return Path(os.environ.get("CLOTHO_ENV_FILE") or Path(os.environ.get("CLOTHO_DATA_DIR", ".clotho")) / "env")


def settings() -> CliSettings:
    """The command line's settings.

    Raises:
        CommandError: one is missing or bad.
    """
    try:
        return CliSettings(_env_file=env_file())
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0]).upper()
        raise CommandError(
            f"{name} is missing or bad: start the embedded stack with `clotho up`, or set it as in .env.example"
        ) from None


@dataclass(frozen=True)
class Context:
    """Open connections of one command."""

    settings: CliSettings
    temporal: Client
    pool: Pool

    def market(self, market_id: UUID) -> WorkflowHandle[Any, Any]:
        """The handle of a market's lifecycle."""
        return self.temporal.get_workflow_handle(market_workflow_id(market_id))

    async def tell(self, market_id: UUID, update: str, message: Model) -> Accepted:
        """Send an update to a market's lifecycle and return its answer.

        Raises:
            CommandError: the market is over, or unknown.
        """
        handle = self.market(market_id)
        try:
            accepted: Accepted = await handle.execute_update(update, message, result_type=Accepted)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            try:
                state = await handle.query("state", result_type=MarketState)
            except RPCError:
                raise unknown_market(market_id) from None
            raise CommandError(
                f"The market is {state.status}, which is its end: nothing about it can be changed any more.",
                Exit.FAILED,
            ) from None
        return accepted


def unknown_market(market_id: UUID) -> CommandError:
    """The sentence for an id that no lifecycle has."""
    return CommandError(f"ID: there is no market {market_id}: look ids up with `clotho market list`.", field="ID")


@asynccontextmanager
async def connected() -> AsyncIterator[Context]:
    """Connections to Temporal and Postgres for as long as the block runs."""
    configured = settings()
    client = await Client.connect(
        configured.temporal_address,
        namespace=configured.temporal_namespace,
        data_converter=pydantic_data_converter,
        identity=f"clotho-cli:{configured.identity}",
    )
    async with await connect(configured.database_url.get_secret_value(), max_size=4) as pool:
        yield Context(configured, client, pool)


def command(body: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """An async function as a command: runs it, turns what it raises into a sentence and an exit status."""

    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            asyncio.run(body(*args, **kwargs))
        except BrokenPipeError:
            # The reader of the pipe (head, less) has seen enough; and nothing is left to flush to it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except Exception as error:
            sentence = as_command_error(error)
            if sentence is None:
                raise
            fail(sentence, as_json=bool(kwargs.get("as_json")))

    return run


def as_command_error(error: BaseException) -> CommandError | None:
    """The sentence for an error that a person can act on; None for a fault of ours, which keeps its traceback."""
    match error:
        case CommandError():
            return error
        case WorkflowUpdateFailedError(cause=ApplicationError() as cause):
            return CommandError(_sentence(cause.message), Exit.FAILED)
        case ApplicationError():
            return CommandError(_sentence(error.message), Exit.FAILED)
        case RPCError(status=RPCStatusCode.NOT_FOUND):
            return CommandError("no such workflow is known to Temporal: look ids up with `clotho market list`.")
        case RPCError():
            sentence = f"Temporal answered {error.status.name}: check it with `clotho status`."
            return CommandError(sentence, Exit.UNREACHABLE)
        case RuntimeError() if "Failed client connect" in str(error):
            return CommandError(
                "Temporal cannot be reached at TEMPORAL_ADDRESS: start it with `clotho up`.", Exit.UNREACHABLE
            )
        case asyncpg.PostgresError() | OSError() | TimeoutError():
            return CommandError(
                f"Postgres cannot be used ({type(error).__name__}): check DATABASE_URL and `clotho status`.",
                Exit.UNREACHABLE,
            )
        case ValidationError():
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "input"
            return CommandError(f"{field}: {first['msg']}. Correct it and try again.", field=field)
        case _:
            return None


async def gather_bounded(calls: list[Callable[[], Awaitable[Any]]], limit: int = 20) -> list[Any]:
    """Results of calls, at most `limit` at once; what one raises stands in its place."""
    gate = asyncio.Semaphore(limit)

    async def one(call: Callable[[], Awaitable[Any]]) -> Any:
        async with gate:
            return await call()

    return await asyncio.gather(*(one(call) for call in calls), return_exceptions=True)


def _sentence(message: str) -> str:
    return message[:1].upper() + message[1:]
