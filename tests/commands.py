"""`clotho` without its start-up: commands run in processes forked from one that has loaded the program.

Loading takes half a second of CPU, and the tests run hundreds of commands. What a command gets (arguments, environment,
folder, standard input) and gives (output, exit status) is as if a shell had started it. Run as a module it is the
process that forks: `python -m tests.commands SOCKET`; it ends with its standard input.
"""

import asyncio
import json
import os
import select
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

from tests.support import eventually

_REQUEST_LIMIT = 1_000_000


class Commands:
    """Runs commands in forks of the process that listens at a socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, stdin: bytes
    ) -> tuple[int, bytes, bytes]:
        """Run `clotho` to its end; returns exit status, standard output and standard error."""
        loop = asyncio.get_running_loop()
        with (
            tempfile.TemporaryFile() as given,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            socket.socket(socket.AF_UNIX) as connection,
        ):
            given.write(stdin)
            given.seek(0)
            connection.setblocking(False)
            await loop.sock_connect(connection, str(self._path))
            request = json.dumps([list(arguments), dict(environment), str(folder)]).encode()
            # The files go with the first byte, which the rest may have to wait behind.
            socket.send_fds(connection, [b"!"], [given.fileno(), out.fileno(), err.fileno()])
            await loop.sock_sendall(connection, request + b"\n")
            status = int(await loop.sock_recv(connection, 16))
            out.seek(0)
            err.seek(0)
            return status, out.read(), err.read()


@asynccontextmanager
async def commands() -> AsyncIterator[Commands]:
    """The process that forks, for as long as the block runs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "socket")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__, str(path), stdin=asyncio.subprocess.PIPE, start_new_session=True,
            cwd=Path(__file__).parents[1],
        )  # fmt: skip

        async def listens() -> bool:
            assert process.returncode is None, "the process that forks has ended"
            return path.exists()

        try:
            await eventually(listens, "the process that forks commands")
            yield Commands(path)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()


def _serve(path: str) -> None:
    import cli.main  # noqa: F401 - what takes so long; done once, before the first fork

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{path}.new")
        listening.listen(64)
        Path(f"{path}.new").rename(path)
        while True:
            ready, _, _ = select.select([listening, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _attend(connection)
            connection.close()


def _attend(connection: socket.socket) -> NoReturn:
    """Run one command in a fork, and tell how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as stream:
        request = json.loads(stream.readline(_REQUEST_LIMIT))
    pid = os.fork()
    if pid == 0:
        connection.close()
        _become(files, *request)
    _, status = os.waitpid(pid, 0)
    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(files: list[int], arguments: list[str], environment: dict[str, str], folder: str) -> NoReturn:
    from cli.main import main

    for place, file in enumerate(files):
        os.dup2(file, place)
    streams: list[Any] = [open(place, mode, encoding="utf-8", closefd=False) for place, mode in enumerate("rww")]  # noqa: SIM115
    sys.stdin, sys.stdout, sys.stderr = streams
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["clotho", *arguments]
    main()


if __name__ == "__main__":
    _serve(sys.argv[1])
