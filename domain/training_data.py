"""What models are trained on: labelled rows, whether they are fit for it, and how they are split."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Annotated, TypeVar

from pydantic import Field, StringConstraints

from domain.base import Model
from domain.leads import Intent, LabelledLead, LeadRow, Sentiment, Urgency

MINIMUM = {"lead": 100, "transactions": 50}
"""Rows; that of transactions is the default of RETRAINING_THRESHOLD."""

MINORITY = 0.10
"""Least share of the rarer of two labels."""

MINORITY_OF_EVEN = 2 * MINORITY
"""Least share of a category, in terms of what it would have if all had the same: for two, `MINORITY` of all rows."""

FEWEST_OF_CATEGORY = 5
"""Rows: with fewer a split of 80/20 leaves none to judge the category by."""

LEAK = 0.90
"""AUC from which an id gives the label away: an honest lead model reaches about 0.8."""

_LEAK_NEEDS = 10
"""Rows with and without a label, below which chance alone may reach `LEAK`."""

HELD_OUT = 0.2
"""Share of each label's rows."""

_PARTS = re.compile(r"\d+|[^\W\d_]+")


class LabelledTransaction(Model):
    """A transaction and the category that its owner gave it."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    text: str | None
    amount: Annotated[float, Field(allow_inf_nan=False)] | None
    """In naira."""
    category: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    business: str | None = None
    """For slices; no feature."""


Row = TypeVar("Row", LabelledLead, LabelledTransaction)


class DataCheck(Model):
    """Whether rows are fit to train on."""

    ok: bool
    reason: str
    """Why not, all causes in one sentence with their numbers; empty when they are fit."""
    numbers: dict[str, float]


def check_data(rows: Sequence[Row], minimum: int) -> DataCheck:
    """Enough rows, the rarer label at least 10 %, no nulls, no id twice, no constant feature, no label told by the id.

    Of transactions the rows with nulls and of rare categories are set aside first (`usable`), or a single odd
    correction, which nobody can take back, would keep the model from ever learning: only when too few rows or
    categories are left is it at fault. A lead can be completed, and is waited for.
    """
    kept = usable(rows)
    labels = Counter(_label(row) for row in kept)
    everything = Counter(_label(row) for row in rows)
    least = min(labels.values()) / len(kept) if len(labels) > 1 else 0.0
    most = max(everything.values(), default=0) / len(rows) if rows else 0.0
    nulls = {name: count for name, count in _nulls(rows).items() if count}
    ids = Counter(_id(row) for row in kept)
    repeated = sum(count - 1 for count in ids.values())
    # Whoever has a single tenant has one value of its hash, and is no worse served for it.
    varying = {name: values for name, values in _values(kept).items() if name != "tenant_hash"}
    constant = [name for name, values in varying.items() if len(set(values)) == 1] if len(kept) > 1 else []
    leak = 0.0 if repeated else id_leak([_id(row) for row in kept], [_label(row) for row in kept])
    causes = []
    if len(kept) < minimum:
        causes.append(f"{_count(len(kept), 'row')} of the {minimum} that are needed")
    if len(labels) < 2:
        causes.append(f"{_percent(most)} of the rows have one label" if rows else "no label at all")
    elif not _balanced(labels):
        causes.append(f"the rarest label has {_percent(least)} of the rows, less than {_percent(MINORITY)}")
    if nulls and (causes or isinstance(rows[0], LabelledLead)):
        causes.append(
            f"nulls or unknown categories in {', '.join(f'{name} ({count})' for name, count in nulls.items())},"
            f" first of {next(_id(row) for row in rows if gaps_of(row))}"
        )
    if repeated:
        causes.append(f"{_count(repeated, 'row')} with the id of another")
    if constant:
        causes.append(f"the same value everywhere in {', '.join(constant)}")
    if leak >= LEAK:
        causes.append(f"the id alone tells the label (AUC {leak:.2f})")
    numbers: dict[str, float] = {
        "rows": len(kept),
        "minimum": minimum,
        "set_aside": len(rows) - len(kept),
        "labels": len(labels),
        "rarest_share": round(least, 4),
        "largest_share": round(most, 4),
        "nulls": sum(nulls.values()),
        "duplicate_ids": repeated,
        "constant_features": len(constant),
        "id_leak_auc": round(leak, 4),
    }
    reason = f"Not fit to train on: {'; '.join(causes)}." if causes else ""
    return DataCheck(ok=not causes, reason=reason, numbers=numbers)


def usable(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows that can be trained on: of transactions without those that miss a feature, and without the categories
    that are too rare.

    Too rare is below a fifth of an even share of the rows, or below five rows. The rarest goes first, until none is.
    """
    whole = tuple(row for row in rows if isinstance(row, LabelledLead) or not gaps_of(row))
    labels = Counter(_label(row) for row in whole if isinstance(row, LabelledTransaction))
    while labels and not (_balanced(labels) and min(labels.values()) >= FEWEST_OF_CATEGORY):
        del labels[min(labels, key=lambda label: (labels[label], label))]
    return tuple(row for row in whole if isinstance(row, LabelledLead) or row.category in labels)


def gaps_of(row: LeadRow | LabelledTransaction) -> tuple[str, ...]:
    """The features that a row misses; a category that is none of ours is no value either."""
    names = _LEAD_FEATURES if isinstance(row, LeadRow) else _TRANSACTION_FEATURES
    return tuple(name for name in names if _missing(name, getattr(row, name)))


