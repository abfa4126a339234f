"""Rule templates: all faults at once, and where a draft leaves its category's template."""

import json
from typing import Any

import pytest

from domain.market import Category
from domain.rules import Logic, ResolutionRules
from domain.templates import RuleTemplate, SourcePattern, departures, parse, with_defaults
from tests.drafts import fred_rules

NEVER = {"kind": "text", "id": "preliminary", "text": "Only a preliminary value was published.", "sources": ["fred"]}
PATTERN = {"pattern": "https://api.stlouisfed.org/fred/*", "method": "api_check"}


def read(**body: Any) -> tuple[RuleTemplate | None, set[tuple[str, str]]]:
    parsed = parse(Category.FINANCE, json.dumps(body))
    return parsed.template, {(issue.code, issue.field) for issue in parsed.issues}


def test_a_sound_template_is_read() -> None:
    template, issues = read(must_not_count=[NEVER], source_patterns=[PATTERN])
    assert issues == set()
    assert template is not None
    assert [condition.id for condition in template.must_not_count] == ["preliminary"]


def machine(**changes: Any) -> dict[str, Any]:
    reading = {"source": "fred", "json_path": "$.value", "type": "text", **changes}
    return {
        "kind": "machine",
        "id": "m",
        "text": "It says so.",
        "op": "matches",
        "operand": "yes",
        "checks": [{"value": reading}],
    }


@pytest.mark.parametrize(
    ("body", "issue"),
    [
        ({"must_not_count": [{**NEVER, "sources": []}]}, ("bad_entry", "must_not_count.0")),
        ({"must_meet_all": [NEVER, {"kind": "guess"}]}, ("bad_entry", "must_meet_all.1")),
        ({"must_meet_all": [NEVER], "must_not_count": [NEVER]}, ("double_id", "preliminary")),
        ({"must_meet_all": [machine(json_path="$.[")]}, ("bad_path", "m")),
        ({"must_meet_all": [{**machine(), "operand": "("}]}, ("bad_pattern", "m")),
        ({"source_patterns": [{**PATTERN, "pattern": "http://example.org/"}]}, ("bad_entry", "source_patterns.0")),
        ({"source_patterns": [{**PATTERN, "pattern": "https://*.example.org/"}]}, ("bad_entry", "source_patterns.0")),
        ({"source_patterns": [{**PATTERN, "pattern": "https://bit.ly/x"}]}, ("source_refused", "https://bit.ly/x")),
        ({"must_meet": []}, ("bad_field", "must_meet")),
        ({"must_meet_all": "none"}, ("bad_field", "must_meet_all")),
    ],
)
def test_what_is_wrong_is_named(body: dict[str, Any], issue: tuple[str, str]) -> None:
    template, issues = read(**body)
    assert template is None
    assert issues == {issue}


def test_faults_of_every_kind_come_together_and_sound_sources_are_still_asked() -> None:
    body = {
        "must_meet_all": [{"kind": "guess"}],
        "must_not_count": [{**NEVER, "id": "Bad Id"}],
        "source_patterns": [PATTERN, {**PATTERN, "pattern": "https://bit.ly/x"}, {"pattern": 1}],
        "extra": 1,
    }
    parsed = parse(Category.FINANCE, json.dumps(body))
    assert {issue.field for issue in parsed.issues} == {
        "must_meet_all.0", "must_not_count.0", "source_patterns.2", "https://bit.ly/x", "extra"
    }  # fmt: skip
    assert [pattern.pattern for pattern in parsed.patterns] == [PATTERN["pattern"]]


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '"text"'])
def test_what_is_no_object_is_no_template(text: str) -> None:
    parsed = parse(Category.FINANCE, text)
    assert parsed.template is None
    assert [issue.code for issue in parsed.issues] == ["not_json"]


@pytest.mark.parametrize(
    ("pattern", "url", "fits"),
    [
        ("https://a.org/data/*", "https://a.org/data/x/y.json", True),
        ("https://a.org/data/*", "https://a.org/other", False),
        ("https://a.org/data", "https://a.org/data", True),
        ("https://a.org/q?id=*", "https://a.org/q?id=7", True),
        ("https://a.org/q?id=*", "https://a.org/qxid=7", False),
        ("https://a.org/[ab]", "https://a.org/a", False),
        ("https://a.org/*", "https://a.org.evil.org/", False),
    ],
)
def test_a_star_stands_for_any_text_and_nothing_else_is_special(pattern: str, url: str, fits: bool) -> None:
    assert SourcePattern.model_validate({"pattern": pattern, "method": "api_check"}).matches(url) is fits


def finance(**body: Any) -> RuleTemplate:
    template, issues = read(**body)
    assert template is not None, issues
    return template


def texts(rules: ResolutionRules) -> tuple[list[str], list[str]]:
    return [c.text for c in rules.criteria.must_meet_all], [c.text for c in rules.criteria.must_not_count]


def test_rules_get_what_they_leave_out_of_their_template() -> None:
    official = {"kind": "text", "id": "official", "text": "The value is official.", "sources": ["ministry"]}
    template, rules = finance(must_meet_all=[official], must_not_count=[NEVER]), fred_rules()
    assert [issue.field for issue in departures(template, rules)] == ["official", "preliminary"]
    whole = with_defaults(template, rules)
    own, _ = texts(rules)
    assert texts(whole) == ([*own, official["text"]], [NEVER["text"]])
    # The rules have no source of the name that the template gives, so theirs are asked.
    assert [condition.sources for condition in whole.text_conditions] == [("fred",), ("fred",)]
    assert departures(template, whole) == ()
    assert with_defaults(template, whole) == whole


@pytest.mark.parametrize(
    "condition", [machine(source="ministry"), {**NEVER, "id": "higher"}], ids=["a source they have not", "a taken id"]
)
def test_a_condition_that_does_not_fit_stays_a_departure(condition: dict[str, Any]) -> None:
    template, rules = finance(must_meet_all=[condition]), fred_rules()
    assert with_defaults(template, rules) == rules
    assert [issue.code for issue in departures(template, rules)] == ["default_left_out"]


def test_rules_that_lead_to_no_are_left() -> None:
    whole = fred_rules()
    criteria = whole.criteria.model_copy(
        update={"machine_resolution_logic": Logic.model_validate({"then": "NO", "else": "YES"})}
    )
    turned = whole.model_copy(update={"criteria": criteria})
    assert with_defaults(finance(must_not_count=[NEVER]), turned) == turned


def test_a_draft_that_leaves_its_template_is_noted() -> None:
    template, _ = read(must_not_count=[NEVER], source_patterns=[PATTERN])
    assert template is not None
    assert [issue.code for issue in departures(template, fred_rules())] == ["default_left_out"]
    elsewhere, _ = read(source_patterns=[{**PATTERN, "pattern": "https://example.org/*"}])
    assert elsewhere is not None
    assert [issue.code for issue in departures(elsewhere, fred_rules())] == ["source_off_template"]
    assert departures(RuleTemplate(category=Category.FINANCE), fred_rules()) == ()
