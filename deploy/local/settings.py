"""What can be set about the embedded stack, and the secrets that it draws for itself."""

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from solders.keypair import Keypair

from deploy.local.supervisor import StackError
from domain import signing
from domain.base import Model

SCRIPTED_MODEL_KEY = "embedded-scripted-model"
"""Stands for an API key where the embedded model answers, so that nobody takes its answers for a real model's."""

Port = Annotated[int, Field(ge=1, le=65_535)]


class StackSettings(BaseSettings):
    """Read from the environment: each name below with CLOTHO_ before it, but HEALTH_PORT and OPENAI_API_KEY as such."""

    model_config = SettingsConfigDict(env_prefix="CLOTHO_", frozen=True, env_ignore_empty=True, validate_by_name=True)

    data_dir: Path = Path(".clotho")
    """Everything that the stack keeps."""
    postgres_port: Port = 15_432
    valkey_port: Port = 16_379
    temporal_port: Port = 7233
    temporal_ui_port: Port = 8233
    solana_port: Port = 8899
    llm_port: Port = 8898
    site_port: Port = 8443
    sinks_port: Port = 8896
    """What follow-ups are sent to over HTTP."""
    smtp_port: Port = 8825
    health_port: Annotated[Port, Field(validation_alias="HEALTH_PORT")] = 9090
    """Where the workers serve health and metrics."""
    site_data_dir: Path | None = None
    """What the source site serves (series.jsonl and questions.jsonl); None: the bundled data."""
    openai_api_key: Annotated[SecretStr | None, Field(validation_alias="OPENAI_API_KEY")] = None
    """A real key: the workers use it, and the scripted model stays out."""

    @property
    def scripted_model(self) -> bool:
        """Whether the embedded model answers, because no real key is set."""
        return self.openai_api_key is None or self.openai_api_key.get_secret_value() == SCRIPTED_MODEL_KEY


def load_settings() -> StackSettings:
    """The settings of this environment, with an absolute data folder.

    Raises:
        StackError: a value is bad; the sentence names it.
    """
    try:
        settings = StackSettings()
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        name = field.upper() if field.isupper() else f"CLOTHO_{field.upper()}"
        raise StackError(f"{name} is {first['input']!r}: {first['msg']}; correct it or unset it") from error
    return settings.model_copy(update={"data_dir": settings.data_dir.expanduser().absolute()})


class StackSecrets(Model):
    """Drawn once for a data folder; they open nothing outside it."""

    postgres_superuser_password: SecretStr
    postgres_password: SecretStr
    publisher_wallet_secret: SecretStr
    """Base58 of the 64 bytes of an Ed25519 key pair, as Solana's tools write it."""
    resolver_wallet_secret: SecretStr
    model_signing_key: SecretStr
    """Hex of an Ed25519 private key, with which model versions are signed."""
    pii_hash_key: SecretStr
    """Under which the tokens that stand for PII are hashed."""


_DRAWN: dict[str, Callable[[], str]] = {
    "postgres_superuser_password": lambda: secrets.token_hex(24),
    "postgres_password": lambda: secrets.token_hex(24),
    "publisher_wallet_secret": lambda: str(Keypair()),
    "resolver_wallet_secret": lambda: str(Keypair()),
    "model_signing_key": signing.draw_key,
    "pii_hash_key": lambda: secrets.token_hex(32),
}


def load_secrets(folder: Path) -> StackSecrets:
    """The secrets of the data folder, each drawn at the first call that needs it."""
    file = folder / "secrets.json"
    kept = json.loads(file.read_text("utf-8")) if file.exists() else {}
    # A folder of an older version has fewer.
    if missing := _DRAWN.keys() - kept.keys():
        write_private(file, json.dumps(kept | {name: _DRAWN[name]() for name in sorted(missing)}, indent=2))
    return StackSecrets.model_validate_json(file.read_text("utf-8"))


def write_private(file: Path, text: str) -> None:
    """Replace `file`, whole or not at all, readable by its owner only."""
    partial = file.with_name(f"{file.name}.partial")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
    partial.replace(file)
