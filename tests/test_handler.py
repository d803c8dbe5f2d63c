"""async_handler in this process; tests/test_awslambdaric.py has it in the real runtime."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

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
from asecretcache._lambda import handler as handler_module
from asecretcache._lambda import loop as _runner
from asecretcache._lambda.default import set_default_cache
from asecretcache._lambda.loop import Invocations, invocations
from asecretcache.testing import InMemorySource, ManualClock

NAME, VALUE = "prod/db", "hunter2"


class Context:
    """As much of Lambda's context as is read."""

    def __init__(self, milliseconds: int) -> None:
        self._milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self._milliseconds


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({NAME: VALUE})


@pytest.fixture(autouse=True)
def default(source: InMemorySource, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretCache]:
    """A default cache over the source, no Lambda around, and a loop of the test's own."""
    monkeypatch.delenv("AWS_LAMBDA_RUNTIME_API", raising=False)
    cache = SecretCache(source)
    set_default_cache(cache)
    yield cache
    invocations.close()
    set_default_cache(None)


def test_all_invocations_share_one_loop_and_one_fetch(source: InMemorySource) -> None:
    """Decorated bare: what belongs to the loop survives from one invocation to the next."""
    loops: list[asyncio.AbstractEventLoop] = []

    @async_handler
    async def handler(event: dict[str, str], context: object) -> str:
        """Say hello."""
        loops.append(asyncio.get_running_loop())
        return event["hello"] + await get_secret(NAME)

    assert [handler({"hello": "hi "}, None) for _ in range(3)] == [f"hi {VALUE}"] * 3
    assert loops[0] is loops[1] is loops[2]
    assert len(source.calls) == 1
    assert (handler.__name__, handler.__doc__) == ("handler", "Say hello.")  # type: ignore[attr-defined]  # a function's


async def test_the_coroutine_function_is_there_for_tests() -> None:
    """Inside a running loop __wrapped__ is awaited; calling the handler there is refused with that advice."""

    @async_handler
    async def handler(event: int, context: object) -> int:
        return event + 1

    assert await handler.__wrapped__(1, None) == 2
    with pytest.raises(ConfigurationError, match="__wrapped__"):
        handler(1, None)


def test_with_arguments_the_cache_becomes_the_default_and_prefetch_precedes_the_first_invocation() -> None:
    """Outside Lambda the prefetch happens at the first invocation, once."""
    source = InMemorySource({NAME: VALUE, "b": '{"k": 1}'})
    seen: list[int] = []

    @async_handler(prefetch=[NAME, "b:k"], cache=SecretCache(source))
    async def handler(event: object, context: object) -> str:
        seen.append(len(source.calls))
        return await get_secret(NAME)

    assert not source.calls
    assert handler(None, None) == handler(None, None) == VALUE
    assert seen == [2, 2]


