"""Single-flight: concurrent callers that want the same value share one fetch.

Detached tasks do the fetching, on each event loop one for each key, or one for the keys of a batch; each waiter awaits
a private future that only wakes it, and reads the outcome from the flight. A lock around the fetch was measured and
refused: held by a dead loop it hangs the next invocation, after a failure every waiter fetches again, and waking them
waits in line.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from asecretcache._core.fetch import Flight, current_carrier
from asecretcache._core.fetch_task import MAX_BATCH, BatchCarrier, Carrier, Fetches
from asecretcache._core.stats import Counters
from asecretcache._core.timeouts import FetchTimeout, invocation_deadline
from asecretcache._exceptions import ConfigurationError, SecretCacheError
from asecretcache._models import SecretRequest

_logger: Final = logging.getLogger("asecretcache")


class _Airspace:
    """One loop's flights: all that haven't landed, and by key those of them that may be joined."""

    __slots__ = ("aloft", "joinable")

    def __init__(self) -> None:
        # In the order of the starts, in which they are ended where that is for all.
        self.aloft: dict[Flight, None] = {}
        self.joinable: dict[tuple[SecretRequest, bool], Flight] = {}

    def close(self, flight: Flight) -> None:
        """Let nobody join it any more."""
        if self.joinable.get(flight.key) is flight:
            del self.joinable[flight.key]


class Purpose(NamedTuple):
    """Why flights are boarded.

    Attributes:
        is_refresh: a value is wanted that was asked for after this; only flights of the same kind will do.
        is_background: nobody waits, so the flight isn't ended because nobody waits any more.
        is_prefetch: nobody has asked yet, so a failure counts for nothing.
        is_retry: it has been boarded for before.
    """

    is_refresh: bool = False
    is_background: bool = False
    is_prefetch: bool = False
    is_retry: bool = False

    @property
    def is_read(self) -> bool:
        """Whether a caller will do with any value that may be served."""
        return not (self.is_refresh or self.is_background or self.is_prefetch)

    @property
    def is_counted(self) -> bool:
        """Whether joining another's flight saves a call that would have been made."""
        return not (self.is_background or self.is_prefetch or self.is_retry)


READ: Final = Purpose()
REFRESH: Final = Purpose(is_refresh=True)
REVALIDATION: Final = Purpose(is_background=True)
PREFETCH: Final = Purpose(is_prefetch=True)


