"""Synchronous handlers that run asyncio inside."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from asecretcache import ConfigurationError, SecretCache, SecretUnavailableError, get_secret, sync_handler
from asecretcache.testing import InMemorySource, ManualClock
from virtual_runner import Context

NAME, VALUE = "prod/api", "key-1"


class Refreshing(NamedTuple):
    """A handler, with its cache and the loop that it leaves open."""

    cache: SecretCache
    loop: asyncio.AbstractEventLoop
    handler: Callable[[object, object], str]


def read(event: object, context: object) -> str:
    return asyncio.run(get_secret(NAME))


class App:
    """An object that is a handler, as Mangum's is."""

    def __call__(self, event: object, context: object) -> str:
        return asyncio.run(get_secret(NAME))


@pytest.mark.parametrize("make", [lambda: read, App])
def test_it_calls_the_handler(make: Callable[[], Any], source: InMemorySource) -> None:
    """A function or an object, each time with event and context; values outlive the handler's loops."""
    handler = sync_handler(make())

    assert handler(None, None) == handler({}, Context(60)) == VALUE
    assert len(source.calls) == 1


@pytest.mark.usefixtures("lambda_init")
def test_during_init_the_prefetch_is_done(source: InMemorySource) -> None:
    """Decorating is enough, and leaves the thread's current loop alone."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        handler = sync_handler(read, prefetch=[f"{NAME}:k"])
        assert len(source.calls) == 1
        assert asyncio.get_event_loop_policy().get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    assert handler(None, None) == VALUE
    assert len(source.calls) == 1


def test_elsewhere_the_prefetch_is_done_at_the_first_invocation(source: InMemorySource) -> None:
    """Once, and before the handler is called."""
    seen: list[int] = []

    @sync_handler(prefetch=[NAME])
    def handler(event: object, context: object) -> None:
        seen.append(len(source.calls))

    handler(None, None)
    handler(None, None)

    assert seen == [1, 1]


async def test_inside_a_running_loop_nothing_is_prefetched(source: InMemorySource) -> None:
    """As in an async test; a handler that needs no loop works, and the next invocation prefetches."""

    @sync_handler(prefetch=[NAME])
    def handler(event: object, context: object) -> int:
        return len(source.calls)

    assert handler(None, None) == 0
    assert await asyncio.to_thread(handler, None, None) == 1


def test_after_a_restore_the_prefetch_is_done(
    source: InMemorySource, hooks: tuple[list[Any], list[Any]], monkeypatch: pytest.MonkeyPatch, lambda_init: None
) -> None:
    """The snapshot holds no values."""
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    handler = sync_handler(read, prefetch=[NAME])
    assert not source.calls
    for hook in hooks[0] + hooks[1]:
        hook()
    assert len(source.calls) == 1

    assert handler(None, None) == VALUE
    assert len(source.calls) == 1


def test_a_hung_source_is_an_error_before_the_deadline(source: InMemorySource) -> None:
    """On the handler's own loop; the prefetch has half of the time."""
    source.pause()
    handler = sync_handler(read, prefetch=["prod/db"])

    with pytest.raises(SecretUnavailableError, match="deadline"):
        handler(None, Context(0.05))


def test_it_has_a_cache_of_its_own() -> None:
    """For the module-level functions, within the handler alone."""
    cache = SecretCache(InMemorySource({NAME: "another"}))

    assert sync_handler(read, cache=cache)(None, None) == "another"
    assert read(None, None) == VALUE


@pytest.fixture
def refreshing(source: InMemorySource, clock: ManualClock) -> Iterator[Refreshing]:
    """A handler that has fetched, and whose next invocation refreshes in the background."""
    cache = SecretCache(source, clock=clock, ttl=100.0, jitter=0.0, stale_while_revalidate=1000.0)
    loop = asyncio.new_event_loop()

    @sync_handler(cache=cache)
    def handler(event: object, context: object) -> str:
        return loop.run_until_complete(get_secret(NAME))

    handler(None, None)
    clock.advance(150)
    yield Refreshing(cache, loop, handler)
    loop.close()


def test_a_refresh_ends_on_a_loop_that_is_left_open(refreshing: Refreshing, source: InMemorySource) -> None:
    """It gets half a second at the end of the invocation."""
    source.rotate(NAME, "key-2")

    assert refreshing.handler(None, None) == VALUE
    stored = refreshing.cache.peek(NAME)
    assert stored is not None
    assert stored.text == "key-2"


def test_a_refresh_that_does_not_end_is_cancelled(refreshing: Refreshing, source: InMemorySource) -> None:
    """So that no fetch sleeps through the time between invocations; the value stays."""
    source.pause()

    assert refreshing.handler(None, Context(0.1)) == VALUE
    assert not asyncio.all_tasks(refreshing.loop)


def test_a_loop_that_is_stopped_changes_no_result(refreshing: Refreshing, source: InMemorySource) -> None:
    """Something that the handler has left may do that while a refresh is waited for."""
    source.pause()
    refreshing.loop.call_later(0.05, refreshing.loop.stop)

    assert refreshing.handler(None, Context(30)) == VALUE
    source.resume()
    refreshing.loop.run_until_complete(asyncio.sleep(0.6))


def test_a_refresh_that_ends_with_its_loop_is_lost(source: InMemorySource, clock: ManualClock) -> None:
    """After three lost ones a read waits for its own."""
    cache = SecretCache(source, clock=clock, ttl=100.0, jitter=0.0, stale_while_revalidate=1000.0)
    handler = sync_handler(read, cache=cache)
    handler(None, None)
    clock.advance(150)
    source.rotate(NAME, "key-2")

    assert [handler(None, None) for _ in range(4)] == [VALUE, VALUE, VALUE, "key-2"]


async def _coroutine(event: object, context: object) -> None: ...


class _AsyncApp:
    async def __call__(self, event: object, context: object) -> None: ...


@pytest.mark.parametrize("function", [_coroutine, _AsyncApp()])
def test_an_async_handler_is_refused(function: Any) -> None:
    """It is told which decorator is meant."""
    with pytest.raises(ConfigurationError, match=r"use async_handler for `async def _(coroutine|AsyncApp)`"):
        sync_handler(function)


def test_a_coroutine_as_the_response_is_refused() -> None:
    """Lambda couldn't read it; nothing warns of it."""

    @sync_handler
    def forgets_to_run(event: object, context: object) -> Any:
        return _coroutine(event, context)

    with pytest.raises(ConfigurationError, match="returned a coroutine: use async_handler"):
        forgets_to_run(None, None)


@pytest.mark.parametrize("function", [5, App, ["prod/db"]])
def test_what_is_no_handler_is_refused(function: Any) -> None:
    """A class is one that was forgotten to be called."""
    with pytest.raises(ConfigurationError, match=r"such as Mangum\(app\), not "):
        sync_handler(function)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"prefetch": "prod/db"}, r"sync_handler\(prefetch=\['prod/db'\]\)"),
        ({"cache": InMemorySource()}, "cache must be a SecretCache, not InMemorySource"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], says: str) -> None:
    """When it decorates."""
    with pytest.raises(ConfigurationError, match=says):
        sync_handler(**arguments)


def test_a_failing_prefetch_is_logged(source: InMemorySource, caplog: pytest.LogCaptureFixture) -> None:
    """The handler is called all the same, and meets the error where it asks."""
    caplog.set_level(logging.WARNING)
    handler = sync_handler(lambda event, context: "called", prefetch=["prod/missing"])

    assert handler(None, None) == "called"
    assert "prefetch failed; the handler will fetch what it needs" in caplog.text
