"""Secrets as keyword arguments: the decorator behind SecretCache.inject."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from asecretcache._exceptions import ConfigurationError
from asecretcache._references import parse_reference

T = TypeVar("T")
GetSecrets = Callable[..., Awaitable[dict[str, str]]]


def injector(get_secrets: GetSecrets, references: Mapping[str, str]) -> Callable[[Any], Any]:
    """Return a decorator that passes what ``get_secrets`` returns for these references, by the names of arguments."""
    if not references:
        raise ConfigurationError("inject needs the arguments to pass: inject(password='prod/db:password')")
    texts = {name: parse_reference(reference).text for name, reference in references.items()}

    def decorate(function: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., Coroutine[Any, Any, T]]:
        signature, positions = _examine(function, texts)

        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> T:
            # What the caller passes, by position or by keyword, isn't fetched.
            wanted = {
                name: text
                for name, text in texts.items()
                if name not in kwargs and not positions.get(name, len(args)) < len(args)
            }
            try:
                # The values are in no local of this frame, since a traceback may show them.
                called = function(*args, **kwargs, **_by_name(wanted, await get_secrets(*wanted.values())))
            finally:
                # What a caller passes in place of a secret is one too.
                del args, kwargs
            return await called

        # A framework that fills in arguments by the signature must neither ask for a secret nor take one from outside.
        call.__signature__ = signature  # type: ignore[attr-defined]  # as inspect.signature looks it up
        return call

    return decorate


def _by_name(texts: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    return {name: values[text] for name, text in texts.items()}


def _examine(function: Callable[..., Any], injected: Mapping[str, object]) -> tuple[inspect.Signature, dict[str, int]]:
    """Return the signature without the injected arguments, and at which position each argument may be passed.

    Raises:
        ConfigurationError: the function isn't ``async def``, or doesn't take one of them by keyword.
    """
    if not inspect.iscoroutinefunction(function):
        remedy = "(put inject below @classmethod and the like)"
        raise ConfigurationError(f"inject decorates `async def` functions, and {_name(function)} isn't one {remedy}")
    signature = inspect.signature(function)
    parameters = signature.parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    for name in injected:
        kind = parameters[name].kind if name in parameters else None
        by_keyword = kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        if not by_keyword and not (takes_any and kind in (None, inspect.Parameter.POSITIONAL_ONLY)):
            raise ConfigurationError(f"inject would pass {name}=, which {_name(function)} doesn't take by keyword")
    positions = {
        name: position
        for position, (name, each) in enumerate(parameters.items())
        if each.kind is each.POSITIONAL_OR_KEYWORD
    }
    rest: list[inspect.Parameter] = []
    is_past = False
    for name, each in parameters.items():
        if name in injected and name in positions:
            # An argument after it can't be passed by position without passing it too.
            is_past = True
        elif is_past and each.kind is each.POSITIONAL_OR_KEYWORD:
            rest.append(each.replace(kind=each.KEYWORD_ONLY))
        elif name not in injected and not (is_past and each.kind is each.VAR_POSITIONAL):
            rest.append(each)
    return signature.replace(parameters=rest), positions


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))
