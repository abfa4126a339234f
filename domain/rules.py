"""Resolution rules: the contract with the public, and the resolver program inside it (data, not code).

Source of the fields: the market specification's "Resolution rules". A rule set is hashed whole (`model_sha256`), and
that hash is what goes on chain.
"""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from enum import StrEnum
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints, field_validator, model_validator

from domain.base import Model

NUMBER_DIGITS = 100
"""Digits that a number may have before and after its point: a 256-bit integer of a chain has 78."""

EXACT = Context(prec=8 * NUMBER_DIGITS)
"""Arithmetic of rules: wide enough that sums and products of two such numbers are never rounded."""

_LAST_YEAR = 9_000
"""Of an expiry: moments are counted on from it, and the calendar ends with the year 9999."""

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]+)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")


def exact_number(text: str) -> Decimal | None:
    """The number that `text` writes in ASCII digits, exactly; None for anything else and beyond NUMBER_DIGITS."""
    if len(text) > 3 * NUMBER_DIGITS or not _NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    return number if number.adjusted() < NUMBER_DIGITS and exponent >= -NUMBER_DIGITS else None


def _readable(text: str) -> str:
    if _UNREADABLE.search(text):
        raise ValueError("the text holds a control character: it would not read the same for everyone")
    return text


# C0 and C1 controls other than tab and line feed (PostgreSQL stores no NUL), and the overrides that turn text around.
_UNREADABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def _normal(number: Decimal) -> Decimal:
    if exact_number(str(number)) is None:
        raise ValueError(f"a number has at most {NUMBER_DIGITS} digits before and after its point")
    return Decimal(f"{EXACT.normalize(number):f}") if number else Decimal(0)


def _in_utc(moment: datetime) -> datetime:
    if moment.microsecond:
        raise ValueError("a moment counts in whole seconds, as it stands on chain")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{moment.isoformat()} lies outside of the calendar in UTC") from error


# What is equal must be hashed equal: one way to write each moment and each number.
Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
Number = Annotated[Decimal, AfterValidator(_normal)]

Readable = Annotated[str, AfterValidator(_readable)]
Text = Annotated[Readable, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,79}$")]
Path = Annotated[Readable, StringConstraints(min_length=1, max_length=500)]


class Answer(StrEnum):
    """What a branch of the rules says."""

    YES = "YES"
    NO = "NO"


class Method(StrEnum):
    """How a source is read."""

    HTML_SCRAPE = "html_scrape"
    API_CHECK = "api_check"
    SOCIAL_POST = "social_post"


class ValueType(StrEnum):
    """What an extracted value must parse as."""

    NUMBER = "number"
    TEXT = "text"
    DATE = "date"
    BOOLEAN = "boolean"


class Op(StrEnum):
    """The typed predicates of a machine-checkable condition."""

    CONTAINS = "contains"
    """As written, upper and lower case apart; white space is folded."""
    MATCHES = "matches"
    """RE2, anywhere in the text."""
    EXISTS = "exists"
    EQ = "=="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    BETWEEN = "between"
    """Both bounds count."""
    CHANGED_BY = "changed_by"
    DATE_BEFORE = "date_before"
    """Strictly, whatever the rules' `deadline_inclusive`: "on or before" names the day after."""
    DATE_AFTER = "date_after"
    """Strictly."""


TYPES_OF: dict[Op, frozenset[ValueType]] = {
    Op.CONTAINS: frozenset({ValueType.TEXT}),
    Op.MATCHES: frozenset({ValueType.TEXT}),
    Op.EXISTS: frozenset(ValueType),
    Op.EQ: frozenset(ValueType),
    Op.NE: frozenset(ValueType),
    Op.LT: frozenset({ValueType.NUMBER}),
    Op.LE: frozenset({ValueType.NUMBER}),
    Op.GT: frozenset({ValueType.NUMBER}),
    Op.GE: frozenset({ValueType.NUMBER}),
    Op.BETWEEN: frozenset({ValueType.NUMBER}),
    Op.CHANGED_BY: frozenset({ValueType.NUMBER}),
    Op.DATE_BEFORE: frozenset({ValueType.DATE}),
    Op.DATE_AFTER: frozenset({ValueType.DATE}),
}
"""The types of value that a predicate can be asked of."""

_NO_BASELINE = frozenset({Op.CONTAINS, Op.MATCHES, Op.EXISTS, Op.BETWEEN})


