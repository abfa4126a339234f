"""How well proposals that ask the same are found, and how often one that asks something else is taken for one.

`python -m bench.duplicates --json`: opens a market on each of 200 questions through the real step (patterns, prompts,
Postgres), then screens each question again in other words (a duplicate), and questions that only look alike: the same
with other dates, another number, the direction turned, and questions that nobody has asked. `--data FILE`: questions of
one's own in the bundled file's shape. The model is the embedded script unless OPENAI_BASE_URL says otherwise.
"""

import argparse
import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import UUID

import openai
from temporalio.testing import ActivityEnvironment

from activities.llm import LlmSteps
from activities.llm_client import LlmClient
from activities.screening import Screening
from db import ai_config, proposals
from db.pool import Pool, connect
from deploy.local.data import FOLDER, QUESTIONS_FILE, Question, load_questions, load_series
from deploy.local.temporary import temporary_stack
from domain import ids
from domain.canonical import model_sha256
from domain.market import DraftRequest, Proposal

AT_ONCE = 8
_ISO = re.compile(r"\b(\d{4})-(\d{2})-(\d{2})\b")
_SYNONYMS = {
    "higher than": "greater than", "above": "over", "have increased": "have risen", "before": "prior to",
    "released": "launched", "exceed": "be more than", "announce": "publicly announce", "win": "be the winner of",
}  # fmt: skip


def filled(question: Question) -> str:
    """The question with days in the places where the data set leaves them open."""
    due = question.asked_on
    later = [resolution.date for resolution in question.resolutions if resolution.date > due]
    resolution = later[0] if later else due + timedelta(days=30)
    return question.question.replace("{forecast_due_date}", str(due)).replace("{resolution_date}", str(resolution))


# Rewordings: each gives the text back as it is where it has nothing to do.


def no_capitals(text: str) -> str:
    """As somebody types in a hurry."""
    return text.lower()


def no_question_mark(text: str) -> str:
    """Other spacing, no question mark."""
    return text.replace(" ", "  ", 3).rstrip("? ")


def long_dates(text: str) -> str:
    """January 5, 2026 for 2026-01-05."""
    return _ISO.sub(lambda found: f"{date.fromisoformat(found[0]):%B} {int(found[3])}, {found[1]}", text)


def synonyms(text: str) -> str:
    """One common expression for another."""
    for word, other in _SYNONYMS.items():
        text = re.sub(rf"\b{word}\b", other, text, count=1)
    return text


def slip_of_the_pen(text: str) -> str:
    """Two letters of the longest small word change places."""
    words = re.findall(r"\b[a-z]{6,}\b", text)
    if not words:
        return text
    longest = max(words, key=len)
    return text.replace(longest, longest[:3] + longest[4] + longest[3] + longest[5:], 1)


def date_first(text: str) -> str:
    """The last date moves to the front."""
    found = re.search(r" (?P<when>(?:by|before|on|in) (?:\w+ \d{1,2}, )?20\d\d(?:-\d\d-\d\d)?)\?$", text)
    if found is None or not text.startswith("Will ") or "compared" in text:
        return text
    return f"{found['when'].capitalize()}, will {text[5 : found.start()]}?"


def asked_otherwise(text: str) -> str:
    """Whether instead of how likely, or with some words before."""
    if text.startswith("What is the probability that "):
        claim = re.match(r"What is the probability that (.+?) will (.+)", text, re.DOTALL)
        return f"Will {claim[1]} {claim[2]}" if claim else text
    return f"What do you think, {text[0].lower()}{text[1:]}" if text.startswith("Will ") else text


REWORDINGS: tuple[Callable[[str], str], ...] = (
    no_capitals,
    no_question_mark,
    long_dates,
    synonyms,
    slip_of_the_pen,
    date_first,
    asked_otherwise,
)


# Questions that look alike and ask something else; None where there is nothing to change.


def other_date(text: str) -> str | None:
    """The last date a week later."""
    dates = list(_ISO.finditer(text))
    if not dates:
        return None
    last = dates[-1]
    return text[: last.start()] + str(date.fromisoformat(last[0]) + timedelta(days=7)) + text[last.end() :]


def other_number(text: str) -> str | None:
    """The first number that is part of no date, one more."""
    found = re.search(r"(?<![\w.,-])\d+(?![\w-]|[.,]\d)", text)
    return text[: found.start()] + str(int(found[0]) + 1) + text[found.end() :] if found else None


def turned(text: str) -> str | None:
    """The other direction."""
    for word, other in {
        "higher": "lower",
        "increased": "decreased",
        "above": "below",
        "more than": "less than",
    }.items():
        if re.search(rf"\b{word}\b", text):
            return re.sub(rf"\b{word}\b", other, text, count=1)
    return None


def swapped_dates(text: str) -> str | None:
    """Two dates in each other's places."""
    dates = list(_ISO.finditer(text))
    if len(dates) != 2 or dates[0][0] == dates[1][0]:
        return None
    one, other = dates
    return text[: one.start()] + other[0] + text[one.end() : other.start()] + one[0] + text[other.end() :]


ALIKE: tuple[Callable[[str], str | None], ...] = (other_date, other_number, turned, swapped_dates)


class _Bench:
    def __init__(self, pool: Pool, llm: LlmClient, ai_version: str) -> None:
        self._pool, self._ai_version = pool, ai_version
        self._steps, self._screening = LlmSteps(pool, llm), Screening(pool, llm)
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def open(self, asked: Proposal) -> tuple[UUID, UUID | None, str]:
        """Have a market drafted: its id, the market matched instead, and why there is none."""
        key = model_sha256(asked)
        market_id = ids.market_id("proposal", key)
        await proposals.insert(self._pool, market_id, key, asked)
        result = await ActivityEnvironment().run(self._steps.draft_market, DraftRequest(market_id=market_id))
        return market_id, result.matched, result.refusal

    async def matched(self, asked: Proposal) -> UUID | None:
        """The open market that a proposal is matched with."""
        async with self._gate:
            # No market has this id, so that none is left out as one's own.
            own = ids.market_id("manual", model_sha256(asked))
            return (await self._screening.screen(own, asked, self._ai_version)).matched


