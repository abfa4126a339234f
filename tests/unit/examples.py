"""Rules and documents for the domain's tests: one plain example to vary, and strategies that make any of them."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from domain.canonical import sha256_hex
from domain.extraction import Document
from domain.rules import TYPES_OF, Counts, Method, Op, ResolutionRules, ValueType

EXPIRY = datetime(2026, 1, 31, 12, tzinfo=UTC)


def document(body: object, content_type: str = "application/json; charset=utf-8") -> Document:
    """A document of the bytes or the text given, or of anything else as JSON."""
    match body:
        case bytes():
            data = body
        case str():
            data = body.encode()
        case _:
            data = json.dumps(body, ensure_ascii=False).encode()
    return Document(sha256=sha256_hex(data), content_type=content_type, body=data)


def page(html: str | bytes, content_type: str = "text/html; charset=utf-8") -> Document:
    """An HTML document."""
    return document(html, content_type)


def observations(*pairs: tuple[object, object]) -> Document:
    """Dates and values in the shape of FRED."""
    return document({"observations": [{"date": day, "value": value} for day, value in pairs]})


def source(name: str = "fred", **changes: Any) -> dict[str, Any]:
    """One allowed source."""
    return {
        "name": name,
        "url": f"https://{name}.example.org/data",
        "method": "api_check",
        "condition": "the published values",
    } | changes


def reading(source: str = "fred", **changes: Any) -> dict[str, Any]:
    """One undated number."""
    return {"source": source, "json_path": "$.value", "type": "number"} | changes


def dated(source: str = "fred", on: str = "2026-01-15", **changes: Any) -> dict[str, Any]:
    """One number out of a series in the shape of FRED."""
    paths = {"json_path": "$.observations[*].value", "date_path": "$.observations[*].date", "on": on}
    return reading(source, **paths) | changes


def machine(id: str = "above", op: str = ">=", operand: str | None = "5.25", **changes: Any) -> dict[str, Any]:
    """One machine-checkable condition over `$.value` of fred."""
    given = {
        "kind": "machine",
        "id": id,
        "text": "The value is at least 5.25.",
        "op": op,
        "checks": [{"value": reading()}],
    }
    return given | ({} if operand is None else {"operand": operand}) | changes


def text_condition(id: str = "announced", *sources: str) -> dict[str, Any]:
    """One condition in words."""
    return {"kind": "text", "id": id, "text": "The page announces it.", "sources": list(sources) or ["fred"]}


def rules_json(
    *must_meet: dict[str, Any],
    not_count: Any = (),
    sources: Any = None,
    counts: str = "first_published",
    **changes: Any,
) -> dict[str, Any]:
    """Rules as JSON; `changes` replace fields of the rules."""
    sources = sources or [source()]
    return {
        "exact_question": "Will the value be at least 5.25 on 2026-01-15?",
        "criteria": {
            "must_meet_all": list(must_meet) or [machine()],
            "must_not_count": list(not_count),
            "allowed_sources": sources,
        },
        "expiry": EXPIRY,
        "timezone": "UTC",
        "deadline_inclusive": counts != "last_before_deadline",
        "observation": {"counts": counts},
        "not_yet_published": {"settle_after": 0, "check_every": 60, "give_up_after": 86_400, "then": "void"},
        "postponed_or_cancelled": {"outcome": "VOID"},
        "source_order": [one["name"] for one in sources],
        "quorum": 1,
    } | changes


def rules(*must_meet: dict[str, Any], **changes: Any) -> ResolutionRules:
    """The same as a model."""
    return ResolutionRules.model_validate(rules_json(*must_meet, **changes))


# Any rules and any documents. What is often right is drawn more often than what never is.

_NAMES = ("fred", "ecb", "site")
_READABLE = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)


def _mostly(usual: st.SearchStrategy[Any], other: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(usual, usual, usual, usual, other)


_JSON_PATHS = _mostly(
    st.sampled_from(["$.value", "$.a", "$..value", "$.a[*]", "$..['a','b']", "$.observations[?@.value>1].value"]),
    _READABLE,
)
_SERIES_PATHS = _mostly(
    st.just({"json_path": "$.observations[*].value", "date_path": "$.observations[*].date"}),
    st.fixed_dictionaries({"json_path": _JSON_PATHS, "date_path": _JSON_PATHS}),
)
_SELECTORS = _mostly(st.sampled_from(["p", "table td", "#value", "p > b", "tr:nth-child(2) td", "*"]), _READABLE)
_PATTERNS = _mostly(st.sampled_from(["([0-9.]+)", "a*", "(x)?", r"\C", "^$", ".+"]), _READABLE)
_DAYS = st.dates(date(2025, 12, 25), date(2026, 1, 10))
_NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**6), max_value=10**6)
_OPERANDS = {
    ValueType.NUMBER: _NUMBERS.map(str),
    ValueType.TEXT: _READABLE,
    ValueType.DATE: _DAYS.map(date.isoformat),
    ValueType.BOOLEAN: st.sampled_from(["true", "false"]),
}


@st.composite
def _readings(draw: st.DrawFn, name: str, method: Method, kind: ValueType) -> dict[str, Any]:
    by_path = method is not Method.HTML_SCRAPE
    given: dict[str, Any] = {"source": name, "type": kind}
    if by_path:
        if draw(st.booleans()):
            given |= draw(_SERIES_PATHS) | {"on": draw(_DAYS)}
        else:
            given["json_path"] = draw(_JSON_PATHS)
    else:
        given["selector"] = draw(_SELECTORS)
    if draw(st.integers(0, 3)) == 0:
        given["pattern"] = draw(_PATTERNS)
    return given


@st.composite
def _conditions(draw: st.DrawFn, id: str, methods: dict[str, Method]) -> dict[str, Any]:
    names = sorted(methods)
    if draw(st.integers(0, 4)) == 0:
        return text_condition(id, *draw(st.lists(st.sampled_from(names), min_size=1, max_size=3)))
    op = draw(st.sampled_from(Op))
    kind = draw(st.sampled_from(sorted(TYPES_OF[op])))
    may_have_baseline = op not in {Op.CONTAINS, Op.MATCHES, Op.EXISTS, Op.BETWEEN}
    with_baseline = op is Op.CHANGED_BY or (may_have_baseline and draw(st.booleans()))
    asked = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))
    checks = [
        {"value": draw(_readings(name, methods[name], kind))}
        | ({"baseline": draw(_readings(name, methods[name], kind))} if with_baseline else {})
        for name in asked
    ]
    given: dict[str, Any] = {"kind": "machine", "id": id, "text": "It is so.", "op": op, "checks": checks}
    if op is Op.CHANGED_BY or not (with_baseline or op is Op.EXISTS):
        given["operand"] = draw(_OPERANDS[kind])
    if op is Op.BETWEEN:
        given["upper"] = str(draw(_NUMBERS) + 2 * 10**6)
    if op is Op.CHANGED_BY:
        given["percent"] = draw(st.booleans())
    return given


@st.composite
def any_rules(draw: st.DrawFn) -> ResolutionRules:
    """Rules that validation accepts, sensible or not."""
    names = draw(st.lists(st.sampled_from(_NAMES), min_size=1, unique=True))
    methods = {name: draw(st.sampled_from(Method)) for name in names}
    parts = {Method.HTML_SCRAPE: {"selector": "body"}, Method.API_CHECK: {"json_path": "$"}, Method.SOCIAL_POST: {}}
    sources = [source(n, method=m, **(parts[m] or {"json_path": "$"})) for n, m in methods.items()]
    count = draw(st.integers(1, 4))
    conditions = [draw(_conditions(f"c{n}", methods)) for n in range(count)]
    split = draw(st.integers(1, count))
    counts = draw(st.sampled_from(Counts))
    settle = draw(st.integers(0, 10_000))
    expiry = draw(
        st.datetimes(
            datetime(2000, 1, 1),  # noqa: DTZ001 - the strategy adds the zone
            datetime(2100, 1, 1),  # noqa: DTZ001
            timezones=st.integers(-840, 840).map(lambda minutes: timezone(timedelta(minutes=minutes))),
        ).map(lambda moment: moment.replace(microsecond=0))
    )
    until = draw(st.none() | st.integers(-(10**6), settle))
    return ResolutionRules.model_validate(
        rules_json(
            *conditions[:split],
            not_count=conditions[split:],
            sources=sources,
            counts=counts.value,
            expiry=expiry,
            observation={
                "counts": counts,
                "revisions": "ignored" if until is None else expiry + timedelta(seconds=until),
            },
            timezone=draw(st.sampled_from(["UTC", "America/New_York", "Asia/Tokyo", "Pacific/Kiritimati"])),
            not_yet_published={"settle_after": settle, "check_every": 1, "give_up_after": settle + 1, "then": "review"},
            source_order=draw(st.permutations(names)),
            quorum=1,
        )
    )


_SCALARS = st.one_of(
    _NUMBERS.map(str),
    st.integers(-100, 100),
    st.floats(),
    st.booleans(),
    st.none(),
    _DAYS.map(date.isoformat),
    st.text(max_size=10),
    st.sampled_from(
        [".", "NA", "", "1,234.5", "\ud800", "\0", "2026-01-05T23:30:00-05:00", 1_767_600_000, "9" * 5_000]
    ),
)
_TREES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["value", "a", "b"]), inner, max_size=3)
    ),
    max_leaves=8,
)
_SERIES = st.lists(st.fixed_dictionaries({"date": _DAYS.map(date.isoformat), "value": _SCALARS}), max_size=8)
_CONTENT = st.one_of(
    st.fixed_dictionaries({"observations": _SERIES, "value": _SCALARS, "a": _SCALARS}),
    st.fixed_dictionaries({"value": _SCALARS, "a": st.lists(_SCALARS, max_size=2)}),
    _TREES,
)
_MARKUP = st.one_of(
    st.builds("<p>{}</p><table><tr><td>{}<tr><td id=value>{}</table>".format, _SCALARS, _SCALARS, _SCALARS),
    st.lists(st.sampled_from(["<p>", "</p>", "<b>", "<table>", "<td>", "</table>", "5.25", "\0", "&#0;"])).map("".join),
)


def any_documents() -> st.SearchStrategy[Document]:
    """Documents of every kind, whole and broken, of which the type they are sent with need not be true."""
    texts = st.one_of(_CONTENT.map(json.dumps), _CONTENT.map(json.dumps), _CONTENT.map(json.dumps), _MARKUP)
    bodies = _mostly(texts.map(lambda text: text.encode("utf-8", "replace")), st.binary(max_size=100))
    types = [
        "application/json",
        "text/html",
        "text/html; charset=utf-16",
        "application/rss+xml",
        "text/csv",
        "image/png",
    ]
    return st.builds(document, bodies, _mostly(st.sampled_from(types[:2]), st.sampled_from(types)))


def any_evidence() -> st.SearchStrategy[dict[str, Document]]:
    """Documents by the names of sources; some may be missing."""
    each = {name: any_documents() for name in _NAMES}
    return _mostly(st.fixed_dictionaries(each), st.fixed_dictionaries({}, optional=each))
