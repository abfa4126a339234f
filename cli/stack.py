"""`clotho up`, `down`, `status`, `reset`: the embedded stack."""

import asyncio
import functools
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer
from dotenv import dotenv_values
from rich.console import Console
from rich.filesize import decimal
from rich.text import Text

from cli.output import CommandError, Exit, JsonOption, console, emit, fail, say, table
from deploy.local.settings import load_settings
from deploy.local.state import CONTENTS, PartState, StackState, end_leftovers, read_state, running, wait_for_end
from deploy.local.supervisor import Show, StackError

app = typer.Typer()
PANEL = "This machine"
"""Under which `clotho --help` lists the commands."""

P = ParamSpec("P")

_DOWN_SECONDS = 90
"""More than the slowest part may take to stop."""

_POLL_SECONDS = 0.05

_STATE_STYLES = {PartState.READY: "green", PartState.RESTARTING: "bold red", PartState.STOPPED: "red"}

_LOG_STYLES = ("cyan", "magenta", "yellow", "blue", "green", "bright_cyan", "bright_magenta", "bright_yellow")


def _command(body: Callable[P, None]) -> Callable[P, None]:
    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            body(*args, **kwargs)
        except StackError as error:
            fail(_as_command_error(error), as_json=bool(kwargs.get("as_json")))

    return run


def _as_command_error(error: StackError) -> CommandError:
    sentence = f"{error}."
    return CommandError(sentence[:1].upper() + sentence[1:], Exit.FAILED)


@app.command(rich_help_panel=PANEL)
@_command
def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when all is ready and leave it running.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Start all that Clotho needs on this machine: database, Valkey, Temporal, chain, model, source site, workers.

    Streams one log and restarts what dies, until ctrl-C stops all of it cleanly; a second ctrl-C kills it. Data stay
    in .clotho, or where CLOTHO_DATA_DIR says. Ports: CLOTHO_POSTGRES_PORT, CLOTHO_VALKEY_PORT, CLOTHO_TEMPORAL_PORT,
    CLOTHO_TEMPORAL_UI_PORT, CLOTHO_SOLANA_PORT, CLOTHO_LLM_PORT, CLOTHO_SITE_PORT, CLOTHO_SINKS_PORT,
    CLOTHO_SMTP_PORT, HEALTH_PORT. Where OPENAI_API_KEY is set, that model is used and the scripted one stays out.

    Exit status: 0 stopped as asked, or with --detach all is ready; 1 it could not start.
    """
    settings = load_settings()
    if (state := running(settings.data_dir)) is not None:
        raise StackError(
            f"the stack in {settings.data_dir} is already up (process {state.supervisor.pid}): look at it with"
            " `clotho status`, stop it with `clotho down`"
        )
    try:
        # Only here: the servers are an optional part of the installation.
        from deploy.local.stack import run
    except ModuleNotFoundError as error:
        raise StackError(
            f"the embedded stack needs {error.name}, which is not installed: pip install 'clotho[local]'"
        ) from error
    started = time.monotonic()

    def announce() -> None:
        _let_user_review(settings.data_dir)
        _emit_status(settings.data_dir, f"Ready in {time.monotonic() - started:.1f} s.", as_json)

    if detach:
        _start_in_background(settings.data_dir, quiet=as_json)
        announce()
    else:
        asyncio.run(run(settings, show=_shown_on(Console(stderr=True) if as_json else console), when_ready=announce))


@app.command(rich_help_panel=PANEL)
@_command
def down(as_json: JsonOption = False) -> None:
    """Stop the embedded stack: the workers first, which finish what they do, then the rest. Data stay.

    Exit status: 0 nothing runs any more; 1 it did not stop in time.
    """
    folder = load_settings().data_dir
    state = running(folder)
    if state is not None and (supervisor := state.supervisor.find()) is not None:
        supervisor.terminate()
        if wait_for_end([state.supervisor], _DOWN_SECONDS):
            raise StackError(
                f"the stack in {folder} has not stopped within {_DOWN_SECONDS} s: see `clotho status`, or kill process"
                f" {supervisor.pid}, which ends all of it"
            )
    left = end_leftovers(folder)
    if state is not None:
        sentence = f"The stack in {folder} is stopped; its data stay."
    elif left:
        sentence = f"Ended what a killed supervisor had left: {', '.join(left)}."
    else:
        sentence = f"The stack in {folder} was not up."
    emit({"stopped": state is not None, "ended_leftovers": left}, as_json, lambda: say(sentence))


@app.command(rich_help_panel=PANEL)
@_command
def status(as_json: JsonOption = False) -> None:
    """Show the parts of the embedded stack: state, how long, restarts, where.

    Exit status: 0 every part is ready; 1 one is not, or the stack is not up.
    """
    folder = load_settings().data_dir
    if not _emit_status(folder, "", as_json):
        raise typer.Exit(Exit.FAILED)


@app.command(rich_help_panel=PANEL)
@_command
def reset(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and remove nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove all data of the embedded stack: databases, workflows, chain, keys, logs. It asks first.

    Exit status: 0 removed, or shown with --dry-run; 1 refused, because the stack is up or you said no.
    """
    folder = load_settings().data_dir
    if not dry_run and running(folder) is not None:
        raise StackError(f"the stack in {folder} is up: stop it with `clotho down`, then reset it")
    found = [path for name in CONTENTS if (path := folder / name).exists()]
    sizes = {str(path): _size(path) for path in found}
    if not as_json:
        rows = [(decimal(size), path) for path, size in sizes.items()]
        table(["size", "what would go…" if dry_run else "what goes…"], rows, empty=f"There is nothing in {folder}.")
    if not dry_run and found:
        if not yes:
            if not sys.stdin.isatty():
                raise StackError("nothing was removed, as nobody is here to ask: say --yes")
            if not typer.confirm(f"Remove all of this from {folder}, for good?", err=as_json):
                raise StackError("nothing was removed, as you said no")
        end_leftovers(folder)
        for path in found:
            _remove(path)
        if not any(folder.iterdir()):
            folder.rmdir()
    emit({"removed": not dry_run, "bytes": sizes}, as_json, lambda: None if dry_run or not found else say("Removed."))


