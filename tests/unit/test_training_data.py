"""Data checks: what is not fit to train on is said with its numbers; and the split."""

import random
from uuid import UUID

import pytest

from bench.made_transactions import made_transactions
from domain.leads import Intent, LabelledLead, Outcome, Sentiment, Urgency
from domain.training_data import LabelledTransaction, check_data, id_leak, split, usable


def leads(count: int = 200, booked: float = 0.3, seed: int = 1) -> list[LabelledLead]:
    chance = random.Random(seed)
    hits = round(count * booked)
    outcomes = [Outcome.BOOKED] * hits + [Outcome.GHOSTED] * (count - hits)
    chance.shuffle(outcomes)
    return [
        LabelledLead(
            lead_id=str(UUID(int=chance.getrandbits(128))),
            tenant_hash=chance.randrange(5),
            intent=chance.choice(tuple(Intent)),
            sentiment=chance.choice(tuple(Sentiment)),
            urgency=chance.choice(tuple(Urgency)),
            score=round(chance.uniform(0.5, 0.8), 2),
            details_len=chance.randrange(500),
            hour_of_day=chance.randrange(24),
            outcome=outcome,
        )
        for outcome in outcomes
    ]


def test_good_rows_are_fit_to_train_on() -> None:
    check = check_data(leads(100, booked=0.1), 100)
    assert (check.ok, check.reason) == (True, "")
    assert check.numbers["rows"] == 100
    assert check.numbers["rarest_share"] == 0.1


def test_too_few_rows() -> None:
    check = check_data(leads(99), 100)
    assert not check.ok
    assert check.reason == "Not fit to train on: 99 rows of the 100 that are needed."


@pytest.mark.parametrize(
    ("booked", "says"), [(0.05, "the rarest label has 5 % of the rows"), (0.0, "100 % of the rows")]
)
def test_one_label_has_nearly_all_rows(booked: float, says: str) -> None:
    check = check_data(leads(booked=booked), 100)
    assert not check.ok
    assert says in check.reason
    assert check.numbers["largest_share"] == 1 - booked


def test_nulls_and_unknown_categories() -> None:
    rows = leads()
    rows[0] = rows[0].model_copy(update={"score": None})
    rows[1] = rows[1].model_copy(update={"score": None, "intent": "telepathy"})
    check = check_data(rows, 100)
    assert not check.ok
    assert f"score (2), intent (1), first of {rows[0].lead_id}" in check.reason
    assert check.numbers["nulls"] == 3


def test_an_id_twice() -> None:
    rows = leads()
    check = check_data([*rows, rows[0], rows[0].model_copy(update={"score": 0.5})], 100)
    assert not check.ok
    assert "2 rows with the id of another" in check.reason
    assert check.numbers["duplicate_ids"] == 2


def test_a_feature_that_never_varies() -> None:
    check = check_data([row.model_copy(update={"hour_of_day": 17, "urgency": "high"}) for row in leads()], 100)
    assert not check.ok
    assert "the same value everywhere in hour_of_day, urgency" in check.reason
    assert check.numbers["constant_features"] == 2


def test_a_single_tenant_is_no_fault() -> None:
    assert check_data([row.model_copy(update={"tenant_hash": 17}) for row in leads()], 100).ok


def telling(way: str, number: int, row: LabelledLead) -> str:
    """An id that gives the label away."""
    mixed = number * 37 % 1009
    return {
        "order": f"lead-{number + 1}",
        "prefix": f"{'m' if row.label else 'az'[number % 2]}-{row.lead_id}",
        "suffix": f"{row.lead_id}-{'m' if row.label else 'az'[number % 2]}",
        "length": f"{mixed:0{9 if row.label else 6}}",
        "shape": f"{mixed}{'/' if row.label else '-'}7",
    }[way]


@pytest.mark.parametrize("way", ["order", "prefix", "suffix", "length", "shape"])
def test_ids_that_tell_the_label(way: str) -> None:
    rows = sorted(leads(), key=lambda row: row.label)
    renamed = [row.model_copy(update={"lead_id": telling(way, number, row)}) for number, row in enumerate(rows)]
    check = check_data(renamed, 100)
    assert not check.ok
    assert "the id alone tells the label" in check.reason
    assert check.numbers["id_leak_auc"] > 0.9


