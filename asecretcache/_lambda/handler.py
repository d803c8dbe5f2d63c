"""The Lambda entry point: a synchronous handler, as the runtime wants it, around an asynchronous one."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Protocol, TypeVar, overload

from asecretcache._cache import SecretCache, live_caches
from asecretcache._core.timeouts import current_deadline
from asecretcache._exceptions import ConfigurationError
from asecretcache._lambda.default import forget_bootstrapped, get_default_cache, set_default_cache
from asecretcache._lambda.loop import invocations
from asecretcache._models import SecretRequest
from asecretcache._references import SecretReference

_logger: Final = logging.getLogger("asecretcache")

# Of the 10 s that INIT may take, and of the 10 s that the hooks after a restore may take.
_INIT_SECONDS: Final = 5.0

Event = TypeVar("Event", contravariant=True)
Context = TypeVar("Context", contravariant=True)
Result = TypeVar("Result", covariant=True)


class LambdaHandler(Protocol[Event, Context, Result]):
    """What async_handler makes: call it as Lambda does, or in a test inside a running loop await ``__wrapped__``."""

    @property
    def __wrapped__(self) -> Callable[[Event, Context], Coroutine[Any, Any, Result]]:
        """The coroutine function itself."""

    def __call__(self, event: Event, context: Context | None, /) -> Result:
        """Run one invocation; context may be None, in tests."""


@overload
def async_handler(
    function: Callable[[Event, Context], Coroutine[Any, Any, Result]], /
) -> LambdaHandler[Event, Context, Result]: ...
@overload
def async_handler(
    *, prefetch: Sequence[str] = (), cache: SecretCache | None = None
) -> Callable[[Callable[[Event, Context], Coroutine[Any, Any, Result]]], LambdaHandler[Event, Context, Result]]: ...
def async_handler(function: Any = None, /, *, prefetch: Sequence[str] = (), cache: SecretCache | None = None) -> Any:
    """Make an ``async def`` handler one that Lambda can call; bare, or with arguments.

    All invocations run on one event loop, so clients and pools survive between them, each in a copy of the context it
    was called with. During INIT the imports are done and ``prefetch`` is fetched; a failure there is logged, and shows
    when the handler asks for the secret. Handlers called from several threads run one after another.

    Arguments:
        prefetch: references of secrets to fetch before the first invocation.
        cache: becomes the default cache, which get_secret() and the others use.

    Raises:
        ConfigurationError: the function isn't ``async def``, or an argument is wrong.
    """
    references = _parse(prefetch)
    if cache is not None:
        set_default_cache(cache)
    if function is None:
        return functools.partial(_decorate, requests=references)
    return _decorate(function, requests=references)


def _parse(prefetch: object) -> list[SecretRequest]:
    if isinstance(prefetch, (str, bytes)) or not isinstance(prefetch, Sequence):
        msg = "prefetch is a list of secret references: async_handler(prefetch=['prod/db'])"
        raise ConfigurationError(msg)
    return [SecretReference.parse(reference).request for reference in prefetch]


def _decorate(function: Callable[[Any, Any], Coroutine[Any, Any, Any]], *, requests: list[SecretRequest]) -> Any:
    # An object may be a handler too, if its class has an async __call__.
    if not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)):
        name = getattr(function, "__qualname__", repr(function))
        msg = (
            f"async_handler is for `async def` handlers, and {name} isn't one: write `async def`, or don't decorate it"
        )
        raise ConfigurationError(msg)
    preparation = _Preparation(requests)

    def handler(event: Any, context: Any = None, /) -> Any:
        return invocations.run(lambda: function(event, context), context, before=preparation.run_once)

    functools.update_wrapper(handler, function)
    preparation.begin()
    return handler


class _Preparation:
    """What is done before the first invocation: warm the source, prefetch. It fails only in the log."""

    def __init__(self, requests: list[SecretRequest]) -> None:
        self._requests = requests
        self._is_done = False

    def begin(self) -> None:
        """Do it now if this is Lambda's INIT; else the first invocation will."""
        _register_snapshot_hooks(self)
        if "AWS_LAMBDA_RUNTIME_API" not in os.environ or invocations.is_inside_a_loop():
            return
        if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
            # Values don't belong into a snapshot: only the source is warmed, the restore does the rest.
            invocations.prepare(lambda: self._run([]))
        else:
            invocations.prepare(self.run_once)

    async def run_once(self) -> None:
        """Do it, unless it has been done."""
        if not self._is_done:
            self._is_done = True
            await self._run(self._requests)

    async def _run(self, requests: list[SecretRequest]) -> None:
        seconds = _INIT_SECONDS
        deadline = current_deadline()
        if deadline is not None and deadline.at is not None:
            # In an invocation the handler is to have time left, at least as much again.
            seconds = min(seconds, max(0.0, deadline.at - asyncio.get_running_loop().time()) / 2)
        try:
            async with asyncio.timeout(seconds):
                await get_default_cache()._prefetch(requests)
        except TimeoutError:
            _logger.warning("prefetch took longer than %g s and was ended", seconds)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            _logger.warning("prefetch was cancelled from inside, the handler will fetch what it needs")
        except Exception as exc:  # noqa: BLE001 - whatever it is, the handler is to start, and sees it where it asks
            _logger.warning("prefetch failed, the handler will fetch what it needs: %s", exc)

    def before_snapshot(self) -> None:
        """Take values, clients and what bootstrap wrote out of what many environments will be cloned from."""
        forget_bootstrapped()
        invocations.close()
        for cache in live_caches():
            cache.clear()

    def after_restore(self) -> None:
        """Prefetch in the clone."""
        self._is_done = False
        invocations.prepare(self.run_once)


def _register_snapshot_hooks(preparation: _Preparation) -> None:
    try:
        import snapshot_restore_py
    except ImportError:
        return
    snapshot_restore_py.register_before_snapshot(preparation.before_snapshot)
    snapshot_restore_py.register_after_restore(preparation.after_restore)
