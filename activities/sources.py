"""Steps that read the official sources: before a market opens, when it is resolved, when its outcome is disputed."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

import httpx
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.base import heartbeating, implements
from activities.fetch import Fetched, Fetcher
from db import ai_config, audit, disputes, evidence, markets, step_results, templates
from db.disputes import DisputantEvidence
from db.pool import Connection, Pool
from domain import errors, steps
from domain.canonical import evidence_root
from domain.dispute import DisputeRequest, Recheck
from domain.extraction import Document
from domain.market import CollectRequest, Issue, Rehearsal, RehearseRequest, Resolution, first_issues
from domain.rehearsal import rehearse
from domain.resolver import resolve
from domain.rules import Source, sources_of
from domain.source_urls import check_url
from domain.status import MarketStatus
from domain.templates import departures

T = TypeVar("T")


class SourceSteps:
    """Steps of the role sources."""

    def __init__(self, pool: Pool, fetcher: Fetcher) -> None:
        self._pool = pool
        self._fetcher = fetcher

    @implements(steps.REHEARSE_RULES)
    async def rehearse_rules(self, request: RehearseRequest) -> Rehearsal:
        """Check a draft without the model: fields, sources, and its resolver program against today's sources.

        Idempotent because: what the sources gave is kept for the draft's reviewer alone, under the market's id, and
        each attempt overwrites it; everything else only reads.
        """
        rules = await markets.load_rules(self._pool, request.rules_sha256)
        failed = {
            source.name: _source_issue("source_refused", source.name, why)
            for source in rules.criteria.allowed_sources
            if (why := check_url(source.url)) is not None
        }
        allowed = [source for source in rules.criteria.allowed_sources if source.name not in failed]
        # A source that the resolver program reads is fetched whole; of the others only the answer counts.
        read = {name for condition in rules.resolver_program for name in sources_of(condition)}
        async with heartbeating():
            fetched, reached = await asyncio.gather(
                _each(_urls(s for s in allowed if s.name in read), self._fetcher.get),
                _each(_urls(s for s in allowed if s.name not in read), self._fetcher.reachable),
            )
            for name, answer in [*fetched.items(), *reached.items()]:
                if isinstance(answer, ApplicationError):
                    failed[name] = _source_issue("source_unreachable", name, answer.message)
            documents = _documents(fetched)
            # In a thread: a large document takes seconds, and heartbeats must go on.
            findings = await asyncio.to_thread(rehearse, rules, documents, datetime.now(UTC), failed)
        await markets.record_rehearsal(self._pool, request.market_id, findings.sources)
        template = await templates.of_market(self._pool, request.market_id)
        notes = (*findings.notes, *(departures(template, rules) if template is not None else ()))
        return Rehearsal(blocking=first_issues(findings.blocking), notes=first_issues(notes))

    @implements(steps.COLLECT_EVIDENCE)
    async def collect_evidence(self, request: CollectRequest) -> Resolution:
        """Fetch every source, store the bytes, evaluate the resolver program.

        When some source gives nothing, what the others gave is kept for the person who may have to decide.

        Idempotent because: keyed by market and look; bytes are content-addressed, and evidence, resolution and the
        step's result are committed once, together. What a failed attempt keeps is replaced by the next one and never
        touches a look from which something follows already (evidence.is_open).

        Raises:
            ApplicationError: IllegalMove before expiry, and when a person has decided from this look; SourceUnreachable
                or SourceRefused when a source gives nothing.
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
            answers = await _each(_urls(rules.criteria.allowed_sources), self._fetcher.get)
            failure = next((answer for answer in answers.values() if isinstance(answer, ApplicationError)), None)
            if failure is not None:
                await self._keep(request, answers)
                raise failure
            documents = _documents(answers)
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
            if not await evidence.is_open(connection, request.market_id, request.look):
                raise errors.failure(errors.ILLEGAL_MOVE, f"look {request.look} was decided by hand meanwhile")
            await _store(connection, request.market_id, request.look, answers)
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

    async def _keep(self, request: CollectRequest, answers: Mapping[str, Fetched | ApplicationError]) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            if await evidence.is_open(connection, request.market_id, request.look):
                await _store(connection, request.market_id, request.look, answers)

    @implements(steps.RECHECK_SOURCES)
    async def recheck_sources(self, request: DisputeRequest) -> Recheck:
        """Fetch the sources again for a dispute, and those of the disputant's URLs that stand on an allowed source.

        A source that is down is asked again as long as retries are left; then it, or a URL that gives nothing, is named
        in the result, since the dispute is decided without it.

        Idempotent because: keyed by the dispute; bytes are content-addressed, and evidence and the step's result are
        committed once, together.

        Raises:
            ApplicationError: SourceUnreachable while retries are left.
        """
        key = str(request.dispute_id)
        done = await step_results.stored(self._pool, steps.RECHECK_SOURCES, key)
        if done is not None:
            return done
        rules = await markets.load_rules(self._pool, request.rules_sha256)
        dispute = await disputes.get(self._pool, request.dispute_id)
        before = {e.source: e.sha256 for e in await evidence.of_look(self._pool, request.market_id, request.look)}
        sources = _urls(rules.criteria.allowed_sources)
        hosts = {httpx.URL(url).host for url in sources.values()}
        refused = {entry.url: _why_not_read(entry.url, hosts) for entry in dispute.evidence}
        async with heartbeating():
            answers, named = await asyncio.gather(
                _each(sources, self._fetcher.get),
                _each({url: url for url, why in refused.items() if not why}, self._fetcher.get),
            )
            await self._raise_what_a_retry_may_mend(answers)
            documents = _documents(answers)
            verdict = await asyncio.to_thread(resolve, rules, documents)
        read = tuple(_as_read(entry.url, named.get(entry.url), refused[entry.url]) for entry in dispute.evidence)
        unreachable = tuple(name for name in answers if name not in documents)
        recheck = Recheck(
            changed=tuple(name for name, document in documents.items() if document.sha256 != before.get(name)),
            unreachable=unreachable,
            fresh=None if unreachable else verdict.outcome,
            evidence_root=evidence_root(document.sha256 for document in documents.values()),
            evidence_read=sum(entry.sha256 is not None for entry in read),
        )

        async def record(connection: Connection) -> None:
            await _store(connection, request.market_id, request.recheck, answers)
            for document in _documents(named).values():
                await evidence.store_bytes(connection, document)
            await disputes.record_evidence(connection, request.dispute_id, read)
            details = {"dispute_id": key, "look": request.recheck} | recheck.model_dump(mode="json")
            await audit.append(connection, "dispute_rechecked", "market", str(request.market_id), "clotho", details)

        return await step_results.commit_once(self._pool, steps.RECHECK_SOURCES, key, recheck, record)

    async def _raise_what_a_retry_may_mend(self, answers: Mapping[str, Fetched | ApplicationError]) -> None:
        """Fail this attempt because of a source that is down, unless it is the last one (see workers.retries)."""
        allowed = 1 + int(await ai_config.get(self._pool, "max_retries"))
        if activity.info().attempt >= min(allowed, steps.RECHECK_SOURCES.timing.retry.maximum_attempts):
            return
        for answer in answers.values():
            if isinstance(answer, ApplicationError) and not answer.non_retryable:
                raise answer


