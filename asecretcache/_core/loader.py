"""Answers to reads: from memory where that may be, else by fetches; and what becomes of what fetches bring."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from asecretcache._core.backoff import Backoff
from asecretcache._core.entries import Entry, Store
from asecretcache._core.fetch import Flight, wait_for_all
from asecretcache._core.fetch_task import Fetches
from asecretcache._core.freshness import FreshnessPolicy, is_fresh
from asecretcache._core.single_flight import PREFETCH, READ, REFRESH, REVALIDATION, Purpose, SingleFlight
from asecretcache._core.stats import CacheStats, Counters
from asecretcache._core.timeouts import current_deadline
from asecretcache._exceptions import (
    ConfigurationError,
    SecretAccessDeniedError,
    SecretCacheError,
    SecretDecryptionError,
    SecretNotFoundError,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache._models import Secret, SecretRequest

_TRANSIENT: Final = (SecretUnavailableError, SecretThrottledError)
_REVOKED: Final = (SecretNotFoundError, SecretAccessDeniedError, SecretDecryptionError)


class Answer(NamedTuple):
    """A secret, and whether a fetch brought it."""

    secret: Secret
    is_fetched: bool


Outcome = Answer | SecretCacheError


class Reader:
    """What a SecretCache knows and does, without its public face; any task, loop and thread may share it.

    Arguments:
        fetches: what the source offers.
        policy: how long values may be served.
        clock: the wall clock.
        fetch_timeout: seconds that a fetch may take.
        max_size: how many values are kept.
        batch: whether several misses are fetched together.
    """

    def __init__(
        self,
        fetches: Fetches,
        policy: FreshnessPolicy,
        *,
        clock: Callable[[], float],
        fetch_timeout: float,
        max_size: int,
        batch: bool,
    ) -> None:
        self.fetches = fetches
        self.policy = policy
        self.now = clock
        self.fetch_timeout = fetch_timeout
        self.batch = batch
        self.is_closed = False
        self.store = Store(max_size)
        self.entries = self.store.entries
        self.backoff = Backoff(max_size)
        self.counters = Counters()
        self.take_off()

    def take_off(self) -> None:
        """Begin with no flights, and with a lock that nobody holds, as the child of a fork has to."""
        self.lock = threading.RLock()
        self.flights = SingleFlight(
            self.fetches,
            self._take_in,
            table=self.store.table,
            lock=self.lock,
            timeout=self.fetch_timeout,
            clock=self.now,
            counters=self.counters,
        )

    @property
    def monotonic(self) -> Callable[[], float]:
        """The clock that tells a freeze which the wall clock doesn't show, and by which patience is measured."""
        return self.flights.monotonic

    def check_open(self) -> None:
        """Raise ConfigurationError if the cache is closed."""
        if self.is_closed:
            msg = "this SecretCache is closed: make a new one, or don't leave its `async with` before the last use"
            raise ConfigurationError(msg)

    async def read(self, request: SecretRequest, joined: Flight | None = None) -> Answer:
        """Return one secret, from memory or fetched; or what a flight has brought that the caller joined."""
        self.check_open()
        answer = None if joined else self._serve((request,), READ).get(request)
        return answer or await self._fetch_one(request, READ, joined)

    async def refresh(self, request: SecretRequest) -> Secret:
        """Return one secret, fetched after this was called."""
        return (await self._fetch_one(request, REFRESH)).secret

    async def read_many(
        self, requests: Iterable[SecretRequest], *, prefetch: bool = False
    ) -> dict[SecretRequest, Outcome]:
        """Return the secrets, or their errors, in the order that they were asked for; what is missing is fetched."""
        self.check_open()
        purpose = PREFETCH if prefetch else READ
        wanted = dict.fromkeys(requests)
        outcomes: dict[SecretRequest, Outcome] = {**self._serve(wanted, purpose)}
        missing = {request: None for request in wanted if request not in outcomes}
        # An ARN whose name is asked for too may turn out to be that secret's, and then costs no call.
        names = {request: request.by_name for request in missing}
        followers = [request for request, name in names.items() if name != request and name in missing]
        for request in followers:
            del missing[request]
        outcomes |= await self._fetch_many(list(missing), purpose)
        alone: list[SecretRequest] = []
        for request in followers:
            of_name = outcomes[names[request]]
            if isinstance(of_name, Answer) and of_name.secret.arn == request.secret_id:
                outcomes[request] = of_name
            elif isinstance(of_name, SecretUnavailableError) and of_name.request_id is None:
                # Nothing was answered at all: it would wait for the same again, and put twice the load on what is down.
                outcomes[request] = of_name._asked_for(request.secret_id)
            else:
                alone.append(request)
        if not prefetch:
            with self.lock:
                self.counters.ask(len(followers) - len(alone), refresh=False)
        if alone:
            # Others may have fetched these meanwhile.
            outcomes |= (served := self._serve(alone, purpose))
            outcomes |= await self._fetch_many([request for request in alone if request not in served], purpose)
        return {request: outcomes[request] for request in wanted}

    def forget(self, secret_id: str) -> set[str]:
        """Forget all versions of a secret, and what has failed; return the ids by which it was known."""
        with self.lock:
            ids = self.store.ids_of(secret_id) | self.store.namesakes(secret_id)
            for each in ids:
                self.store.drop(each)
            # A fetch by name may be about to show that an ARN is the name's.
            self.flights.forget(ids | {SecretRequest(each).by_name.secret_id for each in ids})
            self.backoff.forget_all(ids)
        return ids

    def clear(self) -> None:
        """Forget all secrets."""
        with self.lock:
            self.store.clear()
            self.flights.forget()
            self.backoff.clear()

    def is_refreshing(self, request: SecretRequest) -> bool:
        """Whether a refresh is under way on the running loop, which another one would join."""
        return self.flights.is_refreshing(self.store.canonical(request))

    def stats(self) -> CacheStats:
        """Return what has been counted so far."""
        with self.lock:
            return self.counters.stats(
                hits=self.store.hits, evictions=self.store.evictions, joined=self.flights.joined()
            )

    def _serve(self, requests: Collection[SecretRequest], purpose: Purpose) -> dict[SecretRequest, Answer]:
        """Return what may be served from memory now, and start the refreshes that this gives cause for."""
        served: dict[SecretRequest, Answer] = {}
        revalidated: dict[SecretRequest, None] = {}
        now = self.now()
        for request in requests:
            entry = self.entries.get(request.key)
            if entry is None:
                continue
            if is_fresh(entry.born, entry.expires_at, now):
                # What has waited, and is served only when it looks again, was counted as a miss.
                entry.hits += purpose.is_counted
            elif purpose.is_prefetch or not self._serves_stale(request, entry, now, purpose, revalidated):
                continue
            served[request] = Answer(entry.secret, is_fetched=False)
        if revalidated:
            # A fetch that reads its own secret's stale value has no use for a refresh of it, which it is.
            with suppress(ConfigurationError):
                self.flights.board(revalidated, REVALIDATION, batch=self.batch)
        return served

    def _serves_stale(
        self, request: SecretRequest, entry: Entry, now: float, purpose: Purpose, revalidated: dict[SecretRequest, None]
    ) -> bool:
        """Whether an expired value is served without waiting; note in ``revalidated`` what to fetch meanwhile."""
        with self.lock:
            request = self.store.canonical(request)
            failure = self.backoff.holding(request.key, now)
            if not self._may_serve_stale(entry, failure, now):
                return False
            if failure is None:
                revalidated[request] = None
            self.counters.serve_stale(instead=purpose.is_retry)
        return True

    def _may_serve_stale(self, entry: Entry, error: SecretCacheError | None, now: float) -> bool:
        """Whether a value that has expired may be served, this being what the latest fetch failed with."""
        if entry.revoked_at or is_fresh(entry.born, entry.expires_at, now):
            return False
        if self.policy.may_serve_while_revalidating(entry.born, entry.expires_at, now):
            return True
        return isinstance(error, _TRANSIENT) and self.policy.may_serve_on_error(entry.born, entry.expires_at, now)

    async def _fetch_one(self, request: SecretRequest, purpose: Purpose, joined: Flight | None = None) -> Answer:
        outcome = (await self._fetch_many((request,), purpose, joined))[request]
        if isinstance(outcome, SecretCacheError):
            try:
                raise outcome
            finally:
                del outcome  # Its traceback holds this frame.
        return outcome

    async def _fetch_many(
        self, requests: Sequence[SecretRequest], purpose: Purpose, joined: Flight | None = None
    ) -> dict[SecretRequest, Outcome]:
        outcomes = {} if joined else self._ask(requests, purpose)
        waiting = {request: None for request in requests if request not in outcomes}
        cancelled: set[SecretRequest] = set()
        others: set[SecretRequest] = set()
        while waiting:
            self.check_open()
            # By name where an ARN is known to be that name's, unless it has just turned out not to be.
            boarding = {each: each if each in others else self.store.canonical(each) for each in waiting}
            wanted = list(dict.fromkeys(boarding.values()))
            boarded_flights = [joined] if joined else self.flights.board(wanted, purpose, batch=self.batch)
            flights = dict(zip(wanted, boarded_flights, strict=True))
            if joined is None:
                await wait_for_all(boarded_flights, current_deadline())
            joined = None
            for request, boarded in boarding.items():
                flight = flights[boarded]
                if flight.secret is not None and boarded != request and flight.secret.arn != request.secret_id:
                    others.add(request)
                elif flight.is_cancelled and (request not in cancelled or self.is_closed):
                    # When somebody else cancels a flight, that is no cancellation of those who wait for it.
                    cancelled.add(request)
                else:
                    outcomes[request] = self._outcome(request, flight, purpose)
                    del waiting[request]
            purpose = purpose._replace(is_retry=True)
            if waiting and not purpose.is_refresh:
                # Others may have fetched it meanwhile.
                for request, answer in self._serve(waiting, purpose).items():
                    outcomes[request] = answer
                    del waiting[request]
        return outcomes

    def _ask(self, requests: Sequence[SecretRequest], purpose: Purpose) -> dict[SecretRequest, Outcome]:
        """Count what is asked for, and return what a throttled answer of a moment ago says on it."""
        held: dict[SecretRequest, Outcome] = {}
        now = self.now()
        with self.lock:
            if not purpose.is_prefetch:
                self.counters.ask(len(requests), refresh=purpose.is_refresh)
            for request in requests:
                error = self.backoff.throttled(self.store.canonical(request).key, now)
                if error is not None and not purpose.is_refresh:
                    held[request] = self._in_place_of(error._asked_for(request.secret_id), request, purpose)
        return held

    def _outcome(self, request: SecretRequest, flight: Flight, purpose: Purpose) -> Outcome:
        """Return what a flight means for who asked for ``request``, which may be by another id."""
        secret_id = request.secret_id
        if flight.secret is not None:
            return Answer(flight.secret, is_fetched=True)
        if flight.error is not None:
            error = flight.error._asked_for(secret_id)
        else:
            blame = (
                "was cancelled from outside, twice" if flight.landed else "didn't end before the invocation's deadline"
            )
            error = SecretUnavailableError(f"the fetch of secret {secret_id!r} {blame}", secret_id=secret_id)
        return self._in_place_of(error, request, purpose)

    def _in_place_of(self, error: SecretCacheError, request: SecretRequest, purpose: Purpose) -> Outcome:
        """Return the value in memory that may be served instead of an error, or the error."""
        entry, now = self.entries.get(request.key), self.now()
        if entry is None or not purpose.is_read or not isinstance(error, _TRANSIENT):
            return error
        # It may be fresh by now, if another fetch has landed meanwhile.
        if not is_fresh(entry.born, entry.expires_at, now) and not self._may_serve_stale(entry, error, now):
            return error
        with self.lock:
            self.counters.serve_stale(instead=True)
        return Answer(entry.secret, is_fetched=False)

    def _take_in(self, flight: Flight) -> str | None:
        """Store what a flight brought, or take note of its failure; return what is to be logged of that."""
        if self.is_closed:
            return None
        request, error, now = self.store.canonical(flight.request), flight.error, self.now()
        if flight.secret is not None:
            # Fresh from when the fetch began: the value may have been read at any time since, and be delivered after
            # a freeze.
            expires_at = self.policy.expires_at(flight.request, flight.secret.arn, flight.secret.name, flight.born)
            entry = Entry(flight.secret, started=flight.started, born=flight.born, expires_at=expires_at)
            self.store.put(flight.request, entry, now)
            self.backoff.forget(request.key)
            return None
        if error is None:
            return None
        present = self.entries.get(request.key)
        if isinstance(error, _REVOKED) and present is not None and present.started < flight.started:
            was_revoked, present.revoked_at = present.revoked_at, max(present.revoked_at, flight.started)
            return None if was_revoked else f"{error}; the value in memory isn't served beyond its ttl"
        is_stale_served = present is not None and self._may_serve_stale(present, error, now)
        if flight.arms:
            self.backoff.note(request.key, error, now, is_stale_served=is_stale_served)
        return f"{error}; a stale value is served meanwhile" if is_stale_served else None
