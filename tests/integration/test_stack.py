"""`clotho up`, `down`, `status` and `reset` as a person uses them, each in a process of its own."""

import asyncio
import json
import os
import signal
import socket
import stat
import sysconfig
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis.asyncio
from dotenv import dotenv_values
from solana.rpc.async_api import AsyncClient
from solders.keypair import Keypair
from temporalio.client import Client, WorkflowExecutionStatus

from deploy.local.settings import SCRIPTED_MODEL_KEY, StackSettings
from deploy.local.stack import PARTS, WORKERS_STOP_SECONDS, Stack
from deploy.local.state import PartState, PartStatus, StackState, running
from deploy.local.temporary import settings_in, temporary_folder
from tests.support import eventually
from workers.main import GRACEFUL_SHUTDOWN

CLOTHO = Path(sysconfig.get_path("scripts"), "clotho")


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


class Home:
    """A data folder and ports of its own, and the command line that uses them."""

    def __init__(self, settings: StackSettings) -> None:
        self.settings = settings
        self.folder = settings.data_dir
        given = settings.model_dump(exclude={"health_port"}, exclude_none=True)
        self.environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"} | {
            "HEALTH_PORT": str(settings.health_port),
            **{f"CLOTHO_{name.upper()}": str(value) for name, value in given.items()},
        }

    async def start(self, *arguments: str, **changes: str) -> asyncio.subprocess.Process:
        """Start `clotho` with `arguments`, with `changes` to its environment; as a terminal does, in a group."""
        return await asyncio.create_subprocess_exec(
            CLOTHO, *arguments, env=self.environment | changes, start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def clotho(self, *arguments: str, **changes: str) -> Answer:
        """Run `clotho` to its end."""
        process = await self.start(*arguments, **changes)
        out, err = await process.communicate()
        return Answer(process.returncode or 0, out.decode(), err.decode())

    def state(self) -> StackState:
        """What the running supervisor wrote down."""
        state = running(self.folder)
        assert state is not None
        return state

    def part(self, name: str) -> PartStatus:
        """One part of it."""
        return next(part for part in self.state().parts if part.name == name)

    def process(self, name: str) -> psutil.Process:
        """The living process of a part."""
        process = self.part(name).process
        assert process is not None
        return psutil.Process(process.pid)

    async def up(self) -> None:
        """Have the stack up, unless it is."""
        if running(self.folder) is None:
            answer = await self.clotho("up", "--detach")
            assert answer.code == 0, answer.err

    async def down(self) -> None:
        """Have the stack down, unless it is."""
        if running(self.folder) is not None:
            answer = await self.clotho("down")
            assert answer.code == 0, answer.err

    def setting(self, name: str) -> str:
        """A setting from the file that workers and the command line read."""
        return dotenv_values(self.folder / "env")[name] or ""


@pytest.fixture(scope="module")
async def home() -> AsyncIterator[Home]:
    with temporary_folder() as folder:
        made = Home(settings_in(folder))
        yield made
        await made.down()


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [each for each in processes if lives(each)]


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended between the two looks
        return False


async def test_a_busy_port_is_one_sentence_and_nothing_starts(home: Home) -> None:
    with socket.create_server(("127.0.0.1", home.settings.solana_port)):
        answer = await home.clotho("up", "--detach")
    assert answer.code == 1
    assert answer.err == (
        f"Error: Port {home.settings.solana_port}, which solana wants, is in use: stop the program that has it, or set"
        " CLOTHO_SOLANA_PORT to a free port.\n"
    )
    assert answer.out == ""
    assert running(home.folder) is None


async def test_data_survive_down_and_up(home: Home) -> None:
    await home.up()
    keypair, lamports = Keypair(), 1_234_567_890
    database = await asyncpg.connect(home.setting("DATABASE_URL"))
    await database.execute("INSERT INTO rss_feeds (id, url, name) VALUES (gen_random_uuid(), 'https://kept', 'kept')")
    await database.close()
    async with redis.asyncio.from_url(home.setting("REDIS_URL")) as valkey:
        await valkey.set("kept", "yes")
    temporal = await Client.connect(home.setting("TEMPORAL_ADDRESS"))
    await temporal.start_workflow("Kept", id="kept", task_queue="without-worker")
    async with AsyncClient(home.setting("SOLANA_RPC_URL")) as chain:
        await chain.request_airdrop(keypair.pubkey(), lamports)

        async def landed() -> bool:
            return (await chain.get_balance(keypair.pubkey())).value == lamports

        await eventually(landed, "the airdrop")

    await home.down()
    assert running(home.folder) is None
    await home.up()

    database = await asyncpg.connect(home.setting("DATABASE_URL"))
    assert await database.fetchval("SELECT name FROM rss_feeds WHERE url = 'https://kept'") == "kept"
    await database.close()
    async with redis.asyncio.from_url(home.setting("REDIS_URL")) as valkey:
        assert await valkey.get("kept") == b"yes"
    temporal = await Client.connect(home.setting("TEMPORAL_ADDRESS"))
    kept = await temporal.get_workflow_handle("kept").describe()
    assert kept.status is WorkflowExecutionStatus.RUNNING
    async with AsyncClient(home.setting("SOLANA_RPC_URL")) as chain:
        assert (await chain.get_balance(keypair.pubkey())).value == lamports


async def test_status_shows_every_part_with_a_living_process(home: Home) -> None:
    await home.up()
    answer = await home.clotho("status", "--json")
    found = json.loads(answer.out)
    assert answer.code == 0
    assert found["running"]
    assert found["ready"]
    assert [part["name"] for part in found["parts"]] == list(PARTS)
    assert {part["state"] for part in found["parts"]} == {"ready"}
    assert len(living([psutil.Process(part["pid"]) for part in found["parts"]])) == len(PARTS)
    people = await home.clotho("status")
    assert [line.split("\t")[:2] for line in people.out.splitlines()] == [[name, "ready"] for name in PARTS]
    assert "\x1b" not in people.out


async def test_a_second_up_says_that_it_is_up(home: Home) -> None:
    await home.up()
    answer = await home.clotho("up")
    assert answer.code == 1
    assert "is already up" in answer.err
    assert home.state().ready


async def test_secrets_and_settings_are_for_the_owner_alone(home: Home) -> None:
    await home.up()
    for name in ("env", "secrets.json"):
        assert stat.S_IMODE((home.folder / name).stat().st_mode) == 0o600, name
    assert home.setting("OPENAI_API_KEY") == SCRIPTED_MODEL_KEY


async def test_workers_use_a_role_that_is_no_superuser(home: Home) -> None:
    await home.up()
    database = await asyncpg.connect(home.setting("DATABASE_URL"))
    role = await database.fetchrow("SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user")
    await database.close()
    assert role is not None
    assert tuple(role) == ("clotho", False)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(home.setting("DATABASE_URL"), password="guessed")


@pytest.mark.parametrize("name", ["postgres", "temporal", "workers"])
async def test_a_killed_part_comes_back(home: Home, name: str) -> None:
    await home.up()
    before, killed = home.part(name), home.process(name)
    killed.kill()

    async def back() -> bool:
        now = home.part(name)
        # More than once, when PostgreSQL's other processes are slow to notice that the first has gone.
        return now.restarts > before.restarts and now.state is PartState.READY

    await eventually(back, f"the restart of {name}")
    assert home.process(name) != killed


async def test_reset_refuses_while_up_and_shows_before_it_removes(home: Home) -> None:
    await home.up()
    assert (await home.clotho("reset", "--yes")).code == 1
    await home.down()
    before = sorted(home.folder.rglob("*"))

    shown = await home.clotho("reset", "--dry-run")
    assert shown.code == 0
    assert str(home.folder / "postgres") in shown.out
    assert sorted(home.folder.rglob("*")) == before

    unanswered = await home.clotho("reset")
    assert unanswered.code == 1
    assert sorted(home.folder.rglob("*")) == before


async def test_ctrl_c_leaves_no_process(home: Home) -> None:
    await home.down()
    command = await home.start("up")
    log = asyncio.create_task(command.communicate())

    async def ready() -> bool:
        state = running(home.folder)
        return state is not None and state.ready

    await eventually(ready, "a stack that is ready")
    processes = psutil.Process(command.pid).children(recursive=True)
    assert len(processes) > len(PARTS), "PostgreSQL alone has several"
    os.killpg(command.pid, signal.SIGINT)
    out, err = await log
    assert command.returncode == 0, err.decode()
    assert not living(processes)
    assert "supervisor temporal is ready at http://127.0.0.1" in out.decode()


async def test_a_killed_supervisor_leaves_no_process(home: Home) -> None:
    await home.up()
    supervisor = psutil.Process(home.state().supervisor.pid)
    processes = supervisor.children(recursive=True)
    supervisor.kill()

    async def ended() -> bool:
        return not living(processes)

    await eventually(ended, "the end of every process of the stack")
    assert running(home.folder) is None
    await home.up()
    assert home.state().ready


def test_with_a_real_key_the_scripted_model_stays_out() -> None:
    with temporary_folder() as folder:
        stack = Stack(settings_in(folder, openai_api_key="sk-somebody"))
        assert "llm" not in [part.name for part in stack.supervisor.status()]
        written = (folder / "env").read_text()
    assert "OPENAI" not in written
    assert "somebody" not in written


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
async def test_root_may_keep_its_data_where_no_other_user_can_go(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    settings = settings_in(tmp_path / "data")
    for _ in range(2):
        stack = Stack(settings, names=("postgres",))
        try:
            await stack.supervisor.start()
            database = await asyncpg.connect(stack.environment["DATABASE_URL"])
            await database.execute(
                "INSERT INTO rss_feeds (id, url, name)"
                " VALUES (gen_random_uuid(), random()::text, 'f' || ceil(random() * 1e9))"
            )
            kept = await database.fetchval("SELECT count(*) FROM rss_feeds")
            await database.close()
        finally:
            await stack.supervisor.stop()
    assert kept == 2
    outside = (settings.data_dir / "postgres").resolve()
    answer = await Home(settings).clotho("reset", "--yes")
    assert answer.code == 0, answer.err
    assert not outside.exists()
    assert not settings.data_dir.exists()


async def test_reset_removes_everything(home: Home) -> None:
    await home.down()
    answer = await home.clotho("reset", "--yes")
    assert answer.code == 0, answer.err
    assert not home.folder.exists()


def test_workers_are_given_longer_than_they_take_to_end() -> None:
    assert GRACEFUL_SHUTDOWN.total_seconds() + 30 <= WORKERS_STOP_SECONDS