async def measure(count: int, data: Path) -> dict[str, Any]:
    """Open `count` markets and screen what is asked again, and what is not."""
    with temporary_stack(without=("workers", "temporal", "solana", "valkey", "site")) as stack:
        await stack.supervisor.start()
        try:
            async with AsyncExitStack() as resources:
                pool = await resources.enter_async_context(await connect(stack.environment["DATABASE_URL"]))
                client = openai.AsyncOpenAI(
                    api_key=stack.environment["OPENAI_API_KEY"],
                    base_url=stack.environment["OPENAI_BASE_URL"],
                    max_retries=0,
                )
                llm = LlmClient(await resources.enter_async_context(client), pool)
                ai_version = str(await ai_config.get(pool, "ai_version"))
                return await _measure(_Bench(pool, llm, ai_version), count, _questions(data))
        finally:
            await stack.supervisor.stop()


def _questions(data: Path) -> list[Proposal]:
    """Every question of the file, and about every bundled series where the file alone has too few."""
    expiry = (datetime.now(UTC) + timedelta(days=365)).replace(microsecond=0)
    asked = [_proposal(filled(q), f"{q.criteria}\nSource: {q.url}", expiry) for q in load_questions(data)]
    asked += [
        _proposal(
            one.question.format(forecast_due_date=dates[0], resolution_date=dates[-1]), f"Source: {one.url}", expiry
        )
        for one in load_series()
        if len(dates := [observation.date for observation in one.observations]) > 1
    ]
    return list({(one.text, one.criteria): one for one in asked}.values())


def _proposal(text: str, criteria: str, expiry: datetime) -> Proposal:
    return Proposal(text=text[:500], criteria=criteria[:4_000], expiry=expiry, proposer="bench")


async def _measure(bench: _Bench, count: int, questions: list[Proposal]) -> dict[str, Any]:
    opened: list[tuple[UUID, Proposal]] = []
    unasked: list[Proposal] = []
    refused, false_among_new = 0, []
    started = time.monotonic()
    for asked in questions:
        if len(opened) == count:
            unasked.append(asked)
            continue
        market_id, matched, refusal = await bench.open(asked)
        if matched:
            false_among_new.append(f"{asked.text} = {refusal}")
        elif refusal:
            refused += 1
        else:
            opened.append((market_id, asked))
    again = [
        (rewording.__name__, market_id, asked.model_copy(update={"text": text}))
        for (market_id, asked), first in zip(opened, cycle(range(len(REWORDINGS))), strict=False)
        # The next one in turn that changes something.
        for rewording, text in [_reworded(asked.text, first)]
    ]
    alike = [
        (change.__name__, asked.model_copy(update={"text": text}))
        for _, asked in opened
        for change in ALIKE
        if (text := change(asked.text)) is not None
    ]
    # What a change has made may be another question of the file: then it is one that was asked.
    taken = {asked.text for _, asked in opened}
    alike = [one for one in alike if one[1].text not in taken] + [("unasked", asked) for asked in unasked]
    found = await asyncio.gather(*(bench.matched(asked) for _, _, asked in again))
    wrong = await asyncio.gather(*(bench.matched(asked) for _, asked in alike))
    right = [matched == market_id for matched, (_, market_id, _) in zip(found, again, strict=True)]
    mistaken = sum(m is not None for m in wrong) + sum(
        m not in {None, i} for m, (_, i, _) in zip(found, again, strict=True)
    )
    mistaken += len(false_among_new)
    return {
        "open_markets": len(opened),
        "refused_as_markets": refused,
        "duplicates": len(again),
        "found": sum(right),
        "not_duplicates": len(alike) + count,
        "mistaken": mistaken,
        "precision": round(sum(right) / (sum(right) + mistaken), 4) if right else None,
        "recall": round(sum(right) / len(right), 4) if right else None,
        "found_by_rewording": _shares([name for name, _, _ in again], right),
        "mistaken_by_change": _shares([name for name, _ in alike], [m is not None for m in wrong]),
        "missed": [asked.text for (_, _, asked), ok in zip(again, right, strict=True) if not ok][:10],
        "mistaken_examples": (
            false_among_new + [asked.text for (_, asked), m in zip(alike, wrong, strict=True) if m is not None]
        )[:10],
        "seconds": round(time.monotonic() - started, 1),
    }


def _reworded(text: str, first: int) -> tuple[Callable[[str], str], str]:
    order = REWORDINGS[first:] + REWORDINGS[:first]
    return next((rewording, words) for rewording in order if (words := rewording(text)) != text)


def _shares(names: list[str], hits: list[bool]) -> dict[str, str]:
    total = Counter(names)
    hit = Counter(name for name, ok in zip(names, hits, strict=True) if ok)
    return {name: f"{hit[name]} of {total[name]}" for name in sorted(total)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.duplicates", description=__doc__)
    parser.add_argument("--questions", type=int, default=200, help="how many markets are opened (default 200)")
    parser.add_argument("--data", type=Path, default=FOLDER / QUESTIONS_FILE, help="file of questions, JSON Lines")
    parser.add_argument("--json", action="store_true", help="one JSON line (it is the only form)")
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(measure(arguments.questions, arguments.data))))


if __name__ == "__main__":
    main()
