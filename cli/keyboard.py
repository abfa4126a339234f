"""The person at the keyboard: questions that ctrl-C ends, and single keys."""

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def asking() -> Iterator[None]:
    """While the block waits for somebody, ctrl-C ends the waiting at once; asyncio would only note it for later."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise KeyboardInterrupt
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def single_keys() -> Iterator[None]:
    """Keys are read one by one and not shown; those typed while something else is under way are kept."""
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextmanager
def whole_lines() -> Iterator[None]:
    """Within `single_keys`, a question that is answered with a line; keys typed before it are no part of the answer."""
    before = termios.tcgetattr(sys.stdin)
    mode = termios.tcgetattr(sys.stdin)
    mode[3] |= termios.ICANON | termios.ECHO
    try:
        termios.tcsetattr(sys.stdin, termios.TCSAFLUSH, mode)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


async def next_key() -> str:
    """The next key; ctrl-C cancels the waiting task, as it does wherever else a task waits.

    Raises:
        EOFError: there is nobody any more.
    """
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(sys.stdin)
    typed = os.read(sys.stdin.fileno(), 1)
    if typed in {b"", b"\x04"}:
        raise EOFError
    return typed.decode("ascii", errors="replace")
