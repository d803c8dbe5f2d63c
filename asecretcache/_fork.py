"""One hook for the child of a fork, which all objects share that must start afresh there."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, Final, cast

_callbacks: Final[weakref.WeakKeyDictionary[Any, Callable[[Any], None]]] = weakref.WeakKeyDictionary()


def after_fork(callback_method: Callable[[], None]) -> None:
    """Call a bound method in the child of every fork from now on, as long as the method's object lives.

    An object has one such method: registering another one replaces it. The method must not raise, because the methods
    of other objects are called after it, in the order in which the objects were registered.

    Args:
        callback_method: a method, of which only a weak reference to its object is kept.
    """
    method = cast("Any", callback_method)
    _callbacks[method.__self__] = method.__func__


def run_callbacks() -> None:
    """Call the registered methods. Python does it after a fork."""
    for owner, function in list(_callbacks.items()):
        function(owner)


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(after_in_child=run_callbacks)
