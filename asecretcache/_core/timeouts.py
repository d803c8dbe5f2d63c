"""How long one fetch may take, from the moment that it holds a slot of its source."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar


class FetchTimer:
    """The time-out of one fetch; a source that lets fetches wait in line stops it for as long as they do.

    It belongs to one task. The event loop's clock ends the fetch; the wall clock tells whether it slept through a
    freeze, over which the loop's clock may have stood still.
    """

    __slots__ = ("_clock", "_ends_at", "_monotonic", "_started", "_timeout", "seconds")

    def __init__(self, seconds: float, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self.seconds = seconds
        self._clock = clock
        self._monotonic = monotonic
        self._started: tuple[float, float] | None = (clock(), monotonic())
        self._timeout: asyncio.Timeout | None = None
        self._ends_at: float | None = None

    def start(self) -> asyncio.Timeout:
        """Return the time-out to enter, which ends at once what runs over."""
        self._timeout = asyncio.timeout(self.seconds) if self._ends_at is None else asyncio.timeout_at(self._ends_at)
        return self._timeout

    @property
    def has_expired(self) -> bool:
        """Whether the time-out has struck."""
        return self._timeout is not None and self._timeout.expired()

    def pause(self) -> None:
        """Stop counting: the fetch waits for a slot."""
        if self._ends_at is None:
            self._started = None
            if self._timeout is not None:
                self._timeout.reschedule(None)

    def restart(self) -> None:
        """Count from now: the fetch holds a slot."""
        if self._ends_at is None:
            self._started = (self._clock(), self._monotonic())
            if self._timeout is not None:
                self._timeout.reschedule(asyncio.get_running_loop().time() + self.seconds)

    def remainder(self) -> FetchTimer:
        """Return a timer for another fetch that has only what is left of this one's time, slots or not."""
        rest = FetchTimer(self.seconds, self._clock, self._monotonic)
        rest._started = self._started
        rest._ends_at = None if self._timeout is None else self._timeout.when()
        return rest

    def is_overdue(self) -> bool:
        """Whether by either clock the fetch ought to have ended: it slept, so its sockets can't be trusted."""
        if self._started is None:
            return False
        wall, monotonic = self._started
        # The clocks are asked one after the other, as many may ask this at once.
        return not -self.seconds <= self._clock() - wall <= self.seconds or self._monotonic() - monotonic > self.seconds


fetch_timer: ContextVar[FetchTimer | None] = ContextVar("asecretcache.fetch_timer", default=None)
