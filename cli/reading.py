"""Text that a person hands over: a file, or standard input where it is named `-`."""

import sys
from contextlib import nullcontext
from pathlib import Path

from cli.output import CommandError

STANDARD_INPUT = Path("-")


def read_text(file: Path, field: str, limit: int) -> str:
    """What a UTF-8 text holds, without a byte order mark.

    Args:
        file: its path, or STANDARD_INPUT.
        field: the argument that names it, for the sentence when it is refused.
        limit: bytes; no more is read.

    Raises:
        CommandError: it cannot be read, is longer, or is no UTF-8.
    """
    try:
        with nullcontext(sys.stdin.buffer) if file == STANDARD_INPUT else file.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        why = f"{field}: {file} cannot be read ({error.strerror}): name a text file; nothing was written."
        raise CommandError(why, field=field) from None
    if len(data) > limit:
        size = f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit // 2**10} KiB"
        raise CommandError(f"{field}: is longer than {size}: shorten it; nothing was written.", field=field)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CommandError(f"{field}: is not UTF-8 text: convert it; nothing was written.", field=field) from None
