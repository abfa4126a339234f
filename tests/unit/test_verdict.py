"""Verdicts: three-valued, monotone, and the reason named when there is none."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.rules import Logic
from domain.verdict import GRAVITY, Abstention, ConditionResult, Result, Verdict, combine, excluding

KNOWN = [ConditionResult(condition="c", result=result) for result in (Result.MET, Result.NOT_MET)]
UNKNOWN = [ConditionResult(condition="c", result=Result.UNKNOWN, why_unknown=why) for why in Abstention]
RESULTS = st.sampled_from([*KNOWN, *UNKNOWN])
LOGICS = st.sampled_from([Logic(), Logic.model_validate({"then": "NO", "else": "YES"})])


@given(st.lists(RESULTS, min_size=1, max_size=4), st.lists(RESULTS, max_size=3), LOGICS, st.data())
def test_an_outcome_once_reached_never_changes(
    to_meet: list[ConditionResult], not_to_count: list[ConditionResult], logic: Logic, data: st.DataObject
) -> None:
    reached, _ = combine(to_meet, not_to_count, logic)

    def later(results: list[ConditionResult]) -> list[ConditionResult]:
        return [
            data.draw(st.sampled_from([*KNOWN, result])) if result.result is Result.UNKNOWN else result
            for result in results
        ]

    became, _ = combine(later(to_meet), later(not_to_count), logic)
    assert reached in {None, became}


@given(st.lists(RESULTS, min_size=1, max_size=4), st.lists(RESULTS, max_size=3), LOGICS)
def test_the_verdict_is_then_else_or_a_reason(
    to_meet: list[ConditionResult], not_to_count: list[ConditionResult], logic: Logic
) -> None:
    outcome, why = combine(to_meet, not_to_count, logic)
    met = [result.result for result in to_meet]
    counted = [result.result for result in not_to_count]
    if Result.NOT_MET in met or Result.MET in counted:
        assert (outcome, why) == (logic.else_, None)
        assert excluding(to_meet, not_to_count)
    elif Result.UNKNOWN in met + counted:
        unknown = [result.why_unknown for result in (*to_meet, *not_to_count) if result.why_unknown is not None]
        assert (outcome, why) == (None, min(unknown, key=GRAVITY.index))
    else:
        assert (outcome, why) == (logic.then, None)


@given(st.lists(RESULTS, min_size=1, max_size=4), st.lists(RESULTS, max_size=3))
def test_the_order_of_results_does_not_matter(
    to_meet: list[ConditionResult], not_to_count: list[ConditionResult]
) -> None:
    verdicts = {combine(order, reversed(not_to_count), Logic()) for order in permutations(to_meet)}
    assert verdicts == {combine(to_meet, not_to_count, Logic())}


def test_what_waiting_mends_is_named_last() -> None:
    assert set(GRAVITY) == set(Abstention)
    assert GRAVITY[-1] is Abstention.TOO_EARLY


@pytest.mark.parametrize(("result", "why"), [("unknown", None), ("met", "too_early"), ("not_met", "conflict")])
def test_a_reason_belongs_to_what_is_unknown(result: str, why: str | None) -> None:
    with pytest.raises(ValidationError, match="why_unknown belongs to an unknown result"):
        ConditionResult.model_validate({"condition": "c", "result": result, "why_unknown": why})


@pytest.mark.parametrize(("outcome", "abstention"), [(None, None), ("YES", "conflict")])
def test_a_verdict_is_an_outcome_or_an_abstention(outcome: str | None, abstention: str | None) -> None:
    with pytest.raises(ValidationError, match="either an outcome or an abstention"):
        Verdict.model_validate({"outcome": outcome, "abstention": abstention, "results": ()})
