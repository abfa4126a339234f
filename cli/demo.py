"""`clotho demo`: real questions through whole lifecycles on the embedded stack, in under a minute.

The questions and their true outcomes are bundled (deploy/local/data). The embedded source site publishes each value
only when its market expires; until then nobody, the model included, can read it there.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from temporalio.client import WorkflowUpdateFailedError

from cli.context import Context, command, connected, env_file
from cli.disputing import submit
from cli.output import CommandError, Exit, JsonOption, console, emit, styled
from cli.parked import parked_steps, unpark
from cli.proposing import propose
from cli.reviewing import decide, state_of
from cli.stack import ensure_up
from db import markets, reviewers
from deploy.local import site_control
from deploy.local.data import Question, Series, load_questions, load_series, truth
from deploy.local.proposals import question_proposal, series_proposal
from deploy.local.source_site.control import Embargo, Fault, Misprint, Release
from domain.base import Model
from domain.dispute import Dispute
from domain.ids import market_workflow_id, review_workflow_id
from domain.market import Proposal
from domain.review import Approve, ReviewKind
from domain.status import MARKET_MOVES, MarketStatus

TRADING = timedelta(seconds=12)
"""From the proposal to expiry: long enough to draft, validate and publish all of them on two cores."""
DISPUTE_WINDOW = 3
"""Seconds."""
DISPUTED_WINDOW = 20
"""Seconds, of the market whose outcome is disputed: long enough to notice the mistake."""
SERIES_OF_EACH_SOURCE = 3
QUESTIONS = 12
GIVE_UP = timedelta(seconds=120)
PROPOSER, REVIEWER = "demo", "demo-reviewer"


@dataclass
class Case:
    """One question of the demo with its true outcome, and what became of it."""

    proposal: Proposal
    source: str
    embargo: Embargo
    true_outcome: str
    market_id: UUID | None = None
    status: MarketStatus | None = None
    outcome: str | None = None
    title: str = ""
    notes: list[str] = field(default_factory=list)
    verified: bool | None = None

    @property
    def ended(self) -> bool:
        """Whether the market is at its end."""
        return self.status is not None and not MARKET_MOVES[self.status]

    @property
    def right_outcome(self) -> bool:
        """Whether the outcome is what really happened."""
        return self.outcome == self.true_outcome

    @property
    def right(self) -> bool:
        """Finalised with the true outcome, and verified."""
        return self.status is MarketStatus.FINALIZED and self.right_outcome and self.verified is True


class TradingSettings(BaseSettings):
    """What it takes to hand tokens out on the embedded chain."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    solana_rpc_url: str
    publisher_wallet_secret: SecretStr


class CaseResult(Model):
    """What the demo reports of one market."""

    market_id: UUID | None
    source: str
    title: str
    status: MarketStatus | None
    outcome: str | None
    true_outcome: str
    verified: bool | None
    notes: tuple[str, ...]


class DemoResult(Model):
    """The whole demo."""

    markets: tuple[CaseResult, ...]
    right: int
    seconds: float
    web_ui: str


@command
async def demo(
    as_json: JsonOption = False,
) -> None:
    """Drive real questions through whole lifecycles and compare with what really happened.

    Starts the embedded stack if it is not up, and leaves it up. One source is down for a while: its market parks and
    is retried. One page publishes a mistake and mends it: a holder of tokens disputes the outcome, which is overturned.
    Drafts that are flagged wait for a person, whom the demo plays. Exit status 1 if any market is not finalised with
    the outcome that the data set says.
    """
    started = time.monotonic()
    web_ui = await ensure_up(quiet=as_json)
    cases = choose((datetime.now(UTC) + TRADING).replace(microsecond=0))
    async with connected() as context:
        await reviewers.add(context.pool, REVIEWER, PROPOSER)
        console.quiet = as_json
        await _drive(context, cases, web_ui)
        await asyncio.gather(*(_verify(context, case) for case in cases))
    result = DemoResult(
        markets=tuple(
            CaseResult(
                market_id=case.market_id,
                source=case.source,
                title=case.title,
                status=case.status,
                outcome=case.outcome,
                true_outcome=case.true_outcome,
                verified=case.verified,
                notes=tuple(case.notes),
            )
            for case in cases
        ),
        right=sum(case.right for case in cases),
        seconds=round(time.monotonic() - started, 1),
        web_ui=web_ui,
    )
    console.quiet = False
    emit(result, as_json, lambda: _summary(result))
    if result.right < len(cases):
        wrong = [case.market_id for case in cases if not case.right]
        raise CommandError(
            f"{len(wrong)} of {len(cases)} markets did not end as they should: look at the first with `clotho market"
            f" show {wrong[0]}`, at all of them in the Web UI.",
            Exit.FAILED,
        )