def test_random_ids_and_numbers_in_order_of_arrival_tell_nothing() -> None:
    for seed in range(40):
        rows = leads(100, booked=0.1, seed=seed)
        arrived = [str(number) for number in range(len(rows))]
        labels = [row.label for row in rows]
        assert max(id_leak([row.lead_id for row in rows], labels), id_leak(arrived, labels)) < 0.9


def test_all_causes_are_said_at_once() -> None:
    rows = [row.model_copy(update={"hour_of_day": 3, "score": None}) for row in leads(50, booked=0.02)]
    reason = check_data(rows, 100).reason
    for cause in ("50 rows of the 100", "rarest label has 2 %", "score (50)", "in score, hour_of_day"):
        assert cause in reason
    assert reason.count(".") == 1 + reason.count("0.")


def test_no_rows_at_all() -> None:
    assert check_data((), 100).reason == "Not fit to train on: 0 rows of the 100 that are needed; no label at all."


def test_rare_categories_are_set_aside_and_counted() -> None:
    odd = LabelledTransaction(id="odd", text="a goat", amount=30_000.0, category="livestock")
    rows = (*made_transactions(200, 1), odd)
    assert usable(rows) == rows[:-1]
    check = check_data(rows, 50)
    assert check.ok
    assert (check.numbers["rows"], check.numbers["set_aside"]) == (200, 1)


def test_a_transaction_without_amount_or_words_is_set_aside_and_counted() -> None:
    whole = made_transactions(200, 1)
    gaps = [whole[0].model_copy(update={"id": "no amount", "amount": None}),
            whole[1].model_copy(update={"id": "no words", "text": ""})]  # fmt: skip
    assert usable((*gaps, *whole)) == whole
    check = check_data((*gaps, *whole), 50)
    assert (check.ok, check.reason) == (True, "")
    assert (check.numbers["rows"], check.numbers["set_aside"], check.numbers["nulls"]) == (200, 2, 2)


def test_a_category_of_four_rows_is_rare_however_few_there_are_in_all() -> None:
    rows = [row.model_copy(update={"category": "abc"[n % 3]}) for n, row in enumerate(made_transactions(24, 1))]
    four, five = ([row.model_copy(update={"category": "d"}) for row in made_transactions(n, 2)] for n in (4, 5))
    assert len(usable([*rows, *four])) == 24
    assert len(usable([*rows, *five])) == 29


def test_transactions_of_nearly_one_category_are_not_fit() -> None:
    fuel = [row.model_copy(update={"category": "fuel"}) for row in made_transactions(95, 1)]
    check = check_data([*fuel, *made_transactions(5, 2)], 50)
    assert not check.ok
    assert "% of the rows have one label" in check.reason
    assert check.numbers["largest_share"] >= 0.95


@pytest.mark.parametrize(("field", "value"), [("text", "the same"), ("amount", 5.0), ("text", None), ("amount", None)])
def test_transactions_without_words_or_amounts_are_not_fit(field: str, value: object) -> None:
    check = check_data([row.model_copy(update={field: value}) for row in made_transactions(100, 1)], 50)
    assert not check.ok
    assert field in check.reason


def test_a_fifth_of_each_label_is_held_out() -> None:
    rows = leads(200, booked=0.3)
    parts = split([row.lead_id for row in rows], [row.label for row in rows], 7)
    assert not set(parts.train) & set(parts.held_out)
    assert len(parts.train) + len(parts.held_out) == 200
    labels = {row.lead_id: row.label for row in rows}
    assert (len(parts.held_out), sum(labels[one] for one in parts.held_out)) == (40, 12)


def test_what_is_held_out_depends_on_the_seed_and_not_on_the_order_of_the_rows() -> None:
    rows = leads()
    ids, labels = [row.lead_id for row in rows], [row.label for row in rows]
    first = set(split(ids, labels, 7).held_out)
    assert set(split(ids[::-1], labels[::-1], 7).held_out) == first
    assert set(split(ids, labels, 8).held_out) != first


def test_a_row_stays_held_out_when_more_rows_come() -> None:
    rows = leads(1_100)
    ids, labels = [row.lead_id for row in rows], [row.label for row in rows]
    before, after = (split(ids[:count], labels[:count], 7) for count in (1_000, 1_100))
    trained_on = set(before.train) & set(after.held_out)
    assert len(trained_on) <= 0.1 * len(after.held_out)
