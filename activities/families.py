"""What the two families of models do each in its own way: which rows, how they are trained on and judged.

What costs CPU is a plain function, and loads scikit-learn or numpy only when it is called.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from db import feedback, leads
from db.pool import Connection, Pool
from domain import artifact
from domain.artifact import LeadArtifact, TransactionsArtifact
from domain.classification import StoredFeedback
from domain.leads import LabelledLead
from domain.model import SEED
from domain.model_metrics import AnyEvaluation, Comparison
from domain.training_data import MINIMUM, DataCheck, LabelledTransaction, by_id, check_data, gaps_of, split, usable

Row = TypeVar("Row", LabelledLead, LabelledTransaction)


@dataclass(frozen=True)
class Data(Generic[Row]):
    """The labelled rows as of a cut-off, in an order that stays."""

    rows: tuple[Row, ...]
    since: datetime | None
    """When the oldest came in."""
    unused: int = 0
    """Rows that no registered version was trained on; of leads it does not matter."""

    @property
    def sha256(self) -> str:
        """Of the rows as JSON lines."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(row.model_dump_json().encode() + b"\n")
        return digest.hexdigest()


@dataclass(frozen=True)
class Measured:
    """A candidate on the held-out rows."""

    evaluation: AnyEvaluation
    comparison: Comparison | None
    """With the champion on the same rows; None: there is none."""
    overlap: int
    """Ids on both sides of the split."""


class Family(Protocol):
    """One family of models."""

    async def data(self, pool: Pool, cutoff: datetime) -> Data[Any]:
        """The rows as of the cut-off."""
        ...

    def check(self, data: Data[Any]) -> DataCheck:
        """Whether they are fit to train on."""
        ...

    def fit(self, data: Data[Any], version: int) -> Any:
        """The artifact of a candidate."""
        ...

    def measure(self, data: Data[Any], candidate: Any, champion: Any) -> Measured:
        """Judge a candidate, and the champion if there is one, on the rows that were held out."""
        ...

    def control(self, data: Data[Any], seed: int) -> float:
        """AUC or accuracy after the same training on shuffled labels."""
        ...

    async def registered(self, connection: Connection, data: Data[Any], version: int) -> None:
        """What else belongs into the transaction that registers a version."""
        ...


class LeadFamily:
    """Lead conversion: newest outcomes, a logistic regression, judged by AUC."""

    async def data(self, pool: Pool, cutoff: datetime) -> Data[LabelledLead]:
        """Leads with an outcome."""
        return Data(tuple(await leads.training_set(pool, cutoff)), await leads.trained_from(pool, cutoff))

    def check(self, data: Data[LabelledLead]) -> DataCheck:
        """By the rules of `check_data`."""
        return check_data(data.rows, MINIMUM["lead"])

    def fit(self, data: Data[LabelledLead], version: int) -> LeadArtifact:
        """By scikit-learn."""
        from activities import trainers

        return trainers.train_lead(data.rows, version=version, seed=SEED).artifact

    def measure(self, data: Data[LabelledLead], candidate: LeadArtifact, champion: LeadArtifact | None) -> Measured:
        """AUC and its company; slices by tenant and intent."""
        from domain import evaluation

        parts = split([row.lead_id for row in data.rows], [row.label for row in data.rows], SEED)
        rows = _held_out(data.rows, parts.held_out)
        labels = [row.label for row in rows]
        slices = {"tenant": [str(row.tenant_hash) for row in rows], "intent": [str(row.intent) for row in rows]}
        ours = [artifact.score(candidate, row) for row in rows]
        comparison = None
        if champion is not None:
            comparison = evaluation.compare(labels, ours, [artifact.score(champion, row) for row in rows])
        return Measured(
            evaluation.evaluate(labels, ours, slices, seed=SEED),
            comparison,
            len({*parts.train} & {*parts.held_out}),
        )

    def control(self, data: Data[LabelledLead], seed: int) -> float:
        """AUC."""
        from activities import trainers

        return trainers.train_lead(data.rows, version=1, seed=seed, control=True).artifact.metrics.auc

    async def registered(self, connection: Connection, data: Data[LabelledLead], version: int) -> None:
        """Nothing: an outcome is not used up."""


