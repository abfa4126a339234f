"""The rehearsal: a draft's rules run against the sources as they are today, before anyone trades.

A broken path, selector or pattern, a value of the wrong type, an expiry that has passed: found here, not in a year.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

from domain.extraction import (
    Document,
    Missing,
    NotExtracted,
    check_reading,
    check_regex,
    extract,
    extract_any,
    is_recognised,
    latest,
)
from domain.market import Issue, Rehearsal
from domain.resolver import resolve
from domain.rules import MachineCondition, Op, Reading, ResolutionRules


def rehearse(rules: ResolutionRules, documents: Mapping[str, Document], now: datetime) -> Rehearsal:
    """Run the resolver program against today's documents.

    Args:
        rules: the draft's rules.
        documents: what the sources gave, by name; an unreachable source is left out and reported by the caller.
        now: the moment that the expiry is compared with.

    Returns:
        Blocking issues: the market would be resolved wrongly or never. Notes: a person should know.
    """
    blocking: list[Issue] = []
    if rules.expiry <= now:
        blocking.append(_issue("expiry_past", "expiry", f"{rules.expiry.isoformat()} has passed"))
    for condition in rules.resolver_program:
        if condition.op is Op.MATCHES and (fault := check_regex(condition.operand or "")) is not None:
            blocking.append(_issue("bad_pattern", f"{condition.id}.operand", fault))
        for field, reading in _readings(condition):
            issue = _try_reading(field, reading, condition.op, rules, documents)
            if issue is not None:
                blocking.append(issue)
    notes: list[Issue] = []
    # What a page says today may change until expiry; values of past dates do not.
    dated = all(reading.on for condition in rules.resolver_program for _, reading in _readings(condition))
    if not blocking and not rules.text_conditions and dated and resolve(rules, documents).outcome is not None:
        notes.append(_issue("already_known", "exact_question", "the sources answer the question today already"))
    return Rehearsal(blocking=tuple(blocking), notes=tuple(notes))


def _try_reading(
    field: str, reading: Reading, op: Op, rules: ResolutionRules, documents: Mapping[str, Document]
) -> Issue | None:
    if (fault := check_reading(reading)) is not None:
        return _issue("bad_path", field, fault)
    document = documents.get(reading.source)
    if document is None:
        return None
    if op is Op.EXISTS:
        # That nothing is there yet is an answer, when the page is the one that the rules expect.
        read = extract_any(reading, document, rules.observation.counts, rules.timezone)
        if isinstance(read, NotExtracted) and is_recognised(rules.source(reading.source), reading, document):
            return None
    else:
        read = extract(reading, document, rules.observation.counts, rules.timezone)
        if isinstance(read, NotExtracted) and read.why is Missing.NOT_PUBLISHED:
            if reading.on is None:
                return None
            # The value asked for is still to come, so the last one that is there stands in for it.
            read = latest(reading, document, rules.timezone)
    if isinstance(read, NotExtracted):
        code = "wrong_type" if read.why is Missing.WRONG_TYPE else "not_extracted"
        return _issue(code, field, f"source {reading.source}: {read.detail}")
    return None


def _readings(condition: MachineCondition) -> Iterator[tuple[str, Reading]]:
    for place, check in enumerate(condition.checks):
        yield f"{condition.id}.checks.{place}.value", check.value
        if check.baseline is not None:
            yield f"{condition.id}.checks.{place}.baseline", check.baseline


def _issue(code: str, field: str, message: str) -> Issue:
    return Issue(code=code, field=field[:120], message=message[:300])
