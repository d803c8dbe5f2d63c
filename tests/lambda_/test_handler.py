"""async_handler in this process: caches, INIT, SnapStart; end_to_end/test_awslambdaric.py has the real runtime."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from asecretcache import (
    ConfigurationError,
    LambdaHandler,
    Secret,
    SecretCache,
    SecretRequest,
    SecretUnavailableError,
    async_handler,
    bootstrap,
    get_default_cache,
    get_secret,
    get_secrets,
    set_default_cache,
)
from asecretcache._cache import live_caches
from asecretcache.testing import InMemorySource
from simulation.virtual_loop import VirtualTime
from virtual_runner import Context

NAME, VALUE = "prod/api", "key-1"


class WarmSource(InMemorySource):
    """A source that counts its preparations."""

    warmed = 0
    raises: Callable[[], BaseException] | None = None

    async def warm(self) -> None:
        self.warmed += 1
        if self.raises is not None:
            raise self.raises()


def test_all_invocations_share_one_loop_and_one_fetch(source: InMemorySource) -> None:
    """Decorated bare, the handler keeps its name and docstring, and pays for one call."""
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
    with pytest.raises(ConfigurationError, match=r"await handler\.__wrapped__\(event, context\) instead"):
        handler(1, None)


def handler_of(cache: SecretCache) -> LambdaHandler[str, object, tuple[str, str, SecretCache]]:
    """Return a handler with a cache of its own, which reads by the module-level functions."""

    @async_handler(cache=cache)
    async def handler(event: str, context: object) -> tuple[str, str, SecretCache]:
        await asyncio.sleep(0)
        return await get_secret(event), (await get_secrets(event))[event], get_default_cache()

    return handler


def test_a_handlers_cache_is_the_handlers_alone(default: SecretCache) -> None:
    """Two handlers with two caches don't overwrite each other's, nor the process's default cache."""
    caches = [SecretCache(InMemorySource({NAME: value})) for value in ("one", "two")]
    handlers = [handler_of(cache) for cache in caches]
    for _ in range(2):
        for handler, cache, value in zip(handlers, caches, ("one", "two"), strict=True):
            assert handler(NAME, None) == (value, value, cache)
        assert get_default_cache() is default


async def test_a_handlers_cache_is_used_by_wrapped_too(default: SecretCache) -> None:
    """Also when both handlers run at the same time; around them the default cache is as before."""
    caches = [SecretCache(InMemorySource({NAME: value})) for value in ("one", "two")]
    handlers = [handler_of(cache) for cache in caches]
    results = await asyncio.gather(*(handler.__wrapped__(NAME, None) for handler in handlers))

    assert results == [("one", "one", caches[0]), ("two", "two", caches[1])]
    assert await handlers[0].__wrapped__(NAME, None) == results[0]
    assert get_default_cache() is default


async def test_a_failing_handler_gives_its_cache_back(default: SecretCache) -> None:
    """The default cache is in use again after an error, too."""

    @async_handler(cache=SecretCache(InMemorySource()))
    async def handler(event: object, context: object) -> None:
        await get_secret(NAME)

    with pytest.raises(Exception, match="there is no secret"):
        await handler.__wrapped__(None, None)
    assert get_default_cache() is default


def test_tasks_of_a_handler_use_its_cache(default: SecretCache) -> None:
    """A task that an invocation leaves running keeps the cache of its handler, whichever handler runs then."""
    own = SecretCache(InMemorySource({NAME: "own"}))
    tasks: list[asyncio.Task[str]] = []
    gate = asyncio.Event()

    async def read_later() -> str:
        await gate.wait()
        return await get_secret(NAME)

    @async_handler(cache=own)
    async def leaving(event: object, context: object) -> None:
        tasks.append(asyncio.create_task(read_later()))

    @async_handler
    async def collecting(event: object, context: object) -> tuple[str, str]:
        gate.set()
        return await tasks[0], await get_secret(NAME)

    leaving(None, None)
    assert collecting(None, None) == ("own", VALUE)


