"""Until when the current invocation may wait.

The entry point sets it for the invocation's context and clears it at the invocation's end, so that a task which the
invocation leaves running doesn't inherit it. Fetches run in a context of their own and don't see it.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar


class Deadline:
    """A point on the event loop's clock; ``at`` is None once the invocation is over."""

    __slots__ = ("at",)

    def __init__(self, at: float) -> None:
        self.at: float | None = at

    def clear(self) -> None:
        """End it: whoever still holds it may wait as long as it likes."""
        self.at = None


invocation_deadline: ContextVar[Deadline | None] = ContextVar("asecretcache.invocation_deadline", default=None)


def current_deadline() -> Deadline | None:
    """Return the deadline of the invocation in whose context this is called, unless that is over."""
    deadline = invocation_deadline.get()
    return None if deadline is None or deadline.at is None else deadline


def time_left(seconds: float) -> float:
    """Return ``seconds``, or what is left until the current deadline, if that is less."""
    deadline = current_deadline()
    if deadline is None or deadline.at is None:
        return seconds
    return min(seconds, max(0.0, deadline.at - asyncio.get_running_loop().time()))
