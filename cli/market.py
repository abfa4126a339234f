"""`clotho market`: propose, list, show, cancel, pause, resume, retry, verify."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from pydantic import ValidationError
from rich.panel import Panel
from rich.text import Text

from cli.context import command, connected
from cli.output import CommandError, Exit, JsonOption, console, emit, harmless, say, styled, table, write_new
from cli.parked import unpark
from cli.proposing import Proposed, Refused, TooOften, propose, wait
from cli.reading import STANDARD_INPUT, read_text
from cli.reasons import ReasonOption
from cli.redacting import redacting
from db import audit, disputes, evidence, markets
from domain.bundle import Bundle, BundleError, read_bundle, write_bundle
from domain.intake import INPUT_LIMIT, parse_proposal
from domain.market import Category, MarketDraft, MarketState, Note
from domain.status import MarketStatus, ProposalStatus
from domain.verdict import ConditionResult

app = typer.Typer(help="Prediction markets: propose, watch and steer them.", no_args_is_help=True)

MarketId = Annotated[UUID, typer.Argument(metavar="ID", help="Id of the market, as `clotho market list` shows it.")]
_LONGEST_WINDOW = 365 * 86_400


@app.command("propose")
@command
async def propose_market(
    text: Annotated[str, typer.Argument(help="The question, 10 to 500 characters; `-` reads it from standard input.")],
    background: Annotated[str, typer.Option(help="What a reader should know, at most 4,000 characters.")] = "",
    criteria: Annotated[str, typer.Option(help="How it is to be resolved, at most 4,000 characters.")] = "",
    category: Annotated[Category | None, typer.Option(help="Left out: the draft decides.")] = None,
    expiry: Annotated[
        str | None, typer.Option(help="When trading ends, e.g. 2027-01-31T18:00:00Z; left out: the draft decides.")
    ] = None,
    draft: Annotated[
        Path | None, typer.Option(help="JSON file of a full draft, as `market show --json` prints one; asks no model.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: the same key never makes two markets.")] = None,
    dispute_window: Annotated[
        int | None,
        typer.Option(
            min=0, max=_LONGEST_WINDOW, help="Seconds of the dispute window, instead of the configured hours."
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--wait", min=0, max=300, help="Seconds to wait for the draft; then see `proposal show`.")
    ] = 30,
    as_json: JsonOption = False,
) -> None:
    """Propose a market; the same proposal sent twice is one market.

    Example: clotho market propose "Will the effective federal funds rate have increased by 2027-01-31 as compared to
    its value on 2026-12-01?" --criteria "Resolves to the value found at https://fred.stlouisfed.org/series/DFF"
    """
    async with connected() as context:
        redacted = redacting(context.settings)
        fields: dict[str, Any] = {
            "text": redacted(read_text(STANDARD_INPUT, "text", INPUT_LIMIT).strip() if text == "-" else text),
            "background": redacted(background),
            "criteria": redacted(criteria),
            "category": category,
            "expiry": expiry,
            "draft": _draft_file(draft) if draft else None,
            "proposer": context.settings.identity,
        }
        proposal = parse_proposal(fields)
        if isinstance(proposal, list):
            raise _refusal(Refused(proposal))
        try:
            proposed = await propose(
                context.temporal,
                context.pool,
                proposal,
                key=key,
                dispute_window_seconds=dispute_window,
                subject=context.settings.identity,
            )
        except Refused as refused:
            raise _refusal(refused) from None
        except TooOften as often:
            raise CommandError(f"Nothing was proposed: {often}", Exit.FAILED) from None
        answered = await wait(context.pool, proposed, seconds)
        emit(answered, as_json, lambda: say(_what_became_of(answered)))


def _what_became_of(proposed: Proposed) -> str:
    market_id, before = proposed.market_id, ", as it was proposed before" if proposed.known else ""
    match proposed.status:
        case ProposalStatus.MATCHED:
            return f"Matched{before}: {proposed.reason} See it: clotho market show {proposed.matched}"
        case ProposalStatus.REJECTED:
            why = f" {proposed.reason}" if proposed.reason else ""
            return f"Rejected{before}.{why} See: clotho proposal show {market_id}"
        case ProposalStatus.PENDING | ProposalStatus.PROCESSING:
            return f"Market {market_id} is {proposed.status}{before}. Ask again: clotho proposal show {market_id}"
        case _:
            return f"Market {market_id} is drafted{before}. Watch it: clotho market show {market_id}"


@app.command("list")
@command
async def list_markets(
    status: Annotated[MarketStatus | None, typer.Option(help="Only markets of this status.")] = None,
    category: Annotated[Category | None, typer.Option(help="Only markets of this category.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, newest first.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List markets, newest first."""
    async with connected() as context:
        found = await markets.find(context.pool, status=status, category=category, limit=limit)

        def show() -> None:
            rows = [
                (m.id, styled(m.status), m.outcome or "", f"{m.expiry:%Y-%m-%d %H:%M}", m.title.replace("\n", " "))
                for m in found
            ]
            table(["id", "status", "outcome", "expiry (UTC)", "title…"], rows, empty="There are no such markets.")

        emit(found, as_json, show)