def choose(expiry: datetime) -> list[Case]:
    """The demo's questions: some series of each official source, and other questions with a results page."""
    cases = []
    series = load_series()
    for source in dict.fromkeys(one.source for one in series):
        of_source = [one for one in series if one.source == source and len(one.observations) > 1]
        spread = of_source[:: max(1, len(of_source) // SERIES_OF_EACH_SOURCE)]
        cases += [_series_case(one, expiry) for one in spread[:SERIES_OF_EACH_SOURCE]]
    questions = load_questions()
    step = max(1, len(questions) // QUESTIONS)
    return cases + [_question_case(one, expiry) for one in questions[::step][:QUESTIONS]]


def _series_case(series: Series, expiry: datetime) -> Case:
    due, resolution = series.observations[-2].date, series.observations[-1].date
    return Case(
        proposal=series_proposal(series, due, resolution, expiry=expiry, proposer=PROPOSER),
        source=series.source,
        embargo=Embargo(id=series.key, date=resolution, until=expiry),
        true_outcome=truth(series, due, resolution),
    )


def _question_case(question: Question, expiry: datetime) -> Case:
    return Case(
        proposal=question_proposal(question, expiry=expiry, proposer=PROPOSER),
        source=question.source,
        embargo=Embargo(id=question.id, date=None, until=expiry),
        true_outcome=question.truth,
    )


async def _drive(context: Context, cases: list[Case], web_ui: str) -> None:
    run = datetime.now(UTC).isoformat()
    address, ca_file = context.settings.sources_connect_to, context.settings.sources_ca_file
    if address is None or ca_file is None:
        raise CommandError("SOURCES_CONNECT_TO is missing: the demo needs the embedded stack, see `clotho status`.")
    async with site_control.connected(address, ca_file) as site:
        # The source of one market answers 503 from before its expiry on, until its step is parked.
        down = cases[-1]
        host = _host(down)
        # The page of another one says the wrong thing until somebody disputes it.
        mistaken = next(case for case in cases if case.embargo.date is None and _host(case) != host)
        for case in cases:
            await site.embargo(case.embargo)
        wrong = "No" if mistaken.true_outcome == "YES" else "Yes"
        await site.misprint(Misprint(id=mistaken.embargo.id, value=wrong))
        for place, case in enumerate(cases):
            proposed = await propose(
                context.temporal,
                context.pool,
                case.proposal,
                key=f"demo:{run}:{place}",
                dispute_window_seconds=DISPUTED_WINDOW if case is mistaken else DISPUTE_WINDOW,
            )
            case.market_id, case.title = proposed.market_id, case.proposal.text
        fault = Fault(host=host, status=503, retry_after=1)
        try:
            await _watch(context, cases, down, mistaken, site, fault, web_ui)
        finally:
            await site.release(Release(host=host, id=mistaken.embargo.id))


def _host(case: Case) -> str | None:
    return urlsplit(case.proposal.criteria.rsplit("Source: ", 1)[-1]).hostname


async def _watch(
    context: Context,
    cases: list[Case],
    down: Case,
    mistaken: Case,
    site: site_control.SiteControl,
    fault: Fault,
    web_ui: str,
) -> None:
    """Show the markets live until all have ended; play reviewer, outage, operator and disputant."""
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    task = progress.add_task("markets ended", total=len(cases))
    deadline = time.monotonic() + GIVE_UP.total_seconds()
    faulted = False
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        while True:
            await _look(context, cases)
            if not faulted and down.status is MarketStatus.ACTIVE:
                await site.fault(fault)
                faulted = True
                down.notes.append("source down")
            await _review(context, cases)
            await _retry_parked(context, cases, site, fault)
            await _dispute(context, mistaken, site)
            progress.update(task, completed=sum(case.ended for case in cases))
            live.update(Group(_table(cases), progress, f"Temporal Web UI: {web_ui}"))
            if all(case.ended for case in cases) or time.monotonic() > deadline:
                return
            await asyncio.sleep(0.3)


async def _look(context: Context, cases: list[Case]) -> None:
    rows = {row.id: row for row in await markets.find(context.pool, limit=1000)}
    for case in cases:
        row = rows.get(case.market_id) if case.market_id else None
        if row is not None:
            case.status, case.outcome, case.title = row.status, row.outcome, row.title


async def _review(context: Context, cases: list[Case]) -> None:
    for case in cases:
        if case.status is MarketStatus.PENDING_REVIEW and "reviewed" not in case.notes and case.market_id:
            decision = Approve(by=REVIEWER, reason="the question is clear and its source is official", at_once=True)
            # Postgres knows of the review a moment before it is there; then the next look decides.
            with contextlib.suppress(WorkflowUpdateFailedError, CommandError):
                review_id = review_workflow_id(ReviewKind.DRAFT, str(case.market_id))
                await decide(context.temporal, await state_of(context.temporal, review_id), decision)
                case.notes.append("reviewed")


async def _retry_parked(context: Context, cases: list[Case], site: site_control.SiteControl, fault: Fault) -> None:
    if all(case.status is not MarketStatus.ACTIVE and not case.ended for case in cases):
        return
    for state in await parked_steps(context, None):
        case = next((c for c in cases if c.market_id and market_workflow_id(c.market_id) == state.workflow_id), None)
        if case is not None and "retried" not in case.notes:
            if "parked" not in case.notes:
                case.notes.append("parked")  # shown until the next look, which retries it
                continue
            await site.release(Release(host=fault.host))
            await unpark(context, state.workflow_id, "retry", "the source answers again")
            case.notes.append("retried")


async def _dispute(context: Context, mistaken: Case, site: site_control.SiteControl) -> None:
    """Have the page mended once it has misled the market, and contest the outcome as a holder of tokens."""
    if mistaken.status is MarketStatus.FINALIZED and mistaken.notes[-1] == "disputed":
        mistaken.notes.append("overturned" if mistaken.right_outcome else "upheld")
    if mistaken.status is not MarketStatus.RESOLVED or "disputed" in mistaken.notes or mistaken.market_id is None:
        return
    # Only this command trades.
    from solders.keypair import Keypair

    from activities.token2022 import wallet
    from activities.transactions import connect
    from deploy.local.trading import buy

    await site.release(Release(id=mistaken.embargo.id))
    trading = TradingSettings(_env_file=env_file())
    holder = Keypair().pubkey()
    publisher = wallet(trading.publisher_wallet_secret, "PUBLISHER_WALLET_SECRET")
    async with connect(trading.solana_rpc_url) as chain:
        await buy(chain, publisher, mistaken.market_id, holder, side="yes")
    await submit(
        context.temporal,
        context.pool,
        Dispute(
            market_id=mistaken.market_id,
            disputant=str(holder),
            reason=f"The page was mended: it says {mistaken.true_outcome} now.",
        ),
    )
    mistaken.notes.append("disputed")


async def _verify(context: Context, case: Case) -> None:
    # Only this command pays for loading the chain's client.
    from cli.verification import verification_of

    if case.market_id is not None and case.status is MarketStatus.FINALIZED:
        case.verified = all(check.ok for check in await verification_of(context, case.market_id))


def _table(cases: list[Case]) -> Table:
    shown = Table(box=None, width=min(console.width, 100), pad_edge=False)
    for heading, options in (
        ("market", {"ratio": 1}),
        ("source", {}),
        ("status", {}),
        ("outcome", {}),
        ("true", {}),
        ("", {}),
    ):
        shown.add_column(heading, no_wrap=True, overflow="ellipsis", **options)  # type: ignore[arg-type]
    for case in cases:
        shown.add_row(
            case.title.split("\n")[0],
            case.source,
            styled(case.status or "proposed"),
            case.outcome or "",
            case.true_outcome if case.outcome else "",
            case.notes[-1] if case.notes else "",
        )
    return shown


def _summary(result: DemoResult) -> None:
    count = len(result.markets)
    console.print(
        f"\n{result.right} of {count} real questions finalised with the outcome that really happened and verified from"
        f" their evidence, in {result.seconds} s.\n"
    )
    example = next((market.market_id for market in result.markets if market.status is MarketStatus.FINALIZED), None)
    console.print("Look closer:")
    console.print(f"  clotho market show {example}")
    console.print(f"  clotho market verify {example}")
    console.print(f"  clotho replay market-{example}")
    console.print(f"  {result.web_ui}   the Temporal Web UI")
    console.print("  clotho down   stops the embedded stack; its data stays in .clotho/\n")
