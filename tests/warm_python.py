"""Scripts in processes of their own in which the SDK is imported already; a pytest plugin, and a program.

The program imports the SDK once, which takes longer than most scripts, and forks for each script.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest


class Ended(NamedTuple):
    """How a script ended, and what it wrote."""

    status: int
    stdout: str
    stderr: str


class WarmPython:
    """Runs scripts, one after the other.

    Args:
        folder: for what they write.
    """

    def __init__(self, folder: Path) -> None:
        self._written = folder / "stdout", folder / "stderr"
        # Mangum asks for the current loop, of which Python 3.12 warns where there is none.
        warnings = ("-W", "error", "-W", "ignore:There is no current event loop:DeprecationWarning")
        self._program = subprocess.Popen(
            [sys.executable, "-P", *warnings, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def run(self, script: str, cwd: Path) -> Ended:
        """Run a script in a folder, where it may import, with the variables of this process; warnings are errors."""
        assert self._program.stdin
        assert self._program.stdout
        job = [script, str(cwd), dict(os.environ), [str(path) for path in self._written]]
        self._program.stdin.write(json.dumps(job) + "\n")
        status = self._program.stdout.readline()
        return Ended(int(status), *(path.read_text(encoding="utf-8") for path in self._written))

    def close(self) -> None:
        """End the program."""
        self._program.communicate()


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPython]:
    """Runs scripts."""
    python = WarmPython(tmp_path_factory.mktemp("warm"))
    yield python
    python.close()


def _fork_for_each_line() -> str | None:
    """Return a script in a fork, and in the program itself nothing, at the end of its input."""
    for line in sys.stdin:
        pid = os.fork()
        if pid:
            sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
            sys.stdout.flush()
            continue
        script: str
        script, cwd, environ, written = json.loads(line)
        signal.alarm(60)
        os.environ.clear()
        os.environ.update(environ)
        os.chdir(cwd)
        sys.path.insert(0, cwd)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, path in enumerate(written, start=1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        return script
    return None


if __name__ == "__main__":
    import aioboto3  # noqa: F401  # that is what it is for

    gc.freeze()
    if found := _fork_for_each_line():
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(found, "<script>", "exec"), vars(main))
