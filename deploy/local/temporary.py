"""A stack for one run, on free ports and in a folder that goes with it: for tests and benchmarks."""

import random
import socket
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deploy.local.settings import StackSettings
from deploy.local.stack import PARTS, Stack

_held: list[int] = []
"""Sockets by which this process holds the ports that it was given, until it ends."""


def free_ports(count: int) -> list[int]:
    """Different TCP ports on the loopback that nobody listens on, and that nobody else is given here.

    Below the range from which systems give ports away, so that none is taken before it is used. Several processes that
    start their stacks at the same moment would find the same ports free: each holds its own by their namesakes of UDP,
    which nothing of ours uses.
    """
    free: list[int] = []
    for port in random.sample(range(20_000, 32_000), 1_000):
        with socket.socket() as probe, socket.socket(type=socket.SOCK_DGRAM) as namesake, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            namesake.bind(("127.0.0.1", port))
            _held.append(namesake.detach())
            free.append(port)
        if len(free) == count:
            break
    return free


def settings_in(folder: Path, **changes: object) -> StackSettings:
    """Settings of a stack in `folder`, on free ports, with the scripted model."""
    names = [name for name in StackSettings.model_fields if name.endswith("_port")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    return StackSettings.model_validate({"data_dir": folder, "openai_api_key": None} | ports | changes)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user can reach, as it cannot reach a private one when this process runs as root."""
    with tempfile.TemporaryDirectory(prefix="clotho-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


@contextmanager
def temporary_stack(*, without: Collection[str] = (), **changes: object) -> Iterator[Stack]:
    """A stack that is not started yet, without some parts; its folder is removed at the end."""
    with temporary_folder() as folder:
        yield Stack(settings_in(folder, **changes), names=[name for name in PARTS if name not in without], fsync=False)
