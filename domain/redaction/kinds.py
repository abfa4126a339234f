"""The kinds of personal data, and where one was found."""

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What the engine finds by itself; an operator's patterns add kinds of their own."""

    EMAIL = "EMAIL"
    PHONE = "PHONE"
    CARD = "CARD"
    SSN = "SSN"
    IBAN = "IBAN"
    IP = "IP"
    NATIONAL_ID = "NATIONAL_ID"


class Span(NamedTuple):
    """`text[start:end]` is of `kind`."""

    start: int
    end: int
    kind: str
