"""Which callables are async."""

from __future__ import annotations

import inspect


def is_async(function: object) -> bool:
    """Return whether a call returns a coroutine: of an async function, or of an object with an async ``__call__``."""
    if inspect.iscoroutinefunction(function):
        return True
    # Calling a class makes an instance, whatever calling the instance does.
    is_object = callable(function) and not isinstance(function, type)
    return is_object and inspect.iscoroutinefunction(type(function).__call__)
