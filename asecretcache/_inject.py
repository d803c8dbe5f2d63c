"""Secrets as keyword arguments: the decorator behind SecretCache.inject."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from asecretcache._exceptions import ConfigurationError
from asecretcache._references import SecretReference

T = TypeVar("T")
Read = Callable[[list[SecretReference]], Awaitable[list[str]]]
Decorator = Callable[[Callable[..., Coroutine[Any, Any, T]]], Callable[..., Coroutine[Any, Any, T]]]


def injector(read: Read, references: Mapping[str, object]) -> Callable[[Any], Any]:
    """Return a decorator that passes what ``read`` returns for these references, by the names of arguments."""
    if not references:
        msg = "inject is given the arguments to pass: inject(password='prod/db:password')"
        raise ConfigurationError(msg)
    parsed = {name: SecretReference.parse(reference) for name, reference in references.items()}

    def decorate(function: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., Coroutine[Any, Any, T]]:
        _check(function)
        signature, positions = _examine(function, parsed)

        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> T:
            # What the caller passes, by whichever way, isn't fetched.
            wanted = [name for name in parsed if name not in kwargs and not positions.get(name, len(args)) < len(args)]
            try:
                # The values have no name here: a traceback may show this frame's locals.
                pairs = zip(wanted, await read([parsed[name] for name in wanted]), strict=True)
                called = function(*args, **kwargs, **dict(pairs))
            finally:
                # What a caller passes in place of a secret is one too.
                del args, kwargs
            return await called

        # Frameworks that fill in arguments by the signature must neither ask for a secret nor take one from outside.
        call.__signature__ = signature  # type: ignore[attr-defined]  # as inspect.signature looks it up
        return call

    return decorate


def _check(function: object) -> None:
    if not inspect.iscoroutinefunction(function):
        msg = (
            f"inject is for `async def` functions, and {_name(function)} isn't one "
            "(put it below @classmethod and the like)"
        )
        raise ConfigurationError(msg)


def _examine(function: Callable[..., Any], injected: Mapping[str, object]) -> tuple[inspect.Signature, dict[str, int]]:
    """Return the signature without the injected arguments, and at which position each argument may be passed.

    Raises:
        ConfigurationError: the function doesn't take one of them by keyword.
    """
    signature = inspect.signature(function)
    parameters = signature.parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    for name in injected:
        kind = parameters[name].kind if name in parameters else None
        by_keyword = kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        if not by_keyword and not (takes_any and kind in (None, inspect.Parameter.POSITIONAL_ONLY)):
            msg = f"inject would pass {name}=, which {_name(function)} doesn't take by keyword"
            raise ConfigurationError(msg)
    positions = {
        name: position
        for position, (name, each) in enumerate(parameters.items())
        if each.kind is each.POSITIONAL_OR_KEYWORD
    }
    rest: list[inspect.Parameter] = []
    is_past = False
    for name, each in parameters.items():
        if name in injected and name in positions:
            # Who would pass what comes after it by position would pass it too.
            is_past = True
        elif is_past and each.kind is each.POSITIONAL_OR_KEYWORD:
            rest.append(each.replace(kind=each.KEYWORD_ONLY))
        elif name not in injected and not (is_past and each.kind is each.VAR_POSITIONAL):
            rest.append(each)
    return signature.replace(parameters=rest), positions


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))
