"""The prompt `resolution`, answered by reading statements of a result ("Resolution: Yes", "resolved NO", "unresolved").

The three lenses are three programs, so that a page which fools one of them need not fool the others. None of them
follows, or rests on, a document that instructs its reader. Each quotes the words that it rests on.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deploy.local.scripted_llm.safety import injection
from domain.answers import ResolutionAnswer
from domain.base import Model
from domain.verdict import Result


class Evidence(Model):
    """One document as the prompt shows it."""

    source: str
    url: str
    text: str


@dataclass(frozen=True)
class _Statement:
    """A result that a document states: yes, no, or (None) that there is none yet."""

    says_yes: bool | None
    quotation: str


@dataclass(frozen=True)
class _Lens:
    """One way to read."""

    statements: Callable[[str], list[_Statement]]
    """Those of a text."""
    confidence: float
    checks_subject: bool = False
    """Whether a text must speak of the question at all."""


def answer(*, question: str, condition: str, evidence: Sequence[Evidence], lens: str) -> ResolutionAnswer:
    """One lens's judgement of a condition.

    Raises:
        ValueError: there is no such lens.
    """
    if lens not in _LENSES:
        raise ValueError(f"there is no lens {lens!r}: known are {', '.join(_LENSES)}")
    reader = _LENSES[lens]
    if any(injection(document.text) for document in evidence):
        return _unknown("A document instructs its reader, so it is no evidence.", 0.3)
    read = [d for d in evidence if not reader.checks_subject or _is_about(question, d.text)]
    found = [(document.source, statement) for document in read for statement in reader.statements(document.text)]
    answers = {statement.says_yes for _, statement in found}
    if not found:
        return _unknown("No document states a result.", reader.confidence)
    if None in answers:
        return _unknown("A document states that there is no result yet.", reader.confidence)
    if len(answers) > 1:
        return _unknown("The statements of the documents contradict each other.", reader.confidence)
    source, statement = found[0]
    met = statement.says_yes is not _asks_for_no(condition)
    return ResolutionAnswer(
        result=Result.MET if met else Result.NOT_MET,
        quotation=statement.quotation,
        source=source,
        confidence=reader.confidence,
        reasoning=f"{source} states the result: {statement.quotation}"[:500],
    )


def _unknown(reasoning: str, confidence: float) -> ResolutionAnswer:
    return ResolutionAnswer(
        result=Result.UNKNOWN, quotation="", source="", confidence=confidence, reasoning=reasoning[:500]
    )


def _asks_for_no(condition: str) -> bool:
    """Whether a condition holds when the result is No ("the page says that it resolved NO")."""
    wanted = re.search(
        r"\b(?:answers?|resolv\w+|outcome|resolution)\b\W+(?:is |was |to |as )?[\"']?(yes|no)\b", condition, re.I
    )
    return wanted is not None and wanted[1].lower() == "no"


_QUOTE = r"[\"'\u201c\u2018*]*"
_FINAL = re.compile(
    rf"\b(?:final |official )?(?:resolution|outcome|result)\s*[:=\u2013-]\s*{_QUOTE}(?P<label>yes|no)\b"
    rf"|\bresolved\s*(?::|to|as|in favou?r of)?\s*{_QUOTE}(?P<verb>yes|no)\b",
    re.IGNORECASE,
)
_NO_RESULT = re.compile(
    r"\b(?:resolution|outcome|result|status)\s*[:=\u2013-]\s*(?:not yet (?:resolved|known)|unresolved|pending|open|none"
    r"|unknown|tbd|n/?a)\b|\bnot (?:yet|been) resolved\b|\byet to be resolved\b",
    re.IGNORECASE,
)
_CONDITIONAL = re.compile(
    r"\b(?:will|would|should|could|can|may|might|shall|must|to|if|be|gets?)(?: (?:then|only|still|immediately))?"
    r"(?: be)?\s*$",
    re.IGNORECASE,
)
_CONDITION_FOLLOWS = re.compile(
    r"[\"'\u201d\u2019*]*,?\s+(?:if|when|unless|provided|in case|only|by default)\b", re.IGNORECASE
)


def _literal(text: str) -> list[_Statement]:
    """Fixed phrases, wherever they stand, unless they are conditional."""
    found = [_Statement(None, match.group(0)) for match in _NO_RESULT.finditer(text)]
    for match in _FINAL.finditer(text):
        if _CONDITIONAL.search(text[: match.start()]) or _CONDITION_FOLLOWS.match(text, match.end()):
            continue
        found.append(_Statement((match["label"] or match["verb"]).lower() == "yes", match.group(0)))
    return found


_HEDGES = re.compile(
    r"\b(?:provisional(?:ly)?|preliminary|proposed|disputed|under review|appealed|expected|projected|likely"
    r"|tentative(?:ly)?|unofficial(?:ly)?|reportedly|awaiting|pending|not yet|unresolved"
    r"|to be (?:determined|announced|confirmed))\b",
    re.IGNORECASE,
)
_HYPOTHETICAL = re.compile(
    r"\b(?:will|would|should|could|can|may|might|shall|must|if|unless|otherwise|in the event|whether|eligible)\b",
    re.IGNORECASE,
)
_SPEAKS_OF_RESULT = re.compile(r"\b(?:resolution|resolved|outcome|result|settled)\b", re.IGNORECASE)
_YES_OR_NO = re.compile(r"\b(?:yes|no)\b", re.IGNORECASE)
_CLAUSE_REACH = 40
"""Characters around a word of result in which its yes or no, and any hedge, stand."""


def _sceptic(text: str) -> list[_Statement]:
    """Clauses that speak of a result, and what could unsettle each: hedges, hypotheses, two answers at once."""
    found = []
    for match in _SPEAKS_OF_RESULT.finditer(text):
        before = re.split(r"[.!?;]\s", text[max(0, match.start() - _CLAUSE_REACH) : match.start()])[-1]
        after = re.split(
            r"[.!?;]\s|\b(?:on|background|criteria)\b", text[match.start() : match.end() + _CLAUSE_REACH], flags=re.I
        )[0]
        if _HYPOTHETICAL.search(before) or _HYPOTHETICAL.search(after):
            continue
        if _HEDGES.search(after) or re.search(r"\b(?:not|un)\s*(?:yet|been)?\s*$", before, re.IGNORECASE):
            found.append(_Statement(None, after.strip()))
            continue
        answers = {word.lower() for word in _YES_OR_NO.findall(after)}
        if len(answers) == 1:
            end = _YES_OR_NO.search(after)
            assert end is not None
            found.append(_Statement(answers == {"yes"}, after[: end.end()].strip()))
    return found


_LABELS = frozenset({"resolution", "resolved", "outcome", "result", "answer", "status"})
_FILLERS = frozenset({"", "to", "as", "is", "was", "the", "final", "official"})
_OPEN = frozenset({"not", "unresolved", "pending", "open", "unknown", "none", "tbd", "undecided"})
_COMMON = frozenset({"will", "that", "this", "with", "from", "have", "been", "does", "into", "than", "what", "when"})


def _auditor(text: str) -> list[_Statement]:
    """Word by word: a label, and the value next to it."""
    words = [(m.group(0), m.start(), m.end()) for m in re.finditer(r"[^\s:=|]+|[:=|]", text)]
    found = []
    for place, (word, start, _) in enumerate(words):
        if _bare(word) not in _LABELS:
            continue
        labelled = False
        for value, _, end in words[place + 1 : place + 5]:
            labelled = labelled or value in {":", "="}
            if _bare(value) in _FILLERS:
                continue
            settled = labelled or _bare(word) == "resolved"
            previous = _bare(words[place - 1][0]) if place else ""
            if settled and _bare(value) in {"yes", "no"} and previous not in {"be", "will", "would", "if", "not"}:
                found.append(_Statement(_bare(value) == "yes", text[start:end]))
            elif labelled and _bare(value) in _OPEN:
                found.append(_Statement(None, text[start:end]))
            break
    return found


def _bare(word: str) -> str:
    return word.strip("\"'\u201c\u201d\u2018\u2019*.,;()[]:=|\u2013-").lower()


def _is_about(question: str, text: str) -> bool:
    """Whether most of the question's telling words, and all of its numbers, stand in the text."""
    asked = {word for word in re.findall(r"\w+", question.lower()) if len(word) > 3 or word.isdigit()} - _COMMON
    there = set(re.findall(r"\w+", text.lower()))
    numbers = {word for word in asked if word.isdigit()}
    return numbers <= there and len(asked & there) >= 0.7 * len(asked)


_LENSES = {
    "literal": _Lens(_literal, 0.9),
    "sceptic": _Lens(_sceptic, 0.85),
    "auditor": _Lens(_auditor, 0.85, checks_subject=True),
}
"""By the prompt's name of the lens."""