class Source(Model):
    """One allowed source. `url` is HTTPS; fetching refuses what is private, shortened or redirecting."""

    name: Name
    url: Annotated[Readable, StringConstraints(pattern=r"^https://[^\s]+$", max_length=2_000)]
    method: Method
    condition: Text
    """What this source is expected to state, for a person."""
    selector: Path | None = None
    """CSS selector of the part that a person or an LLM reads (html_scrape)."""
    json_path: Path | None = None
    """RFC 9535 path of that part (api_check)."""

    @model_validator(mode="after")
    def _read_by_its_method(self) -> Self:
        if self.json_path is not None and self.selector is not None:
            raise ValueError(f"source {self.name} has a selector or a json_path, and not both")
        if not self.reads(self):
            raise ValueError(f"source {self.name}: html_scrape goes with a selector, api_check with a json_path")
        return self

    def reads(self, part: "Source | Reading") -> bool:
        """Whether `part` is found as this source's method finds: html_scrape by selector, api_check by json_path."""
        if self.method is Method.HTML_SCRAPE:
            return part.json_path is None
        return self.method is not Method.API_CHECK or part.selector is None


class Reading(Model):
    """One typed value out of one source's document.

    `json_path` or `selector` finds it. With `date_path`, the nodes of both paths run parallel and form a dated series,
    out of which `on` picks the value (see `Counts`). `pattern` (RE2, at most one group) then cuts a part out of the
    text, and so leaves out signs of a unit ("$", "%"). A comma in a number groups thousands.
    """

    source: Name
    json_path: Path | None = None
    selector: Path | None = None
    date_path: Path | None = None
    on: date | None = None
    pattern: Annotated[Readable, StringConstraints(min_length=1, max_length=500)] | None = None
    type: ValueType
    unit: Annotated[Readable, StringConstraints(max_length=80)] = ""

    @model_validator(mode="after")
    def _one_way_to_find_it(self) -> Self:
        if (self.json_path is None) == (self.selector is None):
            raise ValueError("a reading needs a json_path or a selector, and not both")
        if (self.date_path is None) != (self.on is None):
            raise ValueError("date_path and on go together: dates of the series, and the date whose value counts")
        if self.date_path is not None and self.json_path is None:
            raise ValueError("a dated series is read with a json_path")
        return self


class Check(Model):
    """One source's way to answer a condition: the value, and what it is compared with when that is no constant."""

    value: Reading
    baseline: Reading | None = None

    @property
    def readings(self) -> tuple[Reading, ...]:
        """The value, and the baseline if there is one."""
        return (self.value,) if self.baseline is None else (self.value, self.baseline)


class MachineCondition(Model):
    """A typed predicate over an extracted value. Several checks are several sources asked the same question."""

    kind: Literal["machine"] = "machine"
    id: Name
    text: Text
    """The condition in words, for people."""
    op: Op
    operand: Annotated[Readable, StringConstraints(max_length=500)] | None = None
    """The constant compared with, as text that parses as the value's type; for `changed_by` the least change (a
    negative one: at least so far down)."""
    upper: Number | None = None
    """Upper bound, inclusive, of `between`."""
    percent: bool = False
    """`changed_by` counts in per cent of the baseline's absolute value instead of the unit of the value."""
    checks: Annotated[tuple[Check, ...], Field(min_length=1, max_length=10)]

    @model_validator(mode="after")
    def _one_kind_of_value(self) -> Self:
        readings = [reading for check in self.checks for reading in check.readings]
        for reading in readings:
            if reading.type not in TYPES_OF[self.op]:
                raise ValueError(f"{self.op} cannot be asked of a {reading.type} (condition {self.id})")
        if len({(reading.type, reading.unit) for reading in readings}) > 1:
            raise ValueError(f"the values compared differ in type or unit (condition {self.id})")
        return self

    @model_validator(mode="after")
    def _something_to_compare_with(self) -> Self:
        baselines = sum(check.baseline is not None for check in self.checks)
        if self.op in _NO_BASELINE and baselines:
            raise ValueError(f"{self.op} takes no baseline (condition {self.id})")
        if self.op is Op.CHANGED_BY and baselines < len(self.checks):
            raise ValueError(f"changed_by needs a baseline in every check (condition {self.id})")
        if 0 < baselines < len(self.checks):
            raise ValueError(f"either every check has a baseline or none has (condition {self.id})")
        needs_operand = self.op is Op.CHANGED_BY or not (baselines or self.op is Op.EXISTS)
        if not needs_operand and self.operand is not None:
            other = "the baseline" if baselines else "nothing"
            raise ValueError(f"{self.op} is compared with {other} here and takes no operand (condition {self.id})")
        wanted = self.checks[0].value.type
        if needs_operand and self.constant(wanted) is None:
            raise ValueError(f"{self.op} needs a {wanted} as operand (condition {self.id})")
        return self

    @model_validator(mode="after")
    def _bounds_and_per_cent(self) -> Self:
        if (self.op is Op.BETWEEN) != (self.upper is not None):
            raise ValueError(f"upper belongs to between, and between needs it (condition {self.id})")
        lower = self.constant(ValueType.NUMBER)
        if isinstance(lower, Decimal) and self.upper is not None and lower > self.upper:
            raise ValueError(f"between has its lower bound above its upper (condition {self.id})")
        if self.percent and self.op is not Op.CHANGED_BY:
            raise ValueError(f"percent belongs to changed_by (condition {self.id})")
        return self

    def constant(self, wanted: ValueType) -> "Decimal | str | date | bool | None":
        """The operand as a value of the type wanted, or None when it is none."""
        if self.operand is None:
            return None
        match wanted:
            case ValueType.NUMBER:
                return exact_number(self.operand)
            case ValueType.DATE:
                try:
                    day = date.fromisoformat(self.operand)
                except ValueError:
                    return None
                return day if day.isoformat() == self.operand else None
            case ValueType.BOOLEAN:
                return {"true": True, "false": False}.get(self.operand)
            case ValueType.TEXT:
                return self.operand if self.operand.strip() else None


