"""When an invocation has to answer, for all reads in it: on whichever event loop, in threads, in asyncio.run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from contextvars import Token
from typing import Any, Final

from asecretcache._core.timeouts import Deadline, invocation_deadline
from asecretcache._exceptions import ConfigurationError

# Time reserved to answer before the deadline: 0.5 s, or 10 % of what is left if that is less.
_MARGIN_SECONDS: Final = 0.5
_MARGIN_FRACTION: Final = 0.1


def deadline(limit: Any, /) -> AbstractContextManager[None]:
    """Let the reads in a ``with`` block wait no longer than a Lambda invocation may take, or than some seconds.

    A read that would wait longer raises SecretUnavailableError, while there is still time to answer: half a second
    before Lambda's own time-out, or a tenth of what is left if that is less. The fetch itself goes on for other
    callers. async_handler and sync_handler do this for their invocations; this is for what they don't see: an ASGI
    middleware, a worker, a test.

    It holds on every event loop that runs in the block, in tasks that it starts, and in threads that get its context,
    as those of asyncio.to_thread do. Of nested blocks the earlier end holds; a task that outlives a block has what is
    left of the outer ones.

    Args:
        limit: the context object of a Lambda invocation, or seconds; None for no limit, such as outside of Lambda.

    Raises:
        ConfigurationError: it is neither.
    """
    return Scope(_seconds(limit))


class Scope:
    """Holds a deadline within a block, besides that of the block around it.

    Args:
        seconds: how long it is until the deadline, from entering the block; None for none.
        clock: the clock that counts them.
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._entered: list[tuple[Deadline, Token[Deadline | None]]] = []

    def __enter__(self) -> None:
        if self._seconds is not None:
            held = Deadline(self._seconds, self._clock, invocation_deadline.get())
            self._entered.append((held, invocation_deadline.set(held)))

    def __exit__(self, *_: object) -> None:
        if self._entered:
            held, token = self._entered.pop()
            held.clear()
            # A generator may be ended in another context than it was begun in, which never had this deadline.
            with suppress(ValueError):
                invocation_deadline.reset(token)


def time_to_answer(context: Any) -> float | None:
    """Return the seconds until an invocation should answer; None if a test has no context, or one that doesn't say."""
    tell = getattr(context, "get_remaining_time_in_millis", None)
    remaining = tell() if callable(tell) else None
    # A mock of a test's returns a mock, or None.
    if isinstance(remaining, (int, float)) and not isinstance(remaining, bool) and math.isfinite(remaining):
        seconds = remaining / 1000
        return seconds - min(_MARGIN_SECONDS, seconds * _MARGIN_FRACTION)
    return None


def _seconds(limit: Any) -> float | None:
    if limit is None or hasattr(limit, "get_remaining_time_in_millis"):
        return time_to_answer(limit)
    given = type(limit).__name__
    if isinstance(limit, (int, float)) and not isinstance(limit, bool):
        # An int may be too large for a float.
        with suppress(OverflowError):
            if limit >= 0 and math.isfinite(limit):
                return limit
        given = "a number below 0, NaN or infinity"
    raise ConfigurationError(f"deadline takes the context of a Lambda invocation, or seconds from 0 on, not {given}")
