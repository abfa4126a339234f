"""The prompt `duplicate_detection`, answered by comparing two questions word by word.

Dates are read as days, synonyms and inflected forms as one word, words that only ask are left out. What is left must
be the same on both sides, each kind in the same order; a lone "not" makes the opposite, anything else is different.
"""

import re
from collections.abc import Iterable
from datetime import date

from deploy.local.scripted_llm.dates import mentions
from domain.answers import DuplicateDetectionAnswer
from domain.duplicates import Asked, share_a_source, slip_of_the_pen

_SYNONYMS = {
    word: meaning
    for meaning, words in {
        "above": "above over exceed exceeds exceeding greater higher more",
        "below": "below under beneath lower less fewer",
        "rise": "rise rises risen rising increase increases increased increasing grow grows grown",
        "fall": "fall falls fallen falling decrease decreases decreased drop drops dropped decline declines declined",
        "win": "win wins won",
        "by": "by until",
        "before": "before prior",
        "than": "than compared versus vs relative",
        "percent": "% percent percentage",
        "company": "company firm",
        "share": "share stock shares stocks",
        "price": "price prices value values",
        "film": "film movie",
        "release": "release released releases launch launched launches",
        "announce": "announce announced announces",
        "publish": "publish published publishes",
        "us": "us u.s usa america",
        "uk": "uk u.k britain",
        "not": "not no never",
    }.items()
    for word in words.split()
}
_ASKING = frozenset(
    {
        "will", "would", "what", "is", "are", "was", "were", "be", "been", "being", "the", "a", "an", "of", "to",
        "that", "it", "its", "in", "on", "at", "for", "do", "does", "did", "has", "have", "had", "shall",
        "probability", "likelihood", "chance", "chances", "odds", "case", "true", "whether", "so", "then", "please",
        "as", "with", "and", "you", "i", "we", "think", "believe", "expect", "tell", "say", "me",
    }
)  # fmt: skip
"""Words without which a question asks the same; `on` and `in` only lead to a date or a place, which is compared."""
_TOKEN = re.compile(r"%|\d[\d,]*(?:\.\d+)?|[^\W\d_]+(?:[.'\u2019][^\W\d_]+)*")
_SURE = 0.9


def answer(*, proposed: Asked, existing: Asked) -> DuplicateDetectionAnswer:
    """How the two questions stand to each other."""
    ours, theirs = _read(proposed.question), _read(existing.question)
    ours = ours[0], [_as_written(word, theirs[1]) for word in ours[1] if _as_written(word, _ASKING) not in _ASKING]
    if proposed.urls and existing.urls and not share_a_source(proposed.urls, existing.urls):
        return _answer("different", "They name other sources.")
    if ours[0] != theirs[0]:
        return _answer("different", "They name other days, or the same days in another order.")
    if [word for word in ours[1] if word[0].isdigit()] != [word for word in theirs[1] if word[0].isdigit()]:
        return _answer("different", "They name other numbers, or the same numbers in another order.")
    lone = set(ours[1]) ^ set(theirs[1])
    if lone == {"not"}:
        return _answer("opposite", "One denies what the other asks, and all else is the same.")
    if lone:
        return _answer("different", f"Only one of them says {min(lone)!r}."[:500])
    if ours[1] != theirs[1] and _sides(ours[1]) != _sides(theirs[1]):
        return _answer("different", "The same words stand in another order.")
    return _answer("same", "Days, numbers, names and what is asked of them are the same.")


def _read(question: str) -> tuple[list[date], list[str]]:
    """The days that a question names, and its telling words, in order."""
    found = mentions(question, date(2000, 1, 1))
    rest = question
    for mention in found:
        rest = rest[: mention.start] + " " * (mention.end - mention.start) + rest[mention.end :]
    words = [_word(token) for token in _TOKEN.findall(rest.casefold())]
    return [mention.first for mention in found], [word for word in words if word not in _ASKING]


def _as_written(word: str, there: Iterable[str]) -> str:
    """The word of the other side that a word is a slip of the pen for; else itself."""
    return next((other for other in there if slip_of_the_pen(word, other)), word)


def _word(token: str) -> str:
    if token[0].isdigit():
        number = token.replace(",", "")
        return number.rstrip("0").rstrip(".") if "." in number else number
    bare = re.sub(r"['\u2019]s?$", "", token)
    known = _SYNONYMS.get(_as_written(bare, _SYNONYMS))
    if known is not None:
        return known
    return bare[:-1] if len(bare) > 4 and bare.endswith("s") and not bare.endswith("ss") else bare


def _sides(words: list[str]) -> tuple[str, ...]:
    """The first half of the words, sorted: who stands before the verb does what who stands behind it suffers."""
    return tuple(sorted(words[: (len(words) + 1) // 2]))


def _answer(relation: str, reasoning: str) -> DuplicateDetectionAnswer:
    return DuplicateDetectionAnswer.model_validate({"relation": relation, "confidence": _SURE, "reasoning": reasoning})
