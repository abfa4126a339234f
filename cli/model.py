"""`clotho model`: which versions there are, which is active and was when, and going back."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from activities.loading import ModelRefusedError, digest_is, drift_score, load
from cli import retraining
from cli.context import CliSettings, command, connected, database, end_of
from cli.output import CommandError, Exit, JsonOption, console, emit, harmless, say, styled, table
from cli.reasons import reason_of, redacted
from db import models
from db.models import Promotion, PromotionKind, RegisteredModel
from db.pool import Pool
from domain import gate, model_card, signing
from domain.model import VERIFY_WITHIN, ModelName, RetrainRequest
from domain.model_status import Health, ModelStatus, no_model, status_of

app = typer.Typer(help="Models: versions, which is active and was when, and going back.", no_args_is_help=True)

ModelOption = Annotated[ModelName, typer.Option("--model", help="Which model.")]
VersionArgument = Annotated[int, typer.Argument(metavar="VERSION", help="As `clotho model list` has it.")]
WhyOption = Annotated[str | None, typer.Option("--reason", help="Why, in a sentence; for the log.", callback=redacted)]
MinimumOption = Annotated[
    float | None, typer.Option("--min-auc", min=0, max=1, help="Refuse an AUC (transactions: accuracy) below.")
]
WithinOption = Annotated[
    float, typer.Option("--within", min=0, max=600, help="Seconds in which every scoring process has to follow.")
]

_BAD = frozenset({Health.ERROR, Health.NO_MODEL, Health.CRITICAL_LOW_AUC})


class CardFormat(StrEnum):
    """What a card is printed as."""

    MD = "md"
    JSON = "json"
    HTML = "html"


@dataclass(frozen=True)
class _Registry:
    """What the commands but `retrain` need: they work while Temporal is down."""

    settings: CliSettings
    pool: Pool

    async def get(self, model: ModelName, version: int) -> RegisteredModel:
        """A version of a model.

        Raises:
            CommandError: there is none.
        """
        found = await models.get(self.pool, model, version)
        if found is None:
            raise _unknown(model, version)
        return found

    async def find(self, version: int, model: ModelName | None) -> RegisteredModel:
        """A version by its number, of any model when only one has it."""
        if model is not None:
            return await self.get(model, version)
        found = await models.find(self.pool, version)
        if len(found) > 1:
            raise CommandError(
                f"VERSION: both models have a version {version}: say which with --model.", field="--model"
            )
        if not found:
            raise _unknown("either model", version)
        return found[0]

    async def active(self, model: ModelName) -> Promotion:
        """What made the active version active.

        Raises:
            CommandError: none is active.
        """
        found = await models.active(self.pool, model)
        if found is None:
            why = f"No version of {model} is active: see `clotho model list`, and `clotho model activate`."
            raise CommandError(why, Exit.FAILED)
        return found


@contextlib.asynccontextmanager
async def _registry() -> AsyncIterator[_Registry]:
    async with database() as (settings, pool):
        yield _Registry(settings, pool)


@app.command("list")
@command
async def list_models(model: ModelOption = "lead", as_json: JsonOption = False) -> None:
    """List every version of a model, the newest first."""
    async with _registry() as registry:
        found = await models.every(registry.pool, model)
        now = await models.active(registry.pool, model)
        live = now.version if now else None

        def show() -> None:
            rows = [
                (
                    one.version,
                    styled("active" if one.version == live else "registered"),
                    f"{one.evaluation.quality.value:.4f}",
                    one.n_train,
                    f"{one.registered_at:%Y-%m-%d %H:%M}",
                    one.approved_by or "-",
                )
                for one in found
            ]
            headings = ["version", "state", found[0].evaluation.metric if found else "", "rows", "registered (UTC)"]
            empty = f"No version of {model} is registered: `clotho model retrain {model}`."
            table([*headings, "approved by…"], rows, empty=empty)

        listed = [
            one.model_dump(mode="json", exclude={"evaluation", "gate"})
            | {"metrics": one.metrics, "active": one.version == live}
            for one in found
        ]
        emit(listed, as_json, show)


@app.command()
@command
async def status(model: ModelOption = "lead", as_json: JsonOption = False) -> None:
    """Show how the active version stands, and what the scoring processes have loaded.

    Exit status: 0 it is fit, or a warning says what to watch; 1 there is none, it cannot be loaded, or it is critical.
    """
    async with _registry() as registry:
        running = await models.loads(registry.pool, model)
        found, faults = await _status(registry, model, running)

        def show() -> None:
            rows = [(name, _plain(value)) for name, value in found.model_dump(mode="json").items()]
            table(["", f"{model}…"], rows, empty="")
            following = sum(1 for one in running if one.version == found.version)
            if found.loaded:
                say(f"{following} of {len(running)} scoring processes have it.")
            for fault in faults:
                say(f"Not loaded: {fault}.")

        emit(found, as_json, show)
        if found.health in _BAD:
            raise typer.Exit(Exit.FAILED)


@app.command()
@command
async def card(
    version: Annotated[int | None, typer.Argument(metavar="[VERSION]", help="Else the active one.")] = None,
    model: Annotated[ModelName | None, typer.Option("--model", help="Else the one with VERSION, or lead.")] = None,
    format: Annotated[CardFormat, typer.Option("--format", help="Markdown, JSON, or one HTML page with plots.")] = (
        CardFormat.MD
    ),
) -> None:
    """Print the card of a version; its digest and signature are checked meanwhile.

    Exit status: 0 they fit; 1 they do not.
    """
    async with _registry() as registry:
        if version is None:
            active = await registry.active(model or "lead")
            assert active.version is not None, "an active one has a version"
            found = await registry.get(active.model, active.version)
        else:
            found = await registry.find(version, model)
        made = await _card(registry, found)
        match format:
            case CardFormat.MD:
                text = model_card.markdown(made)
            case CardFormat.JSON:
                text = made.model_dump_json(indent=2) + "\n"
            case CardFormat.HTML:
                from domain.model_card_page import page

                text = page(made)
        console.file.write(text if format is CardFormat.JSON else harmless(text))
        if not (made.digest_ok and made.signature_ok):
            raise typer.Exit(Exit.FAILED)


@app.command()
@command
async def history(
    at: Annotated[str | None, typer.Option("--at", help="A moment, ISO 8601; without a zone in UTC.")] = None,
    model: ModelOption = "lead",
    as_json: JsonOption = False,
) -> None:
    """Show every promotion, the oldest first; or which version was live at a moment.

    Example: clotho model history --at 2026-11-20T03:20:00Z
    """
    moment = _moment(at) if at is not None else None
    async with _registry() as registry:
        if moment is not None:
            found = await models.live_at(registry.pool, model, moment)
            version = found.version if found else None
            sentence = f"At {moment.isoformat()} no version of {model} was live."
            if found is not None and version is not None:
                sentence = f"At {moment.isoformat()} version {version} of {model} was live, since {_when(found)}."
            answer = {"model": model, "at": moment.isoformat(), "version": version}
            emit(answer | {"promotion": found}, as_json, lambda: say(sentence))
            return
        log = await models.history(registry.pool, model)
        rows = [(_when(one), one.version or "none", one.kind.replace("_", " "), one.by, one.why) for one in log]
        headings = ["from (UTC)", "version", "what", "by", "why…"]
        emit(log, as_json, lambda: table(headings, rows, empty=f"No version of {model} was ever active."))


@app.command()
@command
async def activate(
    version: VersionArgument,
    model: ModelOption = "lead",
    reason: WhyOption = None,
    minimum: MinimumOption = None,
    within: WithinOption = VERIFY_WITHIN,
    as_json: JsonOption = False,
) -> None:
    """Make a version the active one; if a scoring process cannot follow in time, it is switched back.

    Exit status: 0 every process scores with it; 1 it was refused or switched back.
    """
    why = reason_of(reason or "activated by hand")
    async with _registry() as registry:
        done = await _promote(registry, await registry.get(model, version), minimum, why, "activated")
        if done is None:
            raise CommandError(f"VERSION: {version} is active already.", Exit.FAILED, field="VERSION")
        verified = await models.verify_activation(registry.pool, model, version, within)
        if not verified.ok:
            async with registry.pool.acquire() as connection, connection.transaction():
                because = f"{verified.reason}"[:500]
                back = await models.switch_back(connection, model, done.number, registry.settings.identity, because)
            to = f"to {back.version or 'none'}" if back else "by somebody else"
            raise CommandError(f"{version} was switched back {to}, as {verified.reason}.", Exit.FAILED)
        _tell(done, verified, as_json)


@app.command()
@command
async def rollback(
    to: Annotated[int | None, typer.Option("--to", help="A version; else the one before the active one.")] = None,
    minimum: MinimumOption = None,
    model: ModelOption = "lead",
    reason: WhyOption = None,
    within: WithinOption = VERIFY_WITHIN,
    as_json: JsonOption = False,
) -> None:
    """Go back to the version that was live before the active one was activated, or to another; once more goes further.

    Exit status: 0 every process scores with it; 1 it was refused, or a process has not followed yet.
    """
    why = reason_of(reason or "rolled back by hand")
    async with _registry() as registry:
        wanted = to if to is not None else await models.live_before(registry.pool, model)
        if wanted is None:
            raise CommandError(
                f"No earlier version of {model} was live: name one of `clotho model list` with --to.", Exit.FAILED
            )
        done = await _promote(registry, await registry.get(model, wanted), minimum, why, "rolled_back")
        if done is None:
            raise CommandError(f"--to: {wanted} is active already.", Exit.FAILED, field="--to")
        verified = await models.verify_activation(registry.pool, model, wanted, within)
        if not verified.ok:
            raise CommandError(f"{wanted} is active, but {verified.reason}: restart what does not follow.", Exit.FAILED)
        _tell(
            done,
            verified,
            as_json,
            f" To keep it, also pause the next retraining: `clotho schedule pause retrain-{model}`.",
        )


@app.command()
@command
async def compare(
    first: Annotated[int, typer.Argument(metavar="A", help="A version.")],
    second: Annotated[int, typer.Argument(metavar="B", help="Another.")],
    model: ModelOption = "lead",
    as_json: JsonOption = False,
) -> None:
    """Compare the figures of two versions side by side, each on its own held-out rows."""
    async with _registry() as registry:
        a, b = await registry.get(model, first), await registry.get(model, second)
        names = [name for name in a.metrics if name in b.metrics]
        found = {
            name: {"a": a.metrics[name], "b": b.metrics[name], "difference": b.metrics[name] - a.metrics[name]}
            for name in names
        }

        def show() -> None:
            rows: list[tuple[str, str, str, str]] = [
                (name, f"{one['a']:.4f}", f"{one['b']:.4f}", f"{one['difference']:+.4f}") for name, one in found.items()
            ]
            rows.append(("rows trained on", str(a.n_train), str(b.n_train), f"{b.n_train - a.n_train:+}"))
            rows.append(("rows held out", str(a.n_test), str(b.n_test), f"{b.n_test - a.n_test:+}"))
            rows.append(("data up to", f"{a.cutoff:%Y-%m-%d %H:%M}", f"{b.cutoff:%Y-%m-%d %H:%M}", ""))
            table(["figure…", str(first), str(second), "difference"], rows, empty="")
            if a.data_sha256 != b.data_sha256:
                say("They were held against other rows: a small difference says nothing.")

        answer = {"model": model, "a": first, "b": second, "same_data": a.data_sha256 == b.data_sha256}
        emit(answer | {"metrics": found}, as_json, show)


@app.command()
@command
async def retrain(
    model: Annotated[ModelName, typer.Argument(metavar="MODEL", help="lead or transactions.")],
    minimum: MinimumOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until it has ended, and say how.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Retrain a model now, as the nightly run does, or join the retraining that runs.

    Exit status, with --wait: 0 the new version is active or registered; 1 it was skipped, rejected or switched back.
    """
    async with connected() as context:
        request = RetrainRequest(model=model, cause="operator", by=context.settings.identity, minimum=minimum)
        run = await retraining.start(context.temporal, request)
        if not wait:
            sentence = f"{run.id} runs: see it in the Web UI, or wait for it with --wait."
            emit({"workflow": run.id, "status": "running"}, as_json, lambda: say(sentence))
            return
        end = await end_of(run, f"the retraining {run.id}", "ask again")
        told = f"{model} {end.version}" if end.version else model
        if end.rejection is not None:
            emit(end.rejection, True, lambda: None)
        else:
            emit(end, as_json, lambda: say(f"{told} {end.status}: {end.reason}"))
        if end.status not in {"active", "registered"}:
            raise typer.Exit(Exit.FAILED)


