"""Personal data in what people type, replaced by tokens before anything is stored."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from cli.context import CliSettings
from cli.output import CommandError

if TYPE_CHECKING:
    from domain.redaction import Redactor


def redactor(configured: CliSettings) -> "Redactor":
    """The redactor of PII_HASH_KEY and PII_PATTERNS.

    Raises:
        CommandError: the key is missing, or one of them cannot be used.
    """
    # Only commands that take in text pay for loading its patterns.
    from workers.settings import SettingsError, redactor_of

    if configured.pii_hash_key is None:
        raise CommandError("PII_HASH_KEY is missing: set it, see .env.example, or start the stack with `clotho up`.")
    try:
        return redactor_of(configured.pii_hash_key.get_secret_value(), configured.pii_patterns)
    except SettingsError as error:
        raise CommandError(f"{error}.") from None


def redacting(configured: CliSettings) -> Callable[[str], str]:
    """What a text is stored as; where there is no PII_HASH_KEY, as it was typed."""
    if configured.pii_hash_key is None:
        return lambda text: text
    one = redactor(configured)
    return lambda text: one.redact(text).text
