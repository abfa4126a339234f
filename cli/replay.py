"""`clotho replay`: does today's code still tell the stories that were recorded?"""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from temporalio.client import WorkflowHandle, WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode

from cli.context import command, connected, unknown
from cli.output import CommandError, Exit, JsonOption, emit, styled, table


@command
async def replay(
    which: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID|FILE]…", help="Workflow ids on the server, or JSON files of stored histories."),
    ] = None,
    query: Annotated[str | None, typer.Option(help="Replay every workflow that this list filter finds.")] = None,
    save: Annotated[
        Path | None, typer.Option(help="Store the histories as JSON files in this folder, instead of replaying.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Replay recorded histories against the workflows of this code; exit status 1 when one would go another way.

    Examples: clotho replay market-<uuid>; clotho replay --query "WorkflowType = 'MarketLifecycle'";
    clotho replay tests/replay/histories/*.json
    """
    if not which and not query:
        raise CommandError("ID: name workflows or history files, or give a --query.", field="ID")
    histories, ids = await asyncio.to_thread(_split, which or [])
    if ids or query:
        async with connected() as context:
            handles = [context.temporal.get_workflow_handle(name) for name in ids]
            if query:
                async for found in context.temporal.list_workflows(query):
                    handles.append(context.temporal.get_workflow_handle(found.id, run_id=found.run_id))
            histories += [await _history(handle) for handle in handles]
    if save:
        await asyncio.to_thread(_save, histories, save)
    results = [] if save else await _replay(histories)
    rows = [(h.workflow_id, len(h.events), "saved") for h in histories] if save else results

    def show() -> None:
        table(
            ["workflow", "events", "", "why…"],
            [(name, events, styled(outcome), *why) for name, events, outcome, *why in rows],
            empty="Nothing was found to replay.",
        )

    emit([dict(zip(("workflow", "events", "outcome", "why"), row, strict=False)) for row in rows], as_json, show)
    if any(row[2] == "failed" for row in rows):
        raise CommandError(
            "A recorded history does not fit this code: guard the change with workflow.patched.", Exit.FAILED
        )


async def _history(handle: WorkflowHandle[Any, Any]) -> WorkflowHistory:
    try:
        return await handle.fetch_history()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise unknown(f"workflow {handle.id}") from None
        raise


def _split(which: list[str]) -> tuple[list[WorkflowHistory], list[str]]:
    """The histories in those that are files, and the others, which are workflow ids."""
    files = [path for path in map(Path, which) if path.is_file()]
    histories = [WorkflowHistory.from_json(path.stem, path.read_text("utf-8")) for path in files]
    return histories, [name for name in which if Path(name) not in files]


def _save(histories: list[WorkflowHistory], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for history in histories:
        (folder / f"{history.workflow_id}.json").write_text(history.to_json(), "utf-8")


async def _replay(histories: list[WorkflowHistory]) -> list[tuple[str, int, str, str]]:
    # Only this path pays for loading the workflows.
    from workers.registry import replayer

    results = []
    for history in histories:
        result = await replayer().replay_workflow(history, raise_on_replay_failure=False)
        why = str(result.replay_failure or "")
        results.append((history.workflow_id, len(history.events), "failed" if why else "ok", why[:300]))
    return results
