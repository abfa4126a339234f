"""Settings of a worker, from the environment or an env file. A bad value is one sentence, before anything starts."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import DirectoryPath, Field, SecretStr, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from domain.steps import Role
from prompts.loader import BUNDLED

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
    return settings


def _fault(kind: str, message: str) -> str:
    return "missing" if kind == "missing" else f"bad ({message})"