def test_the_prefetch_precedes_the_first_invocation() -> None:
    """Outside of Lambda it happens at the first invocation, once, into the handler's cache; keys are ignored."""
    source = InMemorySource({NAME: VALUE, "b": '{"k": 1}'})
    seen: list[int] = []

    @async_handler(prefetch=[NAME, "b:k", "b:other"], cache=SecretCache(source))
    async def handler(event: object, context: object) -> str:
        seen.append(len(source.calls))
        return await get_secret(NAME)

    assert not source.calls
    assert handler(None, None) == handler(None, None) == VALUE
    assert seen == [2, 2]


@pytest.mark.usefixtures("lambda_init")
def test_during_init_the_prefetch_is_done_at_import(source: InMemorySource) -> None:
    """With Lambda's runtime around, decorating is enough."""

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    assert len(source.calls) == 1
    assert handler(None, None) == VALUE
    assert len(source.calls) == 1


@pytest.mark.usefixtures("lambda_init")
async def test_inside_a_running_loop_init_does_nothing(source: InMemorySource) -> None:
    """INIT can't block there; the first invocation does its work."""

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> None: ...

    assert not source.calls
    await asyncio.to_thread(handler, None, None)
    assert len(source.calls) == 1


@pytest.mark.usefixtures("lambda_init")
@pytest.mark.parametrize("prefetch", [[], [NAME]])
def test_init_prepares_the_sources_of_all_caches_in_use(default: SecretCache, prefetch: list[str]) -> None:
    """Also of a cache that is no handler's; a source that fetches prepares itself."""
    sources = [WarmSource({NAME: VALUE}) for _ in range(2)]
    caches = [SecretCache(source) for source in sources]

    @async_handler(prefetch=prefetch, cache=caches[0])
    async def handler(event: object, context: object) -> None: ...

    assert [source.warmed for source in sources] == [0 if prefetch else 1, 1]
    assert [len(source.calls) for source in sources] == [len(prefetch), 0]


