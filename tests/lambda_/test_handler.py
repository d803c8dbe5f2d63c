"""async_handler in this process: loops, caches, and what may be decorated."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

from asecretcache import (
    ConfigurationError,
    LambdaHandler,
    SecretCache,
    async_handler,
    get_default_cache,
    get_secret,
    get_secrets,
)
from asecretcache.testing import InMemorySource

NAME, VALUE = "prod/api", "key-1"


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

    with pytest.raises(Exception, match="has no such secret"):
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


@pytest.mark.parametrize("function", [lambda event, context: None, print, int])
def test_a_function_that_is_not_async_is_refused(function: Any) -> None:
    """At decoration, saying what to do."""
    with pytest.raises(ConfigurationError, match="isn't one: write `async def`, or use sync_handler"):
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


def test_the_text_of_a_wrong_decoration_names_the_function() -> None:
    """By its qualified name, or as it is shown if it has none."""

    def plain() -> None:
        raise NotImplementedError

    name = "test_the_text_of_a_wrong_decoration_names_the_function.<locals>.plain"
    for function, shown in ((plain, name), (5, "5")):
        with pytest.raises(ConfigurationError) as caught:
            async_handler(function)  # type: ignore[arg-type]  # the mistake
        told = f"async_handler decorates `async def` handlers, and {shown} isn't one"
        assert str(caught.value) == f"{told}: write `async def`, or use sync_handler"
    with pytest.raises(ConfigurationError) as caught:
        async_handler(prefetch="prod/db")
    example = "async_handler(prefetch=['prod/db'])"
    assert str(caught.value) == f"prefetch must be a list of secret references: {example}"


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
