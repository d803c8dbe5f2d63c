"""The invocations' loop with virtual time: seconds pass at once, and each limit can be read off the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from asecretcache._lambda.loop import invocations
from simulation.virtual_loop import VirtualLoop, VirtualTime


class Context:
    """As much of Lambda's context as the package reads: the time that is left, by a clock.

    Arguments:
        seconds: how much time the invocation has.
        clock: shows the time; by default it stands still.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = lambda: 0.0) -> None:
        self._ends_at = clock() + seconds
        self._clock = clock

    def get_remaining_time_in_millis(self) -> int:
        return round((self._ends_at - self._clock()) * 1000)


@pytest.fixture
def virtual_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualTime]:
    """The clock of the loop on which handlers run; the loop is a virtual one."""
    invocations.close(wait=True)
    clock = VirtualTime()
    runner = partial(asyncio.Runner, loop_factory=lambda: VirtualLoop(clock=clock))
    monkeypatch.setattr(asyncio, "Runner", runner)
    yield clock
    invocations.close(wait=True)
