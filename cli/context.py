"""What every command needs: settings, connections that close, and errors turned into sentences."""

import asyncio
import functools
import getpass
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar
from uuid import UUID

import asyncpg
from pydantic import DirectoryPath, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from temporalio.client import (
    Client,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode

from cli.output import CommandError, Exit, fail
from db.pool import Pool, connect
from domain import errors, signing
from domain.base import Model
from domain.ids import market_workflow_id
from domain.market import Accepted, MarketState
from prompts.loader import BUNDLED

P = ParamSpec("P")
M = TypeVar("M", bound=Model)
R = TypeVar("R")

ANSWER = timedelta(seconds=10)
"""How long a workflow may take to answer; without a worker it never does."""


class CliSettings(BaseSettings):
    """What the command line reads, from the environment first, then from the env file that `clotho up` writes."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    database_url: SecretStr
    temporal_address: str = "127.0.0.1:7233"
    temporal_namespace: str = "default"
    solana_rpc_url: str | None = None
    sources_connect_to: str | None = None
    sources_ca_file: Path | None = None
    prompts_dir: DirectoryPath = BUNDLED
    model_verify_key: str | None = None
    model_confidence_threshold: Annotated[float, Field(ge=0, le=1)] = 0.7
    retraining_threshold: Annotated[int, Field(ge=1)] = 50
    pii_hash_key: SecretStr | None = None
    pii_patterns: str = "[]"
    redis_url: SecretStr | None = None
    clotho_identity: Annotated[str, Field(max_length=100)] = ""

    @property
    def identity(self) -> str:
        """Who acts: CLOTHO_IDENTITY, or the name of the operating system's user."""
        try:
            return self.clotho_identity.strip() or getpass.getuser()
        except (KeyError, OSError):
            raise CommandError(
                "CLOTHO_IDENTITY is missing: the system has no name for its user, so set it to yours."
            ) from None

    @property
    def verify_key(self) -> str:
        """The public key of the signatures of models."""
        key = self.model_verify_key
        if key is None or not signing.is_key(key):
            fault = "missing" if key is None else "no key"
            raise CommandError(f"MODEL_VERIFY_KEY is {fault}: set it to the public key of training, see .env.example.")
        return key


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
            f"{name} is missing or bad: start the embedded stack with `clotho up`, or set it as in .env.example."
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

    async def state(self, market_id: UUID) -> MarketState:
        """What a market's lifecycle says of itself, running or ended.

        Raises:
            CommandError: the market is unknown, or no worker answers.
        """
        return await query(self.temporal, market_workflow_id(market_id), "state", MarketState, f"market {market_id}")

    async def tell(self, market_id: UUID, name: str, message: Model) -> Accepted:
        """Send an update to a market's lifecycle and return its answer.

        Raises:
            CommandError: the market is over or unknown, or no worker answers.
        """

        async def over() -> CommandError:
            status = (await self.state(market_id)).status
            return CommandError(
                f"The market is {status}, which is its end: nothing about it can be changed any more.", Exit.FAILED
            )

        workflow_id = market_workflow_id(market_id)
        return await update(self.temporal, workflow_id, name, message, Accepted, f"market {market_id}", over)


async def query(
    temporal: Client, workflow_id: str, name: str, gives: type[M], what: str, look_up: str = "clotho market list"
) -> M:
    """What a workflow answers, running or ended.

    Args:
        temporal: where it runs.
        workflow_id: whom to ask.
        name: the query.
        gives: its answer.
        what: the workflow in words, for who is told that it does not answer.
        look_up: the command that lists such ids.

    Raises:
        CommandError: it is unknown, or no worker answers.
    """
    try:
        answer: M = await temporal.get_workflow_handle(workflow_id).query(name, result_type=gives, rpc_timeout=ANSWER)
    except RPCError as error:
        explain(error, what, look_up)
    return answer


async def update(
    temporal: Client,
    workflow_id: str,
    name: str,
    message: Model,
    gives: type[M],
    what: str,
    over: Callable[[], Awaitable[CommandError]],
) -> M:
    """Send an update to a workflow and return its answer.

    Args:
        temporal: where it runs.
        workflow_id: whom to tell.
        name: the update.
        message: what to tell.
        gives: the answer.
        what: the workflow in words, for who is told that it does not answer.
        over: the sentence when it does not run: it has ended, or there never was one.

    Raises:
        WorkflowUpdateFailedError: it refuses, and says why.
        CommandError: it does not run, or no worker answers.
    """
    handle = temporal.get_workflow_handle(workflow_id)
    try:
        answer: M = await handle.execute_update(name, message, result_type=gives, rpc_timeout=ANSWER)
    except WorkflowUpdateRPCTimeoutOrCancelledError:
        raise no_worker(what, STILL_DONE) from None
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            explain(error, what)
        raise await over() from None
    return answer


def explain(error: RPCError, what: str, look_up: str = "clotho market list") -> NoReturn:
    """Raise the sentence for a workflow that gave no answer."""
    if error.status is RPCStatusCode.NOT_FOUND:
        raise unknown(what, look_up) from None
    # The last one when others wait for the same answer.
    if error.status in {RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED, RPCStatusCode.RESOURCE_EXHAUSTED}:
        raise no_worker(what) from None
    if error.status is RPCStatusCode.FAILED_PRECONDITION:
        raise CommandError(
            f"No worker has taken up {what} yet: ask again in a moment, or see `clotho status`.", Exit.UNREACHABLE
        ) from None
    raise error


def unknown(what: str, look_up: str = "clotho market list") -> CommandError:
    """The sentence for an id that nothing has."""
    return CommandError(f"ID: there is no {what}: look ids up with `{look_up}`.", field="ID")


STILL_DONE = "; what was asked may still be done once one runs"
"""Of an update that nobody has answered."""


def no_worker(what: str, and_now: str = "") -> CommandError:
    """The sentence for a workflow that does not answer."""
    return CommandError(
        f"No worker answered for {what} within {ANSWER.seconds} s{and_now}: see `clotho status`, or start one with"
        " `clotho worker`.",
        Exit.UNREACHABLE,
    )


async def end_of(handle: WorkflowHandle[Any, R], what: str, again: str, look_up: str = "clotho market list") -> R:
    """How a workflow ends, however long that takes, once a worker has shown that it is at work.

    Args:
        handle: of the workflow.
        what: the workflow in words, for who is told that it does not answer, or failed.
        again: the clause that says what to do when it failed.
        look_up: the command that lists such ids.

    Raises:
        CommandError: it failed, or no worker answers.
    """
    try:
        await handle.query("parked", rpc_timeout=ANSWER)  # every workflow has it, and a worker alone answers
        return await handle.result()
    except RPCError as error:
        explain(error, what, look_up)
    except WorkflowFailureError as error:
        why = f"{what[:1].upper()}{what[1:]} failed ({error.cause}): see `clotho status`, and {again}."
        raise CommandError(why, Exit.FAILED) from None


@asynccontextmanager
async def connected() -> AsyncIterator[Context]:
    """Connections to Temporal and Postgres for as long as the block runs."""
    async with database() as (configured, pool):
        yield Context(configured, await connect_temporal(configured), pool)


async def connect_temporal(configured: CliSettings, *, lazy: bool = False) -> Client:
    """A client of Temporal; a lazy one connects when it is first needed."""
    return await Client.connect(
        configured.temporal_address,
        namespace=configured.temporal_namespace,
        data_converter=pydantic_data_converter,
        identity=f"clotho-cli:{configured.identity}",
        lazy=lazy,
    )


@asynccontextmanager
async def database() -> AsyncIterator[tuple[CliSettings, Pool]]:
    """Settings and Postgres alone, for what must work while Temporal is down."""
    configured = settings()
    async with await connect(configured.database_url.get_secret_value(), max_size=4) as pool:
        yield configured, pool


def command(body: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """An async function as a command: runs it, turns what it raises into a sentence and an exit status."""

    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        # The SDK's core logs to standard output, between the answers; what went wrong is told in a sentence.
        Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=None)), error_if_already_set=False)
        logging.getLogger("temporalio").setLevel(logging.CRITICAL)
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
        case ApplicationError(type=errors.UNKNOWN_MARKET.type):
            return CommandError(f"ID: {error.message}", field="ID")
        case ApplicationError(type=errors.CHAIN_UNREACHABLE.type):
            return CommandError(_sentence(error.message), Exit.UNREACHABLE)
        case ApplicationError():
            return CommandError(_sentence(error.message), Exit.FAILED)
        case RPCError():
            sentence = f"Temporal answered {error.status.name}: check TEMPORAL_NAMESPACE and `clotho status`."
            return CommandError(sentence, Exit.UNREACHABLE)
        case RuntimeError() if "Failed client connect" in str(error):
            return CommandError(
                "Temporal cannot be reached at TEMPORAL_ADDRESS: start it with `clotho up`.", Exit.UNREACHABLE
            )
        case asyncpg.PostgresError() | asyncpg.InterfaceError() | OSError() | TimeoutError():
            return CommandError(
                f"Postgres cannot be used ({type(error).__name__}): check DATABASE_URL and `clotho status`.",
                Exit.UNREACHABLE,
            )
        case ValidationError():
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "input"
            why = first["msg"].removeprefix("Value error, ")
            return CommandError(f"{field}: {why}. Correct it and try again.", field=field)
        case _:
            return None


async def gather_bounded(calls: list[Callable[[], Awaitable[Any]]], limit: int = 20) -> list[Any]:
    """Results of calls, at most `limit` at once; what one raises stands in its place."""
    gate = asyncio.Semaphore(limit)

    async def one(call: Callable[[], Awaitable[Any]]) -> Any:
        async with gate:
            return await call()

    return await asyncio.gather(*(one(call) for call in calls), return_exceptions=True)


async def gather_all(calls: list[Callable[[], Awaitable[R]]]) -> list[R]:
    """The same where one failure spoils the whole: the first that a call raises is raised."""
    results = await gather_bounded(calls)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def _sentence(message: str) -> str:
    return message[:1].upper() + message[1:]
