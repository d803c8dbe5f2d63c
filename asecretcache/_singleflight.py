"""Single-flight: concurrent callers that want the same value share one fetch.

One detached task per event loop and key does the fetch; each waiter awaits a private future that only wakes it, and
reads the outcome from the flight. A lock around the fetch was measured and refused: held by a dead loop it hangs the
next invocation, after a failure every waiter fetches again, and waking them waits in line.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextvars import Context, ContextVar
from weakref import WeakKeyDictionary

from asecretcache._deadline import Deadline
from asecretcache._errors import ConfigurationError, SecretCacheError, SecretUnavailableError
from asecretcache._secret import Secret, SecretRequest
from asecretcache._timer import FetchTimer, fetch_timer

# The order of the starts; one for the process, so that it goes on in the child of a fork, which has the values.
_sequence = itertools.count(1)

Fetch = Callable[[SecretRequest], Awaitable[Secret]]


class Flight:
    """One fetch under way and those who wait for it; it belongs to the loop that it was started on.

    It has landed with a ``secret``, with an ``error``, or with neither, which means that it was cancelled.
    """

    __slots__ = (
        "__weakref__",
        "awaits",
        "born",
        "coroutine",
        "error",
        "is_refresh",
        "landed",
        "loop",
        "owner",
        "parent",
        "request",
        "secret",
        "started",
        "storable",
        "task",
        "timer",
        "waiters",
    )

    coroutine: Coroutine[object, object, None]
    task: asyncio.Task[None]

    def __init__(
        self, owner: SingleFlight, request: SecretRequest, loop: asyncio.AbstractEventLoop, *, refresh: bool
    ) -> None:
        self.owner = owner
        self.request = request
        self.loop = loop
        self.is_refresh = refresh
        self.started = next(_sequence)
        self.born = owner.clock()
        self.timer = FetchTimer(owner.timeout, owner.clock, owner.monotonic)
        self.waiters: set[asyncio.Future[None]] = set()
        self.awaits: set[Flight] = set()
        self.parent: Flight | None = None
        self.landed = False
        self.storable = True
        self.secret: Secret | None = None
        self.error: SecretCacheError | None = None

    async def wait(self, deadline: Deadline | None) -> bool:
        """Wait until it has landed; return False if the deadline came first.

        The waiter's own cancellation ends the fetch if nobody else waits for it.
        """
        in_time = await self._wait(None if deadline is None else deadline.at)
        if not in_time and deadline is not None and deadline.at is None:
            # The invocation ended meanwhile, and left the waiter running: its deadline is none any more.
            return await self._wait(None)
        return in_time

    async def _wait(self, deadline: float | None) -> bool:
        future: asyncio.Future[None] = self.loop.create_future()
        alarm = None if deadline is None else self.loop.call_at(deadline, _wake, future)
        parent = _current.get()
        if parent is not None:
            parent.awaits.add(self)
        self.waiters.add(future)
        try:
            await future
        except asyncio.CancelledError:
            self.waiters.discard(future)
            if not self.waiters:
                self.owner.abandon(self)
            raise
        finally:
            self.waiters.discard(future)
            if alarm is not None:
                alarm.cancel()
            if parent is not None:
                parent.awaits.discard(self)
        return self.landed

    def lineage(self) -> Iterator[Flight]:
        """Yield it and the flights within whose fetches it was started."""
        flight: Flight | None = self
        while flight is not None:
            yield flight
            flight = flight.parent

    def reaches(self, other: Flight) -> bool:
        """Whether it waits, if only through others, for ``other``."""
        return other is self or any(flight.reaches(other) for flight in self.awaits)


# The flight whose fetch is running here; in the flight's own context, so a caller's context never holds one.
_current: ContextVar[Flight | None] = ContextVar("asecretcache.flight", default=None)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Airspace:
    """One loop's flights: all that haven't landed, and by key those of them that may be joined."""

    __slots__ = ("aloft", "joinable")

    def __init__(self) -> None:
        self.aloft: set[Flight] = set()
        self.joinable: dict[tuple[SecretRequest, bool], Flight] = {}

    def close(self, flight: Flight) -> None:
        """Let nobody join it any more."""
        key = flight.request, flight.is_refresh
        if self.joinable.get(key) is flight:
            del self.joinable[key]


class SingleFlight:
    """The flights of one cache, per event loop; any thread may call it, a flight is only awaited on its own loop."""

    def __init__(
        self,
        fetch: Fetch,
        on_success: Callable[[Flight, Secret], None],
        *,
        lock: threading.RLock,
        timeout: float,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._on_success = on_success
        self._lock = lock
        self.timeout = timeout
        self.clock = clock
        self.monotonic = monotonic
        # Weak: an idle loop isn't kept alive. A flight holds its loop, so flights of a closed one are swept out.
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Airspace] = WeakKeyDictionary()

    def board(self, request: SecretRequest, *, refresh: bool) -> Flight:
        """Return the flight for this request on the running loop, started now if there is none to join.

        A refresh joins only refreshes: a plain fetch may have started before whatever made the caller ask for one.

        Raises:
            ConfigurationError: the caller is the fetch of this very secret, and would wait for itself.
        """
        loop = asyncio.get_running_loop()
        inside = _current.get()
        with self._lock:
            joinable = self._of(loop).joinable
            flight = joinable.get((request, True))
            if flight is None and not refresh:
                flight = joinable.get((request, False))
            if flight is not None and flight.timer.is_overdue():
                # It slept through a freeze. Its waiters are woken by its cancellation and come back for a new one.
                self.abandon(flight)
                flight = None
            # A task that a fetch started and left running inherits the flight, and outlives it.
            if inside is not None and not inside.landed:
                self._refuse_circle(inside, request, flight)
            return flight or self._start(request, loop, inside, refresh=refresh)

    def _refuse_circle(self, inside: Flight, request: SecretRequest, flight: Flight | None) -> None:
        is_own = any(each.owner is self and each.request == request for each in inside.lineage())
        if is_own or (flight is not None and flight.reaches(inside)):
            msg = f"the fetch of secret {request.secret_id!r} asks the cache for that secret and would wait for itself"
            raise ConfigurationError(msg, secret_id=request.secret_id)

    def _start(
        self, request: SecretRequest, loop: asyncio.AbstractEventLoop, inside: Flight | None, *, refresh: bool
    ) -> Flight:
        flight = Flight(self, request, loop, refresh=refresh)
        flight.parent = inside
        airspace = self._of(loop)
        airspace.aloft.add(flight)
        airspace.joinable[request, refresh] = flight
        flight.coroutine = self._fly(flight)
        # Not loop.create_task: an eager task would start the fetch in its caller's stack, under our lock. The new,
        # empty context keeps the first caller's variables (a trace, a tenant, a deadline) out of a shared fetch.
        flight.task = asyncio.Task(flight.coroutine, loop=loop, context=Context(), name=f"fetch {request.secret_id}")
        # A loop may be closed with the flight in the air; that is no mistake of anybody's to be warned of.
        flight.task._log_destroy_pending = False  # type: ignore[attr-defined]  # as asyncio.gather does
        # A task that is cancelled before its first step never enters its coroutine.
        flight.task.add_done_callback(lambda _: self._land(flight))
        return flight

    async def _fly(self, flight: Flight) -> None:
        request = flight.request
        _current.set(flight)
        fetch_timer.set(flight.timer)
        blame: str | None = None
        secret: Secret | None = None
        try:
            async with flight.timer.start():
                secret = await self._fetch(request)
            if not isinstance(secret, Secret):
                blame = f"returned {type(secret).__name__} instead of a Secret"
        except SecretCacheError as exc:
            # Without its traceback, whose frames would keep the flight alive and show what they hold.
            flight.error = exc.with_traceback(None)
        except TimeoutError:
            blame = f"took longer than {flight.timer.seconds:g} s"
        except Exception as exc:  # noqa: BLE001 - a source may raise anything, with the value in it: only the type is told
            blame = f"raised {type(exc).__name__} at {_origin(exc)}"
        finally:
            if blame is not None:
                msg = f"the fetch of secret {request.secret_id!r} {blame}"
                flight.error = SecretUnavailableError(msg, secret_id=request.secret_id)
            elif flight.error is None:
                flight.secret = secret
            self._land(flight)

    def _land(self, flight: Flight) -> None:
        if flight.landed:
            return
        try:
            with self._lock:
                flight.landed = True
                flight.parent = None
                airspace = self._of(flight.loop)
                airspace.close(flight)
                airspace.aloft.discard(flight)
                if flight.secret is not None and flight.storable:
                    self._on_success(flight, flight.secret)
        finally:
            # Whatever happens in storing (the clock may be a user's), nobody is left waiting.
            if not flight.loop.is_closed():
                for future in flight.waiters:
                    _wake(future)

    def abandon(self, flight: Flight) -> None:
        """Cancel a flight at once, from any loop; the next caller starts afresh."""
        with self._lock:
            self._of(flight.loop).close(flight)
        if flight.landed or flight.loop.is_closed():
            return
        if asyncio.get_running_loop() is flight.loop:
            flight.task.cancel()
        else:
            flight.loop.call_soon_threadsafe(flight.task.cancel)

    def forget(self, secret_id: str | None = None) -> None:
        """Let no flight that is in the air now (for this secret) store its result, or be joined."""
        with self._lock:
            for flight in self._all():
                if secret_id is None or flight.request.secret_id == secret_id:
                    flight.storable = False
                    self._of(flight.loop).close(flight)

    async def cancel_all(self) -> None:
        """Cancel every flight, and wait for those of this loop to end; none of them stores its result."""
        self.forget()
        with self._lock:
            flights = self._all()
        for flight in flights:
            self.abandon(flight)
        loop = asyncio.get_running_loop()
        await _ended([flight.task for flight in flights if flight.loop is loop])

    async def drain(self, seconds: float) -> None:
        """Give this loop's flights that nobody waits for ``seconds`` to land, then cancel them and go."""
        with self._lock:
            tasks = [flight.task for flight in self._of(asyncio.get_running_loop()).aloft if not flight.waiters]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()
            # A turn of the loop for each to begin its clean-up; what takes longer goes on in the next invocation.
            await asyncio.sleep(0)

    def _all(self) -> list[Flight]:
        return [flight for airspace in self._loops.values() for flight in airspace.aloft]

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
                    flight.coroutine.close()
                # If it had not begun, it has not landed by that.
                self._land(flight)


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(tasks)


def _origin(exc: BaseException) -> str:
    """Return where it was raised, which is safe to tell and enough to find a bug in a source."""
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "an unknown place" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
