"""async_handler: makes the synchronous handler that Lambda wants of an ``async def`` one."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar, overload

from asecretcache._cache import SecretCache, live_caches
from asecretcache._core.timeouts import time_left
from asecretcache._exceptions import ConfigurationError, SecretCacheError
from asecretcache._lambda.default import forget_bootstrapped, get_default_cache, handler_cache
from asecretcache._lambda.loop import invocations
from asecretcache._references import parse_reference

_logger: Final = logging.getLogger("asecretcache")

# INIT may take 10 s, and so may the hooks after a restore.
_INIT_SECONDS: Final = 5.0
_FAILED: Final = "prefetch failed; the handler will fetch what it needs: %s"

Event = TypeVar("Event", contravariant=True)
Context = TypeVar("Context", contravariant=True)
Result = TypeVar("Result", covariant=True)
HandlerFunction = Callable[[Event, Context], Coroutine[Any, Any, Result]]


class LambdaHandler(Protocol[Event, Context, Result]):
    """What async_handler returns: call it as Lambda does, or await its ``__wrapped__`` inside a running loop."""

    @property
    def __wrapped__(self) -> HandlerFunction[Event, Context, Result]:
        """The coroutine function itself."""

    def __call__(self, event: Event, context: Context | None, /) -> Result:
        """Run one invocation; context may be None, in tests."""


@overload
def async_handler(function: HandlerFunction[Event, Context, Result], /) -> LambdaHandler[Event, Context, Result]: ...
@overload
def async_handler(
    *, prefetch: Sequence[str] = (), cache: SecretCache | None = None
) -> Callable[[HandlerFunction[Event, Context, Result]], LambdaHandler[Event, Context, Result]]: ...
def async_handler(function: Any = None, /, *, prefetch: Sequence[str] = (), cache: SecretCache | None = None) -> Any:
    """Make an ``async def`` handler one that Lambda can call; used bare, or with arguments.

    All invocations run on one event loop, so that clients and pools survive between them, each in a copy of the context
    it was called with. During INIT the sources of the caches that are in use are prepared (imports, client) and
    ``prefetch`` is fetched. A failure there is logged, and is raised when the handler asks for the secret. Handlers
    called from several threads run one after another.

    Args:
        prefetch: references of secrets to fetch before the first invocation.
        cache: the cache that get_secret() and the other module-level functions use within this handler.

    Raises:
        ConfigurationError: the function isn't ``async def``, or an argument is wrong.
    """
    if isinstance(prefetch, (str, bytes)) or not isinstance(prefetch, Sequence):
        raise ConfigurationError("prefetch must be a list of secret references: async_handler(prefetch=['prod/db'])")
    if cache is not None and not isinstance(cache, SecretCache):
        raise ConfigurationError(f"cache must be a SecretCache, not {type(cache).__name__}")
    references = [parse_reference(reference).text for reference in prefetch]
    decorate = functools.partial(_decorate, references, cache)
    return decorate if function is None else decorate(function)


def _decorate(references: list[str], cache: SecretCache | None, function: HandlerFunction[Any, Any, Any]) -> Any:
    # An object whose class has an async __call__ may be a handler too.
    if not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)):
        name = getattr(function, "__qualname__", repr(function))
        if inspect.iscoroutinefunction(inspect.unwrap(function)):
            msg = f"async_handler must stand below the other decorators, directly above `async def {name}`: one of them"
            raise ConfigurationError(f"{msg} has made an ordinary function of it")
        msg = f"async_handler decorates `async def` handlers, and {name} isn't one: write `async def`, or leave it out"
        raise ConfigurationError(msg)
    bound = function if cache is None else _bind(function, cache)
    preparation = _Preparation(references, cache)

    def handler(event: Any, context: Any = None, /) -> Any:
        return invocations.run(lambda: bound(event, context), context, before=preparation.run_once)

    functools.update_wrapper(handler, bound)
    preparation.begin()
    return handler


def _bind(function: HandlerFunction[Any, Any, Any], cache: SecretCache) -> HandlerFunction[Any, Any, Any]:
    """Return the function with a cache of its own for the module-level functions that it calls."""

    @functools.wraps(function)
    async def bound(event: Any, context: Any) -> Any:
        token = handler_cache.set(cache)
        try:
            return await function(event, context)
        finally:
            handler_cache.reset(token)

    return bound


class _Preparation:
    """What is done before the first invocation: warm the source, prefetch. A failure is only logged."""

    def __init__(self, references: list[str], cache: SecretCache | None) -> None:
        self._references = references
        self._cache = cache
        self._is_done = False

    def begin(self) -> None:
        """Prepare now if this is Lambda's INIT; otherwise the first invocation will."""
        with suppress(ImportError):
            import snapshot_restore_py

            snapshot_restore_py.register_before_snapshot(self.before_snapshot)
            snapshot_restore_py.register_after_restore(self.after_restore)
        if "AWS_LAMBDA_RUNTIME_API" not in os.environ or invocations.is_inside_a_loop():
            return
        # A snapshot must hold no values: only the source is warmed, and the secrets are fetched after the restore.
        is_snapshot = os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start"
        invocations.run_work(lambda: self._run([]) if is_snapshot else self.run_once())

    async def run_once(self) -> None:
        """Prepare, unless that has been done."""
        if not self._is_done:
            self._is_done = True
            await self._run(self._references)

    async def _run(self, references: list[str]) -> None:
        """Fetch the secrets, and prepare the sources of all caches that are in use, or of the default cache."""
        # Within an invocation, leave the handler at least as much time again.
        seconds = min(_INIT_SECONDS, time_left(2 * _INIT_SECONDS) / 2)
        fetching: SecretCache | None = None
        try:
            async with asyncio.timeout(seconds):
                if references:
                    fetching = self._cache or get_default_cache()
                    await _attempt(fetching.prefetch(*references))  # The first fetch prepares its source.
                for cache in live_caches() or [get_default_cache()]:
                    if cache is not fetching:
                        await _attempt(cache.prefetch())
        except TimeoutError:
            _logger.warning("prefetch took longer than %g s and was ended", seconds)
        except SecretCacheError as exc:
            _logger.warning(_FAILED, exc)

    def before_snapshot(self) -> None:
        """Remove values, clients and bootstrap's variables, since many environments are cloned from one snapshot."""
        forget_bootstrapped()
        invocations.close(wait=True)
        for cache in live_caches():
            cache.clear()

    def after_restore(self) -> None:
        """Prefetch in the clone."""
        self._is_done = False
        invocations.run_work(self.run_once)


async def _attempt(prefetch: Coroutine[Any, Any, None]) -> None:
    """Log a failure instead of raising it, unless the failure is a cancellation of this task."""
    try:
        await prefetch
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        _logger.warning("prefetch was cancelled from inside; the handler will fetch what it needs")
    except Exception as exc:  # noqa: BLE001 - whatever it is, the handler must start, and meets it where it asks
        _logger.warning(_FAILED, exc)
