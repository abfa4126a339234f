"""What is decided about a draft, and about votes on a condition: when in doubt a person, never a guess."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.llm import as_proposed, blocked, count_votes, decide
from domain.answers import MarketGenerationAnswer, ResolutionAnswer, ValidationAnswer
from domain.market import Category, Issue, Proposal, Rehearsal, ValidateRequest, Validation
from domain.rules import Postponed, TextCondition
from domain.verdict import Abstention, ConditionResult, Result
from tests.drafts import draft, fred_rules
from tests.unit.examples import document, page, rules, source, text_condition

THRESHOLD = 0.6
VAGUE = Issue(code="subjective", field="rules.exact_question", message="Two people can read 'big' differently.")
COMMA = Issue(code="two_readings", field="higher.checks.0.value", message="'3,875' is read as 3875.")
KNOWN = Issue(code="already_known", field="exact_question", message="The sources answer the question today already.")


def decided(
    *, notes: tuple[Issue, ...] = (), draft_confidence: float = 0.9, threshold: float = THRESHOLD, **changes: Any
) -> Validation:
    answer = {"decision": "approved", "issues": (), "confidence": 0.9, "sensitive": False, "summary": "No fault."}
    return decide(ValidationAnswer.model_validate(answer | changes), notes, draft_confidence, threshold)


def test_a_draft_without_a_flag_is_approved() -> None:
    assert decided() == Validation(decision="approved", reason="No fault.")
    assert decided(issues=(VAGUE,)).decision == "approved", "one issue alone is no flag"


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ({"confidence": 0.59}, "confidence 0.59 is below 0.6"),
        ({"draft_confidence": 0.2}, "confidence 0.20 is below 0.6"),
        ({"confidence": 0.8, "threshold": 0.85}, "confidence 0.80 is below 0.85"),
        ({"issues": (VAGUE, VAGUE)}, "2 issues were found"),
        ({"issues": (VAGUE,), "notes": (VAGUE,)}, "2 issues were found"),
        ({"sensitive": True}, "the topic is sensitive"),
        ({"notes": (KNOWN,)}, "the outcome may be known already"),
        ({"notes": (COMMA,)}, "a number can be read in two ways"),
        ({"decision": "needs_human"}, "the model asks for a person"),
    ],
)
def test_each_flag_goes_to_a_person_with_its_reason(flag: dict[str, Any], said: str) -> None:
    validation = decided(**flag)
    assert validation.decision == "needs_human"
    assert said in validation.reason.lower()


def test_all_flags_are_told_together() -> None:
    reason = decided(confidence=0.1, sensitive=True, notes=(KNOWN,)).reason
    assert reason == "Confidence 0.10 is below 0.6; the topic is sensitive; the outcome may be known already."


def test_confidence_at_the_threshold_is_enough() -> None:
    assert decided(confidence=THRESHOLD, draft_confidence=THRESHOLD).decision == "approved"


def test_a_rejection_stands_whatever_else_is_flagged() -> None:
    validation = decided(decision="rejected", summary="It is a bet on a death.", sensitive=True, notes=(KNOWN,))
    assert (validation.decision, validation.reason) == ("rejected", "It is a bet on a death.")
    assert validation.issues == (KNOWN,)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 4), st.booleans(), st.sampled_from(["approved", "needs_human"]))
def test_nothing_doubtful_is_approved(
    confidence: float, draft_confidence: float, issues: int, sensitive: bool, decision: str
) -> None:
    validation = decided(
        confidence=confidence, draft_confidence=draft_confidence, issues=(VAGUE,) * issues, sensitive=sensitive,
        decision=decision,
    )  # fmt: skip
    doubtful = min(confidence, draft_confidence) < THRESHOLD or issues > 1 or sensitive or decision == "needs_human"
    assert validation.decision == ("needs_human" if doubtful else "approved")


def rehearsed(*blocking: Issue, notes: tuple[Issue, ...] = ()) -> ValidateRequest:
    found = Rehearsal(blocking=blocking, notes=notes)
    return ValidateRequest(market_id=uuid4(), rules_sha256="a" * 64, round=1, rehearsal=found)


def test_a_rehearsal_that_failed_needs_a_person_and_no_model() -> None:
    broken = Issue(code="not_extracted", field="above.checks.0.value", message="source fred: nothing is at $.value")
    validation = blocked(rehearsed(broken, notes=(KNOWN,)))
    assert validation is not None
    assert validation.decision == "needs_human"
    assert validation.reason == "The rehearsal failed: above.checks.0.value: source fred: nothing is at $.value"
    assert validation.issues == (broken, KNOWN)


def test_notes_alone_do_not_block() -> None:
    assert blocked(rehearsed(notes=(KNOWN,))) is None


# Votes on a condition in words.

CONDITION = TextCondition.model_validate(text_condition("announced", "press"))
RULES = rules(
    text_condition("announced", "press"),
    sources=[
        source("press", method="html_scrape", selector="main"),
        source("blog", method="html_scrape"),
    ],
)
DOCUMENTS = {
    "press": page("<nav>It was cancelled.</nav><main>The launch took place on 3 May.</main>"),
    "blog": page("<p>The launch took place on 3 May.</p>"),
}
QUOTED = "The launch took place on 3 May."


def vote(result: str = "met", **changes: Any) -> ResolutionAnswer:
    answer = {"result": result, "quotation": QUOTED, "source": "press", "confidence": 0.9, "reasoning": "It says so."}
    return ResolutionAnswer.model_validate(answer | changes)


UNKNOWN = vote("unknown", quotation="", source="")


def counted(*votes: ResolutionAnswer, documents: Any = DOCUMENTS) -> ConditionResult:
    return count_votes(CONDITION, votes, RULES, documents, THRESHOLD)


@pytest.mark.parametrize("result", ["met", "not_met"])
def test_three_quoted_and_confident_votes_decide(result: str) -> None:
    counting = counted(*[vote(result)] * 3)
    assert counting == ConditionResult(
        condition="announced",
        result=Result(result),
        detail="3 of 3 judgements: It says so.",
        source="press",
        evidence_sha256=DOCUMENTS["press"].sha256,
        excerpt=QUOTED,
    )


def test_white_space_in_a_quotation_does_not_matter() -> None:
    assert counted(*[vote(quotation="The  launch\ntook place on 3 May.")] * 3).result is Result.MET


def test_nobody_knows_yet() -> None:
    counting = counted(UNKNOWN, UNKNOWN, UNKNOWN)
    assert (counting.result, counting.why_unknown) == (Result.UNKNOWN, Abstention.TOO_EARLY)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (vote("not_met"), "judgements disagree (met, met, not_met)"),
        (UNKNOWN, "judgements disagree (met, met, unknown)"),
        (vote(confidence=0.59), "judgements are not confident"),
        (vote(quotation="The launch took place on 4 May."), "quotations are not in the evidence"),
        (vote(quotation=""), "quotations are not in the evidence"),
        (vote(quotation="It was cancelled."), "quotations are not in the evidence"),  # outside of the selector
        (vote(source="blog"), "quotations are not in the evidence"),  # not a source of the condition
        (vote(source="nowhere"), "quotations are not in the evidence"),
    ],
)
def test_one_doubtful_vote_of_three_abstains(other: ResolutionAnswer, why: str) -> None:
    for votes in ((vote(), vote(), other), (other, vote(), vote())):
        counting = counted(*votes)
        assert (counting.result, counting.why_unknown) == (Result.UNKNOWN, Abstention.UNSURE)
        assert counting.excerpt == ""
    assert why in counted(vote(), vote(), other).detail


def test_a_quotation_from_a_page_that_changed_does_not_count() -> None:
    later = DOCUMENTS | {"press": page("<main>The launch is postponed.</main>")}
    assert counted(*[vote()] * 3, documents=later).result is Result.UNKNOWN
    assert counted(*[vote()] * 3, documents=DOCUMENTS | {"press": document(b"\xff\xfe\x00")}).result is Result.UNKNOWN


@given(st.lists(st.sampled_from(["met", "not_met", "unknown"]), min_size=3, max_size=3), st.floats(0, 1))
def test_only_unanimous_and_confident_votes_decide(results: list[str], confidence: float) -> None:
    counting = counted(*(vote(result, confidence=confidence) for result in results))
    decides = len(set(results)) == 1 and results[0] != "unknown" and confidence >= THRESHOLD
    assert counting.result is (Result(results[0]) if decides else Result.UNKNOWN)


# What the proposer fixed.


def answered(**changes: Any) -> MarketGenerationAnswer:
    return MarketGenerationAnswer(draft=draft(rules=fred_rules(**changes)))


def test_category_and_expiry_are_the_proposers() -> None:
    expiry = datetime(2027, 3, 1, tzinfo=UTC)
    asked = Proposal(text="Will the rate rise?", category=Category.MISC, expiry=expiry, proposer="test")
    made = as_proposed(answered(), asked).draft
    assert made is not None
    assert (made.category, made.rules.expiry) == (Category.MISC, expiry)
    free = as_proposed(answered(), Proposal(text="Will the rate rise?", proposer="test"))
    assert free.draft is not None
    assert free.draft.category is Category.FINANCE


def test_an_expiry_that_contradicts_the_rules_is_a_refusal() -> None:
    expiry = datetime.now(UTC).replace(microsecond=0) + timedelta(days=400)
    postponed = Postponed(outcome="extend", extend_until=expiry - timedelta(days=100))
    asked = Proposal(text="Will the rate rise?", expiry=expiry, proposer="test")
    refused = as_proposed(answered(postponed_or_cancelled=postponed), asked)
    assert refused.draft is None
    assert "extend_until must lie after expiry" in refused.refusal


def test_a_refusal_and_a_full_draft_stay_as_they_are() -> None:
    asked = Proposal(text="Will the rate rise?", category=Category.MISC, proposer="test")
    refusal = MarketGenerationAnswer(draft=None, refusal="It is no question.")
    assert as_proposed(refusal, asked) == refusal
    full = Proposal(text="Will the rate rise?", category=Category.MISC, draft=draft(), proposer="test")
    assert full.draft is not None
    assert as_proposed(MarketGenerationAnswer(draft=full.draft), full).draft == full.draft