@app.command("show")
@command
async def show_market(market_id: MarketId, as_json: JsonOption = False) -> None:
    """Show all of one market: draft, rules, state of its lifecycle, resolution, disputes, audit trail."""
    async with connected() as context:
        state = await context.state(market_id)
        if state.rules_sha256 is None:
            emit({"state": state.model_dump(mode="json")}, as_json, lambda: _print_state(state))
            return
        market = await markets.get(context.pool, market_id)
        rules = await markets.load_rules(context.pool, market.rules_sha256)
        resolution = await evidence.latest_resolution(context.pool, market_id)
        disputed = await disputes.of_market(context.pool, market_id)
        trail = await audit.entries(context.pool, "market", str(market_id))

        def show() -> None:
            _print_state(state)
            _print_draft(markets.as_market_draft(market, rules))
            if resolution is not None:
                if resolution.decided_by is not None:
                    where = f"in dispute {resolution.dispute_id}" if resolution.dispute_id else "by hand"
                    say(f"{resolution.outcome}: decided {where} by {resolution.decided_by}: {resolution.reason}")
                results = [ConditionResult.model_validate(result) for result in resolution.results]
                rows = [
                    (r.condition, r.result, r.source or "", (r.detail or r.excerpt).replace("\n", " ")) for r in results
                ]
                table(["condition", "result", "source", "because…"], rows, empty="")
            if disputed:
                contested = [
                    (d.id, d.status, d.outcome or "", d.closed_by or "", (d.closed_why or d.reason).replace("\n", " "))
                    for d in disputed
                ]
                table(["dispute", "status", "against", "closed by", "why…"], contested, empty="")
            entries = [(f"{e.created_at:%m-%d %H:%M:%S}", e.action, e.actor, e.why) for e in trail]
            table(["when (UTC)", "action", "who", "why…"], entries, empty="No audit entries.")

        emit(
            {
                "state": state.model_dump(mode="json"),
                "draft": markets.as_market_draft(market, rules).model_dump(mode="json", by_alias=True),
                "resolution": resolution.model_dump(mode="json") if resolution else None,
                "disputes": [dispute.model_dump(mode="json") for dispute in disputed],
                "audit": [entry.model_dump(mode="json") for entry in trail],
            },
            as_json,
            show,
        )


