"""Verification: a market recomputed from its stored evidence and rules alone, and compared with what was recorded.

Pure, so the same code checks a running market (`clotho market verify`) and an offline bundle. What is broken or missing
is a failed check with a sentence, never an exception.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, ValidationError

from domain.base import Model
from domain.canonical import canonical_json, evidence_root, sha256_hex
from domain.extraction import Document, quotes
from domain.resolver import resolve
from domain.rules import MachineCondition, ResolutionRules, TextCondition
from domain.status import MarketStatus
from domain.text import cut
from domain.verdict import ConditionResult, Result, Verdict


class Check(Model):
    """One comparison. `detail` is a sentence for a person."""

    name: str
    ok: bool
    expected: str
    found: str
    detail: str


class StoredEvidence(Model):
    """One document of the look that decided, as stored; `body` is None when its bytes are missing."""

    source: str
    sha256: str
    """As recorded for the source."""
    content_type: str
    body: bytes | None


class RecordedMarket(Model):
    """The market as Postgres has it."""

    status: str
    rules_sha256: str
    outcome: str | None


class RecordedResolution(Model):
    """The resolution of the look that decided, as Postgres has it."""

    rules_sha256: str
    outcome: str | None
    abstention: str | None
    evidence_root: str
    results: tuple[Any, ...]
    """Of every condition, each the JSON of a ConditionResult."""
    look: int | None = None
    """Which look at the sources; bundles of version 0.1 do not say."""
    decided_by: str | None = None
    """Who decided where the rules alone did not; None when they did."""
    reason: str | None = None
    dispute_id: UUID | None = None
    """The dispute that overturned the outcome before."""


class VerifiedRecord(Model):
    """The market's record on chain."""

    rules_sha256: str
    status: str
    outcome: str | None
    evidence_sha256: str | None
    expiry: AwareDatetime
    immutable: bool


class WorkflowFacts(Model):
    """What the lifecycle's own history says; None where it does not say it yet."""

    rules_sha256: str | None
    outcome: str | None
    evidence_root: str | None


def verify(
    rules: ResolutionRules | Mapping[str, Any],
    market: RecordedMarket,
    evidence: Sequence[StoredEvidence] = (),
    resolution: RecordedResolution | None = None,
    record: VerifiedRecord | None = None,
    workflow: WorkflowFacts | None = None,
) -> tuple[Check, ...]:
    """Recompute and compare; one check for each comparison, all of them ok when nothing was changed.

    Args:
        rules: the rules as stored; better their JSON than the model, since reading it may mend a change.
        market: what Postgres says of the market.
        evidence: every document of the look that decided.
        resolution: what was recorded of that look; None before the sources were looked at.
        record: the record on chain; None when there is none.
        workflow: the history's facts; None when the history is no longer kept.
    """
    return tuple(_checks(rules, market, evidence, resolution, record, workflow))


def _checks(
    stored_rules: ResolutionRules | Mapping[str, Any],
    market: RecordedMarket,
    evidence: Sequence[StoredEvidence],
    resolution: RecordedResolution | None,
    record: VerifiedRecord | None,
    workflow: WorkflowFacts | None,
) -> Iterator[Check]:
    body = _json(stored_rules)
    rules, fault = _parsed(body)
    yield Check(name="rules", ok=rules is not None, expected="valid rules", found=fault or "valid rules",
                detail=f"The stored rules {'can be read' if rules else 'cannot be used'}.")  # fmt: skip
    yield from _rules_hashes(body, market, resolution, record, workflow)
    yield from _evidence_hashes(rules, evidence)
    if resolution is not None:
        root = _root(evidence)
        yield _compare("evidence root: Postgres", root, resolution.evidence_root)
        if workflow is not None and (workflow.evidence_root is not None or market.status in _SETTLED):
            yield _compare("evidence root: workflow", root, workflow.evidence_root)
        if rules is not None:
            yield from _resolution(rules, evidence, resolution)
    yield from _outcomes(market, resolution, record, workflow)
    yield from _chain(rules, market, evidence, record)


def _rules_hashes(
    body: Any,
    market: RecordedMarket,
    resolution: RecordedResolution | None,
    record: VerifiedRecord | None,
    workflow: WorkflowFacts | None,
) -> Iterator[Check]:
    try:
        actual = sha256_hex(canonical_json(body))
    except ValueError as error:
        actual = f"no hash: {error}"
    yield _compare("rules hash: Postgres", actual, market.rules_sha256)
    if resolution is not None:
        yield _compare("rules hash: resolution", actual, resolution.rules_sha256)
    if record is not None:
        yield _compare("rules hash: chain", actual, record.rules_sha256)
    if workflow is not None and (workflow.rules_sha256 is not None or _on_chain(market) is not None):
        yield _compare("rules hash: workflow", actual, workflow.rules_sha256)


