"""Handlers in AWS's own emulator of Lambda's runtime interface."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from http_event import REQUEST
from moto_server import MotoServer
from runtime_emulator import Emulator

HANDLERS = Path(__file__).parent / "lambda_handlers"
VALUE = "canary-hunter2"
#: Seconds of an invocation that runs out of them. On a loaded machine INIT, which counts, takes several. By itself a
#: fetch of a hung endpoint ends after three attempts of 3 s.
LIMIT = 8


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
    with emulate("emulated.handler", timeout=LIMIT) as emulator:
        _, first = emulator.invoke()
        assert emulator.invoke(60.0) == f"Task timed out after {LIMIT}.00 seconds"
        text, second = emulator.invoke()

    assert (text, first != second) == (VALUE, True)
    assert moto.calls() == 2
    assert "phase: invoke" in emulator.log


@pytest.mark.usefixtures("hung_endpoint")
@pytest.mark.parametrize("way", ["decorated", "mangum"])
def test_a_hung_endpoint_is_no_timeout(emulate: Callable[..., Emulator], way: str) -> None:
    """The function answers for itself. The emulator counts INIT as well, so nothing is prefetched in it."""
    handler = f"entry_points.{way}"
    with emulate(handler, timeout=LIMIT, environ={"_HANDLER": handler, "WITHOUT_PREFETCH": "1"}) as emulator:
        answer = emulator.invoke(REQUEST)
        assert isinstance(answer, dict), answer
        assert answer.get("errorType") == "SecretUnavailableError" or answer["statusCode"] == 500

    assert "Task timed out" not in emulator.log


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
    moto: MotoServer, emulate: Callable[..., Emulator], with_opt: Callable[[str], tuple[str, ...]], tmp_path: Path
) -> None:
    """As the Parameters and Secrets extension stands beside functions."""
    file = tmp_path / "extension"
    file.write_text(EXTENSION, encoding="utf-8")
    put = f"mkdir /opt/extensions; install -m 755 {file} /opt/extensions/extension"
    with emulate("emulated.handler", prefix=with_opt(put)) as emulator:
        assert [emulator.invoke()[0] for _ in range(2)] == [VALUE] * 2

    assert moto.calls() == 1
    assert "the extension saw an event" in emulator.log


# The emulator starts it in /var/task, not the command that it is given, and as a user who may not be able to read the
# interpreter, its packages and the checkout where they lie.
BOOTSTRAP = """#!/bin/sh
export PYTHONPATH=/var/task:/opt/packages LD_LIBRARY_PATH=/opt/python/lib
exec /opt/python/bin/python3 -P -m awslambdaric emulated.handler
"""


def test_the_workers_of_a_managed_instance_pay_one_call_each(
    moto: MotoServer, emulate: Callable[..., Emulator], with_opt: Callable[[str], tuple[str, ...]], tmp_path: Path
) -> None:
    """Each has a process for itself, and an INIT."""
    workers = 3
    (tmp_path / "bootstrap").write_text(BOOTSTRAP, encoding="utf-8")
    put = f"""
install -m 755 {tmp_path}/bootstrap /opt/bootstrap
mkdir /opt/python /opt/packages /opt/handlers
mount --bind {sys.base_prefix} /opt/python
mount --bind {sysconfig.get_path("purelib")} /opt/packages
mount --bind {HANDLERS} /opt/handlers
mount -t tmpfs none /var
mkdir /var/task
mount --bind /opt/handlers /var/task
"""
    environ = {"AWS_LAMBDA_MAX_CONCURRENCY": str(workers)}
    with emulate("emulated.handler", environ=environ, prefix=with_opt(put)) as emulator:
        processes: set[int] = set()
        for _ in range(50):  # until the last worker has initialised itself
            with ThreadPoolExecutor(workers) as threads:
                answers = list(threads.map(emulator.invoke, [0.1] * workers))
            assert {text for text, _ in answers} == {VALUE}
            processes.update(process for _, process in answers)
            if len(processes) == workers:
                break

    assert len(processes) == workers
    assert moto.calls() == workers
    assert emulator.log.count("path=/opt/bootstrap") == 1  # whose runtime client starts the workers
    assert VALUE not in emulator.log
