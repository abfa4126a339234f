"""The error catalogue: one sentence each, by unique names."""

import re
from datetime import timedelta

import pytest
from temporalio.exceptions import ApplicationErrorCategory

from domain import errors
from domain.errors import CATALOGUE, MESSAGE_LIMIT, Acts, Kind, failure

KINDS = [value for value in vars(errors).values() if isinstance(value, Kind)]


def test_every_kind_is_in_the_catalogue_under_its_own_name() -> None:
    assert len({kind.type for kind in KINDS}) == len(KINDS)
    assert {kind.type: kind for kind in KINDS} == CATALOGUE
    assert all(re.fullmatch(r"([A-Z][a-z]+)+", kind.type) for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.type)
@pytest.mark.parametrize("message", ["the source gave nothing", "The source gave nothing.", "x" * 10_000])
def test_a_failure_is_one_sentence_that_says_what_to_do_next(kind: Kind, message: str) -> None:
    error = failure(kind, message)
    assert error.message.endswith(f": {kind.next}.")
    assert len(re.findall(r"[.!?](?:\s|$)", error.message)) == 1, "one sentence"
    assert "\n" not in error.message
    assert len(error.message) <= MESSAGE_LIMIT + len(kind.next) + 3
    assert re.match(r"[a-z]", kind.next), "goes on after a colon"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.type)
def test_temporal_is_told_what_the_kind_says(kind: Kind) -> None:
    error = failure(kind, "it failed", retry_after=timedelta(seconds=7))
    assert error.type == kind.type
    assert error.non_retryable is not kind.retryable
    assert error.next_retry_delay == timedelta(seconds=7)
    assert (error.category is ApplicationErrorCategory.BENIGN) is kind.benign


def test_what_retries_may_mend_is_an_operators_when_they_do_not() -> None:
    assert {kind.acts for kind in KINDS if kind.retryable} == {Acts.OPERATOR}