def _evidence_hashes(rules: ResolutionRules | None, evidence: Sequence[StoredEvidence]) -> Iterator[Check]:
    allowed = {source.name for source in rules.criteria.allowed_sources} if rules is not None else None
    times = Counter(entry.source for entry in evidence)
    for entry in evidence:
        actual = "no bytes" if entry.body is None else sha256_hex(entry.body)
        faults = []
        if actual != entry.sha256:
            faults.append(f"the stored bytes of {entry.source} are not the ones that were fetched")
        if allowed is not None and entry.source not in allowed:
            faults.append(f"the rules do not allow the source {entry.source}")
        if times[entry.source] > 1:
            faults.append(f"the source {entry.source} is there {times[entry.source]} times")
        yield Check(
            name=f"evidence: {entry.source}",
            ok=not faults,
            expected=entry.sha256,
            found=actual,
            detail=_sentence("; ".join(faults) or f"{len(entry.body or b'')} bytes hash to what was recorded"),
        )


def _resolution(
    rules: ResolutionRules, evidence: Sequence[StoredEvidence], resolution: RecordedResolution
) -> Iterator[Check]:
    # Bytes that are not what was fetched are no evidence, so nothing is recomputed from them.
    documents = {
        entry.source: Document(sha256=entry.sha256, content_type=entry.content_type, body=entry.body)
        for entry in evidence
        if entry.body is not None and sha256_hex(entry.body) == entry.sha256
    }
    recorded: dict[str, ConditionResult] = {}
    for position, raw in enumerate(resolution.results):
        try:
            result = ConditionResult.model_validate(raw)
        except ValidationError as error:
            yield _failed(f"recorded result {position + 1}", "a result", "none", f"it cannot be read: {_first(error)}")
            continue
        if result.condition in recorded or all(result.condition != c.id for c in rules.criteria.conditions):
            why = "it is there twice" if result.condition in recorded else "the rules have no such condition"
            yield _failed(f"condition: {result.condition}", "one result for each condition", result.result, why)
        recorded.setdefault(result.condition, result)
    verdict = resolve(rules, documents, {c.id: recorded[c.id] for c in rules.text_conditions if c.id in recorded})
    computed = {result.condition: result for result in verdict.results}
    for condition in rules.criteria.conditions:
        found = recorded.get(condition.id)
        if found is None:
            yield _failed(f"condition: {condition.id}", computed[condition.id].result, "none", "no result is recorded")
        elif isinstance(condition, MachineCondition):
            yield _machine(computed[condition.id], found)
        else:
            yield _text(condition, rules, documents, found)
    yield _recomputed(rules, evidence, verdict, resolution)


def _recomputed(
    rules: ResolutionRules, evidence: Sequence[StoredEvidence], verdict: Verdict, resolution: RecordedResolution
) -> Check:
    """What the rules alone give, beside what was recorded.

    A person decides by hand what the rules left open: they reach no verdict, or a source gave nothing, and they want
    all of them. A dispute may overturn what the rules give, so there it is only shown.
    """
    name = "outcome: recomputed"
    computed = verdict.outcome or f"no outcome: {verdict.abstention}"
    recorded = resolution.outcome or f"no outcome: {resolution.abstention}"
    if resolution.decided_by is None:
        return _compare(name, computed, recorded)
    there = {entry.source for entry in evidence}
    missing = [source.name for source in rules.criteria.allowed_sources if source.name not in there]
    without = f" without {', '.join(missing)}" if missing else ""
    may_decide = resolution.dispute_id is not None or missing or verdict.outcome in {None, resolution.outcome}
    said = f"the rules alone give {computed}{without}, {recorded} was decided"
    fault = "" if may_decide else "; by hand only what the rules leave open is decided"
    return Check(name=name, ok=bool(may_decide), expected=computed, found=recorded, detail=_sentence(f"{said}{fault}"))


def _machine(computed: ConditionResult, found: ConditionResult) -> Check:
    differing = [
        name
        for name in ("result", "why_unknown", "source", "evidence_sha256", "excerpt")
        if getattr(computed, name) != getattr(found, name)
    ]
    said = f"recomputed with another {', '.join(differing)}: {computed.detail}" if differing else computed.detail
    return Check(
        name=f"condition: {computed.condition}",
        ok=not differing,
        expected=_told(computed),
        found=_told(found),
        detail=_sentence(said),
    )


def _text(
    condition: TextCondition, rules: ResolutionRules, documents: Mapping[str, Document], found: ConditionResult
) -> Check:
    """A judgement cannot be recomputed; that its quotation stands in the evidence can."""
    name = f"condition: {condition.id}"
    if found.result is Result.UNKNOWN:
        return Check(name=name, ok=True, expected="unknown", found=_told(found), detail=_sentence("it was left open"))
    document = documents.get(found.source or "")
    fault = None
    if found.source not in condition.sources:
        fault = "the source quoted is none of the condition's"
    elif document is None or document.sha256 != found.evidence_sha256:
        fault = "the evidence quoted is not the one stored"
    elif not quotes(document, rules.source(found.source), found.excerpt):
        fault = "the quotation does not stand in the evidence"
    if fault is not None:
        return _failed(name, "a quotation from the evidence", _told(found), fault)
    said = f"the quotation stands in the evidence of {found.source}"
    return Check(name=name, ok=True, expected=_told(found), found=_told(found), detail=_sentence(said))