def test_during_init_the_prefetch_is_done_at_import(source: InMemorySource, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Lambda's runtime around, decorating is enough."""
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    assert len(source.calls) == 1
    assert handler(None, None) == VALUE
    assert len(source.calls) == 1


async def test_inside_a_running_loop_init_does_nothing(source: InMemorySource, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can't block there; the first invocation will do it."""
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> None: ...

    assert not source.calls


def test_a_failing_prefetch_is_logged_and_leaves_no_trace(
    source: InMemorySource, default: SecretCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """INIT goes on, and the handler tries for itself."""
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")
    source.fail(SecretUnavailableError("down", secret_id=NAME), times=1)

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert NAME in caplog.text
    assert default.peek(NAME) is None
    assert handler(None, None) == VALUE


def test_a_hanging_prefetch_is_ended(
    source: InMemorySource, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """INIT has its limit, and a fetch that it leaves is cancelled with it."""
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")
    monkeypatch.setattr(handler_module, "_INIT_SECONDS", 0.01)
    source.pause()

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    source.resume()
    assert "took longer than 0.01 s" in caplog.text
    assert handler(None, None) == VALUE
    assert len(source.calls) == 2


def test_a_prefetch_that_is_cancelled_from_inside_does_not_fail_init(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A source whose own tasks are cancelled is a failure like any other."""

    class Cancelling(InMemorySource):
        async def warm(self) -> None:
            raise asyncio.CancelledError

    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")

    @async_handler(cache=SecretCache(Cancelling({NAME: VALUE})))
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    assert "cancelled from inside" in caplog.text
    assert handler(None, None) == VALUE


async def test_a_prefetch_that_is_cancelled_from_outside_is_cancelled(source: InMemorySource) -> None:
    """As by Ctrl-C, which isn't swallowed."""
    source.pause()
    preparing = asyncio.create_task(handler_module._Preparation([SecretRequest.of(NAME)]).run_once())
    while not source.calls:
        await asyncio.sleep(0)
    preparing.cancel()
    await asyncio.wait([preparing])

    assert preparing.cancelled()


def test_a_prefetch_at_the_first_invocation_leaves_the_handler_time(
    source: InMemorySource, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes at most half of what there is."""
    source.pause()

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> str:
        return "in time"

    assert handler(None, Context(100)) == "in time"
    assert "prefetch took longer" in caplog.text


def test_a_handler_called_in_a_thread_of_another_is_refused() -> None:
    """It would wait for the loop that waits for it."""

    @async_handler
    async def inner(event: object, context: object) -> None: ...

    @async_handler
    async def outer(event: object, context: object) -> None:
        await asyncio.to_thread(inner, None, None)

    with pytest.raises(ConfigurationError, match="another handler"):
        outer(None, None)


def test_closing_at_exit_does_not_wait_for_a_handler_in_another_thread() -> None:
    """A daemon thread's invocation doesn't keep the interpreter."""
    runs = Invocations()
    with runs._turn() as runner:
        runs.close(wait=False)
        assert runs._runner is runner
    runs.close()


def test_exceptions_are_the_handlers_own() -> None:
    """Unchanged, the very instance."""
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
    async def handler(event: str | None, context: object) -> str:
        seen = variable.get()
        variable.set(event or "")
        return seen

    variable.set("outside")
    assert [handler("first", None), handler("second", None)] == ["outside", "outside"]
    assert variable.get() == "outside"


def test_a_hanging_source_is_an_error_before_the_deadline(source: InMemorySource) -> None:
    """The handler still has time to answer."""
    source.pause()

    @async_handler
    async def handler(event: object, context: object) -> str:
        try:
            return await get_secret(NAME)
        except SecretUnavailableError as exc:
            return str(exc)

    assert "deadline" in handler(None, Context(20))


def test_a_background_task_does_not_inherit_the_deadline(source: InMemorySource) -> None:
    """What an invocation leaves running goes on in the next one, past the first one's deadline."""
    tasks: list[asyncio.Task[str]] = []

    @async_handler
    async def handler(event: str, context: object) -> str | None:
        if event == "leave":
            source.pause()
            gate = asyncio.Event()
            tasks.append(asyncio.create_task(_wait_and_get(gate)))
            gates.append(gate)
            return None
        gates[0].set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        source.resume()
        return await tasks[0]

    gates: list[asyncio.Event] = []
    handler("leave", Context(0))
    assert handler("collect", Context(60_000)) == VALUE


async def _wait_and_get(gate: asyncio.Event) -> str:
    await gate.wait()
    return await get_secret(NAME)


def test_a_context_without_a_clock_sets_no_deadline() -> None:
    """Tests pass all sorts of contexts."""

    @async_handler
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    assert handler(None, object()) == VALUE


@pytest.mark.parametrize("function", [lambda event, context: None, print, int])
def test_a_function_that_is_not_async_is_refused(function: Any) -> None:
    """At decoration, saying what to do."""
    with pytest.raises(ConfigurationError, match="async def"):
        async_handler(function)


@pytest.mark.parametrize(("prefetch", "says"), [("prod/db", "list"), (None, "list"), (["a:b:c:d:e"], "5 parts")])
def test_a_bad_prefetch_is_refused(prefetch: Any, says: str) -> None:
    """At decoration: that is a mistake in the code, not a failure of the moment."""
    with pytest.raises(ConfigurationError, match=says):
        async_handler(prefetch=prefetch)


def test_an_object_with_an_async_call_is_a_handler() -> None:
    """Frameworks make those."""

    class Handler:
        async def __call__(self, event: int, context: object) -> int:
            return event + 1

    assert async_handler(Handler())(1, None) == 2


def test_handlers_called_from_several_threads_run_one_after_another(source: InMemorySource) -> None:
    """There is one loop, so they take turns."""

    @async_handler
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    values: list[str] = []
    threads = [threading.Thread(target=lambda: values.append(handler(None, None))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert values == [VALUE] * 8
    assert len(source.calls) == 1


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], list[Any]]:
    """SnapStart's registries, emptied for the test."""
    snapshot_restore_py = pytest.importorskip("snapshot_restore_py", reason="a dependency of awslambdaric")
    before: list[Any] = []
    after: list[Any] = []
    monkeypatch.setattr(snapshot_restore_py, "_before_snapshot_registry", before)
    monkeypatch.setattr(snapshot_restore_py, "_after_restore_registry", after)
    return before, after


def test_a_snapshot_holds_no_values_and_the_restore_prefetches(
    hooks: tuple[list[Any], list[Any]],
    source: InMemorySource,
    default: SecretCache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With SnapStart the prefetch is left to each clone, and whatever was fetched before is dropped."""
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    assert not source.calls
    asyncio.run(default.get(NAME))
    for function, *_ in hooks[0]:
        function()
    assert default.peek(NAME) is None
    for function, *_ in hooks[1]:
        function()
    assert default.peek(NAME)
    assert handler(None, None) == VALUE
    assert len(source.calls) == 2


def test_without_the_snapshot_library_nothing_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there in Lambda's own runtime, and need not be elsewhere."""
    monkeypatch.setitem(sys.modules, "snapshot_restore_py", None)

    @async_handler
    async def handler(event: int, context: object) -> int:
        return event

    assert handler(1, None) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")  # 3.12 on; that is what is tested
def test_a_forked_child_runs_on_a_loop_of_its_own() -> None:
    """The parent's loop has a selector that both would share."""
    runs = Invocations()

    async def nothing() -> None: ...

    async def loop_id() -> int:
        return id(asyncio.get_running_loop())

    parents = runs.run(loop_id, None, before=nothing)
    pid = os.fork()
    if pid == 0:  # pragma: no cover - another process
        os._exit(0 if runs.run(loop_id, None, before=nothing) != parents else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    runs.close()

    assert status == 0


def test_a_loop_of_another_process_is_neither_used_nor_closed() -> None:
    """As the child of a fork sees it, also of one that was forked while a handler ran."""
    runs = Invocations()
    with runs._turn() as parents:
        runs._pid = -1
        with runs._turn() as childs:
            assert childs is not parents
    assert runs._inherited == [parents]
    runs.close()
    parents.close()


def test_closing_ends_what_still_runs(source: InMemorySource) -> None:
    """Tasks are cancelled and asynchronous generators closed, before the loop is."""
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

    @async_handler
    async def handler(event: object, context: object) -> None:
        tasks.append(asyncio.create_task(linger()))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    handler(None, None)
    invocations.close()
    invocations.close()

    assert ended == ["task", "generator"]
    assert tasks[0].cancelled()


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


def test_a_background_refresh_that_hangs_is_cancelled_after_the_invocation(
    source: InMemorySource, caplog: pytest.LogCaptureFixture
) -> None:
    """It gets half a second to land at most; the next invocation is served as well, and starts another."""
    cancelled: list[str] = []

    class Hanging(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            if self.calls:
                self.calls.append(request)
                try:
                    await asyncio.Event().wait()
                finally:
                    cancelled.append(request.secret_id)
            return await super().fetch(request)

    clock = ManualClock()
    hanging = Hanging({NAME: VALUE})

    @async_handler(cache=SecretCache(hanging, ttl=10, stale_while_revalidate=100, clock=clock))
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    assert handler(None, None) == VALUE
    clock.advance(11)
    for count in (1, 2):
        assert handler(None, Context(60_000)) == VALUE
        assert cancelled == [NAME] * count
    assert _runner._DRAIN_SECONDS <= 0.5
    assert not caplog.records
