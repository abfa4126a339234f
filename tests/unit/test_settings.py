"""A setting that is missing or bad is one sentence that names it, before anything starts."""

from pathlib import Path

import pytest

from cli.context import env_file
from cli.context import settings as cli_settings
from cli.output import CommandError
from domain import signing
from domain.steps import Role
from workers.settings import SettingsError, WorkerSettings, load

SIGNING_KEY = "11" * 32

COMPLETE = {
    "DATABASE_URL": "postgresql://clotho:word@127.0.0.1/clotho",
    "OPENAI_API_KEY": "sk-secret",
    "SOLANA_RPC_URL": "http://127.0.0.1:8899",
    "PUBLISHER_WALLET_SECRET": "secret-of-the-publisher",
    "RESOLVER_WALLET_SECRET": "secret-of-the-resolver",
    "MODEL_SIGNING_KEY": SIGNING_KEY,
    "MODEL_VERIFY_KEY": signing.public_key(SIGNING_KEY),
    "REDIS_URL": "redis://127.0.0.1:6379/0",
    "PII_HASH_KEY": "5e" * 32,
}


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*WorkerSettings.model_fields, "clotho_env_file", "clotho_data_dir", "clotho_identity"]:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def given(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


def test_a_complete_set(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, **COMPLETE)
    settings = load(tuple(Role))
    assert settings.health_port == 9090
    assert settings.openai_base_url == "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("missing", "roles"),
    [
        ("DATABASE_URL", tuple(Role)),
        ("OPENAI_API_KEY", (Role.LLM,)),
        ("SOLANA_RPC_URL", (Role.CHAIN,)),
        ("PUBLISHER_WALLET_SECRET", (Role.CHAIN,)),
        ("RESOLVER_WALLET_SECRET", (Role.CHAIN,)),
        ("MODEL_SIGNING_KEY", (Role.TRAINING,)),
        ("MODEL_VERIFY_KEY", (Role.TRAINING,)),
        ("REDIS_URL", (Role.PRIVACY,)),
        ("PII_HASH_KEY", (Role.PRIVACY,)),
    ],
)
def test_a_role_needs_its_own_settings_and_no_others(
    monkeypatch: pytest.MonkeyPatch, missing: str, roles: tuple[Role, ...]
) -> None:
    given(monkeypatch, **{name: value for name, value in COMPLETE.items() if name != missing})
    for role in Role:
        if role in roles:
            with pytest.raises(SettingsError, match=rf"^{missing} is missing: .*see \.env\.example$"):
                load((role,))
        else:
            load((role,))


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("MODEL_SIGNING_KEY", "not-hex", "MODEL_SIGNING_KEY is bad"),
        ("MODEL_VERIFY_KEY", "22" * 32, "MODEL_VERIFY_KEY is not the public key of MODEL_SIGNING_KEY"),
    ],
)
def test_what_is_signed_can_be_verified(monkeypatch: pytest.MonkeyPatch, name: str, value: str, what: str) -> None:
    given(monkeypatch, **COMPLETE | {name: value})
    with pytest.raises(SettingsError, match=f"^{what}"):
        load((Role.TRAINING,))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TEMPORAL_ADDRESS", "http://temporal:7233"),
        ("TEMPORAL_ADDRESS", "temporal"),
        ("HEALTH_PORT", "ninety"),
        ("HEALTH_PORT", "70000"),
        ("LOG_LEVEL", "loud"),
        ("SOURCES_CONNECT_TO", "site"),
    ],
)
def test_a_bad_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    given(monkeypatch, **COMPLETE, **{name: value})
    with pytest.raises(SettingsError, match=rf"^{name} is bad \(.*\): set it, see \.env\.example$"):
        load(tuple(Role))


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("DATABASE_URL=postgresql://from-the-file\nLOG_LEVEL=debug\n")
    given(monkeypatch, LOG_LEVEL="error")
    settings = load((Role.ORCHESTRATOR,), file)
    assert (settings.database_url.get_secret_value(), settings.log_level) == ("postgresql://from-the-file", "error")


def test_no_secret_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, **COMPLETE)
    shown = repr(load(tuple(Role)))
    assert not any(word in shown for word in ("word@", "sk-secret", "secret-of"))


def test_the_command_line_reads_what_up_wrote(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".clotho").mkdir()
    (tmp_path / ".clotho" / "env").write_text("DATABASE_URL=postgresql://here\n")
    assert cli_settings().database_url.get_secret_value() == "postgresql://here"
    monkeypatch.setenv("CLOTHO_DATA_DIR", str(tmp_path / "elsewhere"))
    assert env_file() == tmp_path / "elsewhere" / "env"
    with pytest.raises(CommandError, match=r"^DATABASE_URL is missing or bad: .*`clotho up`.*\.env\.example\.$"):
        cli_settings()
    monkeypatch.setenv("DATABASE_URL", "")
    with pytest.raises(CommandError, match=r"^DATABASE_URL is missing"):
        cli_settings()


def test_who_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, DATABASE_URL="postgresql://here", CLOTHO_IDENTITY="reviewer-7")
    assert cli_settings().identity == "reviewer-7"
    monkeypatch.setenv("CLOTHO_IDENTITY", "r" * 101)
    with pytest.raises(CommandError, match=r"^CLOTHO_IDENTITY is missing or bad"):
        cli_settings()


def test_the_example_names_every_setting() -> None:
    text = (Path(__file__).parents[2] / ".env.example").read_text("utf-8")
    named = {line.lstrip("# ").partition("=")[0] for line in text.splitlines() if "=" in line}
    assert {name.upper() for name in WorkerSettings.model_fields} <= named
