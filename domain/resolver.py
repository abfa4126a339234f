"""The resolver: machine-checkable conditions over evidence. Deterministic: same rules and bytes, same verdict."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal

from domain.extraction import Document, Extracted, Missing, NotExtracted, Value, extract, extract_any, is_recognised
from domain.rules import EXACT, Check, MachineCondition, Op, Reading, ResolutionRules, ValueType
from domain.text import compiled, cut, fold
from domain.verdict import GRAVITY, Abstention, ConditionResult, Result, Verdict, combine, excluding

DETAIL_LIMIT = 500
"""Characters of a result's detail."""


def resolve(
    rules: ResolutionRules,
    documents: Mapping[str, Document],
    judged: Mapping[str, ConditionResult] | None = None,
) -> Verdict:
    """Evaluate rules over the evidence. Never raises, whatever the documents hold.

    Args:
        rules: the market's rules.
        documents: what was fetched, by the name of its source; a source that gave nothing is left out.
        judged: results of text conditions by condition id; one that is left out is unknown (`unsure`).
    """
    results = {c.id: evaluate(c, rules, documents) for c in rules.resolver_program}
    for text in rules.text_conditions:
        unjudged = ConditionResult(
            condition=text.id, result=Result.UNKNOWN, why_unknown=Abstention.UNSURE, detail="not judged"
        )
        results[text.id] = (judged or {}).get(text.id, unjudged)
    criteria = rules.criteria
    to_meet = [results[c.id] for c in criteria.must_meet_all]
    not_to_count = [results[c.id] for c in criteria.must_not_count]
    outcome, abstention = combine(to_meet, not_to_count, criteria.machine_resolution_logic)
    if abstention is None:
        deciding = (*excluding(to_meet, not_to_count), *to_meet)
    else:
        deciding = tuple(result for result in results.values() if result.why_unknown is abstention)
    return Verdict(
        outcome=outcome,
        abstention=abstention,
        results=(*to_meet, *not_to_count),
        deciding_detail=deciding[0].detail,
    )


def evaluate(condition: MachineCondition, rules: ResolutionRules, documents: Mapping[str, Document]) -> ConditionResult:
    """One machine-checkable condition over all sources that can answer it.

    Sources that contradict each other are a conflict, however many stand on either side: a person decides. Otherwise
    the condition is known as soon as `quorum` sources answer, and the first of `source_order` among them is quoted.
    """
    order = {name: place for place, name in enumerate(rules.source_order)}
    checks = sorted(condition.checks, key=lambda check: order[check.value.source])
    answers = [_answer(condition, check, rules, documents) for check in checks]
    known = [answer for answer in answers if answer.result is not Result.UNKNOWN]
    if len({answer.result for answer in known}) > 1:
        sides = "; ".join(f"{answer.source}: {answer.detail}" for answer in known)
        return ConditionResult(
            condition=condition.id,
            result=Result.UNKNOWN,
            why_unknown=Abstention.CONFLICT,
            detail=cut(f"sources contradict each other: {sides}", DETAIL_LIMIT),
        )
    if len({answer.source for answer in known}) >= rules.quorum:
        return known[0]
    # The rules' validation keeps the quorum within the sources asked, so here at least one of them is unknown.
    return next(answer for reason in GRAVITY for answer in answers if answer.why_unknown is reason)


def _answer(
    condition: MachineCondition, check: Check, rules: ResolutionRules, documents: Mapping[str, Document]
) -> ConditionResult:
    """What one source says."""
    read = [_read(reading, condition.op, rules, documents) for reading in check.readings]
    missing = next((one for one in read if isinstance(one, NotExtracted)), None)
    result, why, excerpt = Result.UNKNOWN, None, ""
    if missing is not None:
        detail = missing.detail
        if condition.op is Op.EXISTS and _is_absent(missing, check.value, rules, documents):
            result = Result.NOT_MET
        else:
            why = _WHY_UNKNOWN[missing.why]
    else:
        value, *baselines = (one for one in read if isinstance(one, Extracted))
        baseline = baselines[0] if baselines else None
        try:
            met = _holds(condition, value.value, baseline.value if baseline else None)
            result = Result.MET if met else Result.NOT_MET
            detail, excerpt = _in_words(condition, check, value, baseline), value.excerpt
        except _UndefinedError as error:
            why, detail = Abstention.INVALID_QUESTION, str(error)
    document = documents.get(check.value.source)
    return ConditionResult(
        condition=condition.id,
        result=result,
        why_unknown=why,
        detail=cut(detail, DETAIL_LIMIT),
        source=check.value.source,
        evidence_sha256=document.sha256 if document else None,
        excerpt=excerpt,
    )