@app.command()
@command
async def cancel(market_id: MarketId, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Cancel a market that has no outcome on chain yet; a published one becomes VOID."""
    await _tell(market_id, "cancel", reason, as_json, "is being canceled")


@app.command()
@command
async def pause(market_id: MarketId, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Hold a market before its next stage."""
    await _tell(market_id, "pause", reason, as_json, "is paused before its next stage")


@app.command()
@command
async def resume(market_id: MarketId, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Let a paused market go on."""
    await _tell(market_id, "resume", reason, as_json, "goes on")


@app.command()
@command
async def retry(
    market_id: MarketId, reason: ReasonOption = "retried from the command line", as_json: JsonOption = False
) -> None:
    """Retry the parked step of one market."""
    async with connected() as context:
        accepted = await unpark(context, str(market_id), "retry", reason)
        emit(accepted, as_json, lambda: say(f"Market {market_id} tries its parked step again."))


@app.command()
@command
async def verify(
    market_id: Annotated[UUID | None, typer.Argument(metavar="[ID]", help="Id of the market; or --bundle.")] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Check this exported bundle instead, without database or server.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute a market from its evidence and rules and compare with Postgres, chain and workflow history.

    Prints one line for each check. Exit status 1 when any of them fails.
    """
    if (market_id is None) is (bundle is None):
        raise CommandError("ID: name one market, or a --bundle FILE, and not both.", field="ID")
    if bundle is not None:
        checks = (await asyncio.to_thread(_read_bundle, bundle)).checks()
    elif market_id is not None:
        # Only this path pays for loading the chain's client.
        from cli.verification import verification_of

        async with connected() as context:
            checks = await verification_of(context, market_id)

    def show() -> None:
        rows = [(styled("ok" if c.ok else "failed"), c.name, c.detail.replace("\n", " ")) for c in checks]
        table(["", "check", "detail…"], rows, empty="There is nothing to check yet.")

    emit([check.model_dump(mode="json") for check in checks], as_json, show)
    failed = [check.name for check in checks if not check.ok]
    if failed:
        raise CommandError(
            f"{len(failed)} of {len(checks)} checks failed ({', '.join(failed)}): do not rely on this market before"
            " `clotho market show` explains it.",
            Exit.FAILED,
        )


@app.command()
@command
async def export(
    market_id: MarketId,
    file: Annotated[Path, typer.Argument(help="Where to write; must not exist.")],
    as_json: JsonOption = False,
) -> None:
    """Write all that a market's outcome rests on into one file, which anyone can check offline.

    Rules, evidence, decisions and signatures; check it with: clotho market verify --bundle FILE
    """
    from cli.verification import bundle_of

    async with connected() as context:
        data = write_bundle(await bundle_of(context, market_id))
    write_new(file, data)
    emit(
        {"market_id": str(market_id), "file": str(file), "bytes": len(data)},
        as_json,
        lambda: say(f"Wrote {file} ({len(data)} bytes). Check it: clotho market verify --bundle {file}"),
    )


def _read_bundle(path: Path) -> Bundle:
    try:
        return read_bundle(path.read_bytes())
    except OSError as error:
        why = f"bundle: {path} cannot be read ({error.strerror}): name an exported file."
        raise CommandError(why, field="bundle") from None
    except BundleError as error:
        raise CommandError(f"bundle: {error}: do not rely on {path}.", Exit.FAILED, field="bundle") from None


def _refusal(refused: Refused) -> CommandError:
    return CommandError(
        f"The proposal is refused: {refused}. Nothing was written; correct it and send it again.",
        field=refused.issues[0].field,
    )


async def _tell(market_id: UUID, update: str, reason: str, as_json: bool, done: str) -> None:
    async with connected() as context:
        accepted = await context.tell(market_id, update, Note(by=context.settings.identity, reason=reason))
        emit(accepted, as_json, lambda: say(f"Market {market_id} ({accepted.status}) {done}."))


def _print_state(state: MarketState) -> None:
    lines = []
    if state.outcome:
        lines.append(f"outcome {state.outcome}")
    if state.address:
        lines.append(f"on chain at {state.address}")
    if state.window_ends and state.status in {MarketStatus.RESOLVED, MarketStatus.DISPUTED}:
        lines.append(f"open to dispute until {state.window_ends:%Y-%m-%d %H:%M:%S} UTC")
    if state.parked:
        lines.append(f"parked at {state.parked.step}: {state.parked.message}")
    if state.validation:
        lines.append(f"validation: {state.validation.decision}: {state.validation.reason}")
        lines.extend(f"  - {issue.field}: {issue.message}" for issue in state.validation.issues)
    lines = [harmless(line) for line in lines]
    if console.is_terminal:
        shown = Text.assemble(styled(state.status), " ", "\n".join([state.stage, *lines]))
        console.print(Panel(shown, title=str(state.market_id), title_align="left", width=100))
    else:
        sys.stdout.write("\n".join([str(state.market_id), state.status, *lines]) + "\n")


def _print_draft(draft: MarketDraft) -> None:
    rules = draft.rules
    facts = [
        ("title", draft.title),
        ("question", rules.exact_question),
        ("category", draft.category),
        ("expiry", f"{rules.expiry.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({_distance(rules.expiry)})"),
        *((f"must meet {c.id}", c.text) for c in rules.criteria.must_meet_all),
        *((f"must not count {c.id}", c.text) for c in rules.criteria.must_not_count),
        *((f"source {s.name}", s.url) for s in rules.criteria.allowed_sources),
    ]
    table(["", "draft…"], [(name, str(value).replace("\n", " ")) for name, value in facts], empty="", whole_text=True)


def _distance(moment: datetime) -> str:
    seconds = (moment - datetime.now(UTC)).total_seconds()
    size, unit = next(
        (abs(seconds) / length, name) for length, name in ((86_400, "d"), (3_600, "h"), (60, "min"), (0.001, "s"))
        if abs(seconds) >= length or name == "s"
    )  # fmt: skip
    if unit == "s":
        size = abs(seconds)
    return f"in {size:.0f} {unit}" if seconds > 0 else f"{size:.0f} {unit} ago"


def _draft_file(path: Path) -> Any:
    text = read_text(path, "draft", INPUT_LIMIT)
    try:
        return MarketDraft.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(["draft", *(str(part) for part in first["loc"])])
        raise CommandError(f"{field}: {first['msg']}. Nothing was written; correct the file.", field=field) from None
