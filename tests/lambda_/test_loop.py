"""The one loop of all invocations: contexts, deadlines, what is left running, threads, forks, and the end."""

from __future__ import annotations

import asyncio
import contextvars
import math
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import MagicMock

import pytest

from asecretcache import (
    ConfigurationError,
    Secret,
    SecretCache,
    SecretRequest,
    SecretUnavailableError,
    async_handler,
    get_secret,
)
from asecretcache._core.timeouts import invocation_deadline
from asecretcache._lambda.loop import invocations
from asecretcache.testing import InMemorySource, ManualClock
from forks import in_child, needs_fork
from simulation.virtual_loop import VirtualTime
from virtual_runner import Context

NAME, VALUE = "prod/api", "key-1"


@async_handler
async def read(event: str, context: object) -> str:
    return await get_secret(event)


@async_handler
async def current_loop(event: object, context: object) -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_exceptions_are_the_handlers_own() -> None:
    """The very instance that the handler raised is raised."""
    error = LookupError("mine")

    @async_handler
    async def handler(event: object, context: object) -> None:
        raise error

    with pytest.raises(LookupError) as caught:
        handler(None, None)
    assert caught.value is error


def test_each_invocation_has_a_context_of_its_own() -> None:
    """It sees what its caller set, and not what another invocation set."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    @async_handler
    async def handler(event: str, context: object) -> str:
        seen = variable.get()
        variable.set(event)
        return seen

    variable.set("outside")
    assert [handler("first", None), handler("second", None)] == ["outside", "outside"]
    assert variable.get() == "outside"


def test_a_handler_called_in_a_thread_of_another_is_refused() -> None:
    """It would wait for the loop that waits for it."""

    @async_handler
    async def outer(event: object, context: object) -> None:
        await asyncio.to_thread(read, NAME, None)

    with pytest.raises(ConfigurationError) as caught:
        outer(None, None)
    place = "inside a running event loop or another handler, where it can't block"
    remedy = "await handler.__wrapped__(event, context) instead"
    assert str(caught.value) == f"an async_handler was called {place}: {remedy}"


def test_a_handler_called_in_the_loops_executor_is_refused() -> None:
    """It has no context of the invocation, but the invocation waits for it all the same."""

    @async_handler
    async def outer(event: object, context: object) -> str:
        return await asyncio.get_running_loop().run_in_executor(None, read, NAME, None)

    with pytest.raises(ConfigurationError, match="called inside a running event loop or another handler"):
        outer(None, None)
    assert read(NAME, None) == VALUE


def test_a_cancellation_that_ends_a_handler_is_an_error_of_the_invocation() -> None:
    """CancelledError is no Exception: Lambda's runtime would end with it, and so would all that is in memory."""

    @async_handler
    async def handler(event: object, context: object) -> None:
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match=r"\Athe handler ended with asyncio\.CancelledError: .*\Z") as caught:
        handler(None, None)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert read(NAME, None) == VALUE


@pytest.mark.parametrize(("seconds", "ends_at"), [(2.0, 1.8), (60.0, 59.5)])
def test_a_hanging_source_is_an_error_before_the_deadline(
    source: InMemorySource, virtual_time: VirtualTime, seconds: float, ends_at: float
) -> None:
    """The time that is reserved to answer is 0.5 s, or 10 % of what is left if that is less."""
    cache = SecretCache(source, fetch_timeout=1000)
    source.pause()

    @async_handler(cache=cache)
    async def handler(event: object, context: object) -> str:
        with pytest.raises(SecretUnavailableError, match="didn't end before the invocation's deadline"):
            await get_secret(NAME)
        return "in time"

    assert handler(None, Context(seconds)) == "in time"
    assert virtual_time.now == pytest.approx(ends_at), "what is left running gets no time past the deadline"


def test_the_deadline_is_read_when_the_invocation_has_its_turn(
    source: InMemorySource, virtual_time: VirtualTime
) -> None:
    """The time for which it waited for another thread's invocation isn't added."""
    context = Context(60.0, virtual_time)
    virtual_time.now = 58.0
    source.pause()

    with pytest.raises(SecretUnavailableError, match="deadline"):
        read(NAME, context)
    assert virtual_time.now == pytest.approx(59.8)


