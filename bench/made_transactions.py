"""Transactions as a Nigerian business's owner would word them, made by chance from tables of words, with categories.

A share of them is labelled wrongly, as people do, so that nothing can be right about all.
"""

import random

from domain.training_data import LabelledTransaction

ITEMS: dict[str, tuple[tuple[str, ...], float]] = {
    "fuel": (("diesel for generator", "petrol", "fuel station", "AGO 50 litres", "engine oil"), 35_000),
    "software": (
        ("hosting subscription", "accounting app", "cloud storage", "domain renewal", "antivirus licence"),
        60_000,
    ),
    "rent": (
        ("office rent", "shop rent Yaba", "warehouse lease", "rent and service charge", "co-working desk"),
        900_000,
    ),
    "travel": (("flight Lagos to Abuja", "hotel Port Harcourt", "ride to client", "bus fare", "toll Lekki"), 80_000),
    "salaries": (
        ("salary of staff", "wages for June", "driver allowance", "casual workers", "13th month pay"),
        400_000,
    ),
    "bank charges": (("transfer fee", "SMS alert charge", "card maintenance", "stamp duty", "COT"), 900),
    "office supplies": (("A4 paper", "printer toner", "stationery", "whiteboard markers", "envelopes"), 18_000),
    "utilities": (
        ("electricity prepaid token", "water bill", "waste disposal", "internet bundle", "NEPA bill"),
        45_000,
    ),
}
"""What is bought, by category, and the usual amount in naira."""

_PLACES = ("Ikeja", "Surulere", "VI", "Kano branch", "Ibadan", "head office", "")
_MARKS = ("", "POS", "inv 2291", "paid", "part payment", "ref 0045", "urgent")


def made_transactions(count: int, seed: int, *, wrong: float = 0.02) -> tuple[LabelledTransaction, ...]:
    """So many transactions.

    Args:
        count: how many.
        seed: of all chance.
        wrong: share with the category of another.
    """
    chance = random.Random(seed)
    return tuple(_made(number, chance, wrong) for number in range(count))


def _made(number: int, chance: random.Random, wrong: float) -> LabelledTransaction:
    category = chance.choice(tuple(ITEMS))
    items, usual = ITEMS[category]
    words = [chance.choice(items), chance.choice(_PLACES), chance.choice(_MARKS)]
    chance.shuffle(words)
    text = " ".join(word for word in words if word)
    if chance.random() < 0.3:
        text = text.upper()
    return LabelledTransaction(
        id=f"{chance.getrandbits(64):016x}",
        text=text,
        amount=round(usual * chance.lognormvariate(0, 0.6), 2),
        category=chance.choice(tuple(ITEMS)) if chance.random() < wrong else category,
        business=f"business-{number % 7}",
    )
