"""One fetch under way, and those who wait for it."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Collection
from contextvars import ContextVar
from typing import Any, Final, Protocol

from asecretcache._core.timeouts import Deadline
from asecretcache._exceptions import SecretCacheError, SecretUnavailableError
from asecretcache._models import Secret, SecretRequest

# The order of the starts; one for the process, so that it goes on in the child of a fork, which has the values.
_sequence: Final = itertools.count(1)


class Waiting(Protocol):
    """A fetch that may itself wait for others."""

    awaits: set[Flight]


class Flight:
    """One fetch under way and those who wait for it; it belongs to the loop that it was started on.

    It has landed with a ``secret``, with an ``error``, or with neither, which means that it was cancelled. ``arms``
    tells whether its failure counts for the spacing of retries.
    """

    __slots__ = (
        "arms",
        "born",
        "carrier",
        "error",
        "is_background",
        "is_refresh",
        "joined",
        "landed",
        "loop",
        "request",
        "secret",
        "started",
        "storable",
        "waiters",
    )

    #: When what a read has found may be served: never, for it isn't the value yet.
    expires_at: Final = -math.inf

    def __init__(
        self,
        request: SecretRequest,
        loop: asyncio.AbstractEventLoop,
        born: float,
        *,
        refresh: bool = False,
        background: bool = False,
    ) -> None:
        self.request = request
        self.loop = loop
        self.born = born
        self.is_refresh = refresh
        self.is_background = background
        self.arms = False
        #: How many plain reads have joined it by the short way, which counts nothing else.
        self.joined = 0
        self.started = next(_sequence)
        # In the order that they came, in which they are woken.
        self.waiters: dict[asyncio.Future[None], None] = {}
        self.landed = False
        self.storable = True
        self.secret: Secret | None = None
        self.error: SecretCacheError | None = None
        self.carrier: Any = None

    @property
    def key(self) -> tuple[SecretRequest, bool]:
        """What callers join it by."""
        return self.request, self.is_refresh

    @property
    def is_cancelled(self) -> bool:
        """Whether it has ended without an outcome."""
        return self.landed and self.secret is None and self.error is None

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for it, or it was started for nobody in particular."""
        return bool(self.waiters) or self.is_background

    def settle(self, outcome: object) -> None:
        """Take what the source gave: a Secret, one of our errors, or by mistake anything else."""
        if isinstance(outcome, Secret):
            self.secret = outcome
        elif isinstance(outcome, SecretCacheError):
            # Without its traceback, whose frames would keep the flight alive and show what they hold.
            self.error = outcome.with_traceback(None)
        else:
            secret_id = self.request.secret_id
            msg = f"the fetch of secret {secret_id!r} returned {type(outcome).__name__} instead of a Secret"
            self.error = SecretUnavailableError(msg, secret_id=secret_id)

    def enter(self) -> asyncio.Future[None]:
        """Return a future of the caller's own that wakes it; wait_for_all has what else a waiter may need."""
        # Not loop.create_future, which is one more call: many may come at once.
        future: asyncio.Future[None] = asyncio.Future(loop=self.loop)
        self.waiters[future] = None
        return future

    def leave(self, future: asyncio.Future[None]) -> None:
        """Wait no longer; the last one who leaves ends the fetch."""
        self.waiters.pop(future, None)
        if not self.waiters and not self.landed:
            self.carrier.let_go()

    def wake_waiters(self) -> None:
        """Let those who wait look at the outcome."""
        waiters, self.waiters = self.waiters, {}
        if not self.loop.is_closed():
            for future in waiters:
                if not future.done():
                    future.set_result(None)


# The carrier whose fetch is running here; in the carrier's own context, so a caller's context never holds one.
current_carrier: ContextVar[Waiting | None] = ContextVar("asecretcache.carrier", default=None)


async def wait_for_all(flights: Collection[Flight], deadline: Deadline | None) -> None:
    """Wait until all have landed, or until the deadline.

    The waiter's own cancellation ends the fetches that nobody else waits for.
    """
    await _wait_until(flights, None if deadline is None else deadline.at)
    if deadline is not None and deadline.at is None:
        # The invocation ended meanwhile, and left the waiter running: its deadline is none any more.
        await _wait_until([flight for flight in flights if not flight.landed], None)


async def _wait_until(flights: Collection[Flight], at: float | None) -> None:
    loop = asyncio.get_running_loop()
    # A future for each waiter and flight, which only wakes: to cancel it harms nobody else.
    waits = [(flight, loop.create_future()) for flight in flights]
    alarm: Any = None if at is None else loop.call_at(at, _wake_all, [future for _, future in waits])
    carrier = current_carrier.get()
    if carrier is not None:
        carrier.awaits.update(flights)
    for flight, future in waits:
        flight.waiters[future] = None
    try:
        for _, future in waits:
            await future
    except asyncio.CancelledError:
        for flight, future in waits:
            flight.leave(future)
        raise
    finally:
        for flight, future in waits:
            flight.waiters.pop(future, None)
        if alarm is not None:
            alarm.cancel()
        if carrier is not None:
            carrier.awaits.difference_update(flights)


def _wake_all(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
