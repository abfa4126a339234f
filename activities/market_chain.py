"""Markets on a chain, whatever program keeps them: one interface, and what passes through it.

Deployments with a program of their own (an Anchor program with `create_market`, `resolution` …) implement
`MarketChain` over it; nothing outside the implementation knows how a record is kept.
"""

from typing import Annotated, Protocol
from uuid import UUID

from pydantic import AwareDatetime, Field

from domain.base import Model, Sha256
from domain.market import Outcome
from domain.rules import Answer
from domain.status import MarketStatus


class ChainRecord(Model):
    """A market as the chain shows it to everyone."""

    address: str
    market_id: UUID
    rules_sha256: Sha256
    title: str
    """Cut to what the chain holds."""
    uri: str
    """Where the rules are served."""
    expiry: AwareDatetime
    status: MarketStatus
    """One of active, resolved, canceled and finalized."""
    ai_version: str
    outcome: Outcome | None = None
    evidence_sha256: Sha256 | None = None
    """Root over the evidence that the outcome follows from."""
    resolved_at: AwareDatetime | None = None
    dispute_id: UUID | None = None
    """The dispute that overturned an earlier outcome."""
    immutable: bool
    """Nobody holds an authority over the record any more."""


class NewRecord(Model):
    """A market to be published."""

    market_id: UUID
    rules_sha256: Sha256
    title: str
    uri: str
    expiry: AwareDatetime
    ai_version: str


class Settlement(Model):
    """An outcome, and the look at the sources that it follows from."""

    market_id: UUID
    look: int
    outcome: Answer
    evidence_sha256: Sha256


class Overturn(Model):
    """Another outcome, and the dispute that won it."""

    market_id: UUID
    dispute_id: UUID
    outcome: Answer
    evidence_sha256: Sha256


class Written(Model):
    """A change that is on chain: the record as it now is, and the transaction that did it."""

    record: ChainRecord
    signature: str
    slot: int


class Holdings(Model):
    """Tokens of one owner in one market, in millionths of a token."""

    yes: Annotated[int, Field(ge=0)]
    no: Annotated[int, Field(ge=0)]


class MarketChain(Protocol):
    """Writes and reads markets on a chain.

    Every write may be called again, at the same time too: its effect happens once, and each call returns what is on
    chain. All raise ApplicationError: ChainUnreachable, ChainExpired, ChainConflict (the record is in a state that
    excludes the change), ChainRejected, ChainUnfunded.
    """

    async def publish(self, record: NewRecord) -> Written:
        """Create a market's record."""
        ...

    async def settle(self, settlement: Settlement) -> Written:
        """Write the outcome of an active market."""
        ...

    async def overturn(self, overturn: Overturn) -> Written:
        """Replace the outcome of a resolved market."""
        ...

    async def cancel(self, market_id: UUID) -> Written | None:
        """Cancel an active market, with outcome VOID; None when it has no record and no earlier write can make one."""
        ...

    async def finalize(self, market_id: UUID) -> Written:
        """Make the record of a resolved market immutable; returns when that cannot be rolled back."""
        ...

    async def read(self, market_id: UUID) -> ChainRecord | None:
        """A market's record; None when there is none."""
        ...

    async def holdings(self, market_id: UUID, owner: str) -> Holdings:
        """What `owner` (an address) holds of a published market.

        Raises:
            ApplicationError: BadInput when `owner` is no address, and as above.
        """
        ...
