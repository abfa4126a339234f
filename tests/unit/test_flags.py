"""Flags: sticky buckets by weight, and a winner only where the figures say so."""

import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from domain.chi_square import chi_square_tail
from domain.flags import Flag, bucket_of, report

TIMING = ({"name": "today", "weight": 3, "value": [1800, 7200]}, {"name": "sooner", "value": [300, 3600]})


def flag(**changes: Any) -> Flag:
    given = {
        "id": "sooner", "setting": "follow_up_timing", "buckets": TIMING, "created_by": "anna",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC), "minimum": 100,
    }  # fmt: skip
    return Flag.model_validate({**given, **changes})


def test_a_lead_stays_in_its_bucket_and_the_weights_hold() -> None:
    leads = [f"lead-{number}" for number in range(8_000)]
    buckets = [bucket_of(flag(), lead).name for lead in leads]
    assert buckets == [bucket_of(flag(minimum=500), lead).name for lead in leads]
    # Four standard deviations of a binomial with a share of 1/4 are 155.
    assert abs(Counter(buckets)["sooner"] - 2_000) < 155
    other = [bucket_of(flag(id="another"), lead).name for lead in leads]
    both = sum(one == other_ == "sooner" for one, other_ in zip(buckets, other, strict=True))
    assert abs(both - 500) < 90, "flags divide leads independently of one another"


def test_what_has_ended_divides_nobody() -> None:
    leads = [f"lead-{number}" for number in range(50)]
    assert {bucket_of(flag(status="promoted", winner="sooner"), lead).name for lead in leads} == {"sooner"}
    assert {bucket_of(flag(status="stopped"), lead).name for lead in leads} == {"today"}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("memory", "yes"), ("enrichment", ""), ("prediction_threshold", 1.5), ("prediction_threshold", True),
        ("follow_up_timing", [7200, 1800]), ("follow_up_timing", []), ("follow_up_timing", [0, 10]),
        ("follow_up_timing", 30),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_its_setting_is_named(setting: str, value: object) -> None:
    good = {"memory": True, "enrichment": "rules-2", "prediction_threshold": 0.6, "follow_up_timing": [60]}[setting]
    with pytest.raises(ValidationError, match="bucket bad: is"):
        flag(setting=setting, buckets=[{"name": "good", "value": good}, {"name": "bad", "value": value}])


def test_buckets_have_names_of_their_own() -> None:
    with pytest.raises(ValidationError, match="same name"):
        flag(buckets=[TIMING[0], TIMING[0]])


def outcomes(**booked: tuple[int, int]) -> list[tuple[str, bool]]:
    """Of each bucket so many that booked, of so many."""
    return [(name, number < good) for name, (good, all_) in booked.items() for number in range(all_)]


def test_the_test_is_pearsons() -> None:
    # 20 and 35 of 100: chi-square = 200 (20·65 - 80·35)² / (55·145·100·100) = 5.6426, p = 0.01753 (from a table).
    found = report(flag(), (), outcomes(today=(20, 100), sooner=(35, 100)))
    assert found.chi_square == pytest.approx(5.6426, abs=1e-4)
    assert found.p_value == pytest.approx(0.01753, abs=1e-4)
    assert found.winner == "sooner"


@pytest.mark.parametrize(
    ("degrees", "critical"), [(1, 3.841), (2, 5.991), (3, 7.815), (4, 9.488)]
)  # the 5 % points of any table of the chi-square distribution
def test_p_values_of_more_buckets(degrees: int, critical: float) -> None:
    assert chi_square_tail(critical, degrees) == pytest.approx(0.05, abs=1e-4)


def test_nothing_is_promoted_before_all_minima_are_met() -> None:
    short = report(flag(), (), outcomes(today=(0, 5_000), sooner=(99, 99)))
    assert (short.winner, short.p_value) == (None, None)
    assert "sooner has 99" in short.sentence


def test_what_comes_after_the_minimum_gives_no_second_chance() -> None:
    level = outcomes(today=(30, 100), sooner=(30, 100))
    assert report(flag(), (), level).winner is None
    assert report(flag(), (), [*level, *outcomes(today=(0, 900), sooner=(900, 900))]).winner is None


def test_a_bucket_must_beat_what_holds_today() -> None:
    three = flag(buckets=[*TIMING, {"name": "never", "value": [86_400]}])
    bad = report(three, (), outcomes(today=(40, 100), sooner=(42, 100), never=(5, 100)))
    assert bad.p_value is not None
    assert bad.p_value < 1e-6
    assert bad.winner is None, "the worst one differs, the best one hardly"
    assert report(three, (), outcomes(today=(60, 100), sooner=(20, 100), never=(20, 100))).winner == "today"


def test_where_nothing_differs_a_winner_is_named_at_most_as_often_as_stated() -> None:
    chance = random.Random(20_260_101)
    wrong = 0
    for _ in range(1_000):
        drawn = [("today" if n % 2 else "sooner", chance.random() < 0.3) for n in range(400)]
        # Somebody looks after every fifty and takes the first winner.
        wrong += any(report(flag(), (), drawn[:look]).winner for look in range(50, 401, 50))
    # 5 %, and three standard deviations of 1,000 repetitions.
    assert wrong <= 50 + 3 * (1_000 * 0.05 * 0.95) ** 0.5


def test_a_real_difference_is_found() -> None:
    chance = random.Random(7)
    found = 0
    for _ in range(200):
        drawn = [("sooner", chance.random() < 0.45) if n % 2 else ("today", chance.random() < 0.2) for n in range(240)]
        found += report(flag(), (), drawn).winner == "sooner"
    assert found >= 180
