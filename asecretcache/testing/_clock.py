"""A clock that stands until it is moved."""

from __future__ import annotations


class ManualClock:
    """A wall clock, in seconds, that moves only when told to; any thread may share it."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move it on, in seconds, or with a negative number back."""
        self.now += seconds
