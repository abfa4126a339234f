"""`clotho review`: drafts that wait for a person."""

import asyncio
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from pydantic import ValidationError

from cli.context import Context, command, connected
from cli.output import CommandError, JsonOption, emit, say, table
from db import markets
from domain.intake import INPUT_LIMIT
from domain.market import RequestChanges, ReviewDecision
from domain.rules import ResolutionRules

app = typer.Typer(help="Drafts that wait for a reviewer's decision.", no_args_is_help=True)

ReviewId = Annotated[UUID, typer.Argument(metavar="ID", help="Id of the market under review.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, in a sentence; mandatory, kept in the audit log.")]


@app.command("list")
@command
async def list_reviews(as_json: JsonOption = False) -> None:
    """List the drafts that wait for a decision, and why each was flagged."""
    async with connected() as context:
        states = await context.states("MarketStatus = 'pending_review' AND ExecutionStatus = 'Running'")

        def show() -> None:
            rows = [(s.market_id, s.title, s.validation.reason if s.validation else "") for s in states]
            table(["market", "title…", "flagged because…"], rows, empty="Nothing waits for a review.")

        emit(states, as_json, show)


@app.command()
@command
async def approve(review_id: ReviewId, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Approve the draft: it is published."""
    await _decide(review_id, "approve", reason, as_json)


@app.command()
@command
async def reject(review_id: ReviewId, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Reject the draft: the market ends."""
    await _decide(review_id, "reject", reason, as_json)


@app.command("request-changes")
@command
async def request_changes(
    review_id: ReviewId,
    reason: ReasonOption,
    edit: Annotated[Path, typer.Option("--edit", help="JSON file with the whole changed rules.")],
    as_json: JsonOption = False,
) -> None:
    """Replace the draft's rules; they are rehearsed and validated again, then wait for approval.

    Get the rules to edit: clotho market show ID --json | jq .draft.rules > rules.json
    """
    rules = await asyncio.to_thread(_rules_file, edit)
    async with connected() as context:
        version = await _version(context, review_id)
        new_version = await markets.store_rules(context.pool, rules)
        changes = RequestChanges(
            by=context.settings.identity, reason=reason, rules_sha256=version, new_rules_sha256=new_version
        )
        accepted = await context.tell(review_id, "request_changes", changes)
        emit(accepted, as_json, lambda: say(f"Market {review_id}: the new rules are being validated."))


async def _decide(review_id: UUID, decision: str, reason: str, as_json: bool) -> None:
    async with connected() as context:
        version = await _version(context, review_id)
        body = ReviewDecision(by=context.settings.identity, reason=reason, rules_sha256=version)
        accepted = await context.tell(review_id, decision, body)
        word = {"approve": "approved", "reject": "rejected"}[decision]
        emit(accepted, as_json, lambda: say(f"Market {review_id} is {word}."))


async def _version(context: Context, review_id: UUID) -> str:
    """The version under review now: what the decision is about; a change in between makes it stale."""
    market = await markets.get(context.pool, review_id)
    return market.rules_sha256


def _rules_file(path: Path) -> ResolutionRules:
    try:
        if path.stat().st_size > INPUT_LIMIT:
            raise CommandError(f"edit: {path} is longer than {INPUT_LIMIT // 1024} KiB: shorten it.", field="edit")
        return ResolutionRules.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CommandError(f"edit: {path} cannot be read ({error.strerror}): name a JSON file.", field="edit") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(["rules", *(str(part) for part in first["loc"])])
        raise CommandError(f"{field}: {first['msg']}. Nothing was changed; correct the file.", field=field) from None