_WHY_UNKNOWN = {
    Missing.NOT_PUBLISHED: Abstention.TOO_EARLY,
    Missing.NOT_FOUND: Abstention.INVALID_QUESTION,
    Missing.AMBIGUOUS: Abstention.INVALID_QUESTION,
    Missing.WRONG_TYPE: Abstention.INVALID_QUESTION,
    Missing.BAD_READING: Abstention.INVALID_QUESTION,
    Missing.UNREADABLE: Abstention.UNAVAILABLE,
}


def _read(
    reading: Reading, op: Op, rules: ResolutionRules, documents: Mapping[str, Document]
) -> Extracted | NotExtracted:
    document = documents.get(reading.source)
    if document is None:
        return NotExtracted(Missing.UNREADABLE, f"source {reading.source} could not be fetched")
    read = extract_any if op is Op.EXISTS else extract
    return read(reading, document, rules.observation.counts, rules.timezone)


def _is_absent(
    missing: NotExtracted, reading: Reading, rules: ResolutionRules, documents: Mapping[str, Document]
) -> bool:
    """Whether a value that was not found is not there, as distinct from a page that is not the one promised."""
    # A dated series that does not reach its date yet may still come to have the value.
    lacks = {Missing.NOT_FOUND} if reading.on else {Missing.NOT_FOUND, Missing.NOT_PUBLISHED}
    return missing.why in lacks and is_recognised(rules.source(reading.source), reading, documents[reading.source])


class _UndefinedError(ValueError):
    """A predicate has no answer for these values; the message says why."""


def _holds(condition: MachineCondition, value: Value, baseline: Value | None) -> bool:
    if condition.op is Op.EXISTS:
        return True
    other = baseline if baseline is not None else condition.constant(condition.checks[0].value.type)
    match value, other:
        case Decimal(), Decimal():
            return _number_holds(condition, value, other)
        case str(), str():
            return _text_holds(condition.op, value, other)
        case date(), date():
            return _date_holds(condition.op, value, other)
        case _:
            return (value == other) is (condition.op is Op.EQ)


def _number_holds(condition: MachineCondition, value: Decimal, other: Decimal) -> bool:
    match condition.op:
        case Op.LT:
            return value < other
        case Op.LE:
            return value <= other
        case Op.GT:
            return value > other
        case Op.GE:
            return value >= other
        case Op.BETWEEN:
            return condition.upper is not None and other <= value <= condition.upper
        case Op.CHANGED_BY:
            return _changed_by(condition, value, other)
        case _:
            return (value == other) is (condition.op is Op.EQ)


def _changed_by(condition: MachineCondition, value: Decimal, baseline: Decimal) -> bool:
    least = condition.constant(ValueType.NUMBER)
    assert isinstance(least, Decimal)
    change = EXACT.subtract(value, baseline)
    if condition.percent:
        if baseline == 0:
            raise _UndefinedError("a change in per cent of a baseline of zero is not defined")
        # Both sides times the baseline instead of a quotient, which would be rounded.
        change = EXACT.multiply(change, Decimal(100))
        threshold = EXACT.multiply(least, baseline.copy_abs())
    else:
        threshold = least
    return change >= threshold if least >= 0 else change <= threshold


def _text_holds(op: Op, value: str, other: str) -> bool:
    match op:
        case Op.CONTAINS:
            return fold(other) in value
        case Op.MATCHES:
            try:
                return compiled(other).search(value) is not None
            except ValueError as error:
                raise _UndefinedError(str(error)) from error
        case _:
            return (value == fold(other)) is (op is Op.EQ)


def _date_holds(op: Op, value: date, other: date) -> bool:
    match op:
        case Op.DATE_BEFORE:
            return value < other
        case Op.DATE_AFTER:
            return value > other
        case _:
            return (value == other) is (op is Op.EQ)


def _in_words(condition: MachineCondition, check: Check, value: Extracted, baseline: Extracted | None) -> str:
    shown = _shown(value, check.value.unit)
    if condition.op is Op.EXISTS:
        return f"{shown} is there"
    against = _shown(baseline, check.value.unit) if baseline else str(condition.operand)
    if condition.op is Op.CHANGED_BY:
        return f"{shown} against {against}: changed by {condition.operand}{' %' if condition.percent else ''}?"
    if condition.op is Op.BETWEEN:
        against += f" and {condition.upper}"
    return f"{shown} {condition.op} {against}?"


def _shown(read: Extracted, unit: str) -> str:
    return f"{read.value}{f' {unit}' if unit else ''}{f' on {read.dated}' if read.dated else ''}"
