"""Handlers in AWS's own emulator of Lambda's runtime interface."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from http_event import REQUEST
from moto_server import MotoServer
from runtime_emulator import Emulator

HANDLERS = Path(__file__).parent / "lambda_handlers"
VALUE = "canary-hunter2"


@pytest.fixture
def moto(moto_server: MotoServer, aws_environment: pytest.MonkeyPatch) -> MotoServer:
    moto_server.create("prod/api", VALUE)
    return moto_server


@pytest.fixture
def emulate(emulator_program: Path) -> Callable[..., Emulator]:
    """Starts a function in the emulator."""

    def start(handler: str, **options: Any) -> Emulator:
        return Emulator(emulator_program, handler, HANDLERS, **options)

    return start


def test_one_call_for_an_environment(moto: MotoServer, emulate: Callable[..., Emulator]) -> None:
    """It is made within INIT."""
    with emulate("emulated.handler") as emulator:
        texts = [emulator.invoke()[0] for _ in range(3)]

    assert texts == [VALUE] * 3
    assert moto.calls() == 1
    assert "INIT RTDONE(status: success)" in emulator.log
    assert VALUE not in emulator.log


def test_after_a_timeout_the_new_environment_fetches_anew(moto: MotoServer, emulate: Callable[..., Emulator]) -> None:
    """The old one is killed, and INIT runs within the next invocation."""
    with emulate("emulated.handler", timeout=3) as emulator:
        _, first = emulator.invoke()
        assert emulator.invoke(30.0) == "Task timed out after 3.00 seconds"
        text, second = emulator.invoke()

    assert (text, first != second) == (VALUE, True)
    assert moto.calls() == 2
    assert "phase: invoke" in emulator.log


@pytest.mark.usefixtures("hung_endpoint")
@pytest.mark.parametrize("way", ["decorated", "mangum"])
def test_a_hung_endpoint_is_no_timeout(emulate: Callable[..., Emulator], way: str) -> None:
    """The function answers for itself. The emulator counts INIT as well, so nothing is prefetched in it."""
    handler = f"entry_points.{way}"
    with emulate(handler, timeout=4, environ={"_HANDLER": handler, "WITHOUT_PREFETCH": "1"}) as emulator:
        answer = emulator.invoke(REQUEST)
        assert isinstance(answer, dict), answer
        assert answer.get("errorType") == "SecretUnavailableError" or answer["statusCode"] == 500

    assert "Task timed out" not in emulator.log


@pytest.fixture
def put_into_opt(tmp_path: Path) -> Callable[[str, str], tuple[str, ...]]:
    """Returns the command by which a program runs with an executable file in an /opt of its own."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("the emulator looks into /opt, and this machine gives no process an /opt of its own: unshare -m")

    def put(name: str, text: str) -> tuple[str, ...]:
        file = tmp_path / Path(name).name
        file.write_text(text, encoding="utf-8")
        file.chmod(0o755)
        script = f"mount -t tmpfs none /opt && mkdir -p $(dirname /opt/{name}) && cp {file} /opt/{name}"
        return (unshare, "-m", "sh", "-c", f'{script} && exec "$0" "$@"')

    return put


EXTENSION = f"""#!{sys.executable} -I
import http.client, os
host = os.environ["AWS_LAMBDA_RUNTIME_API"]
connection = http.client.HTTPConnection(host)
headers = {{"Lambda-Extension-Name": "extension", "Content-Type": "application/json"}}
connection.request("POST", "/2020-01-01/extension/register", '{{"events": ["INVOKE"]}}', headers)
registered = connection.getresponse()
registered.read()
headers = {{"Lambda-Extension-Identifier": registered.headers["Lambda-Extension-Identifier"]}}
while True:
    connection.request("GET", "/2020-01-01/extension/event/next", headers=headers)
    connection.getresponse().read()
    print("the extension saw an event", flush=True)
"""


def test_beside_an_extension(
    moto: MotoServer, emulate: Callable[..., Emulator], put_into_opt: Callable[[str, str], tuple[str, ...]]
) -> None:
    """As the Parameters and Secrets extension stands beside functions."""
    with emulate("emulated.handler", prefix=put_into_opt("extensions/extension", EXTENSION)) as emulator:
        assert [emulator.invoke()[0] for _ in range(2)] == [VALUE] * 2

    assert moto.calls() == 1
    assert "the extension saw an event" in emulator.log