def _urls(sources: Iterable[Source]) -> dict[str, str]:
    return {source.name: source.url for source in sources}


async def _each(urls: Mapping[str, str], ask: Callable[[str], Awaitable[T]]) -> dict[str, T | ApplicationError]:
    """Ask all URLs at once, by name; what one of them raises does not stop the others."""
    results = await asyncio.gather(*(ask(url) for url in urls.values()), return_exceptions=True)
    answers: dict[str, T | ApplicationError] = {}
    for name, result in zip(urls, results, strict=True):
        if isinstance(result, BaseException) and not isinstance(result, ApplicationError):
            raise result
        answers[name] = result
    return answers


def _documents(answers: Mapping[str, Fetched | ApplicationError]) -> dict[str, Document]:
    """Those that answered, as the resolver reads them."""
    return {name: as_document(answer) for name, answer in answers.items() if isinstance(answer, Fetched)}


async def _store(
    connection: Connection, market_id: UUID, look: int, answers: Mapping[str, Fetched | ApplicationError]
) -> None:
    """Store what a look at the sources gave."""
    for name, answer in sorted(answers.items()):
        if isinstance(answer, Fetched):
            await evidence.store(connection, market_id, look, name, answer.url, as_document(answer), answer.fetched_at)


def _source_issue(code: str, name: str, why: str) -> Issue:
    return Issue(code=code, field=f"allowed_sources.{name}.url", message=why[:300])


def _why_not_read(url: str, hosts: set[str]) -> str:
    """Why a disputant's URL is not read; empty when it is: anybody can write a page, and name it here."""
    why = check_url(url)
    if why is None and (host := httpx.URL(url).host) not in hosts:
        why = f"The host {host} is none of the market's sources."
    return why or ""


def _as_read(url: str, answer: Fetched | ApplicationError | None, refused: str) -> DisputantEvidence:
    if isinstance(answer, Fetched):
        return DisputantEvidence(url=url, sha256=answer.sha256)
    return DisputantEvidence(url=url, why=(refused if answer is None else answer.message)[:300])


def as_document(fetched: Fetched) -> Document:
    """A fetched document as the resolver reads it."""
    return Document(sha256=fetched.sha256, content_type=fetched.content_type, body=fetched.body)
