"""Rule templates: what a category's rules should hold. A change affects markets drafted afterwards and no other.

A draft of the model gets the conditions that it leaves out. What still leaves the template, as a full draft of a person
may, is noted at the rehearsal, so that validation and reviewer know.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from domain.base import Model
from domain.extraction import check_reading, check_regex
from domain.market import Category, Issue
from domain.rules import Condition, MachineCondition, Method, Op, Readable, ResolutionRules, TextCondition
from domain.source_urls import check_url

_CONDITION: TypeAdapter[Condition] = TypeAdapter(Condition)
_LIMIT = 20


class SourcePattern(Model):
    """Sources that fit a category: an HTTPS URL whose path may hold `*` for any text, and how they are read."""

    pattern: Annotated[Readable, StringConstraints(pattern=r"^https://[^\s*/?#]+/[^\s]*$", max_length=500)]
    method: Method

    @property
    def start(self) -> str:
        """The part before the first `*`: what is asked whether it answers."""
        return self.pattern.partition("*")[0]

    def matches(self, url: str) -> bool:
        """Whether a source's URL is one of these."""
        return fnmatchcase(url, self.pattern.replace("[", "[[]").replace("?", "[?]"))


_PATTERN: TypeAdapter[SourcePattern] = TypeAdapter(SourcePattern)
_LISTS: dict[str, TypeAdapter[Any]] = {
    "must_meet_all": _CONDITION,
    "must_not_count": _CONDITION,
    "source_patterns": _PATTERN,
}

Conditions = Annotated[tuple[Condition, ...], Field(max_length=_LIMIT)]


class RuleTemplate(Model):
    """The defaults of one category."""

    category: Category
    must_meet_all: Conditions = ()
    must_not_count: Conditions = ()
    source_patterns: Annotated[tuple[SourcePattern, ...], Field(max_length=_LIMIT)] = ()

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Both kinds."""
        return (*self.must_meet_all, *self.must_not_count)


@dataclass(frozen=True)
class Parsed:
    """What a JSON text holds: a template, or all that is wrong with it."""

    template: RuleTemplate | None
    issues: tuple[Issue, ...]
    patterns: tuple[SourcePattern, ...] = ()
    """Those that may be asked whether they answer, also when something else is wrong."""


def parse(category: Category, text: str) -> Parsed:
    """Read a template; conditions and patterns one by one, so that every fault is named."""
    try:
        body = json.loads(text)
    except ValueError as error:
        return Parsed(None, (_issue("not_json", "template", str(error)),))
    if not isinstance(body, dict):
        return Parsed(None, (_issue("not_json", "template", "it is no JSON object"),))
    issues: list[Issue] = []
    for name, kind in _LISTS.items():
        given = body.get(name, [])
        for place, one in enumerate(given if isinstance(given, list) else []):
            if (why := _fault(kind, one)) is not None:
                issues.append(_issue("bad_entry", f"{name}.{place}", why))
    template = None
    try:
        template = RuleTemplate.model_validate({**body, "category": category})
        issues.extend(_uncompilable(template))
    except ValidationError as error:
        named = {issue.field for issue in issues}
        whole = [fault for fault in error.errors() if ".".join(map(str, fault["loc"][:2])) not in named]
        issues.extend(_issue("bad_field", ".".join(map(str, fault["loc"])), fault["msg"]) for fault in whole)
    asked = []
    for pattern in _readable_patterns(body):
        if (why := check_url(pattern.start)) is not None:
            issues.append(_issue("source_refused", pattern.pattern, why))
        else:
            asked.append(pattern)
    return Parsed(None if issues else template, tuple(issues), tuple(asked))


_Kind = Literal["must_meet_all", "must_not_count"]
_KINDS: tuple[_Kind, ...] = ("must_meet_all", "must_not_count")


def with_defaults(template: RuleTemplate, rules: ResolutionRules) -> ResolutionRules:
    """The rules with the template's conditions that they leave out, as far as these fit; the others are departures.

    A text condition is judged by the sources that it names, or by all where the rules have none of them; a
    machine-checkable one needs its own. Rules whose `then` is NO stay: one condition more would make YES likelier.
    """
    if rules.criteria.machine_resolution_logic.then != "YES":
        return rules
    for kind in _KINDS:
        for condition in _left_out(kind, template, rules):
            rules = _with(kind, condition, rules)
    return rules


def _with(kind: _Kind, condition: MachineCondition | TextCondition, rules: ResolutionRules) -> ResolutionRules:
    if isinstance(condition, TextCondition):
        names = tuple(source.name for source in rules.criteria.allowed_sources)
        known = tuple(name for name in condition.sources if name in names)
        condition = condition.model_copy(update={"sources": known or names})
    whole = rules.model_dump(by_alias=True)
    whole["criteria"][kind] = (*whole["criteria"][kind], condition.model_dump(by_alias=True))
    try:
        return ResolutionRules.model_validate(whole)
    except ValidationError:  # a source that the rules do not have, an id that is taken, too many conditions
        return rules


def _left_out(
    kind: _Kind, template: RuleTemplate, rules: ResolutionRules
) -> Iterator[MachineCondition | TextCondition]:
    present = {condition.text for condition in getattr(rules.criteria, kind)}
    return (condition for condition in getattr(template, kind) if condition.text not in present)


def departures(template: RuleTemplate, rules: ResolutionRules) -> tuple[Issue, ...]:
    """Where a draft's rules leave their category's template: a source of no pattern, a condition left out.

    A template without patterns says nothing of sources.
    """
    strange = [
        _issue("source_off_template", source.name, f"no source pattern of {template.category} has its address")
        for source in rules.criteria.allowed_sources
        if template.source_patterns
        and not any(p.method is source.method and p.matches(source.url) for p in template.source_patterns)
    ]
    missing = [
        _issue("default_left_out", condition.id, f"{kind} of {template.category} has: {condition.text}")
        for kind in _KINDS
        for condition in _left_out(kind, template, rules)
    ]
    return (*strange, *missing)


def _fault(kind: TypeAdapter[Any], one: Any) -> str | None:
    try:
        kind.validate_python(one)
    except ValidationError as error:
        fault = error.errors()[0]
        return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}".removeprefix(": ")
    return None


def _readable_patterns(body: Mapping[str, Any]) -> Iterator[SourcePattern]:
    given = body.get("source_patterns", [])
    for one in given if isinstance(given, list) else []:
        if _fault(_PATTERN, one) is None:
            yield _PATTERN.validate_python(one)


def _uncompilable(template: RuleTemplate) -> Iterator[Issue]:
    for id, times in Counter(condition.id for condition in template.conditions).items():
        if times > 1:
            yield _issue("double_id", id, "two conditions have the same id")
    for condition in template.conditions:
        if not isinstance(condition, MachineCondition):
            continue
        if condition.op is Op.MATCHES and (fault := check_regex(condition.operand or "")) is not None:
            yield _issue("bad_pattern", condition.id, fault)
        for check in condition.checks:
            for reading in check.readings:
                if (fault := check_reading(reading)) is not None:
                    yield _issue("bad_path", condition.id, fault)


def _issue(code: str, field: str, message: str) -> Issue:
    return Issue(code=code, field=field[:120], message=message[:300])
