"""What a lifecycle's own history says of rules, outcome and evidence."""

from typing import Any
from uuid import UUID

from temporalio.api.common.v1 import Payloads, WorkflowType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter

from cli.verification import facts_of
from domain import dispute, review, steps
from domain.base import Model
from domain.dispute import DisputeEnd
from domain.market import Canceled, CancelRequest, PublishRequest, SettleRequest
from domain.review import ReviewEnd
from domain.rules import Answer
from domain.steps import Step
from domain.verify import WorkflowFacts

MARKET = UUID(int=5)
RULES, FIRST, SECOND, THIRD = "a" * 64, "b" * 64, "c" * 64, "d" * 64


def payloads(value: Model) -> Payloads:
    return Payloads(payloads=pydantic_data_converter.payload_converter.to_payloads([value]))


def scheduled(step: Step[Any, Any], request: Model) -> HistoryEvent:
    event = HistoryEvent()
    event.activity_task_scheduled_event_attributes.activity_type.name = step.name
    event.activity_task_scheduled_event_attributes.input.CopyFrom(payloads(request))
    return event


def child(workflow: str, end: Model) -> HistoryEvent:
    event = HistoryEvent()
    event.child_workflow_execution_completed_event_attributes.workflow_type.CopyFrom(WorkflowType(name=workflow))
    event.child_workflow_execution_completed_event_attributes.result.CopyFrom(payloads(end))
    return event


def facts(*events: HistoryEvent) -> WorkflowFacts:
    for place, event in enumerate(events, start=1):
        event.event_id = place
    return facts_of(WorkflowHistory("market-5", list(events)))


PUBLISHED = scheduled(
    steps.PUBLISH_MARKET, PublishRequest(market_id=MARKET, rules_sha256=RULES, dispute_window_seconds=None)
)
SETTLED = scheduled(
    steps.SETTLE_MARKET, SettleRequest(market_id=MARKET, look=1, outcome=Answer.YES, evidence_root=FIRST)
)


def ended(status: str, outcome: str, root: str | None) -> HistoryEvent:
    fields = {"status": status, "outcome": outcome, "look": 2, "evidence_root": root, "reason": "so it is"}
    return child(dispute.WORKFLOW, DisputeEnd.model_validate(fields))


def test_what_was_published_and_settled() -> None:
    assert facts() == WorkflowFacts(rules_sha256=None, outcome=None, evidence_root=None)
    assert facts(PUBLISHED) == WorkflowFacts(rules_sha256=RULES, outcome=None, evidence_root=None)
    assert facts(PUBLISHED, SETTLED) == WorkflowFacts(rules_sha256=RULES, outcome="YES", evidence_root=FIRST)


def test_the_last_dispute_that_was_overturned_counts() -> None:
    history = [PUBLISHED, child(review.WORKFLOW, ReviewEnd(decision="resolve", outcome="YES")), SETTLED]
    assert facts(*history, ended("upheld", "YES", None)).outcome == "YES"
    history.append(ended("overturned", "NO", SECOND))
    assert facts(*history) == WorkflowFacts(rules_sha256=RULES, outcome="NO", evidence_root=SECOND)
    history.append(ended("upheld", "NO", None))
    assert facts(*history) == WorkflowFacts(rules_sha256=RULES, outcome="NO", evidence_root=SECOND)
    history.append(ended("overturned", "YES", THIRD))
    assert facts(*history) == WorkflowFacts(rules_sha256=RULES, outcome="YES", evidence_root=THIRD)


def test_a_market_canceled_on_chain_is_void_and_one_before_it_has_no_outcome() -> None:
    canceling = scheduled(steps.CANCEL_MARKET, CancelRequest(market_id=MARKET, by="ops", reason="it was a mistake"))
    for signature, outcome in (("5h3", "VOID"), (None, None)):
        done = HistoryEvent()
        done.activity_task_completed_event_attributes.scheduled_event_id = 2
        done.activity_task_completed_event_attributes.result.CopyFrom(payloads(Canceled(signature=signature)))
        assert facts(PUBLISHED, canceling, done).outcome == outcome