class TextCondition(Model):
    """A condition that an LLM judges against the evidence of the named sources."""

    kind: Literal["text"] = "text"
    id: Name
    text: Text
    sources: Annotated[tuple[Name, ...], Field(min_length=1, max_length=10)]


Condition = Annotated[MachineCondition | TextCondition, Field(discriminator="kind")]


class Logic(Model):
    """`then` iff every must_meet_all holds and no must_not_count is triggered, otherwise `else`."""

    if_: Literal["all must_meet_all and no must_not_count"] = Field(
        default="all must_meet_all and no must_not_count", alias="if"
    )
    then: Answer = Answer.YES
    else_: Answer = Field(default=Answer.NO, alias="else")

    @model_validator(mode="after")
    def _decides(self) -> Self:
        if self.then is self.else_:
            raise ValueError("then and else give the same answer, so nothing would be decided")
        return self


class Counts(StrEnum):
    """Which value of a dated series counts for the date asked."""

    FIRST_PUBLISHED = "first_published"
    """The value dated exactly so, as first published."""
    LATEST_AT_DEADLINE = "latest_at_deadline"
    """The latest dated at or before it, once the series has a value at or past that date."""
    LAST_BEFORE_DEADLINE = "last_before_deadline"
    """The latest dated before it, once the series has a value at or past that date."""


class Observation(Model):
    """Which value counts, and whether later revisions of it do."""

    counts: Counts
    revisions: Literal["ignored"] | Moment = "ignored"
    """`ignored`: the value counts as the first look that finds it shows it. A moment: revisions until then still count,
    so no look happens before it (settle_after reaches it)."""


_DAY = 86_400


class NotYetPublished(Model):
    """What happens while the value is not out: wait, then VOID or a person; never a guess. Seconds."""

    settle_after: Annotated[int, Field(ge=0, le=30 * _DAY)]
    """From expiry to the first look."""
    check_every: Annotated[int, Field(ge=1, le=7 * _DAY)]
    """Between two looks."""
    give_up_after: Annotated[int, Field(ge=1, le=366 * _DAY)]
    """From expiry until waiting ends."""
    then: Literal["void", "review"]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.settle_after >= self.give_up_after:
            raise ValueError("give_up_after must lie after settle_after, both counted from expiry")
        return self


class Postponed(Model):
    """What happens when the event is postponed or cancelled."""

    outcome: Literal["NO", "VOID", "extend"]
    extend_until: Moment | None = None

    @model_validator(mode="after")
    def _until_when(self) -> Self:
        if (self.outcome == "extend") != (self.extend_until is not None):
            raise ValueError("extend_until belongs to the outcome extend, which needs it")
        return self


class Criteria(Model):
    """Conditions, sources and logic."""

    must_meet_all: Annotated[tuple[Condition, ...], Field(min_length=1, max_length=20)]
    must_not_count: Annotated[tuple[Condition, ...], Field(max_length=20)] = ()
    allowed_sources: Annotated[tuple[Source, ...], Field(min_length=1, max_length=10)]
    machine_resolution_logic: Logic = Logic()

    @property
    def conditions(self) -> tuple[MachineCondition | TextCondition, ...]:
        """All conditions, those to meet first."""
        return (*self.must_meet_all, *self.must_not_count)


