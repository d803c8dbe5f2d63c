"""The tasks that fetch: one for a flight, or one for the flights of a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from contextvars import Context
from typing import Any, Final, Protocol

from asecretcache._core.fetch import Flight, current_carrier
from asecretcache._core.stats import Counters
from asecretcache._core.timeouts import FetchTimeout, current_fetch_timeout
from asecretcache._exceptions import (
    ConfigurationError,
    SecretAccessDeniedError,
    SecretCacheError,
    SecretUnavailableError,
)
from asecretcache._models import Secret, SecretRequest

# https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_BatchGetSecretValue.html
MAX_BATCH: Final = 20


class Fetches:
    """What a source offers: the fetch of one secret and, perhaps, of several; and whether the latter was denied."""

    __slots__ = ("batch", "is_batch_denied", "one")

    def __init__(
        self,
        one: Callable[[SecretRequest], Awaitable[Secret]],
        batch: Callable[[Sequence[str]], Awaitable[Mapping[str, Secret | SecretCacheError]]] | None = None,
    ) -> None:
        self.one = one
        self.batch = batch
        self.is_batch_denied = False


class Tower(Protocol):
    """What a carrier needs of the single-flight whose flights it carries."""

    fetches: Fetches
    counters: Counters

    def close(self, flights: Sequence[Flight]) -> None:
        """Let nobody join these flights any more."""

    def land(self, flight: Flight) -> None:
        """End a flight with the outcome that it has, or with none."""

    def carry_singly(self, flights: Sequence[Flight], timer: FetchTimeout, parent: Carrier | None) -> None:
        """Give each of these flights a carrier of its own, within what is left of the time."""

    def deny_batches(self, error: SecretCacheError) -> None:
        """Try no batch again."""


class Carrier:
    """A detached task that fetches for its flights, in no caller's context and cancelled by none of them.

    Its ``parent`` is the carrier within whose fetch it was started: some sources read their own credentials through
    the cache.
    """

    __slots__ = ("awaits", "coroutine", "flights", "parent", "task", "timer", "tower")

    coroutine: Coroutine[Any, Any, None]
    task: asyncio.Task[None]

    def __init__(self, tower: Tower, flights: list[Flight], timer: FetchTimeout, parent: Carrier | None) -> None:
        self.tower = tower
        self.flights = flights
        self.timer = timer
        self.parent = parent
        self.awaits: set[Flight] = set()

    @staticmethod
    def inside() -> Carrier | None:
        """Return the carrier within whose fetch this is called, unless that is over.

        A task that a fetch started and left running inherits the carrier, and outlives it.
        """
        carrier = current_carrier.get()
        return carrier if isinstance(carrier, Carrier) and carrier.flights else None

    def take_off(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the task."""
        for flight in self.flights:
            flight.carrier = self
        self.coroutine = self._carry()
        # Not loop.create_task: an eager task would start the fetch in its caller's stack, under our lock. The new,
        # empty context keeps the first caller's variables (a trace, a tenant, a deadline) out of a shared fetch.
        self.task = asyncio.Task(self.coroutine, loop=loop, context=Context(), name=f"fetch {self._subject()}")
        # A loop may be closed with flights in the air; that is no mistake of anybody's to be warned of.
        self.task._log_destroy_pending = False  # type: ignore[attr-defined]  # as asyncio.gather does
        # A task that is cancelled before its first step never enters its coroutine.
        self.task.add_done_callback(self._land_all)

    def let_go(self) -> None:
        """Stop, unless one of its flights is still wanted; the next caller starts afresh."""
        if not any(flight.is_wanted for flight in self.flights):
            self.cancel()

    def cancel(self) -> None:
        """Stop at once, whoever waits, and from any loop."""
        self.tower.close(self.flights)
        loop = self.task.get_loop()
        if asyncio.get_running_loop() is loop:
            self.task.cancel()
        else:
            with suppress(RuntimeError):  # It has been closed.
                loop.call_soon_threadsafe(self.task.cancel)

    def lineage(self) -> Iterator[Carrier]:
        """Yield it and the carriers within whose fetches it was started."""
        carrier: Carrier | None = self
        while carrier is not None:
            yield carrier
            carrier = carrier.parent

    def reaches(self, other: Carrier) -> bool:
        """Whether it waits, if only through others, for ``other``."""
        return other is self or any(flight.carrier.reaches(other) for flight in self.awaits)

    async def _carry(self) -> None:
        (flight,) = self.flights
        try:
            flight.settle(await self._outcome(self._fetch_one, flight.request))
        finally:
            self._land_all()

    async def _fetch_one(self, request: SecretRequest) -> Secret:
        self.tower.counters.fetches += 1
        return await self.tower.fetches.one(request)

    async def _outcome(self, fetch: Callable[[Any], Awaitable[Any]], what: object) -> object:
        """Return what the source returns or raises; its foreign exceptions told by type and place alone."""
        current_carrier.set(self)
        current_fetch_timeout.set(self.timer)
        try:
            async with self.timer.start():
                return await fetch(what)
        except SecretCacheError as exc:
            return exc.with_traceback(None)
        except Exception as exc:  # noqa: BLE001 - a source may raise anything, with the value in it: only the type is told
            blame = f"raised {type(exc).__name__} at {_origin(exc)}"
            if isinstance(exc, TimeoutError) and self.timer.was_raised:
                blame = f"took longer than {self.timer.seconds:g} s"
        secret_id = self.flights[0].request.secret_id if len(self.flights) == 1 else None
        return SecretUnavailableError(f"the fetch of {self._subject()} {blame}", secret_id=secret_id)

    def _land_all(self, _task: object = None) -> None:
        # They are let go of, or each would keep the other alive until the collector runs. And all of them land, even if
        # in storing one something is raised (the clock may be a user's).
        flights, self.flights = self.flights, []
        with ExitStack() as stack:
            for flight in reversed(flights):
                stack.callback(self.tower.land, flight)

    def _subject(self) -> str:
        return f"secret {self.flights[0].request.secret_id!r}"


