"""Outcomes as a CSV file: the export, and its inverse that trusts no cell.

Ten columns in the documented order, the label last. Numbers are written so that they read back as the same number.
"""

import csv
import io
from collections.abc import Iterable

from pydantic import ValidationError

from domain.leads import EXPORT_COLUMNS, Intent, LabelledLead, Outcome, Sentiment, Urgency
from domain.text import cut

_CATEGORIES = {
    "intent": tuple(Intent),
    "sentiment": tuple(Sentiment),
    "urgency": tuple(Urgency),
    "outcome": tuple(Outcome),
}
_MAY_BE_EMPTY = frozenset(EXPORT_COLUMNS) - {"lead_id", "outcome", "label"}
_ALLOWED = {
    "lead_id": "1 to 200 characters without spaces",
    "tenant_hash": "a whole number from 0 to 9999",
    "score": "a number from 0 to 1",
    "details_len": "a whole number from 0 to 2147483647",
    "hour_of_day": "a whole number from 0 to 23",
    "label": "0 or 1",
}


class OutcomesError(ValueError):
    """A file of outcomes is none; the message is a sentence with line and column."""


def write_outcomes(rows: Iterable[LabelledLead]) -> str:
    """The export, header first, lines ended by a line feed; a missing value is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(EXPORT_COLUMNS)
    writer.writerows([_cell(getattr(row, column)) for column in EXPORT_COLUMNS] for row in rows)
    return out.getvalue()


def read_outcomes(text: str, *, gaps: bool = False) -> tuple[LabelledLead, ...]:
    """The rows of a file, in its order.

    Args:
        text: the file; a byte order mark and either kind of line end are allowed.
        gaps: let empty cells of features and repeated leads pass, for a check that counts them; an import does not.

    Raises:
        OutcomesError: a cell is not what its column holds.
    """
    lines = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    rows, seen = [], dict[str, int]()
    try:
        header = next(lines, [])
        if tuple(header) != EXPORT_COLUMNS:
            raise _refused(1, f"the header is {cut(','.join(header), 200)!r} and not {','.join(EXPORT_COLUMNS)}")
        for cells in lines:
            if not cells:
                continue
            row = _row(lines.line_num, cells, gaps)
            if not gaps and row.lead_id in seen:
                raise _refused(lines.line_num, f"lead_id: {row.lead_id!r} is in line {seen[row.lead_id]} already")
            seen[row.lead_id] = lines.line_num
            rows.append(row)
    except csv.Error as error:
        raise _refused(lines.line_num, f"it is no CSV ({error})") from error
    return tuple(rows)


def _row(line: int, cells: list[str], gaps: bool) -> LabelledLead:
    if len(cells) != len(EXPORT_COLUMNS):
        raise _refused(line, f"it has {len(cells)} cells instead of {len(EXPORT_COLUMNS)}")
    values: dict[str, object] = {}
    for column, cell in zip(EXPORT_COLUMNS, cells, strict=True):
        if cell == "" and gaps and column in _MAY_BE_EMPTY:
            values[column] = None
        else:
            values[column] = _value(line, column, cell)
    label = values.pop("label")
    try:
        row = LabelledLead.model_validate(values)
    except ValidationError as error:
        column = str(error.errors()[0]["loc"][0])
        raise _bad_cell(line, column, cells[EXPORT_COLUMNS.index(column)]) from error
    if row.label != label:
        raise _refused(line, f"label: {label} does not go with the outcome {row.outcome}, as only booked is 1")
    return row


def _value(line: int, column: str, cell: str) -> object:
    if column in _CATEGORIES:
        if cell not in _CATEGORIES[column]:
            raise _bad_cell(line, column, cell)
        return cell
    if column == "lead_id":
        return cell
    if not cell.isascii() or cell != cell.strip() or "_" in cell:
        raise _bad_cell(line, column, cell)
    if column == "label" and cell not in ("0", "1"):
        raise _bad_cell(line, column, cell)
    try:
        return float(cell) if column == "score" else int(cell)
    except ValueError as error:
        raise _bad_cell(line, column, cell) from error


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _bad_cell(line: int, column: str, cell: str) -> OutcomesError:
    allowed = _ALLOWED.get(column) or f"one of {', '.join(_CATEGORIES[column])}"
    return _refused(line, f"{column}: {'it is empty' if cell == '' else repr(cut(cell, 80))} where {allowed} belongs")


def _refused(line: int, what: str) -> OutcomesError:
    return OutcomesError(f"Line {line}, {what}: correct the file and send it again; nothing of it was taken.")