@pytest.mark.parametrize("tells", [MagicMock(), None, "60000", True, math.nan, math.inf])
def test_a_context_that_tells_no_number_gives_no_deadline(source: InMemorySource, tells: Any) -> None:
    """A MagicMock can be made a float, of 1 ms."""
    seen: list[object] = []
    context = MagicMock()
    context.get_remaining_time_in_millis.return_value = tells

    @async_handler
    async def handler(event: Any, context: Any) -> None:
        seen.append(invocation_deadline.get())

    handler({}, context)

    assert seen == [None]


def test_a_background_task_does_not_inherit_the_deadline(source: InMemorySource, virtual_time: VirtualTime) -> None:
    """A task that an invocation leaves goes on in the next one, past the first one's deadline."""
    tasks: list[asyncio.Task[str]] = []

    async def read_later() -> str:
        await asyncio.sleep(100)
        return await get_secret(NAME)

    @async_handler
    async def handler(event: str, context: object) -> str | None:
        if event == "leave":
            tasks.append(asyncio.create_task(read_later()))
            return None
        return await tasks[0]

    handler("leave", Context(1))
    assert virtual_time.now == 0.0
    assert handler("collect", Context(1000)) == VALUE
    assert virtual_time.now == 100.0


def test_a_wait_that_outlives_its_invocation_has_no_deadline(source: InMemorySource, virtual_time: VirtualTime) -> None:
    """A task that waits for a fetch when its invocation ends goes on waiting in the next one."""
    cache = SecretCache(source, fetch_timeout=1000)
    tasks: list[asyncio.Task[str]] = []
    source.pause()

    @async_handler(cache=cache)
    async def handler(event: float, context: object) -> str | None:
        if not tasks:
            tasks.append(asyncio.create_task(get_secret(NAME)))
        await asyncio.sleep(event)
        if event == 1:
            return None
        source.resume()
        return await tasks[0]

    handler(1, Context(60))
    assert handler(200, Context(1000)) == VALUE
    assert len(source.calls) == 1


class HangingOnceFetched(InMemorySource):
    """A source whose fetches hang from the second one on."""

    def __init__(self) -> None:
        super().__init__({NAME: VALUE})
        self.cancelled = 0

    async def fetch(self, request: SecretRequest) -> Secret:
        if not self.calls:
            return await super().fetch(request)
        self.calls.append(request)
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled += 1
        raise AssertionError


@pytest.mark.parametrize(("seconds", "drained"), [(60.0, 0.5), (1.0, 0.5), (0.2, 0.18)])
def test_a_hanging_refresh_is_cancelled_after_the_invocation(
    virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture, seconds: float, drained: float
) -> None:
    """It gets at most 0.5 s, and no time past the deadline; the next invocation is served and starts another."""
    clock, source = ManualClock(), HangingOnceFetched()
    cache = SecretCache(source, ttl=10, jitter=0, stale_while_revalidate=100, clock=clock)

    @async_handler(cache=cache)
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    assert handler(None, None) == VALUE
    clock.advance(11)
    for count in (1, 2):
        before = virtual_time.now
        assert handler(None, Context(seconds)) == VALUE
        assert source.cancelled == count
        assert virtual_time.now - before == pytest.approx(drained)
    assert not caplog.records


