"""All sources with event loops that end, stand still, are run again or belong to other threads, and with forks."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from asecretcache import SecretCacheError, SecretSource
from asecretcache.testing import ManualClock
from source_helpers import LOOP_FACTORIES, NAME, Served, assert_quiet, fetch_value

every_loop_factory = pytest.mark.parametrize("factory", LOOP_FACTORIES)


@pytest.mark.parametrize("step", [21.0, -1.0])
async def test_an_idle_client_is_replaced(served: Served, step: float, client_clock: ManualClock) -> None:
    """After 20 s of wall clock without use, or after the clock was set back, there is a new connection."""
    source = served.source_class()

    await source.fetch(NAME)
    client_clock.advance(19)
    await source.fetch(NAME)
    assert served.server.connections == 1

    client_clock.advance(step)
    await source.fetch(NAME)
    assert served.server.connections == 2
    await source.aclose()


@every_loop_factory
def test_a_loop_per_invocation_is_quiet(
    caplog: pytest.LogCaptureFixture, factory: Callable[[], asyncio.AbstractEventLoop], served: Served
) -> None:
    """Each of several runs has a client, which ends with its loop."""
    source = served.source_class()

    def script() -> None:
        for _ in range(2):
            with asyncio.Runner(loop_factory=factory) as runner:
                assert runner.run(fetch_value(source)) == "the value"

    assert_quiet(script, caplog)
    assert served.server.connections == 2


@every_loop_factory
@pytest.mark.parametrize("then", ["drop", "new loop", "still open", "run again"])
def test_a_loop_that_just_ends_is_quiet(
    caplog: pytest.LogCaptureFixture, factory: Callable[[], asyncio.AbstractEventLoop], then: str, served: Served
) -> None:
    """A loop that is closed without shutdown_asyncgens, or never, leaves no warning, log or connection."""

    def script() -> None:
        source = served.source_class()
        loop = factory()
        loop.run_until_complete(source.fetch(NAME))
        if then in {"drop", "new loop"}:
            loop.close()
        if then == "new loop":
            asyncio.run(fetch_value(source))
            served.server.wait_for_open(0)
        del source
        gc.collect()
        if then == "run again":
            loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    assert_quiet(script, caplog)
    served.server.wait_for_open(0)


@every_loop_factory
def test_a_loop_that_is_closed_during_a_fetch_is_quiet(
    caplog: pytest.LogCaptureFixture, factory: Callable[[], asyncio.AbstractEventLoop], served: Served
) -> None:
    """The next fetch on another loop closes the connection that waits for a response, without a warning or log."""
    served.server.hang()

    async def attempt(source: SecretSource) -> None:
        # As the cache does: when the collector ends the coroutine, the SDK raises errors that the source maps.
        with suppress(SecretCacheError):
            await source.fetch(NAME)

    def script() -> None:
        source, loop = served.source_class(), factory()
        task: Any = loop.create_task(attempt(source))
        loop.run_until_complete(asyncio.to_thread(served.server.arrived.wait))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        task._log_destroy_pending = False  # asyncio's own message about a task that never ends
        served.server.let_go.set()
        assert asyncio.run(fetch_value(source)) == "the value"
        served.server.wait_for_open(0)

    assert_quiet(script, caplog)


@every_loop_factory
@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_connections_that_ended_while_no_loop_ran_are_not_used(
    client_clock: ManualClock, factory: Callable[[], asyncio.AbstractEventLoop], reset: bool, served: Served
) -> None:
    """Their end goes unnoticed between two runs, yet the first attempt after it succeeds."""
    source = served.source_class()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(source.fetch(NAME))
        client_clock.advance(5)
        served.server.drop(reset=reset)
        runner.run(source.fetch(NAME))
        runner.run(source.aclose())

    assert len(served.server.requests) == served.server.connections == 2
    assert b"attempt=2" not in served.server.requests[-1]


def test_a_loop_that_runs_after_its_generators_ended_gets_a_client(served: Served) -> None:
    """shutdown_asyncgens closes the client, and the next fetch makes another."""
    source, loop = served.source_class(), asyncio.new_event_loop()
    loop.run_until_complete(source.fetch(NAME))
    loop.run_until_complete(loop.shutdown_asyncgens())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # asyncio's own: a generator after shutdown_asyncgens
        assert loop.run_until_complete(fetch_value(source)) == "the value"
    loop.run_until_complete(source.aclose())
    loop.close()
    assert served.server.connections == 2


def test_threads_with_a_loop_each_share_a_source(served: Served) -> None:
    """Each loop has connections of its own."""
    source = served.source_class()
    values: list[Any] = []
    threads = [threading.Thread(target=lambda: values.append(asyncio.run(fetch_value(source)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(source.aclose())

    assert values == ["the value"] * 4
    assert served.server.connections == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("loop_of", ["asyncio", "uvloop"])
def test_a_fork_leaves_the_parents_client_alone(served: Served, loop_of: str) -> None:
    """The child fetches with a client of its own, the parent's connection works on, and both are quiet."""
    code = f"""
import asyncio, gc, os, sys, {loop_of}
from asecretcache import {served.source_class.__name__} as Source, SecretRequest
source, loop = Source(), {loop_of}.new_event_loop()
def fetch(loop):
    return loop.run_until_complete(source.fetch(SecretRequest("name")))
fetch(loop)
if pid := os.fork():
    status = os.waitpid(pid, 0)[1]
    fetch(loop)
    loop.run_until_complete(source.aclose())
    loop.close()
    sys.exit(os.waitstatus_to_exitcode(status))
own = {loop_of}.new_event_loop()
fetch(own)
gc.collect()
own.run_until_complete(source.aclose())
own.close()
"""
    done = subprocess.run(
        [sys.executable, "-W", "always", "-W", "ignore::DeprecationWarning", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert served.server.connections == 2
