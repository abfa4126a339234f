"""`clotho proposal`: what became of a proposal."""

from typing import Annotated
from uuid import UUID

import typer

from cli.context import command, connected, unknown
from cli.output import JsonOption, emit, say, styled, table
from db import audit, markets, proposals
from db.markets import Market
from db.proposals import StoredProposal
from domain.audit import AuditEntry
from domain.status import ProposalStatus

app = typer.Typer(help="Proposals: what became of what somebody asked for.", no_args_is_help=True)

_REJECTED_BY_A_PERSON = {"review_reject", "market_canceled"}
"""Audit actions whose reason is why there is no market."""


@app.command("show")
@command
async def show_proposal(
    proposal_id: Annotated[UUID, typer.Argument(metavar="ID", help="Id of the proposal, which is its market's too.")],
    as_json: JsonOption = False,
) -> None:
    """Show a proposal: its status, the market that it matched or became, and why there is none."""
    async with connected() as context:
        stored = await proposals.find(context.pool, proposal_id)
        if stored is None:
            raise unknown(f"proposal {proposal_id}", "clotho market list")
        market = await markets.get_if_drafted(context.pool, proposal_id)
        matched = None if stored.matched is None else await markets.get(context.pool, stored.matched)
        trail = await audit.entries(context.pool, "market", str(proposal_id))
        reasons = _reasons(stored, market, trail)

        def show() -> None:
            say(stored.proposal.text)
            table(["what", "is…"], _rows(stored, market, matched, reasons), empty="")
            if stored.status in {ProposalStatus.PENDING, ProposalStatus.PROCESSING}:
                say(f"It is being drafted. Ask again: clotho proposal show {proposal_id}")
            elif market is not None:
                say(f"All about its market: clotho market show {proposal_id}")

        emit(
            {
                **stored.model_dump(mode="json", by_alias=True, exclude={"reason"}),
                "reasons": reasons,
                "market": None if market is None else _shown(market),
                "matched_market": None if matched is None else _shown(matched),
            },
            as_json,
            show,
        )


def _reasons(stored: StoredProposal, market: Market | None, trail: list[AuditEntry]) -> list[str]:
    """Why it stands as it does, in sentences, oldest first."""
    reasons = [stored.reason] if stored.reason else []
    if market is not None and market.validation is not None:
        reasons.append(market.validation.reason)
        reasons += [f"{issue.field}: {issue.message}" for issue in market.validation.issues]
    reasons += [entry.why for entry in trail if entry.action in _REJECTED_BY_A_PERSON and entry.why]
    return list(dict.fromkeys(reasons))


def _rows(
    stored: StoredProposal, market: Market | None, matched: Market | None, reasons: list[str]
) -> list[tuple[object, object]]:
    rows: list[tuple[object, object]] = [
        ("status", styled(stored.status)),
        ("proposed", f"{stored.created_at:%Y-%m-%d %H:%M:%S} UTC by {stored.proposal.proposer}"),
    ]
    if matched is not None:
        rows.append(("matched", f"{matched.id} {matched.title}"))
    if market is not None:
        rows.append(("draft", f"{market.title} ({market.status}, until {market.expiry:%Y-%m-%d %H:%M} UTC)"))
    return rows + [("because", reason) for reason in reasons]


def _shown(market: Market) -> dict[str, object]:
    return market.model_dump(mode="json", include={"id", "status", "title", "category", "expiry", "rules_sha256"})