def test_a_refresh_that_ends_in_time_is_stored(virtual_time: VirtualTime) -> None:
    """The invocation's answer waits for it, and the next invocation has the new value."""

    class Slow(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            await asyncio.sleep(0.25 if self.calls else 0)
            return await super().fetch(request)

    clock, source = ManualClock(), Slow({NAME: VALUE})

    @async_handler(cache=SecretCache(source, ttl=10, jitter=0, stale_while_revalidate=100, clock=clock))
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    handler(None, None)
    clock.advance(11)
    source.rotate(NAME, "key-2")
    assert handler(None, Context(60)) == VALUE
    assert virtual_time.now == 0.25
    assert handler(None, Context(60)) == "key-2"
    assert virtual_time.now == 0.25


def test_handlers_called_from_several_threads_take_turns(source: InMemorySource) -> None:
    """There is one loop, so they run one after another."""
    running: list[int] = []

    @async_handler
    async def handler(event: int, context: object) -> str:
        running.append(event)
        for _ in range(3):
            await asyncio.sleep(0)
        assert running == [event]
        running.clear()
        return await get_secret(NAME)

    values: list[str] = []
    threads = [threading.Thread(target=lambda at=at: values.append(handler(at, None))) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert values == [VALUE] * 8
    assert len(source.calls) == 1


def test_closing_at_exit_does_not_wait_for_a_handler_in_another_thread() -> None:
    """The invocation of a daemon thread doesn't keep the interpreter, and isn't disturbed."""
    entered, loops = threading.Event(), list[asyncio.AbstractEventLoop]()
    gates: list[asyncio.Event] = []

    @async_handler
    async def handler(event: object, context: object) -> None:
        gates.append(asyncio.Event())
        loops.append(asyncio.get_running_loop())
        entered.set()
        await gates[0].wait()

    thread = threading.Thread(target=handler, args=(None, None))
    thread.start()
    entered.wait()
    invocations.close(wait=False)
    assert not loops[0].is_closed()
    loops[0].call_soon_threadsafe(gates[0].set)
    thread.join()

    assert current_loop(None, None) is loops[0]
    invocations.close(wait=False)
    assert loops[0].is_closed()


def test_closing_ends_what_still_runs() -> None:
    """Tasks are cancelled and asynchronous generators closed before the loop is; closing twice is closing once."""
    ended: list[str] = []

    async def generate() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            ended.append("generator")

    async def linger() -> None:
        generators.append(generator := generate())
        await anext(generator)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("task")

    generators: list[AsyncIterator[int]] = []
    tasks: list[asyncio.Task[None]] = []

    @async_handler
    async def handler(event: object, context: object) -> asyncio.AbstractEventLoop:
        tasks.append(asyncio.create_task(linger()))
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    loop = handler(None, None)
    invocations.close(wait=True)
    invocations.close(wait=True)

    assert ended == ["task", "generator"]
    assert tasks[0].cancelled()
    assert loop.is_closed()
    assert current_loop(None, None) is not loop


def test_a_task_that_does_not_end_is_left_after_half_a_second(virtual_time: VirtualTime) -> None:
    """The interpreter's exit isn't held up by a task that swallows its cancellation."""

    async def stubborn() -> None:
        for _ in range(2):
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                continue

    tasks: list[asyncio.Task[None]] = []

    @async_handler
    async def handler(event: object, context: object) -> None:
        tasks.append(asyncio.create_task(stubborn()))
        await asyncio.sleep(0)

    handler(None, None)
    invocations.close(wait=True)

    assert virtual_time.now == 0.5
    # The loop is gone, so nothing will end it: it is no mistake to be warned of.
    tasks.pop()._log_destroy_pending = False  # type: ignore[attr-defined]  # as asyncio.gather does


@needs_fork
def test_a_forked_child_runs_on_a_loop_of_its_own(source: InMemorySource) -> None:
    """The parent's loop has a selector that both processes would share."""
    assert read(NAME, None) == VALUE
    parents = current_loop(None, None)

    def in_the_child() -> bool:
        return read(NAME, None) == VALUE and current_loop(None, None) is not parents and len(source.calls) == 1

    assert in_child(in_the_child)
    assert current_loop(None, None) is parents
    assert not parents.is_closed()


@needs_fork
def test_a_child_that_is_forked_within_a_handler_can_run_handlers(source: InMemorySource) -> None:
    """The parent's lock is held at that moment, and its loop runs."""

    @async_handler
    async def handler(event: object, context: object) -> bool:
        return in_child(lambda: read(NAME, None) == VALUE)

    assert handler(None, None)
    assert not source.calls
    assert read(NAME, None) == VALUE


EXIT = """
import asyncio
from asecretcache import SecretCache, async_handler, get_secret
from asecretcache.testing import InMemorySource
source = InMemorySource({"a": "1", "b": "2"})

@async_handler(cache=SecretCache(source))
async def handler(event, context):
    await get_secret("a")
    await asyncio.to_thread(int)
    source.pause()
    handler.left = asyncio.create_task(get_secret("b"))
    await asyncio.sleep(0)

handler(None, None)
handler(None, None)
"""


def test_the_interpreter_exits_quietly() -> None:
    """With a task in the middle of a fetch and a thread pool in use, nothing is started and nothing warns."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", EXIT]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
