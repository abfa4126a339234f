"""Text from outside: made fit to store and compare, and searched in linear time (RE2)."""

import functools
import re
import unicodedata
from typing import Any

import re2

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def clean(text: str) -> str:
    """`text` without what UTF-8 and PostgreSQL cannot hold (half surrogates, NUL): each becomes U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", text)


def fold(text: str) -> str:
    """`text` as it is compared: Unicode NFC, every run of white space one space, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def cut(text: str, limit: int) -> str:
    """`text` in at most `limit` characters, an ellipsis last when something is missing."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def compiled(pattern: str) -> Any:
    """An RE2 expression, ready to search in `clean` text.

    Raises:
        ValueError: it is none; the message is a sentence.
    """
    return _compiled(pattern)


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False  # a bad pattern is an answer to its author and no line of our log
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        why = error.args[0]
        raise ValueError(
            f"pattern {pattern!r} is not RE2: {why.decode(errors='replace') if isinstance(why, bytes) else error}"
        ) from error
