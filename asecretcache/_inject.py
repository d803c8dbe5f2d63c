"""Secrets as keyword arguments: the decorator behind SecretCache.inject."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from asecretcache._callables import is_async
from asecretcache._core.loader import Loader
from asecretcache._core.rotation import RefreshPolicy, Rotations, Secrets
from asecretcache._core.selection import of_one_version, select_texts
from asecretcache._exceptions import ConfigurationError
from asecretcache._models import Secret
from asecretcache._references import SecretReference, parse_reference

P = ParamSpec("P")
T = TypeVar("T")

_EXAMPLE: Final = "inject(password='prod/db:password')"


class Injected(Protocol):
    """A decorator, as type checkers see it: they can't take the injected parameters out, so it keeps them all."""

    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]], /) -> Callable[P, Coroutine[Any, Any, T]]: ...


class Injector:
    """A decorator that passes secrets to a function by the names of its arguments.

    Args:
        loader: loads them.
        rotations: gets other versions where the function refuses these.
        references: by the names of arguments.
        policy: when the function refuses its secrets; None: its errors are raised as they are.
    """

    def __init__(
        self, loader: Loader, rotations: Rotations, references: Mapping[str, str], policy: RefreshPolicy | None
    ) -> None:
        if not references:
            raise ConfigurationError(f"inject needs the arguments to pass: {_EXAMPLE}")
        self._loader = loader
        self._rotations = rotations
        self._references = {name: parse_reference(reference) for name, reference in references.items()}
        self._policy = policy

    def __call__(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        signature, positions = _examine(function, self._references)

        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            # What the caller passes, by position or by keyword, isn't fetched.
            wanted = {
                name: reference
                for name, reference in self._references.items()
                if name not in kwargs and not positions.get(name, len(args)) < len(args)
            }
            called = _Call(self._loader, function, wanted, args, kwargs)
            # What a caller passes in place of a secret is one too.
            del args, kwargs
            secrets = await self._load(wanted)
            if self._policy is None or not secrets:
                return await called(secrets)
            return await self._rotations.call(secrets, called, self._policy)

        # A framework that fills in arguments by the signature must neither ask for a secret nor take one from outside.
        call.__signature__ = signature  # type: ignore[attr-defined]  # as inspect.signature looks it up
        return call

    async def _load(self, wanted: Mapping[str, SecretReference]) -> Secrets:
        results = await self._loader.load_all([reference.request for reference in wanted.values()])
        secrets = {request: result for request, result in results.items() if isinstance(result, Secret)}
        if len(secrets) < len(results):
            select_texts(self._loader, list(wanted.values()), results)  # It raises an error for each that failed.
        return secrets


class _Call:
    """A call of the function, which may be made twice. No traceback shows what it holds, since its repr doesn't."""

    __slots__ = ("_args", "_function", "_kwargs", "_loader", "_references")

    def __init__(
        self,
        loader: Loader,
        function: Callable[..., Awaitable[Any]],
        references: Mapping[str, SecretReference],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._loader = loader
        self._function = function
        self._references = references
        self._args = args
        self._kwargs = kwargs

    def __call__(self, secrets: Secrets) -> Awaitable[Any]:
        # The values are in no local of this frame, since a traceback may show them.
        return self._function(*self._args, **self._kwargs, **self._values(secrets))

    def _values(self, secrets: Secrets) -> dict[str, str]:
        secrets = of_one_version(self._loader, secrets)
        texts = select_texts(self._loader, list(self._references.values()), secrets)
        return {name: texts[reference.text] for name, reference in self._references.items()}


def _examine(function: Callable[..., Any], injected: Mapping[str, object]) -> tuple[inspect.Signature, dict[str, int]]:
    """Return the signature without the injected arguments, and at which position each argument may be passed.

    Raises:
        ConfigurationError: the function isn't ``async def``, or doesn't take one of them by keyword.
    """
    if not is_async(function):
        remedy = "(put inject below @classmethod and the like)"
        raise ConfigurationError(f"inject decorates `async def` functions, and {_name(function)} isn't one {remedy}")
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        msg = f"the signature of {_name(function)} can't be read: wrap it in an `async def` that takes the secrets"
        raise ConfigurationError(msg) from None
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
