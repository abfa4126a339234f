"""`clotho dispute`: contest a settled outcome, and see what became of it. Who decides does so with `clotho review`."""

from typing import Annotated
from uuid import UUID

import typer
from temporalio.client import WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError, RPCStatusCode

from cli.context import STILL_DONE, command, connected, explain, no_worker, unknown
from cli.disputing import Refused, submit
from cli.output import CommandError, Exit, JsonOption, emit, say, styled, table
from cli.reading import STANDARD_INPUT, read_text
from cli.redacting import redacting
from db import audit, disputes, markets
from db.disputes import StoredDispute
from domain.audit import AuditEntry
from domain.dispute import EVIDENCE_LIMIT, REASON_LIMIT, Dispute
from domain.intake import INPUT_LIMIT
from domain.text import cut

app = typer.Typer(help="Disputes of settled outcomes: submit and follow them.", no_args_is_help=True)

_WHO_LIMIT = 24
"""Characters: an ai_version is shown whole, of an address enough to tell it from others."""


@app.command("submit")
@command
async def submit_dispute(
    market_id: Annotated[UUID, typer.Argument(metavar="MARKET", help="Id of the market whose outcome is contested.")],
    address: Annotated[str, typer.Option(help="Your address on chain, which holds YES or NO tokens of the market.")],
    reason: Annotated[
        str, typer.Option(help=f"What is wrong, at most {REASON_LIMIT:,} characters; `-` reads standard input.")
    ],
    evidence: Annotated[
        list[str] | None,
        typer.Option(
            help=f"A page that shows it, at most {EVIDENCE_LIMIT}; only those on the market's own sources are read."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Contest the outcome of a market while its dispute window is open; the same dispute sent twice is one.

    Example: clotho dispute submit MARKET --address 9xQe… --reason "It was read on the wrong day."
    """
    given = (read_text(STANDARD_INPUT, "reason", INPUT_LIMIT) if reason == "-" else reason).strip()
    async with connected() as context:
        dispute = Dispute(
            market_id=market_id,
            disputant=address,
            reason=redacting(context.settings)(given),
            evidence_urls=tuple(evidence or ()),
        )
        try:
            admitted = await submit(context.temporal, context.pool, dispute)
        except Refused as refused:
            raise _refusal(str(refused)) from None
        except WorkflowUpdateRPCTimeoutOrCancelledError:
            raise no_worker(f"market {market_id}", STILL_DONE) from None
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                explain(error, f"market {market_id}")
            status = (await markets.get(context.pool, market_id)).status
            sentence = f"The market is {status}, which is its end: its outcome can no longer be disputed."
            raise CommandError(sentence, Exit.FAILED) from None

        def show() -> None:
            seen = "was admitted before" if admitted.known else "is being reviewed"
            say(f"Dispute {admitted.dispute_id} {seen}. Follow it: clotho dispute show {admitted.dispute_id}")

        emit(admitted, as_json, show)


@app.command("list")
@command
async def list_disputes(
    market: Annotated[UUID | None, typer.Option(help="Only disputes of this market.")] = None,
    open_only: Annotated[bool, typer.Option("--open", help="Only those that are not decided yet.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, newest first.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List disputes, newest first."""
    async with connected() as context:
        found = await disputes.find(context.pool, market_id=market, open_only=open_only, limit=limit)

        def show() -> None:
            rows = [
                (d.id, styled(d.status), d.outcome or "", f"{d.created_at:%m-%d %H:%M}", d.reason.replace("\n", " "))
                for d in found
            ]
            table(["id", "status", "disputed", "since (UTC)", "reason…"], rows, empty="There are no such disputes.")

        emit(found, as_json, show)


@app.command("show")
@command
async def show_dispute(
    dispute_id: Annotated[UUID, typer.Argument(metavar="ID", help="Id, as `clotho dispute list` shows it.")],
    as_json: JsonOption = False,
) -> None:
    """Show one dispute: its text and pages, what the model made of it, who decided and why, its audit trail."""
    async with connected() as context:
        dispute = await disputes.get_if_stored(context.pool, dispute_id)
        if dispute is None:
            raise unknown(f"dispute {dispute_id}", "clotho dispute list")
        market = await markets.get(context.pool, dispute.market_id)
        of_market = await audit.entries(context.pool, "market", str(dispute.market_id))
        trail = [entry for entry in of_market if entry.details.get("dispute_id") == str(dispute_id)]
        emit(
            {
                "dispute": dispute.model_dump(mode="json"),
                "market": {"title": market.title, "status": market.status, "outcome": market.outcome},
                "audit": [entry.model_dump(mode="json") for entry in trail],
            },
            as_json,
            lambda: _print(dispute, market, trail),
        )


def _print(dispute: StoredDispute, market: markets.Market, trail: list[AuditEntry]) -> None:
    facts = [
        ("status", dispute.status),
        ("market", f"{dispute.market_id} ({market.status}, {market.outcome})"),
        ("title", market.title),
        ("disputes", f"{dispute.outcome}, from look {dispute.look}" if dispute.outcome else "was not admitted"),
        ("by", dispute.disputant),
        ("reason", dispute.reason),
        *(("evidence", f"{e.url} ({e.why or e.sha256 or 'not read yet'})") for e in dispute.evidence),
    ]
    if dispute.opinion is not None:
        opinion = dispute.opinion
        facts.append((opinion.by, f"{opinion.verdict} ({opinion.confidence:.2f}): {opinion.reason}"))
    if dispute.closed_why is not None:
        facts.append((f"{dispute.status} by {dispute.closed_by}" if dispute.closed_by else "why", dispute.closed_why))
    table(["", "dispute…"], [(name, str(value).replace("\n", " ")) for name, value in facts], empty="", whole_text=True)
    rows = [(f"{e.created_at:%m-%d %H:%M:%S}", e.action, cut(e.actor, _WHO_LIMIT), e.why) for e in trail]
    table(["when (UTC)", "action", "who", "why…"], rows, empty="No audit entries.")


def _refusal(clause: str) -> CommandError:
    return CommandError(
        f"The dispute is refused: {clause}. Nothing was written; correct it and send it again.",
        field=clause.partition(":")[0],
    )
