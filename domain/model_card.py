"""Model cards: what a version of a model is, for people who must answer for it. As data and as Markdown.

Source: M. Mitchell et al., "Model cards for model reporting", FAT* 2019.
"""

from collections.abc import Iterable
from datetime import date, datetime

from domain.base import Model, Sha256
from domain.gate import GateDecision
from domain.model import ModelName
from domain.model_metrics import AnyEvaluation, Slice
from domain.model_status import STALE_HOURS, Health

FEATURES: dict[ModelName, tuple[tuple[str, str], ...]] = {
    "lead": (
        ("score", "what the rules make of the lead's words, 0.5 to 0.8"),
        ("details_len", "characters of the lead's words"),
        ("hour_of_day", "hour of its arrival in UTC, 0 to 23"),
        ("tenant_hash", "a stable number of the tenant, 0 to 9,999"),
        ("intent_enc", "lead_capture, support or info, by rules"),
        ("sentiment_enc", "positive, negative or neutral, by rules"),
        ("urgency_enc", "high or normal, by rules"),
    ),
    "transactions": (
        ("words", "words and pairs of words of the description, by TF-IDF"),
        ("pieces", "three and four letters in a row within words, by TF-IDF"),
        ("amount", "logarithm of one more than the amount in naira, without its sign"),
    ),
}

USE: dict[ModelName, str] = {
    "lead": "Says how likely a lead books, so that people and follow-ups reach the likeliest first.",
    "transactions": "Suggests a category for a transaction; a person's own choice always goes before it.",
}

LIMITS: dict[ModelName, tuple[str, ...]] = {
    "lead": (
        "It is linear in the numbers of categories, of hours and of tenants, which have no natural order.",
        "The rules read English words; a lead in another language is info, neutral and normal to them.",
        "What is missing, and a category or tenant that training did not see, counts as the mean of the training rows.",
        "It learns from leads that were contacted; of those that nobody called it knows nothing.",
    ),
    "transactions": (
        "Words that training did not see count for nothing; then the amount alone decides, with low confidence.",
        "It knows only categories that people have corrected to; rare ones are left out of the training.",
    ),
}

FAIRNESS: dict[ModelName, tuple[str, ...]] = {
    "lead": (
        "No feature is a property of a person, but length, words and hour can stand in for language, disability or time"
        " zone.",
        "The tenant's number is a feature, so that tenants with few bookings so far are scored lower.",
    ),
    "transactions": (
        "The words of a description can stand in for region or religion; compare the slices of businesses.",
    ),
}


class DriftPoint(Model):
    """The drift score of one day."""

    day: date
    score: float


class Card(Model):
    """Everything that is told of a version."""

    model: ModelName
    version: int
    made: datetime
    """The version as a date."""
    active: bool
    health: Health
    """Of the version as it would be if it were loaded now."""
    use: str
    trained_from: datetime | None
    trained_to: datetime
    n_train: int
    n_test: int
    data_sha256: Sha256
    code_version: str
    features: tuple[tuple[str, str], ...]
    evaluation: AnyEvaluation
    gate: GateDecision
    fairness: tuple[str, ...]
    limits: tuple[str, ...]
    drift: tuple[DriftPoint, ...]
    sha256: Sha256
    digest_ok: bool
    """Whether the stored artifact has this hash, looked at for this card."""
    signature: str
    signature_ok: bool
    """Whether the signature is one of the known key for exactly this version, looked at for this card."""
    registered_at: datetime
    approved_by: str | None
    approved_at: datetime | None
    warnings: tuple[str, ...]


def spread(slices: tuple[Slice, ...]) -> str | None:
    """How far the groups of each kind are apart, in a sentence; None where fewer than two were judged."""
    found = []
    for kind in dict.fromkeys(one.kind for one in slices):
        judged = sorted((one for one in slices if one.kind == kind and one.quality is not None), key=_quality)
        if len(judged) > 1:
            low, high = judged[0], judged[-1]
            found.append(f"{kind}: {_quality(low):.3f} ({low.group}) to {_quality(high):.3f} ({high.group})")
    return f"Between groups the quality lies apart as follows. {'; '.join(found)}." if found else None


def warnings(*, age_hours: float, health: Health, digest_ok: bool, signature_ok: bool) -> tuple[str, ...]:
    """What a reader must know before anything else."""
    found = []
    if not digest_ok:
        found.append("The stored artifact is not the one that was registered: it is never loaded.")
    if not signature_ok:
        found.append("The signature does not fit: the version is never loaded.")
    if age_hours > STALE_HOURS:
        found.append(f"Stale: it was made {age_hours:.0f} hours ago, more than {STALE_HOURS}.")
    if health not in {Health.OK, Health.WARNING_STALE, Health.ERROR}:
        found.append(f"Its health is {health}.")
    return tuple(found)


