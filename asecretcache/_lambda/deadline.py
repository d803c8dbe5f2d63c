"""When an invocation has to answer, for all reads in it: on whichever event loop, in threads, in asyncio.run."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from asecretcache._core.timeouts import Deadline, invocation_deadline
from asecretcache._exceptions import ConfigurationError

# Time reserved to answer before the deadline: 0.5 s, or 10 % of what is left if that is less.
_MARGIN_SECONDS: Final = 0.5
_MARGIN_FRACTION: Final = 0.1


@contextmanager
def deadline(limit: Any, /) -> Iterator[None]:
    """Let the reads in a ``with`` block wait no longer than a Lambda invocation may take, or than some seconds.

    A read that would wait longer raises SecretUnavailableError, while there is still time to answer: half a second
    before Lambda's own time-out, or a tenth of what is left if that is less. The fetch itself goes on for other
    callers. async_handler and sync_handler do this for their invocations; this is for what they don't see: an ASGI
    middleware, a worker, a test.

    It holds on every event loop that runs in the block, in tasks that it starts, and in threads that get its context,
    as those of asyncio.to_thread do. Of nested blocks the earlier end holds.

    Args:
        limit: the context object of a Lambda invocation, or seconds; None for no limit, such as outside of Lambda.

    Raises:
        ConfigurationError: it is neither.
    """
    seconds = _checked(limit)
    with scope(None if seconds is None else Deadline(seconds, time.monotonic)):
        yield


@contextmanager
def scope(limit: Deadline | None) -> Iterator[None]:
    """Hold a deadline within a block, and an outer one that is earlier."""
    outer = invocation_deadline.get()
    if limit is None:
        yield
        return
    if outer is not None:
        limit.end_by(outer)
    token = invocation_deadline.set(limit)
    try:
        yield
    finally:
        limit.clear()
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


def _checked(limit: Any) -> float | None:
    if limit is None or hasattr(limit, "get_remaining_time_in_millis"):
        return time_to_answer(limit)
    if isinstance(limit, (int, float)) and not isinstance(limit, bool) and limit >= 0 and math.isfinite(limit):
        return limit
    kind = limit if isinstance(limit, (int, float)) else type(limit).__name__
    raise ConfigurationError(f"deadline takes the context of a Lambda invocation, or seconds from 0 on, not {kind}")
