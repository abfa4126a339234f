"""Settings of a worker, from the environment or an env file. A bad value is one sentence, before anything starts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import DirectoryPath, Field, SecretStr, StringConstraints, TypeAdapter, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from domain import signing
from domain.steps import Role
from prompts.loader import BUNDLED

if TYPE_CHECKING:
    from domain.redaction import Redactor

HostPort = Annotated[str, StringConstraints(pattern=r"^[^\s:/]+:\d{1,5}$")]


class SettingsError(ValueError):
    """A setting is missing or bad; the message names it."""


class WorkerSettings(BaseSettings):
    """Names as the runbooks have them; `.env.example` explains each. Only roles that run need theirs."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    database_url: SecretStr
    temporal_address: HostPort = "127.0.0.1:7233"
    temporal_namespace: str = "default"
    openai_api_key: SecretStr | None = None
    openai_base_url: str = "https://api.openai.com/v1"
    prompts_dir: DirectoryPath = BUNDLED
    solana_rpc_url: str | None = None
    publisher_wallet_secret: SecretStr | None = None
    resolver_wallet_secret: SecretStr | None = None
    model_signing_key: SecretStr | None = None
    model_verify_key: str | None = None
    feedback_batch_size: Annotated[int, Field(ge=1, le=10_000)] = 100
    retraining_threshold: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    smtp_url: SecretStr | None = None
    email_from: Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$")] = "clotho@clotho.example"
    sms_api_url: str | None = None
    sms_api_key: SecretStr | None = None
    whatsapp_api_url: str | None = None
    whatsapp_api_key: SecretStr | None = None
    webhook_stand_in_url: str | None = None
    redis_url: SecretStr | None = None
    pii_hash_key: SecretStr | None = None
    pii_patterns: str = "[]"
    market_uri_base: str = "https://clotho.example/api/v1/markets"
    sources_connect_to: HostPort | None = None
    sources_ca_file: Path | None = None
    health_host: str = "0.0.0.0"  # noqa: S104 - the orchestrating platform probes from outside
    health_port: Annotated[int, Field(ge=0, le=65_535)] = 9090
    log_level: Literal["debug", "info", "warning", "error"] = "info"


_NEEDED = {
    Role.ORCHESTRATOR: (),
    Role.SOURCES: (),
    Role.LLM: ("openai_api_key",),
    Role.CHAIN: ("solana_rpc_url", "publisher_wallet_secret", "resolver_wallet_secret"),
    Role.TRAINING: ("model_signing_key", "model_verify_key"),
    Role.CHANNELS: (),
    Role.PRIVACY: ("redis_url", "pii_hash_key"),
}
"""What a role cannot do without, beyond the database and Temporal."""


def load(roles: tuple[Role, ...], env_file: Path | None = None) -> WorkerSettings:
    """The settings for workers of `roles`.

    Raises:
        SettingsError: names the first setting that is missing or bad, and what to do.
    """
    try:
        settings = WorkerSettings(_env_file=env_file)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).upper()
        raise SettingsError(f"{name} is {_fault(first['type'], first['msg'])}: set it, see .env.example") from None
    for role in roles:
        for name in _NEEDED[role]:
            if getattr(settings, name) is None:
                raise SettingsError(f"{name.upper()} is missing: the role {role} needs it, see .env.example")
    if Role.PRIVACY in roles:
        redactor_of(_text(settings.pii_hash_key), settings.pii_patterns)
    if Role.TRAINING in roles:
        _check_keys(_text(settings.model_signing_key), settings.model_verify_key or "")
    return settings


def _check_keys(signing_key: str, verify_key: str) -> None:
    """Make sure that what is signed here can be verified."""
    try:
        public = signing.public_key(signing_key)
    except signing.SigningError:
        raise SettingsError(
            "MODEL_SIGNING_KEY is bad (no 64 hexadecimal digits): draw one as in .env.example"
        ) from None
    if public != verify_key:
        raise SettingsError("MODEL_VERIFY_KEY is not the public key of MODEL_SIGNING_KEY: set it, see .env.example")


def redactor_of(key: str, patterns: str) -> "Redactor":
    """The redactor of PII_HASH_KEY and PII_PATTERNS.

    Raises:
        SettingsError: the key is too short, or a pattern cannot be used; none is left out.
    """
    from domain.redaction import ExtraPattern, Redactor  # its patterns take a while to load

    try:
        extra = TypeAdapter(list[ExtraPattern]).validate_json(patterns)
    except ValidationError as error:
        why = error.errors()[0]["msg"]
        raise SettingsError(f"PII_PATTERNS is bad ({why}): write it as in .env.example") from None
    try:
        return Redactor(key.encode(), extra)
    except ValueError as error:
        raise SettingsError(str(error).rstrip(".")) from None


def _text(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""


def _fault(kind: str, message: str) -> str:
    return "missing" if kind == "missing" else f"bad ({message})"
