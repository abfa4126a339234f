"""All that a reviewer needs to decide, gathered into one page, and the page printed."""

import itertools
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from rich.syntax import Syntax
from rich.text import Text

from cli.output import console, harmless, styled, table
from cli.reviewing import difference, in_words, is_postponed
from db import audit, disputes, evidence, markets
from db.disputes import StoredDispute
from db.markets import Similar
from db.pool import Pool
from domain.audit import AuditEntry
from domain.base import Model
from domain.extraction import Document, text_of
from domain.market import MarketDraft, SourceState, Validation
from domain.resolver import evaluate
from domain.review import KINDS, ReviewKind, ReviewState
from domain.rules import MachineCondition, Reading, ResolutionRules, TextCondition, sources_of
from domain.text import cut
from domain.verdict import ConditionResult, Result

_FOUND_LIMIT = 300
"""Characters of what a source says of a condition that is judged."""


class Change(Model):
    """A version of the rules that a reviewer replaced by another, line by line."""

    by: str
    at: datetime
    why: str
    before: str
    after: str
    diff: str


class Said(Model):
    """What one source says of one condition; `sha256` names the stored bytes, None when it gave none."""

    condition: str
    source: str
    result: Result
    found: str
    excerpt: str = ""
    sha256: str | None


class Look(Model):
    """One look at the sources, side by side."""

    look: int
    verdict: str
    """The outcome, or why there is none."""
    said: tuple[Said, ...]
    silent: tuple[str, ...]
    """Sources that gave nothing."""


class ReviewPage(Model):
    """The page. What a kind of review has not is None or empty."""

    state: ReviewState
    draft: MarketDraft | None = None
    validation: Validation | None = None
    rehearsal: tuple[SourceState, ...] | None = None
    similar: tuple[Similar, ...] = ()
    changes: tuple[Change, ...] = ()
    looks: tuple[Look, ...] = ()
    dispute: StoredDispute | None = None


async def page_of(pool: Pool, state: ReviewState) -> ReviewPage:
    """Gather the page of a review; the draft is in the version that is under review."""
    market_id = state.request.market_id
    if market_id is None:
        return ReviewPage(state=state)
    market = await markets.get(pool, market_id)
    rules = await markets.load_rules(pool, state.request.version or market.rules_sha256)
    is_draft = state.request.kind is ReviewKind.DRAFT
    dispute = None
    if state.request.kind is ReviewKind.DISPUTE:
        dispute = await disputes.get(pool, UUID(state.request.subject))
    return ReviewPage(
        state=state,
        draft=markets.as_market_draft(market, rules),
        validation=market.validation,
        rehearsal=market.rehearsal if is_draft else None,
        similar=tuple(await markets.similar(pool, market_id, market.title)) if is_draft else (),
        changes=await _changes(pool, market_id) if is_draft else (),
        looks=() if is_draft else await _looks(pool, market_id, rules, dispute),
        dispute=dispute,
    )


async def _changes(pool: Pool, market_id: UUID) -> tuple[Change, ...]:
    """What reviewers have changed in the rules since they were drafted, oldest first."""
    versions = [
        entry
        for entry in await audit.entries(pool, "market", str(market_id))
        if entry.action in {"draft_generated", "review_request_changes"}
    ]
    return tuple([await _change(pool, *pair) for pair in itertools.pairwise(versions)])


async def _change(pool: Pool, old: AuditEntry, new: AuditEntry) -> Change:
    before, after = old.details["rules_sha256"], new.details["rules_sha256"]
    diff = difference(await markets.load_rules(pool, before), await markets.load_rules(pool, after))
    return Change(by=new.actor, at=new.created_at, why=new.why, before=before, after=after, diff=diff)


async def _looks(
    pool: Pool, market_id: UUID, rules: ResolutionRules, dispute: StoredDispute | None
) -> tuple[Look, ...]:
    """The last look that has evidence; of a dispute before it the one that the disputed outcome followed from."""
    numbers = {dispute.look if dispute else None, await evidence.latest_look(pool, market_id)} - {None}
    return tuple([await _look(pool, market_id, rules, number) for number in sorted(filter(None, numbers))])


async def _look(pool: Pool, market_id: UUID, rules: ResolutionRules, number: int) -> Look:
    documents = {entry.source: entry.document() for entry in await evidence.of_look(pool, market_id, number)}
    try:
        resolution = await evidence.resolution_of_look(pool, market_id, number)
    except LookupError:
        verdict, recorded = "no outcome: a source gave nothing", {}
    else:
        verdict = resolution.outcome or f"no outcome: {resolution.abstention}"
        results = [ConditionResult.model_validate(result) for result in resolution.results]
        recorded = {result.condition: result for result in results}
    said = [
        _said_of_text(condition, source, rules, documents, recorded.get(condition.id))
        if isinstance(condition, TextCondition)
        else _said_by_machine(condition, source, rules, documents)
        for condition in rules.criteria.conditions
        for source in _answering(condition)
    ]
    silent = [source.name for source in rules.criteria.allowed_sources if source.name not in documents]
    return Look(look=number, verdict=verdict, said=tuple(said), silent=tuple(silent))


