"""Until when a caller waits, and how long a fetch may take."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

#: Seconds within which a loop's clock may not move, and by which it may ring early.
CLOCK_STEP: Final = 1e-6


def network_hint() -> str:
    """Return what to check if nothing answers, for a function in Lambda; "" elsewhere."""
    if "AWS_LAMBDA_FUNCTION_NAME" not in os.environ:
        return ""
    return "; a function in a VPC needs a VPC endpoint for Secrets Manager, or NAT, and a security group that allows it"


class Deadline:
    """When the current invocation has to answer: a time of a clock, or None once it is over.

    The entry point sets it for the invocation's context and clears it at the end, so that a task which outlives its
    invocation may wait as long as it likes. Fetches run in an empty context and don't see it.

    Args:
        seconds: how long it is until then.
        clock: the clock that counts them, an event loop's or that of all loops.
        outer: the deadline of the block around this one's, which holds as well, also when this one is over.
    """

    __slots__ = ("_clock", "_outer", "at")

    def __init__(self, seconds: float, clock: Callable[[], float], outer: Deadline | None = None) -> None:
        self.at: float | None = clock() + seconds
        self._clock = clock
        self._outer = outer

    def left(self) -> float:
        """Return the seconds until then, at least 0; infinity once it is over."""
        own = math.inf if self.at is None else max(0.0, self.at - self._clock())
        return own if self._outer is None else min(own, self._outer.left())

    def has_come(self) -> bool:
        """Return whether no time is left, but for what a clock may be off by."""
        return self.left() <= CLOCK_STEP

    def clear(self) -> None:
        """Let the tasks that still hold the deadline wait without one."""
        self.at = None


invocation_deadline: ContextVar[Deadline | None] = ContextVar("asecretcache.invocation_deadline", default=None)


def time_left(seconds: float) -> float:
    """Return ``seconds``, or the time until the current deadline if that is less."""
    deadline = invocation_deadline.get()
    return seconds if deadline is None else min(seconds, deadline.left())


class FetchTimeout:
    """The time-out of one fetch, counted from when the fetch holds a slot of its source. It belongs to one task.

    The event loop's clock ends the fetch. The wall clock and the monotonic clock tell whether the fetch slept through a
    freeze of the environment, over which the loop's clock may have stood still.
    """

    __slots__ = ("_began", "_clock", "_ends_at", "_monotonic", "_monotonic_start", "_timeout", "_wall_start", "seconds")

    def __init__(
        self, seconds: float, clock: Callable[[], float], monotonic: Callable[[], float], now: float | None = None
    ) -> None:
        self.seconds = seconds
        self._clock = clock
        self._monotonic = monotonic
        self._wall_start: float | None = clock() if now is None else now
        self._began = self._monotonic_start = monotonic()
        self._timeout: asyncio.Timeout | None = None
        self._ends_at: float | None = None

    def elapsed(self) -> float:
        """Return the seconds since the fetch began, the wait for a slot included."""
        return self._monotonic() - self._began

    def start(self) -> asyncio.Timeout:
        """Return the context manager that ends the fetch when its time is over."""
        self._timeout = asyncio.timeout(self.seconds) if self._ends_at is None else asyncio.timeout_at(self._ends_at)
        return self._timeout

    @property
    def was_raised(self) -> bool:
        """Whether the time-out has ended the fetch."""
        return self._timeout is not None and self._timeout.expired()

    def pause(self) -> None:
        """Stop counting while the fetch waits for a slot."""
        if self._ends_at is None:
            self._wall_start = None
            if self._timeout is not None:
                self._timeout.reschedule(None)

    def resume(self) -> None:
        """Count from now on: the fetch holds a slot."""
        if self._ends_at is None:
            self._wall_start, self._monotonic_start = self._clock(), self._monotonic()
            if self._timeout is not None:
                self._timeout.reschedule(asyncio.get_running_loop().time() + self.seconds)

    def remainder(self) -> FetchTimeout:
        """Return a time-out for another fetch that has what is left of this one's time, slots or not."""
        # No clock is read: a user's may raise.
        rest = FetchTimeout(self.seconds, self._clock, self._monotonic, 0.0)
        rest._wall_start, rest._monotonic_start = self._wall_start, self._monotonic_start
        rest._ends_at = None if self._timeout is None else self._timeout.when()
        return rest

    def has_expired(self, now: float | None = None) -> bool:
        """Whether the fetch should have ended by either clock: it slept through a freeze.

        Args:
            now: the wall-clock time, if the caller has read it.
        """
        if self._wall_start is None:
            return False
        # Many waiters may ask this at once, so nothing is stored in between.
        elapsed = (self._clock() if now is None else now) - self._wall_start
        return not -self.seconds <= elapsed <= self.seconds or self._monotonic() - self._monotonic_start > self.seconds


current_fetch_timeout: ContextVar[FetchTimeout | None] = ContextVar("asecretcache.fetch_timeout", default=None)
