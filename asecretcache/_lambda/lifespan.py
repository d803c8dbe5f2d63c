"""asgi_lifespan: what an ASGI application does at its start and end."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, TypeVar, overload

from asecretcache._cache import SecretCache, live_caches
from asecretcache._core.timeouts import time_left
from asecretcache._exceptions import ConfigurationError, SecretCacheError
from asecretcache._lambda.deadline import Scope
from asecretcache._lambda.default import get_default_cache, process
from asecretcache._lambda.loop import DRAIN_SECONDS
from asecretcache._lambda.preparation import FAILED, check_arguments

_logger: Final = logging.getLogger("asecretcache")

State = TypeVar("State")
#: What Starlette and FastAPI take: it may yield the state that requests see.
Lifespan = Callable[[Any], AbstractAsyncContextManager[State]]


@overload
def asgi_lifespan(
    *, prefetch: Sequence[str] = (), cache: SecretCache | None = None, required: bool = False
) -> Lifespan[None]: ...
@overload
def asgi_lifespan(
    lifespan: Lifespan[State],
    /,
    *,
    prefetch: Sequence[str] = (),
    cache: SecretCache | None = None,
    required: bool = False,
) -> Lifespan[State]: ...
def asgi_lifespan(
    lifespan: Lifespan[Any] | None = None,
    /,
    *,
    prefetch: Sequence[str] = (),
    cache: SecretCache | None = None,
    required: bool = False,
) -> Lifespan[Any]:
    """Return a lifespan for an ASGI application: ``FastAPI(lifespan=asgi_lifespan(prefetch=["prod/db"]))``.

    At the start the secrets are fetched, so that the first request finds them; without any, the source is prepared. At
    the end the clients of this event loop are closed. Values stay: a server runs its lifespan once per worker, but
    Mangum in each invocation, on a loop of its own. There only the first one fetches, and the first one after
    set_default_cache().

    Args:
        lifespan: the application's own, which runs within this one and may use the secrets.
        prefetch: references of secrets to fetch.
        cache: where to; None for the default cache. Requests use it by its name, or after set_default_cache().
        required: whether a failure ends the start, instead of being logged.

    Raises:
        ConfigurationError: an argument is wrong.
        SecretErrorGroup: at the start, if it is required: with an error for each secret that failed.
    """
    _check(lifespan)
    references = check_arguments("asgi_lifespan", prefetch, cache)
    done_for: int | None = None

    @asynccontextmanager
    async def run(app: Any) -> AsyncIterator[Any]:
        nonlocal done_for
        generation = process.generation(cache)
        if done_for != generation:
            await _start(references, cache, required=required)
            done_for = generation
        try:
            if lifespan is None:
                yield None
            else:
                async with lifespan(app) as state:
                    yield state
        finally:
            for each in live_caches():
                await each._loader.single_flight.drain(time_left(DRAIN_SECONDS))
                await each._close_connections()

    return run


async def _start(references: list[str], cache: SecretCache | None, *, required: bool) -> None:
    left = time_left(math.inf)
    try:
        # In an invocation leave the requests as much time again.
        with Scope(None if left == math.inf else left / 2, asyncio.get_running_loop().time):
            await (get_default_cache() if cache is None else cache).prefetch(*references)
    except SecretCacheError as exc:
        if required:
            raise
        _logger.warning(FAILED, exc)


def _check(lifespan: Any) -> None:
    """Raise ConfigurationError for what can't be a lifespan function; a server would tell it only at its start."""
    given = None
    if hasattr(lifespan, "routes"):
        given = "the application: FastAPI(lifespan=asgi_lifespan(prefetch=[...]))"
    elif inspect.isasyncgenfunction(lifespan):
        given = "an async generator function: decorate it with @contextlib.asynccontextmanager"
    elif lifespan is not None and not callable(lifespan):
        given = f"{type(lifespan).__name__}; secrets are named by prefetch=['prod/db']"
    if given is not None:
        raise ConfigurationError(f"asgi_lifespan takes a lifespan function, not {given}")
