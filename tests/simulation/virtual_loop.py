"""An event loop with a virtual clock, on which the order of callbacks is drawn: hours take no time, races replay.

The time stands still while a callback is ready to run, and jumps to the next timer when none is. If there is no timer
either, everything would wait for ever, which is raised instead of hanging.

Which ready callback runs next is drawn from a ``random.Random``, over all of them: wake-ups of tasks, their first
steps, their done callbacks, and timers that are due, also those that became ready within the same turn. That is more
than a program on asyncio can meet: asyncio runs them in the order in which they became ready, which varies only with
the times of I/O and timers. The package relies on cause and effect alone, which no draw can reverse, so it passes the
stronger test, which includes every order that the selector, other tasks or another loop (uvloop, eager tasks) could
bring about. Without a ``random.Random`` the order is asyncio's.

There is no I/O, and no other thread is waited for.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import Any


class VirtualTime:
    """The monotonic clock of a simulated machine, which all its loops share."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class StuckError(AssertionError):
    """No callback is ready and no timer is set, so all tasks would wait for ever; or callbacks run without end."""


class _Ready(deque[asyncio.Handle]):
    """The ready callbacks: the loop takes the first one, and gets any one."""

    def __init__(self, random_: random.Random | None, most: int) -> None:
        super().__init__()
        self._random = random_
        self._most = most
        self.taken = 0

    def popleft(self) -> asyncio.Handle:
        self.taken += 1
        if self.taken > self._most:
            msg = f"{self._most} callbacks have run: there is no end to it"
            raise StuckError(msg)
        if self._random is None or len(self) < 2:
            return super().popleft()
        at = int(self._random.random() * len(self))
        handle = self[at]
        del self[at]
        return handle


class VirtualLoop(asyncio.BaseEventLoop):
    """See the module.

    Args:
        order: from what the order of the callbacks is drawn; None: asyncio's own.
        clock: the machine's; a new one by default.
        most_callbacks: how many callbacks may run before it counts as an endless loop.
    """

    _scheduled: list[asyncio.TimerHandle]

    def __init__(
        self, order: random.Random | None = None, clock: VirtualTime | None = None, *, most_callbacks: int = 1_000_000
    ) -> None:
        super().__init__()
        self.clock = clock or VirtualTime()
        #: What was passed to the exception handler: exceptions never retrieved, tasks destroyed while pending.
        self.complaints: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _loop, context: self.complaints.append(context))
        self._ready: deque[asyncio.Handle] = _Ready(order, most_callbacks)
        # Far above the rounding of the times here, or a timer would never be due.
        self._clock_resolution = 1e-6
        # The base class asks the selector for I/O, and to wait no longer than until the next timer.
        self._selector = self

    @property
    def steps(self) -> int:
        """How many callbacks have run."""
        assert isinstance(self._ready, _Ready)
        return self._ready.taken

    def time(self) -> float:
        return self.clock.now

    def select(self, timeout: float | None) -> list[Any]:
        """Wait for I/O, of which there is none: only time passes."""
        if timeout is None:
            msg = "no callback is ready and no timer is set: what waits now waits for ever"
            raise StuckError(msg)
        if timeout > 0:
            self.clock.now = max(self.clock.now, self._scheduled[0].when())
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass
