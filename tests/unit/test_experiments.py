"""A/B tests of prompts: who gets the variant, who wins, and that looking often makes no winner."""

import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from bench.experiments import named_after
from domain.experiments import ALPHA, Arm, Experiment, ExperimentReport, Outcome, SafeTest, arm_of, report

SUBJECTS = [str(UUID(int=number)) for number in range(2_000)]


def experiment(**fields: Any) -> Experiment:
    known = {
        "id": "ties",
        "prompt_type": "resolution",
        "ai_version": "ai_v1.0.0_gpt35_20240601",
        "control": "v1",
        "variant": "v2",
        "variant_sha256": "0" * 64,
        "metric": "undisputed",
        "start": datetime(2026, 1, 1, tzinfo=UTC),
        "created_by": "anna",
    }
    return Experiment.model_validate(known | fields)


def played(test: Experiment, control: float, variant: float, seed: int = 1) -> list[Outcome]:
    """What becomes of the subjects, when each arm succeeds at its rate."""
    chance = random.Random(seed)
    arms = [arm_of(test, subject) for subject in SUBJECTS]
    return [Outcome(arm=a, success=chance.random() < (variant if a is Arm.VARIANT else control)) for a in arms]


def look(test: Experiment, outcomes: list[Outcome]) -> ExperimentReport:
    return report(test, outcomes, dict(Counter(outcome.arm for outcome in outcomes)), {})


def test_a_subject_gets_the_same_arm_whenever_it_is_asked() -> None:
    first = {subject: arm_of(experiment(), subject) for subject in SUBJECTS}
    again = {subject: arm_of(experiment(), subject) for subject in reversed(SUBJECTS)}
    assert first == again
    assert Counter(first.values())[Arm.VARIANT] == pytest.approx(200, abs=45)


def test_another_test_has_other_subjects_in_its_variant() -> None:
    here, there = (
        {s for s in SUBJECTS if arm_of(experiment(id=id, share=0.5), s) is Arm.VARIANT} for id in ("one", "two")
    )
    assert len(here & there) == pytest.approx(500, abs=80)


def test_a_real_winner_is_named_and_the_bound_excludes_zero() -> None:
    found = look(experiment(share=0.5), played(experiment(share=0.5), 0.7, 0.85))
    assert found.winner is Arm.VARIANT
    assert 0 <= found.lower < 0.15 < found.upper
    assert found.evidence >= 1 / ALPHA


def test_a_worse_variant_loses() -> None:
    found = look(experiment(share=0.5), played(experiment(share=0.5), 0.85, 0.7))
    assert found.winner is Arm.CONTROL
    assert found.upper <= 0
    assert "lost" in found.sentence


def test_no_difference_is_no_winner_and_said_plainly() -> None:
    found = look(experiment(), played(experiment(), 0.7, 0.7))
    assert found.winner is None
    assert found.lower < 0 < found.upper
    assert found.sentence.startswith("No winner yet")


def test_nobody_wins_before_every_arm_has_its_minimum() -> None:
    few = [Outcome(arm=arm, success=arm is Arm.VARIANT) for _ in range(40) for arm in Arm]
    test = experiment(share=0.5, minimum=41)
    found = look(test, few)
    assert found.evidence > 1 / ALPHA
    assert found.winner is None
    assert "control has 40" in found.sentence
    more = [Outcome(arm=arm, success=arm is Arm.VARIANT) for arm in Arm]
    assert look(test, few + more).winner is Arm.VARIANT


def test_without_outcomes_there_is_a_report() -> None:
    found = look(experiment(), [])
    assert (found.winner, found.difference, found.lower, found.upper) == (None, None, -1, 1)


def test_who_looks_after_every_outcome_names_few_false_winners() -> None:
    chance = random.Random(7)
    tests = 300
    false = sum(named_after(0.7, 0.7, 0.5, 1_000, chance) is not None for _ in range(tests))
    # Were the chance 5 %, more than 27 of 300 would come once in a thousand.
    assert false <= 27


def test_a_gain_of_ten_points_is_found() -> None:
    chance = random.Random(8)
    found = [named_after(0.7, 0.8, 0.5, 3_000, chance) for _ in range(40)]
    assert sum(one is not None for one in found) >= 36


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.98])
def test_the_bounds_hold_the_true_difference_at_every_look(rate: float) -> None:
    chance = random.Random(9)
    tests, missed = 100, 0
    for _ in range(tests):
        true = SafeTest(0.25, 0.1 if rate < 0.9 else -0.1)
        for _ in range(800):
            arm = Arm.VARIANT if chance.random() < 0.25 else Arm.CONTROL
            shift = (0.1 if rate < 0.9 else -0.1) if arm is Arm.VARIANT else 0
            true.add(arm, chance.random() < rate + shift)
        missed += true.refuted
    assert missed <= 12


def test_outcomes_count_in_whatever_order_the_arms_come_in() -> None:
    one, other = SafeTest(0.1), SafeTest(0.1)
    for number in range(900):
        one.add(Arm.CONTROL, number % 3 > 0)
    for number in range(100):
        one.add(Arm.VARIANT, number % 5 > 0)
    for number in range(100):
        other.add(Arm.VARIANT, number % 5 > 0)
        for part in range(9):
            other.add(Arm.CONTROL, (number * 9 + part) % 3 > 0)
    assert one.highest == pytest.approx(other.highest)


@pytest.mark.parametrize(
    "fields",
    [{"share": 0}, {"share": 0.6}, {"minimum": 1}, {"id": "No Id"}, {"metric": "clicks"}, {"variant": "../v2"}],
)
def test_a_bad_definition_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        experiment(**fields)