def _answering(condition: MachineCondition | TextCondition) -> Sequence[str]:
    """Sources that can answer a condition; those that give only a baseline cannot."""
    if isinstance(condition, TextCondition):
        return sources_of(condition)
    return list(dict.fromkeys(check.value.source for check in condition.checks))


def _said_by_machine(
    condition: MachineCondition, source: str, rules: ResolutionRules, documents: dict[str, Document]
) -> Said:
    """What one source alone gives, whatever the others say."""
    checks = tuple(check for check in condition.checks if check.value.source == source)
    alone = condition.model_copy(update={"checks": checks})
    result = evaluate(alone, rules.model_copy(update={"quorum": 1}), documents)
    return Said(
        condition=condition.id,
        source=source,
        result=result.result,
        found=result.detail,
        excerpt=result.excerpt,
        sha256=result.evidence_sha256,
    )


def _said_of_text(
    condition: TextCondition,
    source: str,
    rules: ResolutionRules,
    documents: dict[str, Document],
    judged: ConditionResult | None,
) -> Said:
    """The judgement with its quotation beside the source that it quotes; beside another, how its text begins."""
    document = documents.get(source)
    excerpt = ""
    if judged is not None and judged.source == source:
        excerpt = judged.excerpt
    elif document is not None:
        place = rules.source(source)
        excerpt = cut(text_of(document, selector=place.selector, json_path=place.json_path), _FOUND_LIMIT)
    return Said(
        condition=condition.id,
        source=source,
        result=judged.result if judged else Result.UNKNOWN,
        found=judged.detail if judged else "not judged",
        excerpt=excerpt,
        sha256=document.sha256 if document else None,
    )


# Printing.


def show_page(page: ReviewPage) -> None:
    """Print the page: plain lines in a pipe, tables and colours on a terminal."""
    state = page.state
    _heading(state.id)
    facts = [*_asked(state), *_disputed(page.dispute, state), *_drafted(page)]
    table(["", "review…"], facts, empty="", whole_text=True)
    for look in page.looks:
        _show_look(look)
    if page.rehearsal is not None:
        states = [(one.source, styled("ok" if one.ok else "failed"), one.found) for one in page.rehearsal]
        _titled("Sources when it was last checked", ["source", "", "found…"], states)
    if page.similar:
        alike = [(f"{m.similarity:.2f}", styled(m.status), m.outcome or "", m.id, m.title) for m in page.similar]
        _titled("Similar markets", ["like", "status", "", "id", "title…"], alike)
    for change in page.changes:
        _heading(f"Changed by {change.by} on {_moment(change.at)}: {change.why}")
        show_diff(change.diff)
    if state.decision is None:
        _heading("To decide")
        for line in _commands(state):
            # Never broken by us, so that it can be copied.
            console.print(Text(f"  {line}"), soft_wrap=True)


def show_diff(diff: str) -> None:
    """Print a unified diff, every line whole."""
    if console.is_terminal:
        console.print(Syntax(diff, "diff", word_wrap=True, background_color="default"), width=min(console.width, 100))
    else:
        sys.stdout.write(diff + "\n")


def time_left(state: ReviewState, now: datetime | None = None) -> str:
    """Until the deadline, in its two largest units; negative when it has passed."""
    remaining = state.deadline - (now or datetime.now(UTC))
    minutes = int(abs(remaining) / timedelta(minutes=1))
    days, hours = minutes // 1440, minutes // 60 % 24
    size = f"{days} d {hours} h" if days else f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
    return f"-{size}" if remaining < timedelta(0) else size


def _asked(state: ReviewState) -> Iterator[tuple[str, str]]:
    request = state.request
    yield "about", request.title
    yield "asked because", request.why
    overdue = ", breached: anybody may claim it" if state.breached else ""
    yield "deadline", f"{_moment(state.deadline)}, {time_left(state)} left, priority {state.priority}{overdue}"
    if state.claimed_by is not None and state.claimed_until is not None:
        yield "claimed", f"by {state.claimed_by} until {_moment(state.claimed_until)}"
    if state.postponed_until is not None and is_postponed(state):
        yield "postponed", f"until {_moment(state.postponed_until)}"
    if state.proposer is not None:
        yield "proposed by", state.proposer
    if request.blocked:
        yield "blocked", f"it cannot be approved as it is: {request.blocked}"
    if request.version is not None:
        yield "version", request.version
    if state.decision is not None:
        yield "decided", f"{in_words(state.decision)} by {state.decided_by}"
    yield from (("refused", sentence) for sentence in state.refused)


