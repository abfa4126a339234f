"""`clotho worker`: run the workers of some roles, or of all, in one process."""

from pathlib import Path
from typing import Annotated

import typer

from cli.context import as_command_error, env_file
from cli.output import CommandError, Exit, fail
from domain.steps import Role


def worker(
    role: Annotated[
        list[Role] | None, typer.Option("--role", help="Only this role; repeat it for several. Left out: all.")
    ] = None,
    env: Annotated[
        Path | None, typer.Option("--env-file", help="Settings not in the environment are read from this file.")
    ] = None,
) -> None:
    """Run workers until SIGTERM or ctrl-C; running steps get 20 s to finish.

    Serves /health, /ready and /metrics on HEALTH_PORT. Settings are listed in .env.example.
    """
    # Only this command pays for loading every client library.
    from workers.main import main
    from workers.settings import SettingsError, load
    from workers.versions import StartError

    roles = tuple(dict.fromkeys(role or list(Role)))
    try:
        settings = load(roles, env or env_file())
    except SettingsError as error:
        fail(CommandError(f"{error}.", Exit.USAGE), as_json=False)
    try:
        main(roles, settings)
    except StartError as error:
        fail(CommandError(f"{error}.", Exit.FAILED), as_json=False)
    except Exception as error:
        sentence = as_command_error(error)
        if sentence is None:
            raise
        fail(sentence, as_json=False)
