"""What Lambda does to processes: freezing them, cloning them, starting many at once, and ending them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lambda_local import LambdaEnvironment

from raw_server import GOOD, RawServer

HANDLERS = Path(__file__).parent / "lambda_handlers"
# Seconds that the wall clock passes over a freeze. The value is expired after either; the connections are trusted after
# the one and given up after the other.
SHORT, LONG = 11.0, 600.0


def start(handler: str, **environ: str) -> LambdaEnvironment:
    # What a function leaves open or unawaited is to show in its log.
    return LambdaEnvironment(f"freezing.{handler}", HANDLERS, {"PYTHONWARNINGS": "error", **environ})


def rotate(server: RawServer) -> None:
    server.answer({**GOOD, "SecretString": "the next value"})


def is_first_attempt(request: bytes) -> bool:
    """Whether the SDK had not tried before, which costs its back-off."""
    return b"attempt=1" in request.lower()


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("slept", [SHORT, LONG])
def test_connections_that_were_closed_over_a_freeze_cost_nothing(
    tls_server: RawServer, slept: float, reset: bool
) -> None:
    """The invocation after it makes one call, at the first attempt, and there is no complaint."""
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


def test_connections_that_were_forgotten_over_a_long_freeze_cost_nothing(tls_server: RawServer) -> None:
    """Nobody told of their end, so they are given up unasked."""
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


def test_a_connection_that_was_forgotten_over_a_short_freeze_costs_an_attempt(tls_server: RawServer) -> None:
    """The invocation succeeds by the SDK's next one, on a new connection."""
    with start("handler") as environment:
        assert environment.invoke(0).payload[0] == "the value"
        environment.freeze()
        tls_server.forget()
        rotate(tls_server)
        environment.thaw()
        assert environment.invoke(SHORT).payload[0] == "the next value"

    assert [is_first_attempt(request) for request in tls_server.requests] == [True, True, False]
    assert environment.log == ""


def test_a_flight_that_slept_through_a_freeze_is_not_joined(tls_server: RawServer, tmp_path: Path) -> None:
    """The next invocation starts one of its own, which also answers the one whom the freeze kept waiting."""
    in_the_air = tmp_path / "in the air"
    tls_server.hang()
    with start("leaving") as environment:
        environment.send(str(in_the_air))
        tls_server.wait_for_requests(1)
        in_the_air.touch()
        assert environment.outcome().payload == []
        environment.freeze()
        tls_server.forget()
        tls_server.let_go.set()
        environment.thaw()
        assert environment.invoke(LONG).payload == ["the value", "the value"]

    assert [is_first_attempt(request) for request in tls_server.requests] == [True, True]
    assert environment.log == ""


CLONES = """
import asyncio, os, random
from asecretcache import SecretCache
from asecretcache.testing import InMemorySource, ManualClock

cache = SecretCache(InMemorySource({"name": "value"}), ttl=1000.0, jitter=0.5, clock=ManualClock(0.0))
for _ in range(8):
    read, write = os.pipe()
    if not os.fork():
        # A fork gives its child another seed; a snapshot gives all clones the same.
        random.seed(1)
        asyncio.run(cache.get_secret("name"))
        os.write(write, str(cache._entries["name"].expires_at).encode())
        os._exit(0)
    os.wait()
    print(os.read(read, 100).decode())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_the_clones_of_a_snapshot_expire_at_different_times() -> None:
    """Though the state of Python's random generators is the same in all of them."""
    command = [sys.executable, "-P", "-W", "error", "-c", CLONES]
    clones = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)

    expiries = [float(line) for line in clones.stdout.split()]
    assert len(set(expiries)) == 8
    assert all(500 <= expiry <= 1000 for expiry in expiries)


def test_the_workers_of_a_managed_instance_pay_one_call_each(tls_server: RawServer) -> None:
    """The runtime client forks them before it imports the handler; they start together and share nothing."""
    tls_server.hang()
    with start("handler", AWS_LAMBDA_MAX_CONCURRENCY="4", FETCH_TIMEOUT="30") as environment:
        for _ in range(4):
            environment.send(0)
        # None has its answer before all have asked, so each of the events is in a worker of its own.
        tls_server.wait_for_requests(4)
        tls_server.let_go.set()
        first = [environment.outcome().payload for _ in range(4)]
        second = [environment.invoke(0).payload for _ in range(8)]

    assert {value for value, _ in first + second} == {"the value"}
    assert len({worker for _, worker in first}) == 4
    assert len(tls_server.requests) == 4
    assert environment.log == ""


@pytest.mark.parametrize(("how", "status"), [("", -signal.SIGTERM), ("loop", 0)], ids=["system", "loop"])
def test_sigterm_in_the_middle_of_an_invocation_ends_the_process_quietly(
    tls_server: RawServer, how: str, status: int
) -> None:
    """With a fetch in the air, be it by the system or by the function's signal handler on the loop."""
    tls_server.hang()
    with start("handler", ON_SIGTERM=how) as environment:
        environment.send(0)
        tls_server.wait_for_requests(1)
        environment.process.send_signal(signal.SIGTERM)
        assert environment.process.wait(30) == status

    assert environment.log == ""


def test_sigterm_between_invocations_ends_the_process_quietly(tls_server: RawServer) -> None:
    """With connections open, by the function's own signal handler."""
    with start("handler", ON_SIGTERM="signal") as environment:
        environment.invoke(0)
        environment.process.send_signal(signal.SIGTERM)
        # A runtime client that waits for it in its main thread sees the signal when there is an event.
        environment.send(0)
        assert environment.process.wait(30) == 0

    assert environment.log == ""
