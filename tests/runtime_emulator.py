"""AWS's own Runtime Interface Emulator, which is in the wheel of aws-sam-cli; a pytest plugin.

It does what lambda_local does not: INIT with the first invocation, time-outs and a new INIT after one, extensions. It
neither freezes an environment nor restores a snapshot; lambda_local does.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest

#: Where `make test` has downloaded it to, beside the environment that runs the tests.
FOLDER = Path(sys.prefix) / "emulator"
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
_PATH = "2015-03-31/functions/function/invocations"


@pytest.fixture(scope="session")
def emulator_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program; the test is skipped where it can't be had or can't run."""
    program = find_emulator(tmp_path_factory.mktemp("emulator"))
    return pytest.skip(program) if isinstance(program, str) else program


def find_emulator(place: Path) -> Path | str:
    """Return the program, put into a folder; or why there is none."""
    wheels = sorted(FOLDER.glob("aws_sam_cli-*.whl"))
    machine = _MACHINES.get(platform.machine().lower())
    if not wheels or machine is None or sys.platform != "linux":
        return (
            f"AWS's Runtime Interface Emulator is for Linux on x86_64 and arm64, and taken from {FOLDER}: "
            f"python -m pip download --no-deps --dest {FOLDER} aws-sam-cli"
        )
    program = place / "aws-lambda-rie"
    with zipfile.ZipFile(wheels[-1]) as wheel:
        program.write_bytes(wheel.read(f"samcli/local/rapid/aws-lambda-rie-{machine}"))
    program.chmod(0o755)
    return program


@pytest.fixture
def with_opt() -> Callable[[str], tuple[str, ...]]:
    """Returns the command by which a program runs with an /opt of its own, in which a script has put something."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("the emulator looks into /opt, and this machine gives no process an /opt of its own: unshare -m")

    def command(script: str) -> tuple[str, ...]:
        return (unshare, "-m", "sh", "-ec", f'mount -t tmpfs none /opt\n{script}\nexec "$0" "$@"')

    return command


class Emulator(AbstractContextManager["Emulator"]):
    """A function in the emulator; a context manager.

    Args:
        program: the emulator.
        handler: as Lambda has it, ``module.function``.
        folder: where the module lies.
        timeout: seconds that an invocation has.
        environ: variables of the function.
        prefix: a command that starts the emulator.
        python_options: of the interpreter.
    """

    def __init__(
        self,
        program: Path,
        handler: str,
        folder: Path,
        *,
        timeout: int = 30,
        environ: Mapping[str, str] | None = None,
        prefix: tuple[str, ...] = (),
        python_options: tuple[str, ...] = ("-P",),
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as invoked, socket.create_server(("127.0.0.1", 0)) as asked:
            port, api_port = invoked.getsockname()[1], asked.getsockname()[1]
        self._address = ("127.0.0.1", port)
        self._url = f"http://127.0.0.1:{port}/{_PATH}"
        addresses = ["--runtime-interface-emulator-address", f"127.0.0.1:{port}"]
        addresses += ["--runtime-api-address", f"127.0.0.1:{api_port}"]
        command = [*prefix, str(program), *addresses, sys.executable, *python_options, "-m", "awslambdaric", handler]
        variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_LAMBDA_")},
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])),
            **(environ or {}),
        }
        self._process = subprocess.Popen(
            command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.log = ""

    def invoke(self, event: Any = None, *, seconds: float = 60) -> Any:
        """Return what the function reported; text that isn't JSON, such as of a time-out, as it is.

        Where no worker of a Managed Instance is free, wait for one.
        """
        self.wait_until_listening()
        while True:
            try:
                with urllib.request.urlopen(self._url, json.dumps(event).encode(), timeout=seconds) as response:
                    text = response.read().decode()
                break
            except urllib.error.HTTPError as exc:
                with exc:
                    if exc.headers["Error-Type"] != "Runtime.Unavailable":
                        raise
                time.sleep(0.05)
        try:
            return json.loads(text)
        except ValueError:
            return text

    def wait_until_listening(self) -> None:
        """Return when the emulator takes invocations; it begins INIT with the first."""
        while self._process.poll() is None:
            with suppress(ConnectionRefusedError), socket.create_connection(self._address):
                return
            time.sleep(0.01)

    def close(self) -> None:
        """End the emulator, and the function with it."""
        self._process.terminate()
        self.log, _ = self._process.communicate(timeout=60)

    def __exit__(self, *_: object) -> None:
        self.close()
