"""sync_handler: for handlers that are synchronous outside, and asyncio inside."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar, overload

from asecretcache._cache import SecretCache, live_caches
from asecretcache._callables import is_async
from asecretcache._core.timeouts import time_left
from asecretcache._exceptions import ConfigurationError
from asecretcache._lambda.deadline import Scope, time_to_answer
from asecretcache._lambda.default import use_cache
from asecretcache._lambda.loop import DRAIN_SECONDS
from asecretcache._lambda.preparation import Preparation, check_arguments, is_another_handler
from asecretcache._loops import is_loop_running, run_on_new_loop

Event = TypeVar("Event")
Context = TypeVar("Context")
Result = TypeVar("Result")
Handler = Callable[[Event, Context], Result]


@overload
def sync_handler(function: Handler[Event, Context, Result], /) -> Handler[Event, Context | None, Result]: ...
@overload
def sync_handler(
    *, prefetch: Sequence[str] = (), cache: SecretCache | None = None
) -> Callable[[Handler[Event, Context, Result]], Handler[Event, Context | None, Result]]: ...
@overload
def sync_handler(
    function: Handler[Event, Context, Result], /, *, prefetch: Sequence[str] = (), cache: SecretCache | None = None
) -> Handler[Event, Context | None, Result]: ...
def sync_handler(function: Any = None, /, *, prefetch: Sequence[str] = (), cache: SecretCache | None = None) -> Any:
    """Give a synchronous Lambda handler what async_handler gives an ``async def`` one, but for the event loop.

    For handlers that run asyncio themselves: ``sync_handler(Mangum(app, lifespan="off"), prefetch=["prod/db"])``, a
    ``def`` that calls asyncio.run, a resolver of Powertools'. During INIT the sources of the caches that are in use are
    prepared and ``prefetch`` is fetched, in at most 5 s for all handlers together; with SnapStart after the restore. A
    failure there is logged, and is raised when the handler asks for the secret. All reads in an invocation end before
    its deadline, on whichever loop or thread it runs them.

    At the end of an invocation, refreshes in the background get 0.5 s on a loop that the handler has left open. If it
    closes its loop, as asyncio.run does, they are lost, and after three lost ones a read waits for its refresh.

    Args:
        function: the handler.
        prefetch: references of secrets to fetch before the first invocation.
        cache: the cache that get_secret() and the other module-level functions use within this handler.

    Raises:
        ConfigurationError: the handler is ``async def`` or can't be called, or an argument is wrong.
    """
    references = check_arguments("sync_handler", prefetch, cache)
    decorate = functools.partial(_decorate, references, cache)
    return decorate if function is None else decorate(function)


def _decorate(references: list[str], cache: SecretCache | None, function: Any) -> Any:
    _check(function)
    preparation = Preparation(references, cache, run_on_new_loop)

    def handler(event: Any, context: Any = None, /) -> Any:
        with Scope(time_to_answer(context)), use_cache(cache):
            # Inside a loop, as in a test, no other loop can be run; the handler fetches what it needs.
            if not is_loop_running():
                preparation.run_now()
            try:
                return _checked(function(event, context))
            finally:
                _drain(time_left(DRAIN_SECONDS))

    functools.update_wrapper(handler, function)
    if not is_another_handler(function):
        preparation.begin()
    return handler


def _check(function: Any) -> None:
    name = getattr(function, "__qualname__", type(function).__name__)
    if not callable(function) or isinstance(function, type):
        msg = f"sync_handler decorates a function or an object that can be called, such as Mangum(app), not {name}"
        raise ConfigurationError(msg)
    if is_async(function):
        raise ConfigurationError(
            f"sync_handler decorates synchronous handlers: use async_handler for `async def {name}`"
        )


def _checked(result: Any) -> Any:
    """Return a handler's result; raise ConfigurationError for a coroutine, which Lambda would take for the response."""
    if inspect.iscoroutine(result):
        result.close()
        raise ConfigurationError("the handler returned a coroutine: use async_handler with an `async def`, or run it")
    return result


def _drain(seconds: float) -> None:
    """Let refreshes in the background end, on loops that this thread has run and left open."""
    until = time.monotonic() + seconds
    if is_loop_running():
        return
    for cache in live_caches():
        single_flight = cache._loader.single_flight
        for loop in single_flight.stopped_loops():
            # Something of the handler's may stop its loop, which must not take the place of the handler's result.
            with suppress(RuntimeError):
                loop.run_until_complete(single_flight.drain(max(0.0, until - time.monotonic())))
