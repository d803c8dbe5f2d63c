"""async_handler: makes the synchronous handler that Lambda wants of an ``async def`` one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar, overload

from asecretcache._cache import SecretCache
from asecretcache._callables import is_async
from asecretcache._exceptions import ConfigurationError
from asecretcache._lambda.default import use_cache
from asecretcache._lambda.loop import invocations
from asecretcache._lambda.preparation import Preparation, check_arguments, is_another_handler

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
    ``prefetch`` is fetched, in at most 5 s for all handlers together; handlers of other Lambda functions in the same
    module do so before their own first invocation. A failure there is logged, and is raised when the handler asks for
    the secret. Handlers called from several threads run one after another.

    Args:
        prefetch: references of secrets to fetch before the first invocation.
        cache: the cache that get_secret() and the other module-level functions use within this handler.

    Raises:
        ConfigurationError: the function isn't ``async def``, or an argument is wrong.
    """
    references = check_arguments("async_handler", prefetch, cache)
    decorate = functools.partial(_decorate, references, cache)
    return decorate if function is None else decorate(function)


def _decorate(references: list[str], cache: SecretCache | None, function: HandlerFunction[Any, Any, Any]) -> Any:
    if not is_async(function):
        name = getattr(function, "__qualname__", repr(function))
        if inspect.iscoroutinefunction(inspect.unwrap(function)):
            msg = f"async_handler must stand below the other decorators, directly above `async def {name}`: one of them"
            raise ConfigurationError(f"{msg} has made an ordinary function of it")
        msg = f"async_handler decorates `async def` handlers, and {name} isn't one"
        raise ConfigurationError(f"{msg}: write `async def`, or use sync_handler")
    bound = function if cache is None else _bind(function, cache)
    preparation = Preparation(references, cache, invocations.run_work)

    def handler(event: Any, context: Any = None, /) -> Any:
        return invocations.run(lambda: bound(event, context), context, before=preparation.run_once)

    functools.update_wrapper(handler, bound)
    if not is_another_handler(function):
        preparation.begin()
    return handler


def _bind(function: HandlerFunction[Any, Any, Any], cache: SecretCache) -> HandlerFunction[Any, Any, Any]:
    """Return the function with a cache of its own for the module-level functions that it calls."""

    @functools.wraps(function)
    async def bound(event: Any, context: Any) -> Any:
        with use_cache(cache):
            return await function(event, context)

    return bound