def figures(evaluation: AnyEvaluation) -> list[tuple[str, str]]:
    """The metrics as people read them, with the interval where there is one."""
    quality = evaluation.quality
    interval = f"{quality.value:.4f} (95 %: {quality.low:.4f} to {quality.high:.4f})"
    common = [("calibration error", f"{evaluation.calibration.error:.4f}"), ("held-out rows", str(evaluation.rows))]
    if evaluation.metric == "accuracy":
        return [("accuracy", interval), ("macro F1", f"{evaluation.macro_f1:.4f}"), *common]
    return [
        ("AUC", interval),
        ("log loss", f"{evaluation.log_loss:.4f}"),
        ("Brier score", f"{evaluation.brier:.4f}"),
        (f"precision at {evaluation.threshold:g}", f"{evaluation.precision:.4f}"),
        (f"recall at {evaluation.threshold:g}", f"{evaluation.recall:.4f}"),
        (f"F1 at {evaluation.threshold:g}", f"{evaluation.f1:.4f}"),
        *common,
    ]


def facts(card: Card) -> list[tuple[str, str]]:
    """Where the version comes from, and who vouches for it."""
    window = f"{_day(card.trained_from) if card.trained_from else 'the first row'} to {_day(card.trained_to)}"
    approval = f"{card.approved_by}, {_day(card.approved_at)}" if card.approved_at else "none was asked for"
    return [
        ("state", "active" if card.active else "registered, not active"),
        ("made", _day(card.made)),
        ("training window", window),
        ("rows", f"{card.n_train} trained on, {card.n_test} held out"),
        ("data", f"SHA-256 {card.data_sha256}"),
        ("code", card.code_version),
        ("digest", f"SHA-256 {card.sha256}, {'checked' if card.digest_ok else 'NOT that of the stored artifact'}"),
        ("signature", f"Ed25519 {card.signature}, {'checked' if card.signature_ok else 'NOT valid'}"),
        ("registered", _day(card.registered_at)),
        ("approval", approval),
    ]


def slice_rows(slices: tuple[Slice, ...]) -> list[tuple[str, str, str]]:
    """Name, rows and quality of each slice; of each kind those that are too small to say in one row."""
    rows = [(one.name, str(one.rows), f"{one.quality:.4f}") for one in slices if one.quality is not None]
    small = [one for one in slices if one.quality is None]
    for kind in dict.fromkeys(one.kind for one in small):
        counts = [one.rows for one in small if one.kind == kind]
        rows.append((f"{len(counts)} of {kind}", str(sum(counts)), "too small to say"))
    return rows


def markdown(card: Card) -> str:
    """The card as Markdown."""
    return "\n".join(
        [
            f"# Model card: {card.model} {card.version}",
            "",
            card.use,
            *(f"\n> **Warning.** {_cell(warning)}" for warning in card.warnings),
            *_section("Origin", _table(("", ""), facts(card))),
            *_section("Features", _table(("feature", "what it is"), card.features)),
            *_section("Figures on the held-out rows", _table(("metric", "value"), figures(card.evaluation))),
            *_section("Slices", _table(("slice", "rows", "quality"), slice_rows(card.evaluation.slices))),
            *_section("Gate", _list(check.sentence for check in card.gate.checks)),
            *_section("Drift", _table(("day", "score"), [(f"{p.day}", f"{p.score:.3f}") for p in card.drift])),
            *_section("Fairness", _list(card.fairness)),
            *_section("Known limits", _list(card.limits)),
            "",
        ]
    )


def _section(heading: str, lines: list[str]) -> list[str]:
    return ["", f"## {heading}", "", *(lines or ["Nothing yet."])]


def _table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    cells = [tuple(row) for row in rows]
    if not cells:
        return []
    lines = [headings, ("---",) * len(headings), *(tuple(_cell(cell) for cell in row) for row in cells)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _list(sentences: Iterable[str]) -> list[str]:
    return [f"- {_cell(sentence)}" for sentence in sentences]


def _cell(text: str) -> str:
    """Text from outside (a tenant, a category, a name) in one line, that Markdown does not read."""
    line = " ".join(text.split())
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in line)


def _quality(one: Slice) -> float:
    assert one.quality is not None, "the caller has looked"
    return one.quality


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else ""