def _disputed(dispute: StoredDispute | None, state: ReviewState) -> Iterator[tuple[str, str]]:
    if dispute is None:
        return
    yield "outcome", f"{state.request.outcome} stands; the dispute contests it"
    yield "disputant", dispute.disputant
    yield "dispute", dispute.reason
    for entry in dispute.evidence:
        yield "its evidence", f"{entry.url} ({f'read, {entry.sha256}' if entry.sha256 else entry.why or 'not read'})"
    if dispute.opinion is not None:
        opinion = dispute.opinion
        yield "model's opinion", f"{opinion.verdict}, {opinion.outcome}, confidence {opinion.confidence:.2f}"
        yield "its reason", opinion.reason


def _drafted(page: ReviewPage) -> Iterator[tuple[str, str]]:
    if page.draft is None:
        return
    draft, rules = page.draft, page.draft.rules
    logic = rules.criteria.machine_resolution_logic
    yield "question", rules.exact_question
    yield "description", draft.description
    yield "category", f"{draft.category}, YES at {draft.initial_yes_prob / 100:g} %, confidence {draft.confidence:.2f}"
    yield "expiry", f"{_moment(rules.expiry)}, dates in {rules.timezone}"
    for condition in rules.criteria.conditions:
        must = "must meet" if condition in rules.criteria.must_meet_all else "must not be"
        yield f"{must} {condition.id}", condition.text
        if isinstance(condition, MachineCondition):
            yield from _program(condition)
    yield "then, else", f"{logic.then}, {logic.else_}"
    for source in rules.criteria.allowed_sources:
        yield f"source {source.name}", source.url
    yield "counts", f"{rules.observation.counts}, revisions {rules.observation.revisions}, quorum {rules.quorum}"
    waiting = rules.not_yet_published
    yield (
        "not published",
        (
            f"looks from {timedelta(seconds=waiting.settle_after)} after expiry, every"
            f" {timedelta(seconds=waiting.check_every)}, until {timedelta(seconds=waiting.give_up_after)}; then"
            f" {waiting.then}"
        ),
    )
    yield "postponed", str(rules.postponed_or_cancelled.outcome)
    if page.validation is not None and page.state.request.kind is ReviewKind.DRAFT:
        yield "validation", f"{page.validation.decision}: {page.validation.reason}"
        yield from ((f"  {issue.code}", f"{issue.field}: {issue.message}") for issue in page.validation.issues)


def _program(condition: MachineCondition) -> Iterator[tuple[str, str]]:
    """How the resolver checks a condition at each source."""
    bounds = " and ".join(str(bound) for bound in (condition.operand, condition.upper) if bound is not None)
    for check in condition.checks:
        compared = f"{_reading(check.value)} {condition.op} {bounds}{' %' if condition.percent else ''}".rstrip()
        if check.baseline is not None:
            compared += f"{' against' if bounds else ''} {_reading(check.baseline)}"
            if check.baseline.source != check.value.source:
                compared += f" of {check.baseline.source}"
        unit = f" in {check.value.unit}" if check.value.unit else ""
        yield f"  by {check.value.source}", f"{compared} ({check.value.type}{unit})"


def _reading(reading: Reading) -> str:
    """Where a value stands, as the rules say it."""
    place = f"{reading.json_path or reading.selector}"
    if reading.on is not None:
        place += f" on {reading.on} by {reading.date_path}"
    return f"{place} cut by {reading.pattern}" if reading.pattern is not None else place


def _show_look(look: Look) -> None:
    rows = [
        (said.condition, said.source, said.result, (said.sha256 or "")[: 12 if console.is_terminal else None],
         f"{said.found} {said.excerpt and f'«{said.excerpt}»'}".rstrip())
        for said in look.said
    ]  # fmt: skip
    _titled(
        f"Evidence of look {look.look}: {look.verdict}",
        ["condition", "source", "result", "bytes", "found…"],
        [*rows, *(("", source, "nothing", "", "the source gave nothing") for source in look.silent)],
    )


def _commands(state: ReviewState) -> Iterator[str]:
    """How each decision of the kind is made."""
    kind = KINDS[state.request.kind]
    seen = f" --version {state.request.version[:12]}" if state.request.version else ""
    options = {
        "approve": seen,
        "reject": f"{seen} --code …",
        "request_changes": f"{seen} --editor",
        "resolve": f" --outcome {'|'.join(kind.outcomes)}",
        "look_again": "",
    }
    for decision in kind.decisions:
        yield f"clotho review {decision.replace('_', '-')} {state.id}{options[decision]} --reason …"


def _titled(title: str, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    _heading(title)
    table(headings, rows, empty="None.", whole_text=True)


def _heading(text: str) -> None:
    if console.is_terminal:
        console.print(Text(harmless(text), style="bold"), width=min(console.width, 100))
    else:
        sys.stdout.write(harmless(text).replace("\n", " ") + "\n")


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
