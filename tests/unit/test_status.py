"""The states of markets and proposals: what is not in the tables is impossible."""

from collections.abc import Mapping
from typing import Any

import pytest

from domain.status import MARKET_MOVES, PROPOSAL_MOVES, IllegalMove, MarketStatus, ProposalStatus, move

TABLES: list[tuple[dict[Any, frozenset[Any]], Any]] = [
    (MARKET_MOVES, MarketStatus),
    (PROPOSAL_MOVES, ProposalStatus),
]
PAIRS = [(table, old, new) for table, states in TABLES for old in states for new in states]


@pytest.mark.parametrize(("table", "old", "new"), PAIRS, ids=lambda part: part if isinstance(part, str) else "")
def test_every_pair_is_a_move_of_its_table_or_impossible(table: dict[Any, frozenset[Any]], old: Any, new: Any) -> None:
    if new in table[old] or new is old:
        assert move(table, old, new) is new
    else:
        with pytest.raises(IllegalMove, match=f"^{old} cannot become {new}: "):
            move(table, old, new)


@pytest.mark.parametrize(("table", "states"), TABLES)
def test_every_state_stands_in_its_table(table: dict[Any, frozenset[Any]], states: Any) -> None:
    assert set(table) == set(states)
    assert not any(state in table[state] for state in states)


def reached(table: Mapping[Any, frozenset[Any]], start: Any) -> set[Any]:
    found, todo = {start}, [start]
    while todo:
        new = table[todo.pop()] - found
        found |= new
        todo += new
    return found


def test_every_state_is_reached_from_the_first() -> None:
    assert reached(MARKET_MOVES, MarketStatus.DRAFT) == set(MarketStatus)
    assert reached(PROPOSAL_MOVES, ProposalStatus.PENDING) == set(ProposalStatus)


def test_what_is_over_stays_so() -> None:
    over = {MarketStatus.FINALIZED, MarketStatus.REJECTED, MarketStatus.CANCELED}
    assert {state for state in MarketStatus if not MARKET_MOVES[state]} == over
    over_too = {ProposalStatus.MATCHED, ProposalStatus.REJECTED, ProposalStatus.PUBLISHED}
    assert {state for state in ProposalStatus if not PROPOSAL_MOVES[state]} == over_too
    assert all(reached(MARKET_MOVES, state) & over for state in MarketStatus)
    assert all(reached(PROPOSAL_MOVES, state) & over_too for state in ProposalStatus)


def test_an_outcome_on_chain_is_disputed_or_finalized_and_never_cancelled() -> None:
    assert MarketStatus.CANCELED not in reached(MARKET_MOVES, MarketStatus.RESOLVED)
    assert MARKET_MOVES[MarketStatus.DISPUTED] == {MarketStatus.RESOLVED}
    into_finalized = {state for state in MarketStatus if MarketStatus.FINALIZED in MARKET_MOVES[state]}
    assert into_finalized == {MarketStatus.RESOLVED}, "never out of an open dispute"


def test_a_repeated_attempt_is_no_move() -> None:
    assert move(MARKET_MOVES, MarketStatus.FINALIZED, MarketStatus.FINALIZED) is MarketStatus.FINALIZED


def test_the_refusal_says_what_is_possible() -> None:
    with pytest.raises(IllegalMove, match=r"^resolved cannot become active: possible are disputed, finalized$"):
        move(MARKET_MOVES, MarketStatus.RESOLVED, MarketStatus.ACTIVE)
    with pytest.raises(IllegalMove, match=r"^rejected cannot become active: it is final$"):
        move(MARKET_MOVES, MarketStatus.REJECTED, MarketStatus.ACTIVE)
