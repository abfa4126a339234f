"""The prompt `dispute_review`, answered by what the sources state now: the disputed outcome, the other one, or nothing.

What a program checks has been checked; text conditions are read as `resolution` reads them, through all its lenses. The
disputant's words say where to look and decide nothing; their pages can only raise a doubt.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import ConfigDict, Field

from deploy.local.scripted_llm import resolution
from deploy.local.scripted_llm.resolution import Evidence
from deploy.local.scripted_llm.safety import injection
from domain.answers import DisputeReviewAnswer
from domain.base import Model
from domain.rules import Answer, Logic
from domain.verdict import Abstention, ConditionResult, Result, combine, excluding

_LENSES = ("literal", "sceptic", "auditor")
_CONFIDENCE = 0.85
"""Of the least sure lens; a program is surer, but says nothing about the dispute."""
_NAME = re.compile(r"(?P<source>.+?)(?P<again> \(fetched again\))?")
_DISPUTANT = re.compile(r"disputant \d+")


class Condition(Model):
    """One condition as the prompt shows it."""

    id: str
    kind: Literal["machine", "text"]
    text: str
    sources: tuple[str, ...]


class Rules(Model):
    """What the prompt shows of the rules, as far as it is read here."""

    model_config = ConfigDict(extra="ignore")

    must_meet_all: tuple[Condition, ...]
    must_not_count: tuple[Condition, ...]
    then: Answer
    otherwise: Answer = Field(alias="else")


class Found(Model):
    """What the sources say now, as the prompt shows it."""

    changed: tuple[str, ...]
    unreachable: tuple[str, ...]
    fresh: Answer | None
    results: tuple[ConditionResult, ...]


def answer(
    *, question: str, rules: Rules, outcome: Answer, dispute: str, evidence: Sequence[Evidence], recheck: Found
) -> DisputeReviewAnswer:
    """Whether the disputed outcome stands."""
    if any(injection(text) for text in (dispute, *(document.text for document in evidence))):
        return _escalate("A text instructs its reader, so nothing is rested on what is here.")
    if recheck.unreachable:
        return _escalate(f"{', '.join(recheck.unreachable)} could not be fetched again.")
    checked = {result.condition: result for result in recheck.results}
    now = _current(evidence)

    def result_of(condition: Condition) -> ConditionResult:
        if condition.kind == "machine":
            return checked[condition.id]
        return _judged(question, condition, [now[name] for name in condition.sources if name in now])

    to_meet = [result_of(condition) for condition in rules.must_meet_all]
    not_to_count = [result_of(condition) for condition in rules.must_not_count]
    found, abstention = combine(to_meet, not_to_count, Logic(then=rules.then, else_=rules.otherwise))
    if found is None:
        return _escalate(f"The sources state no outcome now ({abstention}).")
    pages = [document for document in evidence if _DISPUTANT.fullmatch(document.source)]
    known = {result.condition: result.result for result in (*to_meet, *not_to_count)}
    for condition in (*rules.must_meet_all, *rules.must_not_count):
        for page in pages:
            read = _judged(question, condition, [page]).result
            if Result.UNKNOWN not in (read, known[condition.id]) and read is not known[condition.id]:
                return _escalate(f"{page.source} states another result than the sources do.")
    deciding = next(iter((*excluding(to_meet, not_to_count), *to_meet)))
    source = deciding.source or ""
    return DisputeReviewAnswer(
        verdict="upheld" if found is outcome else "overturned",
        quotation=deciding.excerpt,
        source=now[source].source if source in now else source,
        confidence=_CONFIDENCE,
        reasoning=f"The sources state {found} now: {deciding.detail or deciding.excerpt}"[:500],
    )


def _current(evidence: Iterable[Evidence]) -> dict[str, Evidence]:
    """What each source says now, by its name in the rules: fetched again where that is another text."""
    current: dict[str, Evidence] = {}
    for document in evidence:
        name = _NAME.fullmatch(document.source)
        if name is not None and (name["again"] or name["source"] not in current):
            current[name["source"]] = document
    return current


def _judged(question: str, condition: Condition, documents: Sequence[Evidence]) -> ConditionResult:
    """What all lenses read in the documents; unknown when they differ."""
    votes = [
        resolution.answer(question=question, condition=condition.text, evidence=documents, lens=lens)
        for lens in _LENSES
    ]
    first = votes[0]
    if first.result is Result.UNKNOWN or any(vote.result is not first.result for vote in votes):
        return ConditionResult(condition=condition.id, result=Result.UNKNOWN, why_unknown=Abstention.UNSURE)
    name = _NAME.fullmatch(first.source)
    assert name is not None, "a judgement quotes a document"
    return ConditionResult(condition=condition.id, result=first.result, source=name["source"], excerpt=first.quotation)


def _escalate(reasoning: str) -> DisputeReviewAnswer:
    return DisputeReviewAnswer(verdict="escalate", quotation="", source="", confidence=0.5, reasoning=reasoning[:500])