_CHAIN_STATUS = {
    MarketStatus.ACTIVE: "active",
    MarketStatus.RESOLVING: "active",
    MarketStatus.RESOLVED: "resolved",
    MarketStatus.DISPUTED: "resolved",
    MarketStatus.FINALIZED: "finalized",
    MarketStatus.CANCELED: "canceled",
}
"""What the chain says while Postgres says the key; the others are not on chain."""

_SETTLED = frozenset({MarketStatus.RESOLVED, MarketStatus.DISPUTED, MarketStatus.FINALIZED})


def _outcomes(
    market: RecordedMarket,
    resolution: RecordedResolution | None,
    record: VerifiedRecord | None,
    workflow: WorkflowFacts | None,
) -> Iterator[Check]:
    """Every place has the outcome that follows from the status: what the resolution says, once it is settled."""
    resolved = resolution.outcome if resolution is not None else None
    if market.status in _SETTLED and resolved is None:
        yield _failed("outcome: resolution", "YES or NO", "none", f"the market is {market.status} without an outcome")
    expected = resolved if market.status in _SETTLED else None
    if market.status == MarketStatus.CANCELED and (record is not None or market.outcome is not None):
        expected = "VOID"
    yield _compare("outcome: Postgres", expected, market.outcome)
    if record is not None:
        yield _compare("outcome: chain", expected, record.outcome)
    # The workflow decides first: it may say already what is not settled yet.
    if workflow is not None and (workflow.outcome is not None or expected is not None):
        yield _compare("outcome: workflow", expected or resolved, workflow.outcome)


def _chain(
    rules: ResolutionRules | None,
    market: RecordedMarket,
    evidence: Sequence[StoredEvidence],
    record: VerifiedRecord | None,
) -> Iterator[Check]:
    status = _on_chain(market)
    if record is None:
        if status is not None:
            yield _failed("chain record", status, "none", f"the market is {market.status}, but nothing is on chain")
        return
    yield _compare("status: chain", status, record.status)
    yield _compare("immutable: chain", _yes_no(market.status == MarketStatus.FINALIZED), _yes_no(record.immutable))
    if rules is not None:
        yield _compare("expiry: chain", rules.expiry.isoformat(), _in_zone_of(rules.expiry, record.expiry))
    root = _root(evidence) if market.status in _SETTLED else None
    yield _compare("evidence root: chain", root, record.evidence_sha256)


def _on_chain(market: RecordedMarket) -> str | None:
    """The status that the chain must show; None when the market need not be there."""
    if market.status == MarketStatus.CANCELED and market.outcome is None:
        return None
    return next((shown for status, shown in _CHAIN_STATUS.items() if status == market.status), None)


def _json(rules: ResolutionRules | Mapping[str, Any]) -> Any:
    return rules.model_dump(mode="json", by_alias=True) if isinstance(rules, ResolutionRules) else rules


def _parsed(body: Any) -> tuple[ResolutionRules | None, str]:
    try:
        return ResolutionRules.model_validate_json(canonical_json(body)), ""
    except ValidationError as error:
        return None, _first(error)
    except ValueError as error:
        return None, cut(str(error), 200)


def _root(evidence: Sequence[StoredEvidence]) -> str:
    """Over the recorded hashes: changed bytes fail their own check, a changed hash this one as well."""
    return evidence_root(entry.sha256 for entry in evidence)


def _in_zone_of(expected: datetime, found: datetime) -> str:
    try:
        return found.astimezone(expected.tzinfo).isoformat()
    except OverflowError:
        return found.isoformat()


def _compare(name: str, expected: str | None, found: str | None) -> Check:
    shown, actual = expected or "none", found or "none"
    ok = expected == found
    return Check(
        name=name,
        ok=ok,
        expected=shown,
        found=actual,
        detail=_sentence(f"it is {shown}" if ok else f"it is {actual}, and must be {shown}"),
    )


def _failed(name: str, expected: str, found: str, why: str) -> Check:
    return Check(name=name, ok=False, expected=expected, found=found, detail=_sentence(why))


def _told(result: ConditionResult) -> str:
    why = f" ({result.why_unknown})" if result.why_unknown else ""
    return f"{result.result}{why}{f': {result.excerpt}' if result.excerpt else ''}"


def _yes_no(flag: bool) -> str:
    return "yes" if flag else "no"


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return cut(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}", 200)


def _sentence(text: str) -> str:
    text = cut(text.rstrip(" ."), 500)
    return f"{text[:1].upper()}{text[1:]}."
