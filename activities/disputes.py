"""What the model reads of a dispute, and what its answer is worth: the checks before anything follows from it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from activities.llm_client import EVIDENCE_LIMIT, shown_text
from db import disputes, evidence, markets
from db.disputes import StoredDispute
from db.evidence import StoredResolution
from db.pool import Pool
from domain.answers import DisputeReviewAnswer
from domain.dispute import Opinion, OpinionRequest, settle
from domain.extraction import Document, quotes, text_of
from domain.resolver import evaluate
from domain.rules import Answer, MachineCondition, ResolutionRules, Source, TextCondition, sources_of
from domain.text import cut

_AGAIN = " (fetched again)"
"""After the name of a source: what it says now. The prompt promises it."""

OTHER = {Answer.YES: Answer.NO, Answer.NO: Answer.YES}
_REASON_LIMIT = 500


@dataclass(frozen=True)
class Case:
    """All that an opinion about one dispute rests on."""

    request: OpinionRequest
    rules: ResolutionRules
    stored: StoredDispute
    decided: StoredResolution
    """The resolution in dispute."""
    before: Mapping[str, Document]
    """What the sources said when it was decided, by name."""
    now: Mapping[str, Document]
    """What they say now."""
    looked: datetime
    """When they were asked now."""
    pages: Mapping[str, Document]
    """What was read of the disputant's URLs, by URL."""

    def values(self) -> dict[str, str]:
        """The variables of the prompt `dispute_review`."""
        rules, recheck = self.rules, self.request.recheck
        results = [evaluate(condition, rules, self.now) for condition in rules.resolver_program]
        return {
            "question": rules.exact_question,
            "rules": json.dumps(_shown_rules(rules)),
            "decided": json.dumps(
                {"by": self.decided.decided_by, "reason": self.decided.reason, "results": self.decided.results}
            ),
            "outcome": self.request.dispute.outcome.value,
            "dispute": self.stored.reason,
            "evidence": json.dumps(list(self._documents())),
            "recheck": json.dumps(
                {
                    **recheck.model_dump(mode="json", include={"changed", "unreachable", "fresh"}),
                    "results": [result.model_dump(mode="json") for result in results],
                }
            ),
        }

    def _documents(self) -> Iterator[dict[str, str]]:
        """Each source's text then, and its text now where that is another; then the disputant's pages."""
        for source in self.rules.criteria.allowed_sources:
            then = self._text(source, self.before.get(source.name))
            now = self._text(source, self.now.get(source.name))
            if then is not None:
                yield {"source": source.name, "url": source.url, "text": then}
            if now is not None and now != then:
                yield {"source": f"{source.name}{_AGAIN}", "url": source.url, "text": now}
        for place, (url, document) in enumerate(self.pages.items(), start=1):
            yield {"source": f"disputant {place}", "url": url, "text": text_of(document)[:EVIDENCE_LIMIT]}

    def _text(self, source: Source, document: Document | None) -> str | None:
        if document is None:
            return None
        return shown_text(source, document)

    def opinion(self, answer: DisputeReviewAnswer, threshold: float, ai_version: str) -> Opinion:
        """What the model's answer leads to."""
        outcome, recheck = self.request.dispute.outcome, self.request.recheck
        revisions = self.rules.observation.revisions
        verdict, doubt = settle(
            verdict=answer.verdict,
            confidence=answer.confidence,
            threshold=threshold,
            quoted=self._quoted(answer),
            machine_checkable=not self.rules.text_conditions,
            revisions_ignored=revisions == "ignored" or revisions < self.looked,
            decided_by=self.decided.decided_by,
            outcome=outcome,
            recheck=recheck,
        )
        reason = f"{doubt}; it says {answer.verdict}: {answer.reasoning}" if doubt else answer.reasoning
        return Opinion(
            verdict=verdict,
            outcome=OTHER[outcome] if verdict == "overturned" else outcome,
            confidence=answer.confidence,
            reason=cut(reason, _REASON_LIMIT),
            by=ai_version,
        )

    def _quoted(self, answer: DisputeReviewAnswer) -> bool:
        """Whether the words quoted stand in what a source of the rules says now; a disputant's page is no source."""
        name = answer.source.removesuffix(_AGAIN)
        return name in self.now and quotes(self.now[name], self.rules.source(name), answer.quotation)


async def load(pool: Pool, request: OpinionRequest) -> Case:
    """The case of a dispute whose sources have been fetched again."""
    dispute = request.dispute
    stored = await disputes.get(pool, dispute.dispute_id)
    named = {entry.url: entry.sha256 for entry in stored.evidence if entry.sha256 is not None}
    read = await evidence.by_hash(pool, named.values())
    now = await evidence.of_look(pool, dispute.market_id, dispute.recheck)
    return Case(
        request=request,
        rules=await markets.load_rules(pool, dispute.rules_sha256),
        stored=stored,
        decided=await evidence.resolution_of_look(pool, dispute.market_id, dispute.look),
        before=await evidence.documents_of_look(pool, dispute.market_id, dispute.look),
        now={entry.source: entry.document() for entry in now},
        # Of sources that gave nothing nothing follows, whenever that was.
        looked=max((entry.fetched_at for entry in now), default=stored.created_at),
        pages={url: read[sha256] for url, sha256 in named.items() if sha256 in read},
    )


def _shown_rules(rules: ResolutionRules) -> dict[str, Any]:
    """The rules as far as a reviewer of an outcome needs them."""
    criteria = rules.criteria
    return {
        "must_meet_all": [_shown(condition) for condition in criteria.must_meet_all],
        "must_not_count": [_shown(condition) for condition in criteria.must_not_count],
        "then": criteria.machine_resolution_logic.then,
        "else": criteria.machine_resolution_logic.else_,
        "observation": rules.observation.model_dump(mode="json"),
        "deadline": {
            "expiry": rules.expiry.isoformat(),
            "timezone": rules.timezone,
            "inclusive": rules.deadline_inclusive,
        },
        "postponed_or_cancelled": rules.postponed_or_cancelled.model_dump(mode="json"),
    }


def _shown(condition: MachineCondition | TextCondition) -> dict[str, Any]:
    return {
        "id": condition.id,
        "kind": condition.kind,
        "text": condition.text,
        "sources": list(sources_of(condition)),
    }
