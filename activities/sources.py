"""Steps that read the official sources: the rehearsal before a market opens, and the evidence it is resolved by."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from temporalio.exceptions import ApplicationError

from activities.base import heartbeating, implements
from activities.fetch import Fetched, Fetcher
from db import audit, evidence, markets, step_results
from db.pool import Connection, Pool
from domain import errors, steps
from domain.canonical import evidence_root
from domain.extraction import Document
from domain.market import CollectRequest, Issue, Rehearsal, RehearseRequest, Resolution, first_issues
from domain.rehearsal import rehearse
from domain.resolver import resolve
from domain.rules import Source, sources_of
from domain.source_urls import check_url
from domain.status import MarketStatus

T = TypeVar("T")


class SourceSteps:
    """Steps of the role sources."""

    def __init__(self, pool: Pool, fetcher: Fetcher) -> None:
        self._pool = pool
        self._fetcher = fetcher

    @implements(steps.REHEARSE_RULES)
    async def rehearse_rules(self, request: RehearseRequest) -> Rehearsal:
        """Check a draft without the model: fields, sources, and its resolver program against today's sources.

        Idempotent because: it only reads.
        """
        rules = await markets.load_rules(self._pool, request.rules_sha256)
        refused = [
            Issue(code="source_refused", field=f"allowed_sources.{source.name}.url", message=why[:300])
            for source in rules.criteria.allowed_sources
            if (why := check_url(source.url)) is not None
        ]
        if refused:
            return Rehearsal(blocking=first_issues(tuple(refused)))
        # A source that the resolver program reads is fetched whole; of the others only the answer counts.
        read = {name for condition in rules.resolver_program for name in sources_of(condition)}
        others = [source for source in rules.criteria.allowed_sources if source.name not in read]
        async with heartbeating():
            fetched, reached = await asyncio.gather(
                _each([s for s in rules.criteria.allowed_sources if s.name in read], self._fetcher.get),
                _each(others, self._fetcher.reachable),
            )
            documents = {name: as_document(r) for name, r in fetched.items() if isinstance(r, Fetched)}
            # In a thread: a large document takes seconds, and heartbeats must go on.
            findings = await asyncio.to_thread(rehearse, rules, documents, datetime.now(UTC))
        unreachable = tuple(
            Issue(code="source_unreachable", field=f"allowed_sources.{name}.url", message=error.message[:300])
            for name, error in [*fetched.items(), *reached.items()]
            if isinstance(error, ApplicationError)
        )
        return Rehearsal(blocking=first_issues((*unreachable, *findings.blocking)), notes=first_issues(findings.notes))

    @implements(steps.COLLECT_EVIDENCE)
    async def collect_evidence(self, request: CollectRequest) -> Resolution:
        """Fetch every source, store the bytes, evaluate the resolver program.

        Idempotent because: keyed by market and look; bytes are content-addressed, and evidence, resolution and the
        step's result are committed once, together.

        Raises:
            ApplicationError: IllegalMove before expiry; SourceUnreachable or SourceRefused when a source gives nothing.
        """
        key = f"{request.market_id}:{request.look}"
        done = await step_results.stored(self._pool, steps.COLLECT_EVIDENCE, key)
        if done is not None:
            return done
        rules = await markets.load_rules(self._pool, request.rules_sha256)
        if request.at < rules.expiry:
            expiry = f"{rules.expiry:%Y-%m-%d %H:%M:%S %Z}"
            raise errors.failure(errors.ILLEGAL_MOVE, f"a market that expires at {expiry} cannot be resolved before")
        async with heartbeating():
            fetched: dict[str, Fetched] = {}
            for name, answer in (await _each(rules.criteria.allowed_sources, self._fetcher.get)).items():
                if isinstance(answer, ApplicationError):
                    raise answer
                fetched[name] = answer
            documents = {name: as_document(answer) for name, answer in fetched.items()}
            verdict = await asyncio.to_thread(resolve, rules, documents)
        root = evidence_root(document.sha256 for document in documents.values())
        resolution = Resolution(
            outcome=verdict.outcome,
            abstention=verdict.abstention,
            needs_judgement=verdict.outcome is None and bool(rules.text_conditions),
            evidence_root=root,
            detail=verdict.deciding_detail[:300],
        )

        async def record(connection: Connection) -> None:
            await markets.move(connection, request.market_id, MarketStatus.RESOLVING)
            for name, answer in sorted(fetched.items()):
                await evidence.store(
                    connection,
                    request.market_id,
                    request.look,
                    name,
                    answer.url,
                    documents[name],
                    answer.fetched_at,
                )
            await evidence.record_resolution(
                connection, request.market_id, request.look, request.rules_sha256, verdict, root
            )
            await audit.append(
                connection,
                "resolution_started" if request.look == 1 else "resolution_continued",
                "market",
                str(request.market_id),
                "clotho",
                {
                    "look": request.look,
                    "evidence_root": root,
                    "outcome": verdict.outcome,
                    "abstention": verdict.abstention,
                },
            )

        return await step_results.commit_once(self._pool, steps.COLLECT_EVIDENCE, key, resolution, record)


async def _each(sources: Sequence[Source], ask: Callable[[str], Awaitable[T]]) -> dict[str, T | ApplicationError]:
    """Ask all sources at once, by name; what one of them raises does not stop the others."""
    results = await asyncio.gather(*(ask(source.url) for source in sources), return_exceptions=True)
    answers: dict[str, T | ApplicationError] = {}
    for source, result in zip(sources, results, strict=True):
        if isinstance(result, BaseException) and not isinstance(result, ApplicationError):
            raise result
        answers[source.name] = result
    return answers


def as_document(fetched: Fetched) -> Document:
    """A fetched document as the resolver reads it."""
    return Document(sha256=fetched.sha256, content_type=fetched.content_type, body=fetched.body)
