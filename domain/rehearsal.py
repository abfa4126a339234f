"""The rehearsal: a draft's rules run against the sources as they are today, before anyone trades.

A broken path, selector or pattern, a value of the wrong type, an expiry that has passed: found here, not in a year.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from domain.extraction import (
    Document,
    Extracted,
    Missing,
    NotExtracted,
    check_reading,
    check_regex,
    extract,
    extract_any,
    is_recognised,
    latest,
)
from domain.market import FOUND_LIMIT, Issue, SourceState
from domain.resolver import resolve
from domain.rules import MachineCondition, Op, Reading, ResolutionRules, Source
from domain.text import cut

TWO_READINGS = "two_readings"
"""Code of the note that a number may be written with a decimal comma."""

_ONE_COMMA = re.compile(r"[1-9][0-9]{0,2},[0-9]{3}")


@dataclass(frozen=True)
class Findings:
    """What a rehearsal found."""

    blocking: tuple[Issue, ...]
    """The market would be resolved wrongly or never."""
    notes: tuple[Issue, ...]
    """A person should know."""
    sources: tuple[SourceState, ...]
    """What each source gave, in the rules' order."""


@dataclass(frozen=True)
class _Tried:
    """One reading: what it gave, in words for a reviewer, and the issue if it failed, or a note."""

    told: str
    issue: Issue | None = None
    note: Issue | None = None


def rehearse(
    rules: ResolutionRules, documents: Mapping[str, Document], now: datetime, failed: Mapping[str, Issue] | None = None
) -> Findings:
    """Run the resolver program against today's documents.

    Args:
        rules: the draft's rules.
        documents: what the sources gave, by name; one that no condition reads may be left out.
        now: the moment that the expiry is compared with.
        failed: why the others gave nothing, by name.
    """
    failed = failed or {}
    blocking = list(failed.values())
    if rules.expiry <= now:
        blocking.append(_issue("expiry_past", "expiry", f"{rules.expiry.isoformat()} has passed"))
    tried: dict[str, list[_Tried]] = defaultdict(list)
    for condition in rules.resolver_program:
        if condition.op is Op.MATCHES and (fault := check_regex(condition.operand or "")) is not None:
            blocking.append(_issue("bad_pattern", f"{condition.id}.operand", fault))
        for field, reading in _readings(condition):
            one = _try_reading(field, reading, condition.op, rules, documents)
            if one is None:
                continue
            tried[reading.source].append(one)
            if one.issue is not None:
                blocking.append(one.issue)
    notes = [one.note for several in tried.values() for one in several if one.note is not None]
    # What a page says today may change until expiry; values of past dates do not.
    dated = all(reading.on for condition in rules.resolver_program for _, reading in _readings(condition))
    if not blocking and not rules.text_conditions and dated and resolve(rules, documents).outcome is not None:
        notes.append(_issue("already_known", "exact_question", "the sources answer the question today already"))
    states = (_state(s, failed.get(s.name), tried[s.name]) for s in rules.criteria.allowed_sources)
    return Findings(tuple(blocking), tuple(notes), tuple(states))


def _try_reading(
    field: str, reading: Reading, op: Op, rules: ResolutionRules, documents: Mapping[str, Document]
) -> _Tried | None:
    """None when there is no document to try it on."""
    if (fault := check_reading(reading)) is not None:
        return _Tried(fault, _issue("bad_path", field, fault))
    document = documents.get(reading.source)
    if document is None:
        return None
    so_far = ""
    if op is Op.EXISTS:
        # That nothing is there yet is an answer, when the page is the one that the rules expect.
        read = extract_any(reading, document, rules.observation.counts, rules.timezone)
        if isinstance(read, NotExtracted) and is_recognised(rules.source(reading.source), reading, document):
            return _Tried("not there yet")
    else:
        read = extract(reading, document, rules.observation.counts, rules.timezone)
        if isinstance(read, NotExtracted) and read.why is Missing.NOT_PUBLISHED:
            if reading.on is None:
                return _Tried("nothing published yet")
            # The value asked for is still to come, so the last one that is there stands in for it.
            read, so_far = latest(reading, document, rules.timezone), "so far "
    if isinstance(read, NotExtracted):
        code = "wrong_type" if read.why is Missing.WRONG_TYPE else "not_extracted"
        return _Tried(read.detail, _issue(code, field, f"source {reading.source}: {read.detail}"))
    return _Tried(f"{so_far}{_told(read)}", note=_two_readings(field, reading.source, read))


def _two_readings(field: str, source: str, read: Extracted) -> Issue | None:
    """What a person should see of a number with one comma and three digits behind it, and nothing more."""
    if not isinstance(read.value, Decimal):
        return None
    for written in _ONE_COMMA.findall(read.excerpt):
        if written.replace(",", "") == str(abs(read.value)):
            both = f"{written!r} is read as {written.replace(',', '')}, and would be {written.replace(',', '.')}"
            return _issue(TWO_READINGS, field, f"source {source}: {both} if its comma is a decimal one")
    return None


def _told(read: Extracted) -> str:
    """The value as the resolver takes it, and a number also as it is written where that differs: 3,875 read as 3875."""
    written = f" from {read.excerpt!r}" if isinstance(read.value, Decimal) and read.excerpt != str(read.value) else ""
    return f"{read.value}{f' on {read.dated}' if read.dated else ''}{written}"


def _state(source: Source, failed: Issue | None, tried: Sequence[_Tried]) -> SourceState:
    if failed is not None:
        # The source stands beside it, so its address is left out.
        found = failed.message.removeprefix(source.url.partition("?")[0]).strip()
    else:
        faults = [one.told for one in tried if one.issue is not None]
        found = faults[0] if faults else "; ".join(dict.fromkeys(one.told for one in tried)) or "answers"
    ok = failed is None and all(one.issue is None for one in tried)
    return SourceState(source=source.name, ok=ok, found=cut(found, FOUND_LIMIT))


def _readings(condition: MachineCondition) -> Iterator[tuple[str, Reading]]:
    for place, check in enumerate(condition.checks):
        yield f"{condition.id}.checks.{place}.value", check.value
        if check.baseline is not None:
            yield f"{condition.id}.checks.{place}.baseline", check.baseline


def _issue(code: str, field: str, message: str) -> Issue:
    return Issue(code=code, field=field[:120], message=message[:300])
