"""The prompt `validation`, answered by checking what can be checked without understanding.

Words, dates, numbers, directions; the rest is left to people. Whether a value is out already, the rehearsal has found.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from urllib.parse import urlsplit

from deploy.local.scripted_llm import comparison, safety, wording
from deploy.local.scripted_llm.dates import Precision, days, mentions
from deploy.local.scripted_llm.series import urls
from domain.answers import ValidationAnswer
from domain.market import Issue, MarketDraft
from domain.rules import Answer, MachineCondition, Op, Reading, ResolutionRules, ValueType

_FATAL = frozenset({"forbidden", "self_referential", "proposer_controls", "prompt_injection"})
"""Faults that no edit of the rules mends."""
_MANY = 2
"""So many issues go to a person."""
_THRESHOLD = 0.6
"""Of confidence, below which a person decides."""
_AFTER_EXPIRY = timedelta(days=31)
"""How long before the last day asked about trading may end."""
_ISSUES = 20
"""As many as the answer holds."""


def answer(*, draft: MarketDraft, findings: Sequence[Issue], today: str) -> ValidationAnswer:
    """The faults of a draft beyond those already found."""
    known = {finding.code for finding in findings}
    issues = [issue for issue in _issues(draft, date.fromisoformat(today[:10])) if issue.code not in known][:_ISSUES]
    rules = draft.rules
    topics = safety.sensitive(
        " ".join((draft.title, rules.exact_question, *(c.text for c in rules.criteria.conditions)))
    )
    sure = 0.9 if not rules.text_conditions else 0.75
    confidence = round(max(0.1, sure - 0.1 * len(issues)), 2)
    fatal = [issue for issue in issues if issue.code in _FATAL]
    if fatal:
        decision, summary = "rejected", fatal[0].message
    elif topics:
        decision, summary = "needs_human", f"The market touches {' and '.join(topics)}, so a person decides."
    elif len(issues) >= _MANY or confidence < _THRESHOLD:
        decision, summary = "needs_human", f"{len(issues)} issues; the first: {issues[0].message}"
    else:
        decision = "approved"
        summary = issues[0].message if issues else "No fault was found in wording, dates, numbers and directions."
    return ValidationAnswer(
        decision=decision,
        issues=tuple(issues),
        confidence=confidence,
        sensitive=bool(topics),
        summary=summary[:300],
    )


def _issues(draft: MarketDraft, today: date) -> Iterator[Issue]:
    rules = draft.rules
    question = rules.exact_question
    texts = " ".join((draft.title, question, *(c.text for c in rules.criteria.conditions)))
    if safety.injection(f"{texts} {draft.description}"):
        yield _issue("prompt_injection", "draft", "The draft's text instructs its reader: remove what is no question.")
    if what := safety.forbidden(question):
        yield _issue("forbidden", "rules.exact_question", f"The market is a bet on {what}: ask about something else.")
    if wording.self_referential(question):
        yield _issue("self_referential", "rules.exact_question", "The question is about its own market.")
    if wording.proposer_controls(question):
        yield _issue("proposer_controls", "rules.exact_question", "The one who asks can bring the answer about.")
    if wording.question_of(question) is None:
        yield _issue(
            "no_yes_no_question", "rules.exact_question", "It is not one question with the answers yes and no."
        )
    if words := wording.subjective_words(question):
        yield _issue(
            "subjective", "rules.exact_question", f"Two people can read {_list(words)} differently: define it."
        )
    if times := wording.relative_times(question):
        yield _issue("date_relative", "rules.exact_question", f"{_list(times)} moves with the reader: write the date.")
    yield from _about_dates_and_numbers(draft, today)
    yield from _about_title(draft, today)
    yield from _about_program(rules, today)
    if rules.criteria.machine_resolution_logic.then is Answer.NO and not _is_negation(question):
        where = "rules.criteria.machine_resolution_logic"
        yield _issue(
            "logic_inverted", where, "When all conditions hold the market says NO: confirm that this is meant."
        )
    yield from _about_sources(rules)


def _about_dates_and_numbers(draft: MarketDraft, today: date) -> Iterator[Issue]:
    rules = draft.rules
    asked = set(days(rules.exact_question, today))
    read = {reading.on for reading in _readings(rules) if reading.on is not None}
    written = {day for c in rules.criteria.conditions for day in days(c.text, today)}
    for mention in mentions(rules.exact_question, today):
        if mention.precision is Precision.DAY_WITHOUT_YEAR:
            text = rules.exact_question[mention.start : mention.end]
            yield _issue("date_relative", "rules.exact_question", f"{text!r} has no year: write it.")
    if not asked | read | written and all(
        mention.precision is Precision.DAY_WITHOUT_YEAR for mention in mentions(rules.exact_question, today)
    ):
        yield _issue("date_missing", "rules.exact_question", "No date with a year says until when: add it.")
    allowed = read | written | {rules.expiry.date(), rules.expiry.date() - timedelta(days=1)}
    if missing := sorted(asked - allowed):
        yield _issue("mismatch", "rules.criteria", f"The question's date {missing[0]} is in no condition.")
    conditions = " ".join(c.text for c in rules.criteria.conditions)
    if rules.text_conditions and (lost := sorted(_numbers(rules.exact_question) - _numbers(conditions))):
        yield _issue("mismatch", "rules.criteria", f"The question's number {lost[0]} is in no condition.")
    last = max(read, default=None)
    if last is not None and rules.expiry.date() < last - _AFTER_EXPIRY:
        yield _issue("expiry_mismatch", "rules.expiry", f"Trading ends long before {last}, the last day asked about.")


def _about_title(draft: MarketDraft, today: date) -> Iterator[Issue]:
    question = draft.rules.exact_question
    if other := [day for day in days(draft.title, today) if day not in days(question, today)]:
        yield _issue("mismatch", "title", f"The title's date {other[0]} is not in the question.")
    told = _numbers(question) | {n for c in draft.rules.criteria.conditions for n in _numbers(c.text)}
    if new := sorted(_numbers(draft.title) - told):
        yield _issue("mismatch", "title", f"The title's number {new[0]} is not in the question.")


def _about_program(rules: ResolutionRules, today: date) -> Iterator[Issue]:
    """Whether a single machine-checkable condition says what the question's words say."""
    program = rules.resolver_program
    if len(program) != 1 or rules.text_conditions or rules.criteria.must_not_count:
        return
    condition = program[0]
    if condition.op is Op.EXISTS or condition.checks[0].value.type is not ValueType.NUMBER:
        return
    rank = re.search(r"\brank(?:ing)?s?\b", rules.exact_question, re.IGNORECASE) is not None
    try:
        asked = comparison.read(rules.exact_question, today, rank=rank, units=frozenset({"%", "money"}))
    except comparison.Unclear as why:
        yield _issue("direction_unclear", "rules.exact_question", f"The question's comparison is not plain: {why}.")
        return
    op: Op = condition.op
    if rules.criteria.machine_resolution_logic.then is Answer.NO:
        op = _OPPOSITE.get(op, op)
    if asked.op is not op:
        yield _issue("mismatch", f"{condition.id}.op", f"The question asks {asked.op}, the condition {op}.")
    elif (asked.operand, asked.upper, asked.percent) != (_operand(condition), condition.upper, condition.percent):
        yield _issue("mismatch", f"{condition.id}.operand", "The question and the condition have different numbers.")
    for check in condition.checks:
        baseline = check.baseline.on if check.baseline else None
        if check.value.on is not None and (check.value.on, baseline) != (asked.value_on, asked.baseline_on):
            yield _issue(
                "mismatch", f"{condition.id}.checks", "The condition reads other days than the question names."
            )