class BatchCarrier(Carrier):
    """Fetches for several flights with one call, and sees to it that a refusal of the whole harms none of them.

    Each flight is as any other to those who join it or leave it; the call is cancelled when none is wanted any more.
    """

    __slots__ = ()

    async def _carry(self) -> None:
        ids = [flight.request.secret_id for flight in self.flights]
        try:
            outcome = await self._outcome(self._fetch_batch, ids)
            if not isinstance(outcome, SecretCacheError | Mapping):
                blame = f"returned {type(outcome).__name__} instead of a mapping"
                outcome = SecretUnavailableError(f"the fetch of {self._subject()} {blame}")
            if isinstance(outcome, Mapping):
                self._share(outcome)
            elif isinstance(outcome, SecretUnavailableError | ConfigurationError):
                # A call for each would only multiply the load on what is down, or fail for the same reason.
                for flight in self.flights:
                    flight.settle(outcome._about(flight.request.secret_id))
            else:
                if isinstance(outcome, SecretAccessDeniedError):
                    self.tower.deny_batches(outcome)
                self._hand_over(self.flights)
        finally:
            self._land_all()

    async def _fetch_batch(self, ids: list[str]) -> object:
        assert self.tower.fetches.batch is not None
        self.tower.counters.batches += 1
        self.tower.counters.batched_ids += len(ids)
        return await self.tower.fetches.batch(ids)

    def _share(self, outcomes: Mapping[str, object]) -> None:
        for flight in self.flights:
            if flight.request.secret_id in outcomes:
                flight.settle(outcomes[flight.request.secret_id])
        self._hand_over([flight for flight in self.flights if flight.request.secret_id not in outcomes])

    def _hand_over(self, flights: list[Flight]) -> None:
        """Let those of these that somebody waits for be fetched one by one, within what is left of the time."""
        wanted = [flight for flight in flights if flight.is_wanted]
        self.flights = [flight for flight in self.flights if flight not in wanted]
        self.tower.carry_singly(wanted, self.timer, self.parent)

    def _subject(self) -> str:
        return f"{len(self.flights)} secrets"


def _origin(exc: BaseException) -> str:
    """Return where it was raised, which is safe to tell and enough to find a bug in a source."""
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "an unknown place" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
