"""What a test can make the node do wrong, as real clusters, providers and networks do."""

from typing import Literal

from pydantic import Field

from domain.base import Model


class Faults(Model):
    """The argument of `clotho_setFaults`; it replaces the faults in force, and an empty object clears them.

    Counters run down with each fault that happened. Faults live in memory: a restart clears them too.
    """

    drop_transactions: int = Field(0, ge=0)
    """The next so many transactions are accepted by sendTransaction and never land."""
    drop_replies: int = Field(0, ge=0)
    """The next so many transactions land, and the connection breaks before sendTransaction answers. A client that
    sends again by itself, as Solana's AsyncClient does once, needs 2 to notice."""
    duplicate: int = Field(0, ge=0)
    """The next so many transactions are delivered twice, as a provider's proxy does that retries: they land once, and
    with preflight the sender gets the second delivery's answer, "already been processed"."""
    expire_blockhashes: bool = False
    """At once, so many slots pass that no blockhash given out so far is valid."""
    delay_ms: int = Field(0, ge=0)
    """Every request waits so many milliseconds before it is handled, whether or not its sender still waits."""
    http_status: Literal[429, 503] | None = None
    """With `http_requests`: the next so many HTTP requests are answered with this status and Retry-After."""
    http_requests: int = Field(1, ge=0)
    retry_after: int = Field(1, ge=0)
    """Seconds, as sent in Retry-After."""