class ResolutionRules(Model):
    """The whole contract of one binary market; frozen when it is published."""

    type: Literal["binary"] = "binary"
    exact_question: Annotated[Readable, StringConstraints(strip_whitespace=True, min_length=10, max_length=1_000)]
    criteria: Criteria
    expiry: Moment
    """When trading ends; resolution never starts before it."""
    timezone: str
    """IANA name; how dates of the question and of the sources are read."""
    deadline_inclusive: bool
    """Whether what happens on the deadline's own date still counts; agrees with `observation.counts`."""
    observation: Observation
    not_yet_published: NotYetPublished
    postponed_or_cancelled: Postponed
    source_order: Annotated[tuple[Name, ...], Field(min_length=1, max_length=10)]
    """Which source is quoted first when several answer."""
    quorum: Annotated[int, Field(ge=1, le=10)]
    """How many sources must agree on a condition that several can answer."""

    @field_validator("expiry")
    @classmethod
    def _leaves_time(cls, expiry: datetime) -> datetime:
        if expiry.year > _LAST_YEAR:
            raise ValueError(f"a market that ends after the year {_LAST_YEAR} has no calendar left to be resolved in")
        return expiry

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            # Names without an area (EST, localtime) and other trees (right/…) are not the same on every machine.
            area = name.partition("/")[0]
            known = name == "UTC" or (area not in {name, "posix", "right"} and ZoneInfo(name).key == name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            known = False
        if not known:
            raise ValueError(f"{name!r} is not an IANA time zone such as UTC or America/New_York")
        return name

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        names = [source.name for source in self.criteria.allowed_sources]
        if len(set(names)) != len(names):
            raise ValueError("two allowed sources have the same name")
        if sorted(self.source_order) != sorted(names):
            raise ValueError("source_order must name every allowed source exactly once")
        ids = [condition.id for condition in self.criteria.conditions]
        if len(set(ids)) != len(ids):
            raise ValueError("two conditions have the same id")
        for condition in self.criteria.conditions:
            if unknown := [name for name in sources_of(condition) if name not in names]:
                raise ValueError(f"condition {condition.id} names the unknown source {unknown[0]!r}")
            if self.quorum > len(answering(condition)):
                raise ValueError(f"the quorum of {self.quorum} is more than the sources of condition {condition.id}")
        return self

    @model_validator(mode="after")
    def _readings_suit_their_sources(self) -> Self:
        for condition in self.resolver_program:
            for reading in (reading for check in condition.checks for reading in check.readings):
                source = self.source(reading.source)
                if not source.reads(reading):
                    raise ValueError(f"condition {condition.id} does not read {source.name} by its {source.method}")
                if condition.op is Op.EXISTS and not (reading.pattern or source.selector or source.json_path):
                    raise ValueError(
                        f"exists needs a pattern, or a selector or json_path of the source {source.name}: without it a"
                        f" page that changed looks like one where nothing is (condition {condition.id})"
                    )
        return self

    @model_validator(mode="after")
    def _times_agree(self) -> Self:
        dated = any(r.on is not None for c in self.resolver_program for check in c.checks for r in check.readings)
        inclusive = {Counts.LATEST_AT_DEADLINE: True, Counts.LAST_BEFORE_DEADLINE: False}
        if dated and inclusive.get(self.observation.counts, self.deadline_inclusive) != self.deadline_inclusive:
            raise ValueError(f"{self.observation.counts} contradicts deadline_inclusive={self.deadline_inclusive}")
        until = self.observation.revisions
        settle_after = timedelta(seconds=self.not_yet_published.settle_after)
        if isinstance(until, datetime) and until - self.expiry > settle_after:
            raise ValueError("settle_after ends before the moment until which revisions count: they would be missed")
        extended = self.postponed_or_cancelled.extend_until
        if extended is not None and extended <= self.expiry:
            raise ValueError("extend_until must lie after expiry")
        return self

    @property
    def resolver_program(self) -> tuple[MachineCondition, ...]:
        """All machine-checkable conditions."""
        return tuple(c for c in self.criteria.conditions if isinstance(c, MachineCondition))

    @property
    def text_conditions(self) -> tuple[TextCondition, ...]:
        """The conditions that need judgement."""
        return tuple(c for c in self.criteria.conditions if isinstance(c, TextCondition))

    def source(self, name: str) -> Source:
        """The allowed source of that name."""
        return next(source for source in self.criteria.allowed_sources if source.name == name)


def sources_of(condition: MachineCondition | TextCondition) -> tuple[str, ...]:
    """Names of the sources that a condition reads, each once, in the order given."""
    if isinstance(condition, TextCondition):
        return tuple(dict.fromkeys(condition.sources))
    return tuple(dict.fromkeys(reading.source for check in condition.checks for reading in check.readings))


def answering(condition: MachineCondition | TextCondition) -> frozenset[str]:
    """Names of the sources that can answer a condition; a source that gives only a baseline cannot."""
    if isinstance(condition, TextCondition):
        return frozenset(condition.sources)
    return frozenset(check.value.source for check in condition.checks)
