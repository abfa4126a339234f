"""Loading a version of a model from the registry: only what was registered and signed, unchanged."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from db import leads, models
from db.models import RegisteredModel
from db.pool import Connection, Pool
from domain import artifact, drift, signing
from domain.artifact import Artifact
from domain.base import Sha256
from domain.canonical import sha256_hex
from domain.model import ModelName


class ModelRefusedError(ValueError):
    """A version must not be loaded; the message is one clause that says why."""


@dataclass(frozen=True)
class LoadedModel:
    """A version whose hash and signature were checked."""

    registered: RegisteredModel
    artifact: Artifact
    loaded_at: datetime

    @property
    def version(self) -> int:
        """Which it is."""
        return self.registered.version


async def load_active(connection: Connection | Pool, verify_key: str, model: ModelName) -> LoadedModel | None:
    """Load the active version; None when no version is.

    Raises:
        ModelRefusedError: it must not be loaded.
        signing.SigningError: `verify_key` is no key.
    """
    active = await models.active(connection, model)
    if active is None or active.version is None:
        return None
    return await load(connection, verify_key, model, active.version)


async def load(connection: Connection | Pool, verify_key: str, model: ModelName, version: int) -> LoadedModel:
    """Load a version, and check that it is what was registered and signed.

    Raises:
        ModelRefusedError: it is not.
        signing.SigningError: `verify_key` is no key.
    """
    registered = await models.get(connection, model, version)
    if registered is None:
        raise ModelRefusedError(f"version {version} is not registered")
    body = await models.artifact(connection, registered.sha256)
    # In a thread: one with a large vocabulary takes a moment to read, in which others are scored.
    checked = await asyncio.to_thread(checked_artifact, registered, body, verify_key)
    return LoadedModel(registered, checked, datetime.now(UTC))


def checked_artifact(registered: RegisteredModel, body: bytes | None, verify_key: str) -> Artifact:
    """The artifact of a version, from its stored bytes.

    Raises:
        ModelRefusedError: hash, signature or content are not what was registered.
    """
    version = registered.version
    if not digest_is(registered.sha256, body):
        raise ModelRefusedError(f"the artifact of version {version} has another hash than was registered")
    assert body is not None, "what has the hash is there"
    signature = bytes.fromhex(registered.signature)
    if not signing.verify(verify_key, signature, registered.model, version, registered.sha256):
        raise ModelRefusedError(f"the signature of version {version} was not made by the key of MODEL_VERIFY_KEY")
    try:
        parsed = artifact.read_artifact(body)
    except artifact.ArtifactError as error:
        raise ModelRefusedError(f"version {version} cannot be read by this code: {error}") from None
    if (parsed.model, parsed.version) != (registered.model, version):
        raise ModelRefusedError(f"the artifact of version {version} is that of another model or version")
    return parsed


def digest_is(sha256: Sha256, body: bytes | None) -> bool:
    """Whether stored bytes are those that were registered."""
    return body is not None and sha256_hex(body) == sha256


async def drift_score(connection: Connection | Pool, loaded: LoadedModel) -> float:
    """How far the leads scored last are from those of the training, in its standard deviations; 0 without data."""
    if not isinstance(loaded.artifact, artifact.LeadArtifact):
        return 0.0
    rows = await leads.last_scored(connection, drift.WINDOW)
    return drift.drift_score(loaded.artifact.feature_stats, drift.columns(rows))