async def ensure_up(*, quiet: bool = False) -> str:
    """Start the embedded stack in the background unless it is up; returns the address of Temporal's Web UI.

    Raises:
        CommandError: it cannot start, or is up with a part that is not ready.
    """
    try:
        folder = load_settings().data_dir
        if running(folder) is None:
            await asyncio.to_thread(_start_in_background, folder, quiet=quiet)
            await asyncio.to_thread(_let_user_review, folder)
    except StackError as error:
        raise _as_command_error(error) from error
    state = running(folder)
    if state is None or not state.ready:
        raise CommandError(f"The stack in {folder} is not ready: see `clotho status`.", Exit.FAILED)
    return next(part.web for part in state.parts if part.name == "temporal")


def _start_in_background(folder: Path, *, quiet: bool) -> None:
    """Start a supervisor that outlives this command; returns when every part is ready.

    Raises:
        StackError: it ended instead; the sentence is its own.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "deploy.local.stack"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            with Console(quiet=quiet or not console.is_terminal).status("starting") as spinner:
                while supervisor.poll() is None:
                    state = read_state(folder)
                    if state is not None and state.supervisor.pid == supervisor.pid:
                        if state.ready:
                            return
                        waits = ", ".join(part.name for part in state.parts if part.state is not PartState.READY)
                        spinner.update(f"starting: {waits}")
                    time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            supervisor.terminate()
            supervisor.wait()
            raise
        errors.seek(0)
        words = errors.read().strip().splitlines() or [f"the supervisor ended with exit code {supervisor.returncode}"]
        raise StackError(words[-1].rstrip("."))


def _let_user_review(folder: Path) -> None:
    """Make whoever starts a stack a reviewer of it, so that a newcomer can decide at once."""
    # Only here: the other commands of this module need no connections.
    from cli.context import CliSettings
    from db import reviewers
    from db.pool import connect

    try:
        identity = CliSettings(_env_file=folder / "env").identity
    except CommandError:
        return  # a user without a name can act only under the one that CLOTHO_IDENTITY gives later

    async def add() -> None:
        # To this very stack, whatever DATABASE_URL says in the environment.
        async with await connect(dotenv_values(folder / "env")["DATABASE_URL"] or "", max_size=1) as pool:
            await reviewers.add(pool, identity, "clotho up")

    # In a thread: a stack in the foreground is ready while its own event loop runs.
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, add()).result()


def _emit_status(folder: Path, headline: str, as_json: bool) -> bool:
    """Print the state of the stack; returns whether every part is ready."""
    state = running(folder)
    parts = state.parts if state is not None else ()
    ready = state is not None and state.ready and all(part.state is PartState.READY for part in parts)
    data = {
        "running": state is not None,
        "ready": ready,
        "data_dir": str(folder),
        "pid": state.supervisor.pid if state is not None else None,
        "parts": [
            part.model_dump(mode="json", exclude={"process"}) | {"pid": part.process.pid if part.process else None}
            for part in parts
        ],
    }
    emit(data, as_json, lambda: _show_status(folder, state, headline))
    return ready


def _show_status(folder: Path, state: StackState | None, headline: str) -> None:
    if state is None:
        say(f"The stack in {folder} is not up: start it with `clotho up`.")
        return
    now = datetime.now(UTC)
    rows = [
        (
            part.name,
            Text(part.state, _STATE_STYLES.get(part.state, "yellow")),
            timedelta(seconds=int((now - part.since).total_seconds())),
            part.restarts,
            part.web if part.address in part.web else f"{part.address} {part.web}".rstrip(),
        )
        for part in state.parts
    ]
    table(["part", "state", "for", "restarts", "where…"], rows, empty="")
    if console.is_terminal:
        say(f"{headline} Settings: {folder / 'env'}. Logs: {folder / 'logs'}.".strip())


def _shown_on(target: Console) -> Show:
    styles = cycle(_LOG_STYLES)
    style_of: dict[str, str] = {}

    def show(name: str, line: str) -> None:
        if name not in style_of:
            style_of[name] = next(styles)
        target.print(Text.assemble((f"{name:<10} ", style_of[name]), Text.from_ansi(line)), soft_wrap=True)

    return show


def _size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder, through a link too."""
    target = path.resolve()
    files: Any = [target] if target.is_file() else (file for file in target.rglob("*") if file.is_file())
    return sum(file.lstat().st_size for file in files)


def _remove(path: Path) -> None:
    """Remove a file or a folder, and what a link points to."""
    target = path.resolve()
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
    if path.is_symlink():
        path.unlink()