@pytest.mark.usefixtures("lambda_init")
def test_init_prepares_the_default_cache_if_no_cache_is_in_use(
    default: SecretCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made then, so that the imports are done before the first invocation."""
    source = WarmSource()
    monkeypatch.setattr("asecretcache._cache.SecretsManagerSource", lambda: source)
    asyncio.run(default.aclose())
    set_default_cache(None)
    gc.collect()
    assert live_caches() == []

    @async_handler
    async def handler(event: object, context: object) -> None: ...

    assert source.warmed == 1
    assert live_caches() == [get_default_cache()]


@pytest.mark.usefixtures("lambda_init")
def test_a_default_cache_that_cannot_be_made_does_not_fail_init(
    default: SecretCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A variable with a wrong value is logged, and raised where the handler asks for a secret."""
    monkeypatch.setenv("ASECRETCACHE_TTL", "soon")
    set_default_cache(None)

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    (message,) = caplog.messages
    assert re.search("prefetch failed.*ASECRETCACHE_TTL", message)
    with pytest.raises(ConfigurationError, match="ASECRETCACHE_TTL"):
        handler(None, None)


@pytest.mark.usefixtures("lambda_init")
def test_a_failing_prefetch_is_logged_and_leaves_no_trace(
    source: InMemorySource, default: SecretCache, caplog: pytest.LogCaptureFixture
) -> None:
    """INIT goes on, and the handler fetches for itself."""
    source.fail(SecretUnavailableError("down", secret_id=NAME), times=1)

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "prefetch failed; the handler will fetch what it needs" in caplog.text
    assert f"secret '{NAME}': down" in caplog.text
    assert default.peek(NAME) is None
    assert handler(None, None) == VALUE


@pytest.mark.usefixtures("lambda_init")
def test_a_prefetch_during_init_is_ended_after_five_seconds(
    source: InMemorySource, caplog: pytest.LogCaptureFixture, virtual_time: VirtualTime
) -> None:
    """Lambda gives INIT ten; the fetch is cancelled with it."""
    source.pause()

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    assert virtual_time.now == 5.0
    assert caplog.messages == ["prefetch took longer than 5 s and was ended"]
    source.resume()
    assert handler(None, None) == VALUE
    assert len(source.calls) == 2


@pytest.mark.usefixtures("lambda_init")
@pytest.mark.parametrize(
    ("raises", "says"),
    [
        (asyncio.CancelledError, r"\Aprefetch was cancelled from inside; the handler will fetch what it needs\Z"),
        (TimeoutError, "prefetch failed"),
        (lambda: LookupError("models"), "prefetch failed.*models"),
    ],
)
def test_preparations_that_raise_do_not_fail_init(
    raises: Callable[[], BaseException], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the other sources are prepared; a source whose own tasks are cancelled counts as failed."""
    source, other = WarmSource({NAME: VALUE}), WarmSource()
    source.raises = raises
    kept = SecretCache(source), SecretCache(other)

    @async_handler(cache=kept[0])
    async def handler(event: object, context: object) -> str:
        return await get_secret(NAME)

    assert (source.warmed, other.warmed) == (1, 1)
    (message,) = caplog.messages
    assert re.search(says, message)
    assert handler(None, None) == VALUE


@pytest.mark.usefixtures("lambda_init")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_ctrl_c_during_the_prefetch_is_not_swallowed() -> None:
    """A cancellation from outside ends INIT."""

    class Interrupted(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            signal.raise_signal(signal.SIGINT)
            return await super().fetch(request)

    # A shell lets its background jobs ignore the signal, and the suite may be one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):

            @async_handler(prefetch=[NAME], cache=SecretCache(Interrupted({NAME: VALUE})))
            async def handler(event: object, context: object) -> None: ...
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("seconds", "ends_at"), [(4.0, 1.8), (60.0, 5.0)])
def test_a_prefetch_at_the_first_invocation_leaves_the_handler_time(
    source: InMemorySource, caplog: pytest.LogCaptureFixture, virtual_time: VirtualTime, seconds: float, ends_at: float
) -> None:
    """It takes at most half of the time before the deadline, and never more than during INIT."""
    source.pause()

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> float:
        return virtual_time.now

    assert handler(None, Context(seconds)) == pytest.approx(ends_at)
    assert f"prefetch took longer than {ends_at:g} s" in caplog.text


@pytest.mark.parametrize("function", [lambda event, context: None, print, int])
def test_a_function_that_is_not_async_is_refused(function: Any) -> None:
    """At decoration, saying what to do."""
    with pytest.raises(ConfigurationError, match="isn't one: write `async def`, or leave it out"):
        async_handler(function)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"prefetch": "prod/db"}, "prefetch must be a list of secret references"),
        ({"prefetch": None}, "prefetch must be a list of secret references"),
        ({"prefetch": {"prod/db"}}, "prefetch must be a list of secret references"),
        ({"prefetch": ["a:b:c:d:e"]}, "has 5 parts"),
        ({"prefetch": [["a"]]}, "must be a str"),
        ({"cache": InMemorySource()}, "cache must be a SecretCache, not InMemorySource"),
    ],
)
def test_a_bad_argument_is_refused_at_decoration(arguments: dict[str, Any], says: str) -> None:
    """That is a mistake in the code, not a failure of the moment."""
    with pytest.raises(ConfigurationError, match=says):
        async_handler(**arguments)


def test_an_object_with_an_async_call_is_a_handler() -> None:
    """Frameworks make such objects; with a cache it works as well."""

    class Handler:
        async def __call__(self, event: str, context: object) -> str:
            return await get_secret(event)

    assert async_handler(Handler())(NAME, None) == VALUE
    own = SecretCache(InMemorySource({NAME: "own"}))
    assert async_handler(cache=own)(Handler())(NAME, None) == "own"


def test_a_context_may_be_left_out() -> None:
    """Tests have none, and a context that doesn't tell the time sets no deadline."""

    @async_handler
    async def handler(event: str, context: object) -> tuple[str, object]:
        return await get_secret(event), context

    assert handler(NAME) == (VALUE, None)  # type: ignore[call-arg]  # for tests; Lambda passes both
    other = object()
    assert handler(NAME, other) == (VALUE, other)


def test_a_snapshot_holds_no_values_and_the_restore_prefetches(
    hooks: tuple[list[Any], list[Any]],
    source: InMemorySource,
    default: SecretCache,
    monkeypatch: pytest.MonkeyPatch,
    lambda_init: None,
) -> None:
    """Before the snapshot only sources are prepared; values, the loop and bootstrap's variables are dropped."""
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    loops: list[asyncio.AbstractEventLoop] = []
    warm = WarmSource({NAME: VALUE})
    other = SecretCache(warm)

    @async_handler(prefetch=[NAME])
    async def handler(event: object, context: object) -> str:
        loops.append(asyncio.get_running_loop())
        return await get_secret(NAME)

    assert (len(source.calls), warm.warmed) == (0, 1)
    asyncio.run(bootstrap({"FROM_SECRET": NAME}))
    asyncio.run(other.get(NAME))
    handler(None, None)
    for hook in hooks[0]:
        hook()
    assert default.peek(NAME) is other.peek(NAME) is None
    assert loops[0].is_closed()
    assert "FROM_SECRET" not in os.environ

    for hook in hooks[1]:
        hook()
    assert default.peek(NAME)
    assert handler(None, None) == VALUE
    assert len(source.calls) == 2


def test_without_the_snapshot_library_nothing_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is in Lambda's own runtime, and need not be elsewhere."""
    monkeypatch.setitem(sys.modules, "snapshot_restore_py", None)

    @async_handler
    async def handler(event: int, context: object) -> int:
        return event

    assert handler(1, None) == 1


def test_the_text_of_a_wrong_decoration_names_the_function() -> None:
    """By its qualified name, or as it is shown if it has none."""

    def plain() -> None:
        raise NotImplementedError

    name = "test_the_text_of_a_wrong_decoration_names_the_function.<locals>.plain"
    for function, shown in ((plain, name), (5, "5")):
        with pytest.raises(ConfigurationError) as caught:
            async_handler(function)  # type: ignore[arg-type]  # the mistake
        told = f"async_handler decorates `async def` handlers, and {shown} isn't one"
        assert str(caught.value) == f"{told}: write `async def`, or leave it out"
    with pytest.raises(ConfigurationError) as caught:
        async_handler(prefetch="prod/db")
    example = "async_handler(prefetch=['prod/db'])"
    assert str(caught.value) == f"prefetch must be a list of secret references: {example}"


def test_a_prefetch_that_failed_is_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    """The handler fetches what it needs; a later invocation prefetches nothing."""
    source = InMemorySource({NAME: VALUE})
    source.fail(SecretUnavailableError("down"))

    @async_handler(prefetch=[NAME], cache=SecretCache(source))
    async def handler(event: object, context: object) -> None:
        pass

    handler(None, None)
    handler(None, None)

    assert len(source.calls) == 1


def test_a_handler_beneath_another_decorator_is_told_the_order() -> None:
    """The function is `async def`, and what the decorator made of it isn't."""

    def traced(function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any) -> Any:
            return function(*args)

        return call

    @traced
    async def base(event: object, context: object) -> None:
        pass

    with pytest.raises(ConfigurationError) as caught:
        async_handler(base)

    told = f"async_handler must stand below the other decorators, directly above `async def {base.__qualname__}`"
    assert str(caught.value) == f"{told}: one of them has made an ordinary function of it"
