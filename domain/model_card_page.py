"""The model card as one HTML page: no script, nothing fetched, plots as SVG in the page."""

from collections.abc import Iterable, Sequence
from html import escape

from domain.model_card import Card, facts, figures, slice_rows
from domain.model_metrics import Slice
from domain.model_status import HIGH_DRIFT

_SIDE = 260
"""Pixels of a plot's area."""

_EDGE = 34
"""Pixels around it for what is written there."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top;
border-bottom: 1px solid #ddd; overflow-wrap: anywhere; }
.warning { background: #fff3cd; border-left: 4px solid #d39e00; padding: .5rem .8rem; }
.plots { display: flex; flex-wrap: wrap; gap: 1.5rem; } figure { margin: 0; } figcaption { font-weight: 600; }
svg text { font: 11px system-ui, sans-serif; fill: #444; }
"""


def page(card: Card) -> str:
    """The page."""
    title = f"Model card: {card.model} {card.version}"
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1><p>{escape(card.use)}</p>",
            *(f'<p class="warning"><strong>Warning.</strong> {escape(one)}</p>' for one in card.warnings),
            "<h2>Origin</h2>",
            _table(facts(card)),
            "<h2>Figures on the held-out rows</h2>",
            _table(figures(card.evaluation)),
            f'<div class="plots">{"".join(_plots(card))}</div>',
            "<h2>Slices</h2>",
            _table(slice_rows(card.evaluation.slices)),
            "<h2>Features</h2>",
            _table(card.features),
            "<h2>Gate</h2>",
            _list(check.sentence for check in card.gate.checks),
            "<h2>Fairness</h2>",
            _list(card.fairness),
            "<h2>Known limits</h2>",
            _list(card.limits),
            "</body></html>\n",
        ]
    )


def _plots(card: Card) -> Iterable[str]:
    if card.evaluation.metric == "auc":
        yield _plot("ROC", "false positive rate", "true positive rate", _diagonal() + _line(card.evaluation.roc))
    said = [(one.said, one.came_true) for one in card.evaluation.calibration.bins]
    yield _plot("Calibration", "probability said", "share that came true", _diagonal() + _line(said) + _dots(said))
    yield _bars("Slices", [one for one in card.evaluation.slices if one.quality is not None])
    yield _drift(card)


def _drift(card: Card) -> str:
    top = max([HIGH_DRIFT * 1.25, *(one.score for one in card.drift)])
    last = max(len(card.drift) - 1, 1)
    points = [(place / last, one.score / top) for place, one in enumerate(card.drift)]
    limit = [(0.0, HIGH_DRIFT / top), (1.0, HIGH_DRIFT / top)]
    days = f"{card.drift[0].day} to {card.drift[-1].day}" if card.drift else "no day yet"
    return _plot(
        f"Drift (limit {HIGH_DRIFT:g})", days, "standard deviations", _line(limit, "#c0392b") + _line(points)
        + _dots(points), top=top,
    )  # fmt: skip


def _plot(title: str, below: str, beside: str, drawn: str, top: float = 1.0) -> str:
    """A square plot: from (0, 0) at the lower left to (1, 1); `top` is written where 1 is."""
    size = _SIDE + 2 * _EDGE
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg role="img" aria-label="{escape(title)}"'
        f' width="{size}" height="{size}" viewBox="0 0 {size} {size}">'
        f'<rect x="{_EDGE}" y="{_EDGE}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#999"/>{drawn}'
        f'<text x="{_EDGE + _SIDE / 2}" y="{size - 8}" text-anchor="middle">{escape(below)}</text>'
        f'<text transform="translate(14 {_EDGE + _SIDE / 2}) rotate(-90)" text-anchor="middle">{escape(beside)}</text>'
        f'<text x="{_EDGE - 4}" y="{_EDGE + 4}" text-anchor="end">{top:.3g}</text>'
        f'<text x="{_EDGE - 4}" y="{_EDGE + _SIDE}" text-anchor="end">0</text></svg></figure>'
    )


def _bars(title: str, slices: Sequence[Slice]) -> str:
    """A bar for each slice, from 0 to 1, with two standard errors to either side."""
    height, label = 22, 150
    drawn = []
    for place, one in enumerate(slices):
        middle = _EDGE + place * height + height / 2
        quality = one.quality or 0.0
        reach = 2 * (one.standard_error or 0.0)
        low, high = (label + _SIDE * min(max(edge, 0.0), 1.0) for edge in (quality - reach, quality + reach))
        drawn.append(
            f'<text x="{label - 6}" y="{middle + 4:.1f}" text-anchor="end">{escape(one.name[:24])}</text>'
            f'<rect x="{label}" y="{middle - 7:.1f}" width="{_SIDE * quality:.1f}" height="14" fill="#7fb3d5"/>'
            f'<path d="M{low:.1f} {middle:.1f}H{high:.1f}" stroke="#1b4f72" stroke-width="2"/>'
        )
    total = 2 * _EDGE + height * max(len(slices), 1)
    nothing = "" if slices else f'<text x="{label}" y="{_EDGE + 14}">no slice is large enough</text>'
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg role="img" aria-label="{escape(title)}"'
        f' width="{label + _SIDE + _EDGE}" height="{total}">{"".join(drawn)}{nothing}</svg></figure>'
    )


def _diagonal() -> str:
    return _line([(0.0, 0.0), (1.0, 1.0)], "#bbb")


def _line(points: Sequence[tuple[float, float]], colour: str = "#1b4f72") -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(_place, points))
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _dots(points: Sequence[tuple[float, float]]) -> str:
    return "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#1b4f72"/>' for x, y in map(_place, points))


def _place(point: tuple[float, float]) -> tuple[float, float]:
    return _EDGE + _SIDE * point[0], _EDGE + _SIDE * (1 - point[1])


def _table(rows: Iterable[Sequence[str]]) -> str:
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _list(sentences: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"
