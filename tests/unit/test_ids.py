"""Ids: functions of their cause, with inverses."""

from typing import get_args
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ids import Origin, market_id, market_of_workflow, market_workflow_id

ORIGINS = st.sampled_from(get_args(Origin))
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(st.uuids())
def test_a_workflow_id_leads_back_to_its_market(market: UUID) -> None:
    assert market_of_workflow(market_workflow_id(market)) == market
    assert market_workflow_id(market) == f"market-{market}"


@given(st.text() | st.uuids().map(lambda u: f"market-{u.hex}") | st.uuids().map(lambda u: f"market-{u}".upper()))
def test_no_other_text_is_the_workflow_id_of_a_market(text: str) -> None:
    with pytest.raises(ValueError, match="is not the workflow id of a market"):
        market_of_workflow(text)


@given(ORIGINS, KEYS, ORIGINS, KEYS)
def test_one_cause_has_one_market_and_two_have_two(one: Origin, key: str, other: Origin, other_key: str) -> None:
    assert (market_id(one, key) == market_id(other, other_key)) is ((one, key) == (other, other_key))


def test_market_ids_are_fixed_for_ever() -> None:
    # uuid5 by RFC 9562: SHA-1 of the namespace's 16 bytes and the name, with version and variant set.
    assert market_id("manual", "k") == UUID("cb298546-d9b2-5ee8-9a18-dec0b9913b66")


def test_a_cause_without_a_key_has_no_market() -> None:
    with pytest.raises(ValueError, match="which is empty"):
        market_id("news", "")
