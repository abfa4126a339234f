"""Chat lists made up for measuring PII runs: what they hold, what is planted in them, and whether they are whole after.

Every value is made up: reserved domains, numbers of the ranges kept for fiction, the test numbers of card schemes.
"""

import asyncio
import json
import random
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from domain.redaction import Redactor

LONGEST = 100
"""Messages that a writer keeps in a list."""

EXPIRY = 4_102_444_800
"""2100-01-01 in epoch seconds: far away whenever this runs, and the same before and after midnight."""

_WORDS = tuple(
    re.findall(
        "[a-z]+",
        "thanks for the quick reply we looked at the offer again and the team would like to move the meeting to next"
        " week because the budget is not decided yet could you send the order status and the price of the larger plan"
        " please it would help us to compare before the end of the month the delivery was late twice and the invoice"
        " had two lines that nobody here can explain but the support was friendly so we stay for now let us know",
    )
)

_CARDS = ("4111 1111 1111 1111", "5555 5555 5555 4444", "378282246310005")
MARKERS = ("@plant.example.com", " 555 01", "203.0.113.", *_CARDS)
"""Every planted value holds one of these, and nothing else does."""


def _email(chance: random.Random) -> str:
    return f"{chance.choice(_WORDS)}.{chance.randrange(10**6)}@plant.example.com"


def _phone(chance: random.Random) -> str:
    return f"+1 {chance.choice((212, 415, 617))} 555 01{chance.randrange(100):02}"


def _address(chance: random.Random) -> str:
    return f"203.0.113.{chance.randrange(1, 255)}"


def _card(chance: random.Random) -> str:
    return chance.choice(_CARDS)


_PLANTED = (
    ("write to {} about it", _email), ("call me on {} tomorrow", _phone), ("my card is {} as before", _card),
    ("it came from {} last night", _address),
)  # fmt: skip


def key_of(number: int) -> str:
    """The key of a list."""
    return f"mem:tenant{number % 40}:chat-{number:x}"


def messages(number: int, length: int) -> list[dict[str, Any]]:
    """A list's messages, newest first, the same at every call; three in ten hold something planted."""
    chance = random.Random(number)
    made = []
    for place in range(length):
        words = " ".join(chance.choices(_WORDS, k=chance.randrange(6, 24)))
        if chance.random() < 0.3:
            sentence, value = chance.choice(_PLANTED)
            words = f"{words}, {sentence.format(value(chance))}"
        message: dict[str, Any] = {
            "ts": 1_700_000_000 + number * 1_000 - place,
            "role": chance.choice(("user", "assistant")),
            "text": words,
        }
        if chance.random() < 0.1:
            message["pii"] = True
        made.append(message)
    return made


def expiry_of(number: int) -> int | None:
    """When a list expires, in epoch seconds, far away; None for every other, which does not."""
    return None if number % 2 else EXPIRY + number


async def fill(redis: Any, lists: int, items: int) -> None:
    """Store `items` messages in `lists` lists; some are as long as a list gets."""
    lengths = lengths_of(lists, items)
    for first in range(0, lists, 500):
        async with redis.pipeline(transaction=False) as pipe:
            for number in range(first, min(first + 500, lists)):
                pipe.rpush(key_of(number), *(json.dumps(one) for one in messages(number, lengths[number])))
                if (expiry := expiry_of(number)) is not None:
                    pipe.expireat(key_of(number), expiry)
            await pipe.execute()


def lengths_of(lists: int, items: int) -> list[int]:
    """How long each list is: every tenth as long as lists get, the others share the rest."""
    full = [LONGEST if number % 10 == 0 else 0 for number in range(lists)]
    rest, others = items - sum(full), lists - lists // 10 - (lists % 10 > 0)
    if rest <= 0 or rest > others * LONGEST:
        return [max(1, items // lists)] * lists
    share, more = divmod(rest, others)
    made = []
    for length in full:
        made.append(length or share + (more > 0))
        more -= not length
    return made


class Writer:
    """Pushes messages without PII into lists, some thousand in turn, and trims them, as the chat does."""

    def __init__(self, redis: Any, lists: int, rate: int) -> None:
        self._redis, self._lists, self._rate = redis, lists, rate
        self.pushed: dict[int, list[str]] = defaultdict(list)
        """By list, oldest first."""

    async def run(self, stop: asyncio.Event) -> None:
        """Push at the rate until told to stop."""
        chance, count, began = random.Random(0), 0, time.monotonic()
        while not stop.is_set():
            due = int((time.monotonic() - began) * self._rate) - count
            async with self._redis.pipeline(transaction=True) as pipe:
                for _ in range(due):
                    # Some lists often, so that they are trimmed while they are gone over.
                    number = chance.randrange(self._lists) if chance.random() < 0.7 else chance.randrange(100) * 10
                    number %= self._lists
                    item = json.dumps({"ts": f"w{count}", "role": "user", "text": f"message {count} of the writer"})
                    pipe.lpush(key_of(number), item)
                    pipe.ltrim(key_of(number), 0, LONGEST - 1)
                    self.pushed[number].append(item)
                    count += 1
                if due:
                    await pipe.execute()
            await asyncio.sleep(0.02)

    @property
    def count(self) -> int:
        """Messages pushed."""
        return sum(map(len, self.pushed.values()))


async def faults(redis: Any, lists: int, items: int, pushed: dict[int, list[str]], redactor: Redactor) -> Iterator[str]:
    """What is wrong with the lists after a real run: anything missed, lost, reordered or kept too long, in a sentence.

    Every message has to be there at its place with its text redacted, and every other byte of it as it was.
    """
    lengths, found = lengths_of(lists, items), []
    for first in range(0, lists, 500):
        numbers = range(first, min(first + 500, lists))
        async with redis.pipeline(transaction=False) as pipe:
            for number in numbers:
                pipe.lrange(key_of(number), 0, -1)
                pipe.expiretime(key_of(number))
            answers = await pipe.execute()
        for place, number in enumerate(numbers):
            stored, expiry = answers[2 * place], answers[2 * place + 1]
            expected = [*reversed(pushed.get(number, ())), *_redacted(number, lengths[number], redactor)]
            if [one.decode() for one in stored] != (expected[:LONGEST] if number in pushed else expected):
                found.append(f"{key_of(number)} is not what it has to be")
            if expiry != (expiry_of(number) or -1):
                found.append(f"{key_of(number)} expires at {expiry}")
        await asyncio.sleep(0)
    return iter(found)


def _redacted(number: int, length: int, redactor: Redactor) -> list[str]:
    return [json.dumps(one | {"text": redactor.redact(one["text"]).text}) for one in messages(number, length)]
