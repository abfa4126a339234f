"""Outcomes as CSV: the export reads back as it was, and no bad cell gets in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.leads import Intent, LabelledLead, Outcome, Sentiment, Urgency
from domain.outcomes_csv import OutcomesError, read_outcomes, write_outcomes

HEADER = "lead_id,tenant_hash,intent,sentiment,urgency,score,details_len,hour_of_day,outcome,label"
GOOD = "l-1,17,support,neutral,high,0.65,120,14,booked,1"

rows = st.builds(
    LabelledLead,
    lead_id=st.from_regex(r"[-a-zA-Z0-9_:,;\"'=@é漢]{1,30}", fullmatch=True),
    tenant_hash=st.integers(0, 9_999),
    intent=st.sampled_from(Intent),
    sentiment=st.sampled_from(Sentiment),
    urgency=st.sampled_from(Urgency),
    score=st.floats(0, 1),
    details_len=st.integers(0, 2**31 - 1),
    hour_of_day=st.integers(0, 23),
    outcome=st.sampled_from(Outcome),
)


@given(st.lists(rows, max_size=5, unique_by=lambda row: row.lead_id))
def test_an_export_reads_back_as_the_same_rows(exported: list[LabelledLead]) -> None:
    assert read_outcomes(write_outcomes(exported)) == tuple(exported)


def test_the_export_has_the_documented_columns_and_the_label_last() -> None:
    (row,) = read_outcomes(f"{HEADER}\n{GOOD}\n")
    assert write_outcomes([row]) == f"{HEADER}\n{GOOD}\n"
    assert row.label == 1


def test_a_spreadsheets_file_is_read_too() -> None:
    assert read_outcomes(f"\ufeff{HEADER}\r\n{GOOD}\r\n\r\n") == read_outcomes(f"{HEADER}\n{GOOD}")


@pytest.mark.parametrize(
    ("column", "cell", "belongs"),
    [
        ("lead_id", "", "1 to 200 characters"),
        ("lead_id", "l 1", "1 to 200 characters without spaces"),
        ("lead_id", "l-\x001", "1 to 200 characters without spaces"),
        ("lead_id", "x" * 201, "1 to 200 characters"),
        ("tenant_hash", "10000", "a whole number from 0 to 9999"),
        ("tenant_hash", "1_0", "a whole number from 0 to 9999"),
        ("intent", "buy", "one of lead_capture, support, info"),
        ("sentiment", "", "one of positive, negative, neutral"),
        ("urgency", "High", "one of high, normal"),
        ("score", "nan", "a number from 0 to 1"),
        ("score", "1.2", "a number from 0 to 1"),
        ("score", "0,5", "a number from 0 to 1"),
        ("details_len", "-1", "a whole number"),
        ("details_len", "3.0", "a whole number"),
        ("details_len", "9" * 5_000, "a whole number"),
        ("hour_of_day", "24", "a whole number from 0 to 23"),
        ("hour_of_day", "\u0663", "a whole number from 0 to 23"),
        ("outcome", "sold", "one of booked, ghosted"),
        ("label", "2", "0 or 1"),
        ("label", "yes", "0 or 1"),
        ("label", "0", "does not go with the outcome booked"),
    ],
)
def test_a_bad_cell_is_named_by_line_and_column(column: str, cell: str, belongs: str) -> None:
    cells = dict(zip(HEADER.split(","), GOOD.split(","), strict=True)) | {column: cell}
    line = ",".join(f'"{one}"' if "," in one else one for one in cells.values())
    with pytest.raises(OutcomesError) as refused:
        read_outcomes(f"{HEADER}\n{GOOD.replace('l-1', 'l-0')}\n{line}\n")
    message = str(refused.value)
    assert message.startswith(f"Line 3, {column}: ")
    assert belongs in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the header is ''"),
        (HEADER.replace("label", "booked"), "the header is"),
        (f"{HEADER}\n{GOOD},1", "it has 11 cells instead of 10"),
        (f"{HEADER}\n{GOOD}\n{GOOD}", "Line 3, lead_id: 'l-1' is in line 2 already"),
        (f'{HEADER}\n"l-1', "it is no CSV"),
    ],
)
def test_a_file_that_is_none_says_why(text: str, says: str) -> None:
    with pytest.raises(OutcomesError, match=says):
        read_outcomes(text)


def test_a_check_lets_gaps_and_repetitions_through_to_count_them() -> None:
    gappy = GOOD.replace("0.65", "").replace("support", "")
    first, second = read_outcomes(f"{HEADER}\n{gappy}\n{GOOD}", gaps=True)
    assert (first.score, first.intent, first.lead_id) == (None, None, second.lead_id)
    with pytest.raises(OutcomesError, match="Line 2, outcome: it is empty"):
        read_outcomes(f"{HEADER}\n{GOOD.replace('booked', '')}", gaps=True)
