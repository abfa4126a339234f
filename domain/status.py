"""The states of markets and proposals and the only moves between them; the database refuses every other."""

from enum import StrEnum
from typing import TypeVar


class MarketStatus(StrEnum):
    """Where a market is in its lifecycle."""

    DRAFT = "draft"
    PENDING_REVIEW = "pending_review"
    ACTIVE = "active"
    RESOLVING = "resolving"
    RESOLVED = "resolved"
    DISPUTED = "disputed"
    FINALIZED = "finalized"
    REJECTED = "rejected"
    CANCELED = "canceled"


class ProposalStatus(StrEnum):
    """Where a proposal is on its way to a market."""

    PENDING = "pending"
    PROCESSING = "processing"
    MATCHED = "matched"
    DRAFT_CREATED = "draft_created"
    APPROVED = "approved"
    REJECTED = "rejected"
    NEEDS_HUMAN = "needs_human"
    PUBLISHED = "published"


_M, _P = MarketStatus, ProposalStatus

MARKET_MOVES: dict[MarketStatus, frozenset[MarketStatus]] = {
    _M.DRAFT: frozenset({_M.PENDING_REVIEW, _M.ACTIVE, _M.REJECTED, _M.CANCELED}),
    _M.PENDING_REVIEW: frozenset({_M.ACTIVE, _M.REJECTED, _M.CANCELED}),
    _M.ACTIVE: frozenset({_M.RESOLVING, _M.CANCELED}),
    _M.RESOLVING: frozenset({_M.RESOLVED, _M.CANCELED}),
    _M.RESOLVED: frozenset({_M.DISPUTED, _M.FINALIZED}),
    _M.DISPUTED: frozenset({_M.RESOLVED}),
    _M.FINALIZED: frozenset(),
    _M.REJECTED: frozenset(),
    _M.CANCELED: frozenset(),
}
"""Once an outcome is on chain a market can only be disputed or finalised, never cancelled."""

PROPOSAL_MOVES: dict[ProposalStatus, frozenset[ProposalStatus]] = {
    _P.PENDING: frozenset({_P.PROCESSING, _P.REJECTED}),
    _P.PROCESSING: frozenset({_P.MATCHED, _P.DRAFT_CREATED, _P.REJECTED}),
    _P.MATCHED: frozenset(),
    _P.DRAFT_CREATED: frozenset({_P.APPROVED, _P.REJECTED, _P.NEEDS_HUMAN}),
    _P.NEEDS_HUMAN: frozenset({_P.APPROVED, _P.REJECTED}),
    _P.APPROVED: frozenset({_P.PUBLISHED, _P.REJECTED}),
    _P.REJECTED: frozenset(),
    _P.PUBLISHED: frozenset(),
}


S = TypeVar("S", MarketStatus, ProposalStatus)


class IllegalMove(ValueError):
    """A state was asked to become one that its table does not lead to."""


def move(table: dict[S, frozenset[S]], old: S, new: S) -> S:
    """`new`, when the table leads there from `old` or `old` is it already (a repeated attempt).

    Raises:
        IllegalMove: it does not.
    """
    if new is not old and new not in table[old]:
        possible = ", ".join(sorted(table[old]))
        raise IllegalMove(f"{old} cannot become {new}: {f'possible are {possible}' if possible else 'it is final'}")
    return new
