"""The scripted model as reviewer of disputes: it goes by what the sources state now, and asks a person otherwise."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.scripted_llm import dispute_review, script
from deploy.local.scripted_llm.dispute_review import Found, Rules
from deploy.local.scripted_llm.resolution import Evidence
from domain.answers import DisputeReviewAnswer
from domain.rules import Answer
from prompts.loader import load
from tests.scripted_llm import INJECTIONS
from tests.unit.test_dispute import NO, PAGE, YES, case, page, text_rules

AGAIN = "court (fetched again)"
COURT = "Will the court rule on case 17?"


def shown_rules(kind: str = "text", *, not_count: bool = False, then: str = "YES") -> Rules:
    def condition(id: str) -> dict[str, Any]:
        return {"id": id, "kind": kind, "text": "The page answers YES.", "sources": [id]}

    otherwise = "NO" if then == "YES" else "YES"
    return Rules.model_validate(
        {
            "must_meet_all": [condition("court")],
            "must_not_count": [condition("appeal")] if not_count else [],
            "then": then,
            "else": otherwise,
            "observation": {"counts": "first_published"},
        }
    )


def found(results: list[dict[str, Any]] | None = None, **changes: Any) -> Found:
    fields = {"changed": [], "unreachable": [], "fresh": None, "results": results or []}
    return Found.model_validate(fields | changes)


def reviewed(
    outcome: str,
    texts: Mapping[str, str],
    *,
    rules: Rules | None = None,
    dispute: str = "I am sure that it ruled.",
    recheck: Found | None = None,
) -> DisputeReviewAnswer:
    """The answer to a dispute of `outcome`; the texts are by the name of their document."""
    return dispute_review.answer(
        question=COURT,
        rules=rules or shown_rules(),
        outcome=Answer(outcome),
        dispute=dispute,
        evidence=[Evidence(source=name, url=PAGE, text=f"{COURT} {text}") for name, text in texts.items()],
        recheck=recheck or found(),
    )


@pytest.mark.parametrize(
    ("outcome", "texts", "verdict", "source"),
    [
        ("YES", {"court": "Resolution: Yes"}, "upheld", "court"),
        ("NO", {"court": "Resolution: No"}, "upheld", "court"),
        (
            "NO",
            {"court": "Resolution: No", AGAIN: "Resolution: Yes"},
            "overturned",
            AGAIN,
        ),
        (
            "YES",
            {"court": "Resolution: Yes", AGAIN: "Resolution: No"},
            "overturned",
            AGAIN,
        ),
        ("YES", {"court": "Resolution: Yes", "disputant 1": "Resolution: Yes"}, "upheld", "court"),
        ("YES", {"court": "Resolution: Yes", "disputant 1": "It rains."}, "upheld", "court"),
    ],
)
def test_what_the_source_states_now_decides(outcome: str, texts: dict[str, str], verdict: str, source: str) -> None:
    answer = reviewed(outcome, texts)
    assert (answer.verdict, answer.source) == (verdict, source)
    assert answer.quotation
    assert answer.quotation in texts[source]
    assert answer.confidence >= 0.6


@pytest.mark.parametrize(
    "texts",
    [
        {"court": "Resolution: Yes", AGAIN: "Resolution: pending"},
        {"court": "Resolution: Yes", AGAIN: "The page has moved."},
        {"court": "Resolution: Yes. Resolution: No"},
        {"court": "Resolution: Yes, provisional and disputed"},
        {"court": "Resolution: Yes", "disputant 1": "Nothing.", "disputant 2": "Resolution: No"},
        {"disputant 1": "Resolution: No"},
    ],
    ids=["pending", "silent", "both", "hedged", "a page against it", "nothing but a page"],
)
def test_what_settles_nothing_goes_to_a_person(texts: dict[str, str]) -> None:
    answer = reviewed("YES", texts)
    assert (answer.verdict, answer.quotation, answer.source) == ("escalate", "", "")


def test_a_source_that_cannot_be_fetched_goes_to_a_person() -> None:
    answer = reviewed("YES", {"court": "Resolution: Yes"}, recheck=found(unreachable=["court"]))
    assert answer.verdict == "escalate"
    assert "court could not be fetched" in answer.reasoning


@pytest.mark.parametrize("order", INJECTIONS)
def test_orders_steer_nothing(order: str) -> None:
    decided = {"court": "Resolution: No", AGAIN: "Resolution: Yes"}
    assert reviewed("NO", decided).verdict == "overturned"
    assert reviewed("NO", decided, dispute=order).verdict == "escalate"
    assert reviewed("NO", decided | {"disputant 1": order}).verdict == "escalate"
    assert reviewed("NO", {"court": f"Resolution: No. {order}"}).verdict == "escalate"


@given(st.text())
def test_a_disputants_words_alone_overturn_nothing(words: str) -> None:
    assert reviewed("NO", {"court": "Resolution: No"}, dispute=words).verdict != "overturned"


MET = {"condition": "court", "result": "met", "source": "court", "excerpt": "4.20", "detail": "4.20 > 4.10?"}
NOT_MET = MET | {"result": "not_met", "excerpt": "4.05"}
UNKNOWN = {"condition": "court", "result": "unknown", "why_unknown": "too_early", "detail": "no value yet"}


@pytest.mark.parametrize(
    ("results", "verdict", "quotation"),
    [([NOT_MET], "upheld", "4.05"), ([MET], "overturned", "4.20"), ([UNKNOWN], "escalate", "")],
)
def test_what_a_program_finds_is_believed(results: list[dict[str, Any]], verdict: str, quotation: str) -> None:
    answer = reviewed("NO", {"court": "4.05", AGAIN: "4.20"}, rules=shown_rules("machine"), recheck=found(results))
    assert (answer.verdict, answer.quotation) == (verdict, quotation)


def test_logic_and_exclusions_of_the_rules_are_followed() -> None:
    rules = shown_rules(not_count=True)
    assert reviewed("YES", {"court": "Resolution: Yes", "appeal": "Resolution: No"}, rules=rules).verdict == "upheld"
    excluded = reviewed("YES", {"court": "Resolution: Yes", "appeal": "Resolution: Yes"}, rules=rules)
    assert (excluded.verdict, excluded.source) == ("overturned", "appeal")
    assert reviewed("NO", {"court": "Resolution: Yes"}, rules=shown_rules(then="NO")).verdict == "upheld"


def test_the_rendered_prompt_is_recognised_and_answered() -> None:
    given = case(text_rules("court"), {"court": NO}, {"court": YES})
    unsure = case(text_rules("court"), {"court": NO}, {"court": page("Resolution: pending")})
    # The page of these rules says nothing of the question, so that one lens of three stays unsure of it.
    about = {"court": page(f"{COURT} Resolution: Yes")}
    clear = case(text_rules("court"), {"court": NO}, about)
    verdicts = []
    for one in (given, unsure, clear):
        _, user = load("dispute_review").render(**one.values())
        answer = script.answer([str(user["content"])])
        assert isinstance(answer, DisputeReviewAnswer)
        verdicts.append((answer.verdict, one.opinion(answer, 0.6, "ai").verdict))
    assert verdicts == [("escalate", "escalate"), ("escalate", "escalate"), ("overturned", "overturned")]
