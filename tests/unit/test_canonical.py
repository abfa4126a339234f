"""Canonical JSON and the hashes made of it."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.canonical import canonical_json, evidence_root, model_sha256, sha256_hex
from domain.rules import ResolutionRules
from tests.unit.examples import any_rules, rules_json

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(-(2.0**52), 2.0**52)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=15,
)


def turned(value: Any) -> Any:
    """The same JSON with the names of every object in the other order."""
    match value:
        case dict():
            return {name: turned(value[name]) for name in reversed(value)}
        case list():
            return [turned(item) for item in value]
        case _:
            return value


@given(JSON)
def test_canonical_json_says_the_same_and_is_a_fixed_point(value: Any) -> None:
    written = canonical_json(value)
    assert json.loads(written) == value
    assert canonical_json(json.loads(written)) == written
    assert canonical_json(turned(value)) == written


def test_the_example_of_rfc_8785() -> None:
    # Section 3.2.2 to 3.2.4 of the RFC, with the result that stands there.
    given = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    assert (
        canonical_json(given)
        == (
            '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
            '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
        ).encode()
    )


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 2**53, -(2**53), {1: 2}, {"a": object()}, "\ud800", {"\ud800": 1}, {1, 2}, b"bytes"],
)
def test_what_json_cannot_say_everywhere_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="cannot be written as canonical JSON"):
        canonical_json([value])


def test_what_is_nested_without_end_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="cannot be written as canonical JSON"):
        canonical_json(deep)


def test_sha256_of_nothing() -> None:
    # FIPS 180-4, example of the empty message.
    assert sha256_hex(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@settings(max_examples=60)
@given(any_rules())
def test_a_models_hash_can_be_made_by_anyone_from_its_json(made: ResolutionRules) -> None:
    published = json.loads(made.model_dump_json(by_alias=True))
    assert model_sha256(made) == hashlib.sha256(canonical_json(turned(published))).hexdigest()
    assert model_sha256(ResolutionRules.model_validate(turned(published))) == model_sha256(made)


def _other_question(given: dict[str, Any]) -> None:
    given["exact_question"] += "!"


def _other_operand(given: dict[str, Any]) -> None:
    given["criteria"]["must_meet_all"][0]["operand"] = "5.26"


def _other_answer(given: dict[str, Any]) -> None:
    given["criteria"]["machine_resolution_logic"] = {"then": "NO", "else": "YES"}


@pytest.mark.parametrize("change", [_other_question, _other_operand, _other_answer])
def test_a_changed_model_has_another_hash(change: Callable[[dict[str, Any]], None]) -> None:
    given = rules_json()
    before = model_sha256(ResolutionRules.model_validate(given))
    change(given)
    assert model_sha256(ResolutionRules.model_validate(given)) != before


@given(st.lists(st.binary(max_size=4).map(sha256_hex), max_size=5), st.randoms())
def test_the_evidence_root_is_of_the_set_of_hashes(hashes: list[str], random: Any) -> None:
    again = [*hashes, *hashes]
    random.shuffle(again)
    assert evidence_root(again) == evidence_root(hashes)
    assert evidence_root([*hashes, sha256_hex(b"another")]) != evidence_root(hashes)
    listed = ",".join(f'"{one}"' for one in sorted(set(hashes)))
    assert evidence_root(hashes) == sha256_hex(f"[{listed}]".encode())