async def _promote(
    registry: _Registry,
    wanted: RegisteredModel,
    minimum: float | None,
    why: str,
    kind: PromotionKind,
) -> Promotion | None:
    """Make a version active, if it is good enough and what it says it is; None when it is active already."""
    quality, metric = wanted.evaluation.quality.value, wanted.evaluation.metric
    if minimum is not None and quality < minimum:
        emit(gate.rejection(metric, quality, minimum), True, lambda: None)
        raise typer.Exit(Exit.FAILED)
    try:
        await load(registry.pool, registry.settings.verify_key, wanted.model, wanted.version)
    except ModelRefusedError as error:
        raise CommandError(f"{wanted.version} is not made active, as {error}: choose another.", Exit.FAILED) from None
    async with registry.pool.acquire() as connection, connection.transaction():
        return await models.activate(connection, wanted.model, wanted.version, registry.settings.identity, why, kind)


def _tell(done: Promotion, verified: models.Verification, as_json: bool, hint: str = "") -> None:
    processes = f"all scoring processes follow ({verified.processes})" if verified.processes else "no process scores"
    answer = {"model": done.model, "version": done.version, "at": done.at.isoformat()}
    sentence = f"{done.version} of {done.model} is active; {processes}.{hint}"
    emit(answer | {"processes": verified.processes}, as_json, lambda: say(sentence))