class SingleFlight:
    """The flights of one cache, per event loop; any thread may call it, a flight is only awaited on its own loop.

    Arguments:
        fetches: what the source offers.
        on_landing: takes each flight that has landed, under the lock, and returns what is to be logged.
        table: what reads look into. By the keys that have no value in it, flights are found there.
        lock: what guards the flights, the table and what ``on_landing`` changes.
        timeout: seconds that a fetch may take.
        clock: the wall clock.
        counters: what is counted.
        monotonic: the clock that tells a freeze which the wall clock doesn't show.
    """

    def __init__(
        self,
        fetches: Fetches,
        on_landing: Callable[[Flight], str | None],
        *,
        table: dict[Any, Any],
        lock: threading.RLock,
        timeout: float,
        clock: Callable[[], float],
        counters: Counters,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fetches = fetches
        self.counters = counters
        self._on_landing = on_landing
        self._lock = lock
        self._timeout = timeout
        self._clock = clock
        self.monotonic = monotonic
        self._table = table
        # Those of the parent of a fork.
        for key in [key for key, found in table.items() if type(found) is Flight]:
            del table[key]
        # Weak: an idle loop isn't kept alive. A flight holds its loop, so flights of a closed one are swept out.
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Airspace] = WeakKeyDictionary()

    def board(self, requests: Iterable[SecretRequest], purpose: Purpose, *, batch: bool = False) -> list[Flight]:
        """Return a flight for each request on the running loop, started now where there is none to join.

        A refresh joins only refreshes: a plain fetch may have started before whatever made the caller ask for one.

        Arguments:
            requests: what is wanted; none of them twice.
            purpose: why.
            batch: whether flights that are started go in batches, if the source has those.

        Raises:
            ConfigurationError: the caller is the fetch of one of these very secrets, and would wait for itself.
        """
        loop = asyncio.get_running_loop()
        parent = Carrier.inside()
        with self._lock:
            airspace = self._of(loop)
            found = [(request, self._find(airspace, request, refresh=purpose.is_refresh)) for request in requests]
            if parent is not None:
                for request, flight in found:
                    self._refuse_circle(parent, request, flight)
            flights, started, now = [], [], self._clock()
            for request, joined in found:
                if joined is None:
                    flight = Flight(
                        request,
                        loop,
                        now,
                        refresh=purpose.is_refresh,
                        background=purpose.is_background,
                    )
                    airspace.aloft[flight] = None
                    airspace.joinable[flight.key] = flight
                    # Of those of several loops, the one that was started last.
                    if type(self._table.get(request.key, flight)) is Flight:
                        self._table[request.key] = flight
                    started.append(flight)
                else:
                    flight = joined
                    self.counters.coalesced += purpose.is_counted
                flight.arms = flight.arms or not purpose.is_prefetch
                flights.append(flight)
            try:
                self._start(started, parent, loop, batch=batch)
            except BaseException:
                # The clock may be a user's, and raise: nobody is to wait for what nobody carries.
                for flight in started:
                    if flight.carrier is None:
                        self._close(flight)
                        del airspace.aloft[flight]
                raise
        return flights

    def join(self, flight: Flight) -> bool:
        """Let a plain read that has found this flight in the table join it by the short way; False: board has to look.

        It is short because many may come at once: it takes no lock, and leaves aside those who have a deadline or are
        themselves within a fetch.
        """
        if (
            flight.loop is not asyncio.get_running_loop()
            or invocation_deadline.get() is not None
            or current_carrier.get() is not None
            or flight.carrier.timer.has_expired()
        ):
            return False
        flight.joined += 1
        flight.arms = True
        return True

    def is_refreshing(self, request: SecretRequest) -> bool:
        """Whether a refresh is under way on the running loop that can be joined."""
        with self._lock:
            flight = self._of(asyncio.get_running_loop()).joinable.get((request, True))
            return flight is not None and not flight.carrier.timer.has_expired()

    def _find(self, airspace: _Airspace, request: SecretRequest, *, refresh: bool) -> Flight | None:
        for is_refresh in (True,) if refresh else (True, False):
            flight = airspace.joinable.get((request, is_refresh))
            if flight is not None:
                if not flight.carrier.timer.has_expired():
                    return flight
                # It slept through a freeze. Its waiters are woken by its cancellation and come back for a new one.
                flight.carrier.cancel()
        return None

    def _refuse_circle(self, parent: Carrier, request: SecretRequest, flight: Flight | None) -> None:
        is_own = any(
            carrier.tower is self and any(other.request == request for other in carrier.flights)
            for carrier in parent.lineage()
        )
        if is_own or (flight is not None and flight.carrier.reaches(parent)):
            msg = f"the fetch of secret {request.secret_id!r} asks the cache for that secret and would wait for itself"
            raise ConfigurationError(msg, secret_id=request.secret_id)

    def _start(
        self, flights: list[Flight], parent: Carrier | None, loop: asyncio.AbstractEventLoop, *, batch: bool
    ) -> None:
        if batch and self.fetches.batch is not None and not self.fetches.is_batch_denied:
            # A batch can ask for no version.
            together = [flight for flight in flights if isinstance(flight.request.key, str)]
            # The last one left over is a single get.
            together = together[: len(together) - (len(together) % MAX_BATCH == 1)]
            for chunk in (together[at : at + MAX_BATCH] for at in range(0, len(together), MAX_BATCH)):
                BatchCarrier(self, chunk, self._timer(), parent).take_off(loop)
            flights = [flight for flight in flights if flight.carrier is None]
        for flight in flights:
            Carrier(self, [flight], self._timer(), parent).take_off(loop)

    def _timer(self) -> FetchTimeout:
        return FetchTimeout(self._timeout, self._clock, self.monotonic)

    def carry_singly(self, flights: Sequence[Flight], timer: FetchTimeout, parent: Carrier | None) -> None:
        """Give each of these flights a carrier of its own, which has what is left of this timer's time."""
        with self._lock:
            for flight in flights:
                Carrier(self, [flight], timer.remainder(), parent).take_off(flight.loop)

    def deny_batches(self, error: SecretCacheError) -> None:
        """Try no batch again, as another one would only be denied too."""
        if not self.fetches.is_batch_denied:
            self.fetches.is_batch_denied = True
            _logger.warning("a batch was denied, from now on secrets are fetched one by one: %s", error)

    def close(self, flights: Sequence[Flight]) -> None:
        """Let nobody join these flights any more."""
        with self._lock:
            for flight in flights:
                self._close(flight)

    def _close(self, flight: Flight) -> None:
        self._of(flight.loop).close(flight)
        if self._table.get(flight.request.key) is flight:
            del self._table[flight.request.key]

    def land(self, flight: Flight) -> None:
        """End a flight with the outcome that it has, or with none, and wake those who wait for it."""
        if flight.landed:
            return
        told: str | None = None
        try:
            with self._lock:
                flight.landed = True
                self._close(flight)
                self._of(flight.loop).aloft.pop(flight, None)
                self.counters.errors += flight.error is not None
                self.counters.join(flight.joined)
                if flight.storable:
                    told = self._on_landing(flight)
        finally:
            # Whatever happens in storing (the clock may be a user's), nobody is left waiting.
            flight.wake_waiters()
        if told is not None:
            # Not under the lock: what handles log records may take its time, or use the cache.
            _logger.warning("%s", told)

    def forget(self, secret_ids: AbstractSet[str] | None = None) -> None:
        """Let no flight that is in the air now (for these secrets, by name or ARN) store its result, or be joined."""
        with self._lock:
            for flight in self._all():
                names = flight.request.secret_id, flight.request.by_name.secret_id
                if secret_ids is None or not secret_ids.isdisjoint(names):
                    flight.storable = False
                    self._close(flight)

    async def cancel_all(self) -> None:
        """Cancel every flight, and wait for those of this loop to end."""
        with self._lock:
            self._sweep()
            carriers = self._carriers()
        for carrier in carriers:
            carrier.cancel()
        loop = asyncio.get_running_loop()
        tasks = [carrier.task for carrier in carriers if carrier.task.get_loop() is loop]
        if tasks:
            await asyncio.wait(tasks)

    async def drain(self, seconds: float) -> None:
        """Give this loop's flights that nobody waits for ``seconds`` to land, then cancel them and go."""
        with self._lock:
            carriers = dict.fromkeys(flight.carrier for flight in self._of(asyncio.get_running_loop()).aloft)
        tasks = [each.task for each in carriers if not any(flight.waiters for flight in each.flights)]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in tasks:
                if task in late:
                    task.cancel()
            # A turn of the loop for each to begin its clean-up; what takes longer goes on in the next invocation.
            await asyncio.sleep(0)

    def joined(self) -> int:
        """How many reads have joined flights that are in the air now, by the short way."""
        return sum(flight.joined for flight in self._all())

    def _all(self) -> list[Flight]:
        return [flight for airspace in self._loops.values() for flight in airspace.aloft]

    def _carriers(self) -> list[Carrier]:
        return list(dict.fromkeys(flight.carrier for flight in self._all()))

    def _of(self, loop: asyncio.AbstractEventLoop) -> _Airspace:
        airspace = self._loops.get(loop)
        if airspace is None:
            self._sweep()
            airspace = self._loops[loop] = _Airspace()
        return airspace

    def _sweep(self) -> None:
        """End the flights of closed loops, quietly: nothing can wait for them and nothing will run them."""
        for flight in self._all():
            if flight.loop.is_closed():
                # What the fetch does on its way out may need the loop that is gone.
                with contextlib.suppress(Exception):
                    flight.carrier.coroutine.close()
                # If it had not begun, it has not landed by that.
                self.land(flight)