def _missing(name: str, value: object) -> bool:
    return value in (None, "") or value not in _CATEGORIES.get(name, (value,))


def _balanced(labels: Counter[int | str]) -> bool:
    return min(labels.values()) * len(labels) >= MINORITY_OF_EVEN * sum(labels.values())


class Split(Model):
    """Ids of the two parts, in the order of the rows."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


def split(ids: Sequence[str], labels: Sequence[int | str], seed: int) -> Split:
    """A fifth of each label's rows held out, chosen by SHA-256 of seed and id.

    So it does not depend on the order of the rows, and a row that was held out stays so in nearly every later run: a
    champion has hardly seen the rows on which its challenger is compared with it.
    """
    by_label: dict[int | str, list[str]] = defaultdict(list)
    for one, label in zip(ids, labels, strict=True):
        by_label[label].append(one)
    out: set[str] = set()
    for members in by_label.values():
        members.sort(key=lambda one: hashlib.sha256(f"{seed}:{one}".encode()).digest())
        out.update(members[: round(HELD_OUT * len(members))])
    return Split(train=tuple(one for one in ids if one not in out), held_out=tuple(one for one in ids if one in out))


def id_leak(ids: Sequence[str], labels: Sequence[int | str]) -> float:
    """How well ids alone tell a label: the highest AUC, from 0.5 (not at all) to 1, over labels and ways to look.

    The ways: order (numbers in it as numbers), length, and its first part, its last part and its shape, each as the
    share of the label among the rows of the other half of the data that have the same. Labels with fewer than ten rows
    on either side are passed over.
    """
    order = {one: float(rank) for rank, one in enumerate(sorted(ids, key=_natural))}
    half = [hashlib.sha256(one.encode()).digest()[0] & 1 for one in ids]
    highest = 0.5
    for label, count in Counter(labels).items():
        if min(count, len(ids) - count) < _LEAK_NEEDS:
            continue
        hits = [one == label for one in labels]
        for numbers in ([order[one] for one in ids], [float(len(one)) for one in ids]):
            apart = _auc(numbers, hits)
            highest = max(highest, apart, 1 - apart)
        for part in (_first, _last, _shape):
            highest = max(highest, _crossed([part(one) for one in ids], hits, half))
    return highest


def _crossed(parts: Sequence[str], hits: Sequence[bool], half: Sequence[int]) -> float:
    """AUC of the hits' share by part, learnt on one half and looked at on the other; the mean of both ways."""
    aucs = []
    for side in (0, 1):
        counts, found = Counter[str](), Counter[str]()
        for part, hit, where in zip(parts, hits, half, strict=True):
            if where == side:
                counts[part] += 1
                found[part] += hit
        rate = sum(found.values()) / max(1, sum(counts.values()))
        other = [index for index, where in enumerate(half) if where != side]
        shares = [found[parts[index]] / counts[parts[index]] if counts[parts[index]] else rate for index in other]
        aucs.append(_auc(shares, [hits[index] for index in other]))
    return sum(aucs) / 2


def _auc(numbers: Sequence[float], hits: Sequence[bool]) -> float:
    """The chance that a hit has a higher number than a miss, ties counting half; 0.5 without either."""
    positive = sum(hits)
    negative = len(hits) - positive
    if not positive or not negative:
        return 0.5
    tied: dict[float, list[int]] = defaultdict(lambda: [0, 0])
    for number, hit in zip(numbers, hits, strict=True):
        tied[number][hit] += 1
    below, won = 0, 0.0
    for number in sorted(tied):
        misses, here = tied[number]
        won += here * (below + misses / 2)
        below += misses
    return won / (positive * negative)


def _natural(one: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts numbers inside ids by value."""
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in _PARTS.findall(one))


def _first(one: str) -> str:
    return next(iter(_PARTS.findall(one)), "")


def _last(one: str) -> str:
    return next(reversed(_PARTS.findall(one)), "")


def _shape(one: str) -> str:
    return re.sub(r"\d+", "9", one)


def _id(row: LabelledLead | LabelledTransaction) -> str:
    return row.lead_id if isinstance(row, LabelledLead) else row.id


def _label(row: LabelledLead | LabelledTransaction) -> int | str:
    return row.label if isinstance(row, LabelledLead) else row.category


_LEAD_FEATURES = ("score", "details_len", "hour_of_day", "tenant_hash", "intent", "sentiment", "urgency")
_TRANSACTION_FEATURES = ("text", "amount")
_CATEGORIES: dict[str, tuple[str, ...]] = {
    "intent": tuple(Intent),
    "sentiment": tuple(Sentiment),
    "urgency": tuple(Urgency),
}


def _values(rows: Sequence[Row]) -> dict[str, list[object]]:
    """Every feature's values."""
    if not rows:
        return {}
    names = _LEAD_FEATURES if isinstance(rows[0], LabelledLead) else _TRANSACTION_FEATURES
    return {name: [getattr(row, name) for row in rows] for name in names}


def _nulls(rows: Sequence[Row]) -> dict[str, int]:
    """How many values of each feature are missing."""
    return {name: sum(_missing(name, value) for value in values) for name, values in _values(rows).items()}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def by_id(rows: Sequence[Row]) -> dict[str, Row]:
    """Rows by their id."""
    return {_id(row): row for row in rows}
