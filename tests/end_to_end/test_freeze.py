"""What Lambda does to processes: it freezes, clones, multiplies and ends them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lambda_local import LambdaEnvironment

from raw_server import GOOD, RawServer

HANDLERS = Path(__file__).parent / "lambda_handlers"
# Seconds of the wall clock that a freeze takes. The value has expired after both; connections are kept over the short
# one and given up after the long one.
SHORT, LONG = 11.0, 600.0


def start(handler: str, **environ: str) -> LambdaEnvironment:
    # So that what a function leaves open or never awaits shows in its log.
    return LambdaEnvironment(f"freezing.{handler}", HANDLERS, {"PYTHONWARNINGS": "error", **environ})


def rotate(server: RawServer) -> None:
    server.answer({**GOOD, "SecretString": "the next value"})


def is_first_attempt(request: bytes) -> bool:
    """Whether the SDK made no attempt before, which would cost its back-off."""
    return b"attempt=1" in request.lower()


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("slept", [SHORT, LONG])
def test_connections_closed_over_a_freeze_cost_nothing(tls_server: RawServer, slept: float, reset: bool) -> None:
    """The next invocation makes one call, at the first attempt, and its log is empty."""
    with start("handler") as environment:
        assert environment.invoke(0).payload[0] == "the value"
        environment.freeze()
        tls_server.drop(reset=reset)
        rotate(tls_server)
        environment.thaw()
        assert environment.invoke(slept).payload[0] == "the next value"

    assert len(tls_server.requests) == 2
    assert is_first_attempt(tls_server.requests[-1])
    assert environment.log == ""


def test_connections_forgotten_over_a_long_freeze_cost_nothing(tls_server: RawServer) -> None:
    """Nothing told the client of their end, so it gives up connections that are as old."""
    with start("handler") as environment:
        assert environment.invoke(0).payload[0] == "the value"
        environment.freeze()
        tls_server.forget()
        rotate(tls_server)
        environment.thaw()
        assert environment.invoke(LONG).payload[0] == "the next value"

    assert len(tls_server.requests) == 2
    assert is_first_attempt(tls_server.requests[-1])
    assert environment.log == ""


def test_a_connection_forgotten_over_a_short_freeze_costs_an_attempt(tls_server: RawServer) -> None:
    """The invocation succeeds by the SDK's second attempt, on a new connection."""
    with start("handler") as environment:
        assert environment.invoke(0).payload[0] == "the value"
        environment.freeze()
        tls_server.forget()
        rotate(tls_server)
        environment.thaw()
        assert environment.invoke(SHORT).payload[0] == "the next value"

    assert [is_first_attempt(request) for request in tls_server.requests] == [True, True, False]
    assert environment.log == ""


def test_a_fetch_that_slept_through_a_freeze_is_not_joined(tls_server: RawServer, tmp_path: Path) -> None:
    """The next invocation starts a fetch of its own, which also answers the caller that waited over the freeze."""
    is_running = tmp_path / "is running"
    tls_server.hang()
    with start("leaving") as environment:
        environment.send(str(is_running))
        tls_server.wait_for_requests(1)
        is_running.touch()
        assert environment.outcome().payload == []
        environment.freeze()
        tls_server.forget()
        tls_server.let_go.set()
        environment.thaw()
        assert environment.invoke(LONG).payload == ["the value", "the value"]

    assert [is_first_attempt(request) for request in tls_server.requests] == [True, True]
    assert environment.log == ""


CLONES = """
import asyncio, os, random, sys
sys.path.append(sys.argv[1])
from observe import entry
from asecretcache import SecretCache
from asecretcache.testing import InMemorySource, ManualClock

cache = SecretCache(InMemorySource({"name": "value"}), ttl=1000.0, jitter=0.5, clock=ManualClock(0.0))
for _ in range(8):
    read, write = os.pipe()
    if not os.fork():
        # A fork gives its child another seed; a snapshot gives all clones the same.
        random.seed(1)
        asyncio.run(cache.get_secret("name"))
        os.write(write, str(entry(cache, "name").expires_at).encode())
        os._exit(0)
    os.wait()
    print(os.read(read, 100).decode())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_the_clones_of_a_snapshot_expire_at_different_times() -> None:
    """Their expiries differ although the state of Python's random generators is the same in all clones."""
    command = [sys.executable, "-P", "-W", "error", "-c", CLONES, str(HANDLERS.parents[1])]
    clones = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)

    expiries = [float(line) for line in clones.stdout.split()]
    assert len(set(expiries)) == 8
    assert all(500 <= expiry <= 1000 for expiry in expiries)


def test_the_workers_of_a_managed_instance_pay_one_call_each(tls_server: RawServer) -> None:
    """The runtime client forks the workers before it imports the handler, so they share nothing."""
    tls_server.hang()
    with start("handler", AWS_LAMBDA_MAX_CONCURRENCY="4", FETCH_TIMEOUT="30") as environment:
        for _ in range(4):
            environment.send(0)
        # No worker gets a response before all have asked, so each event is in a worker of its own.
        tls_server.wait_for_requests(4)
        tls_server.let_go.set()
        first = [environment.outcome().payload for _ in range(4)]
        second = [environment.invoke(0).payload for _ in range(8)]

    assert {value for value, _ in first + second} == {"the value"}
    assert len({worker for _, worker in first}) == 4
    assert len(tls_server.requests) == 4
    assert environment.log == ""


@pytest.mark.parametrize(("how", "status"), [("", -signal.SIGTERM), ("loop", 0)], ids=["system", "loop"])
def test_sigterm_within_an_invocation_ends_the_process_quietly(tls_server: RawServer, how: str, status: int) -> None:
    """While a fetch runs, by the system or by the function's own signal handler on the loop."""
    tls_server.hang()
    with start("handler", ON_SIGTERM=how) as environment:
        environment.send(0)
        tls_server.wait_for_requests(1)
        environment.process.send_signal(signal.SIGTERM)
        assert environment.process.wait(30) == status

    assert environment.log == ""


def test_sigterm_between_invocations_ends_the_process_quietly(tls_server: RawServer) -> None:
    """With open connections, by the function's own signal handler."""
    with start("handler", ON_SIGTERM="signal") as environment:
        environment.invoke(0)
        environment.process.send_signal(signal.SIGTERM)
        # A runtime client that waits for it in its main thread sees the signal when there is an event.
        environment.send(0)
        assert environment.process.wait(30) == 0

    assert environment.log == ""
