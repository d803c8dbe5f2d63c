"""Work in threads for which nothing waits."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from asecretcache import SecretUnavailableError
from asecretcache._sources.threads import in_thread, resolve
from raw_server import RawServer
from source_helpers import SourceClass, fetch_value

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


async def test_a_result_and_an_error_come_back() -> None:
    """The function runs in another thread, in a copy of the caller's context."""
    variable.set("the caller's")

    def look(argument: int) -> tuple[int, str, bool]:
        return argument, variable.get(), threading.current_thread() is threading.main_thread()

    def fail() -> None:
        raise KeyError("x")

    assert await in_thread(look, 1) == (1, "the caller's", False)
    with pytest.raises(KeyError):
        await in_thread(fail)


async def test_a_caller_that_is_cancelled_leaves_the_thread_alone() -> None:
    """The function goes on, and its result is dropped."""
    may_end, ended = threading.Event(), threading.Event()

    def work() -> None:
        may_end.wait()
        ended.set()

    task = asyncio.create_task(in_thread(work))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    may_end.set()

    assert task.cancelled()
    await asyncio.to_thread(ended.wait)


def test_a_loop_that_ends_waits_for_no_thread() -> None:
    """Nor does the thread mind when its loop is closed."""
    may_end = threading.Event()

    def work() -> None:
        may_end.wait()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(in_thread(work), 0.01)

    asyncio.run(main())
    (thread,) = [each for each in threading.enumerate() if each.name == "asecretcache work"]
    may_end.set()
    thread.join()


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", ("127.0.0.1", 443)), ("::1", ("::1", 443, 0, 0))])
async def test_an_address_is_not_looked_up(host: str, address: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs no thread."""
    monkeypatch.setattr(socket, "getaddrinfo", None)
    (found,) = await resolve(host, 443)

    assert found[4] == address


async def test_a_name_is_looked_up() -> None:
    """As the system does it."""
    assert {found[4][1] for found in await resolve("localhost", 443)} == {443}


@pytest.mark.parametrize("how", ["asyncio.run", "Runner"])
def test_a_resolver_that_hangs_keeps_no_loop_open(
    aws_raw: RawServer, any_source: SourceClass, credentials: pytest.MonkeyPatch, how: str
) -> None:
    """asyncio.run would wait for a thread of its executor until the resolver gives up."""
    may_end = threading.Event()
    look_up = socket.getaddrinfo

    def hang(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == "secrets.example":
            may_end.wait()
        return look_up(host, *arguments, **options)

    credentials.setattr(socket, "getaddrinfo", hang)
    # If a loop waited for it after all, the test would fail instead of hanging.
    giving_up = threading.Timer(20, may_end.set)
    giving_up.start()
    source = any_source(endpoint_url="http://secrets.example:1")

    async def main() -> None:
        with pytest.raises((TimeoutError, SecretUnavailableError)):
            await asyncio.wait_for(fetch_value(source), 1.0)

    try:
        if how == "Runner":
            with asyncio.Runner() as runner:
                runner.run(main())
        else:
            asyncio.run(main())
        hanging = [each.name for each in threading.enumerate() if each.name.startswith("asecretcache _addresses")]
        assert hanging
    finally:
        giving_up.cancel()
        may_end.set()
        while any(each.name.startswith("asecretcache _addresses") for each in threading.enumerate()):
            time.sleep(0.01)


EXIT = """
import asyncio, socket, sys, time
import asecretcache
socket.getaddrinfo = lambda *arguments, **options: time.sleep(60)
source = getattr(asecretcache, sys.argv[1])(endpoint_url="http://secrets.example:1")

async def main():
    try:
        await asyncio.wait_for(source.fetch(asecretcache.SecretRequest("name")), 1.0)
    except TimeoutError:
        print("timed out")

asyncio.run(main())
"""


def test_python_exits_while_a_resolver_hangs(aws_raw: RawServer, any_source: SourceClass) -> None:
    """It waits for no thread of ours, and is quiet about it."""
    command = [sys.executable, "-c", EXIT, any_source.__name__]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)

    assert (ended.stdout, ended.stderr) == ("timed out\n", "")