class TransactionsFamily:
    """Expense classification: people's corrections, n-grams and the amount, judged by accuracy.

    What was used before is trained on again, or the model would forget it; the split keeps a row that was held out
    where it was, so that the champion has hardly seen the rows on which it is compared.

    Args:
        threshold: unused corrections that a retraining is worth.
        batch: corrections that are marked as used under one batch id.
    """

    def __init__(self, threshold: int, batch: int) -> None:
        self._threshold, self._batch = threshold, batch

    async def data(self, pool: Pool, cutoff: datetime) -> Data[LabelledTransaction]:
        """Corrections and confirmations of categories."""
        said = await feedback.training_set(pool, cutoff)
        rows = tuple(_labelled(one) for one in said)
        return Data(
            rows,
            await feedback.trained_from(pool, cutoff),
            sum(not (one.used_in_training or gaps_of(row)) for one, row in zip(said, rows, strict=True)),
        )

    def check(self, data: Data[LabelledTransaction]) -> DataCheck:
        """By the rules of `check_data`, and with enough that is new."""
        check = check_data(data.rows, self._threshold)
        numbers = check.numbers | {"unused": data.unused}
        if data.unused >= self._threshold:
            return check.model_copy(update={"numbers": numbers})
        why = f"Only {data.unused} corrections are unused, of the {self._threshold} that a retraining is worth."
        return DataCheck(ok=False, reason=f"{why} {check.reason}".strip(), numbers=numbers)

    def fit(self, data: Data[LabelledTransaction], version: int) -> TransactionsArtifact:
        """By scikit-learn."""
        from activities import trainers

        return trainers.train_transactions(data.rows, version=version, seed=SEED).artifact

    def measure(
        self, data: Data[LabelledTransaction], candidate: TransactionsArtifact, champion: TransactionsArtifact | None
    ) -> Measured:
        """Accuracy and its company; slices by business and category."""
        from domain import evaluation

        kept = usable(data.rows)
        parts = split([row.id for row in kept], [row.category for row in kept], SEED)
        rows = _held_out(kept, parts.held_out)
        labels = [row.category for row in rows]
        slices = {"business": [row.business or "none" for row in rows], "category": labels}
        ours = _answers(candidate, rows)
        comparison = evaluation.compare_classes(labels, ours, _answers(champion, rows)) if champion else None
        return Measured(
            evaluation.evaluate_classes(labels, *ours, slices), comparison, len({*parts.train} & {*parts.held_out})
        )

    def control(self, data: Data[LabelledTransaction], seed: int) -> float:
        """Accuracy."""
        from activities import trainers

        return trainers.train_transactions(data.rows, version=1, seed=seed, control=True).artifact.metrics.accuracy

    async def registered(self, connection: Connection, data: Data[LabelledTransaction], version: int) -> None:
        """Mark as used what was new, each batch under an id of its own; what was set aside was not used."""
        new = await feedback.unused_of(connection, [UUID(row.id) for row in usable(data.rows)])
        for number, start in enumerate(range(0, len(new), self._batch), 1):
            batch = f"transactions-{version}-{number}"
            await feedback.mark_used(connection, new[start : start + self._batch], batch)


def _labelled(said: StoredFeedback) -> LabelledTransaction:
    return LabelledTransaction(
        id=str(said.id),
        text=said.item_description,
        amount=None if said.amount is None else float(said.amount),
        category=said.user_correction,
        business=None if said.business_id is None else str(said.business_id),
    )


def _held_out(rows: Sequence[Row], ids: Sequence[str]) -> list[Row]:
    found = by_id(rows)
    return [found[one] for one in ids]


def _answers(model: TransactionsArtifact, rows: Sequence[LabelledTransaction]) -> tuple[list[str], list[float]]:
    """What a model says of rows, and how sure it is."""
    said = [artifact.classify(model, row.text or "", row.amount) for row in rows]
    return [one.category for one in said], [one.confidence for one in said]