_OPPOSITE = {Op.GT: Op.LE, Op.LE: Op.GT, Op.LT: Op.GE, Op.GE: Op.LT, Op.EQ: Op.NE, Op.NE: Op.EQ}


def _operand(condition: MachineCondition) -> object:
    return None if condition.operand is None else condition.constant(condition.checks[0].value.type)


def _about_sources(rules: ResolutionRules) -> Iterator[Issue]:
    hosts = {_site(source.url) for source in rules.criteria.allowed_sources}
    named = {_site(url) for url in urls(rules.exact_question)}
    if named and not named & hosts:
        where = "rules.criteria.allowed_sources"
        yield _issue("mismatch", where, f"The question names {_list(sorted(named))}, which no source is of.")


def _site(url: str) -> str:
    """The last two labels of the host: fred.stlouisfed.org and api.stlouisfed.org are one publisher."""
    return ".".join((urlsplit(url).hostname or "").split(".")[-2:])


def _readings(rules: ResolutionRules) -> list[Reading]:
    checks = [check for condition in rules.resolver_program for check in condition.checks]
    return [reading for check in checks for reading in (check.value, check.baseline) if reading is not None]


def _numbers(text: str) -> set[str]:
    """Amounts and shares of a text ("$150", "4.5", "25%"), without dates and counts within words."""
    plain = re.sub(r"\d{4}-\d\d-\d\d", " ", text)
    return {
        n.replace(",", "")
        for n in re.findall(r"(?<![\w.,-])[$\u20ac\u00a3]?(\d[\d,]*(?:\.\d+)?)(?=%|\s|[?.,)]|$)", plain)
    }


def _is_negation(question: str) -> bool:
    return re.search(r"\b(?:not|never|fail)\b|n['\u2019]t\b", question, re.IGNORECASE) is not None


def _list(words: Sequence[str]) -> str:
    return ", ".join(repr(word) for word in words)


def _issue(code: str, field: str, message: str) -> Issue:
    return Issue(code=code, field=field[:120], message=message[:300])