async def _status(registry: _Registry, model: ModelName, running: list[models.Load]) -> tuple[ModelStatus, list[str]]:
    """The status, and why the active version is not loaded somewhere, as the processes that score say."""
    active = await models.active(registry.pool, model)
    faults = list(dict.fromkeys(one.error for one in running if one.error))
    if active is None or active.version is None:
        return no_model(error=False), faults
    try:
        loaded = await load(registry.pool, registry.settings.verify_key, model, active.version)
    except ModelRefusedError as error:
        return no_model(error=True), list(dict.fromkeys([str(error), *faults]))
    times = [one.loaded_at for one in running if one.version == active.version and one.loaded_at]
    found = status_of(
        active.version,
        auc=loaded.registered.auc,
        n_train=loaded.registered.n_train,
        load_time=max(times, default=active.at),
        drift_score=await drift_score(registry.pool, loaded),
        now=datetime.now(UTC),
        error=bool(faults),
    )
    return found, faults


async def _card(registry: _Registry, found: RegisteredModel) -> model_card.Card:
    body = await models.artifact(registry.pool, found.sha256)
    digest_ok = digest_is(found.sha256, body)
    signature = bytes.fromhex(found.signature)
    signature_ok = signing.verify(registry.settings.verify_key, signature, found.model, found.version, found.sha256)
    active = await models.active(registry.pool, found.model)
    reports = await models.drift_reports(registry.pool, found.model, found.version)
    now = datetime.now(UTC)
    standing = status_of(
        found.version,
        auc=found.auc,
        n_train=found.n_train,
        load_time=now,
        drift_score=reports[-1].drift_score if reports else 0.0,
        now=now,
        error=not (digest_ok and signature_ok),
    )
    assert standing.version_date is not None, "it has a version"
    groups = model_card.spread(found.evaluation.slices)
    return model_card.Card(
        **found.model_dump(exclude={"evaluation", "gate", "cutoff"}),
        evaluation=found.evaluation,
        gate=found.gate,
        trained_to=found.cutoff,
        made=standing.version_date,
        active=active is not None and active.version == found.version,
        health=standing.health,
        use=model_card.USE[found.model],
        features=model_card.FEATURES[found.model],
        fairness=(*model_card.FAIRNESS[found.model], *([groups] if groups else [])),
        limits=model_card.LIMITS[found.model],
        drift=tuple(model_card.DriftPoint(day=one.day, score=one.drift_score) for one in reports),
        digest_ok=digest_ok,
        signature_ok=signature_ok,
        warnings=model_card.warnings(
            age_hours=standing.age_hours or 0.0,
            health=standing.health,
            digest_ok=digest_ok,
            signature_ok=signature_ok,
        ),
    )


def _unknown(model: str, version: int) -> CommandError:
    return CommandError(f"VERSION: {model} has no version {version}: see `clotho model list`.", field="VERSION")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        why = f"--at: {text[:40]!r} is no moment: write it like 2026-11-20T03:20:00Z."
        raise CommandError(why, field="--at") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _when(promotion: Promotion) -> str:
    return f"{promotion.at:%Y-%m-%d %H:%M:%S.%f}"


def _plain(value: Any) -> str:
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
