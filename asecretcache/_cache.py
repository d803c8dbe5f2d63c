"""SecretCache: freshness, stored values, single-flight and source put together."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Self, TypeVar, overload
from weakref import WeakSet

from anyio import CancelScope

from asecretcache._backoff import Backoff
from asecretcache._carrier import Fetches
from asecretcache._deadline import current_deadline
from asecretcache._errors import (
    ConfigurationError,
    SecretAccessDeniedError,
    SecretCacheError,
    SecretDecryptionError,
    SecretErrorGroup,
    SecretFormatError,
    SecretNotFoundError,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache._flight import Flight, wait_for_all
from asecretcache._inject import injector
from asecretcache._policy import FreshnessPolicy, is_fresh, seconds
from asecretcache._reading import check_parser, read_as, read_json
from asecretcache._reference import SecretReference
from asecretcache._rotation import Rotations
from asecretcache._secret import Secret, SecretRequest
from asecretcache._singleflight import PREFETCH, READ, REFRESH, REVALIDATION, Purpose, SingleFlight
from asecretcache._sources._protocol import BatchSource, SecretSource, WarmableSource
from asecretcache._sources._secrets_manager import SecretsManagerSource
from asecretcache._stats import CacheStats, Counters
from asecretcache._store import Entry, Store
from asecretcache._timer import FetchTimer, fetch_timer

T = TypeVar("T")

_TRANSIENT: Final = (SecretUnavailableError, SecretThrottledError)
_REVOKED: Final = (SecretNotFoundError, SecretAccessDeniedError, SecretDecryptionError)


class Answer(NamedTuple):
    """A secret, and whether a fetch brought it."""

    secret: Secret
    is_fetched: bool


class SecretCache:
    """Secrets in memory, each fetched once: concurrent first gets share one call, later ones read a dict.

    Any task, loop and thread may share a cache. Values are shared by all of them; a fetch under way and the client it
    uses belong to one event loop, so threads with a loop each may fetch a secret once each at the very first.

    Arguments:
        source: where secrets come from; by default Secrets Manager, with boto3's own configuration. The cache closes
            it only if it made it.
        ttl: seconds that a value is fresh; None: for as long as the process lives.
        ttl_by_secret: other ttls, by name or ARN.
        jitter: the fraction of the ttl, from 0 to 1, of which a random part is taken off each expiry, so that
            environments that started together don't fetch together.
        stale_while_revalidate: seconds past its expiry for which a value is served at once, while it is fetched anew
            in the background (RFC 5861).
        stale_if_error: seconds past its expiry for which a value is served when Secrets Manager can't be reached,
            fails or throttles (RFC 5861); never when it says that access is denied or the secret is gone.
        fetch_timeout: seconds that a fetch may take, counted from when it holds one of the source's slots.
        max_size: how many values are kept at most; the expired are evicted first, then the oldest.
        batch: whether get_many, prefetch and what is built on them fetch up to 20 secrets with one call. It needs
            another permission, secretsmanager:BatchGetSecretValue, and that call's quota is 100 a second in a region.
        clock: returns the wall-clock time in seconds; for tests.

    Raises:
        ConfigurationError: an argument is out of range, or the source has no batches.
    """

    def __init__(
        self,
        source: SecretSource | None = None,
        *,
        ttl: float | None = 3600.0,
        ttl_by_secret: Mapping[str, float | None] | None = None,
        jitter: float = 0.1,
        stale_while_revalidate: float = 0.0,
        stale_if_error: float = 3600.0,
        fetch_timeout: float = 10.0,
        max_size: int = 1024,
        batch: bool = False,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if source is not None and not (isinstance(source, SecretSource) and not isinstance(source, type)):
            # Not its repr: what was given by mistake may hold secrets.
            msg = f"source is an object with the coroutine methods fetch and aclose, not {type(source).__name__}"
            raise ConfigurationError(msg)
        if isinstance(max_size, bool) or not isinstance(max_size, int) or max_size < 1:
            msg = f"max_size is a whole number of values, at least 1, not {max_size!r}"
            raise ConfigurationError(msg)
        if not isinstance(batch, bool):
            msg = f"batch is True or False, not {type(batch).__name__}"
            raise ConfigurationError(msg)
        if clock is not None and not callable(clock):
            msg = f"clock is a callable that returns seconds, such as time.time, not {type(clock).__name__}"
            raise ConfigurationError(msg)
        self._policy = FreshnessPolicy.of(
            ttl,
            jitter,
            ttl_by_secret=ttl_by_secret,
            stale_while_revalidate=stale_while_revalidate,
            stale_if_error=stale_if_error,
        )
        self._fetch_timeout = seconds("fetch_timeout", fetch_timeout, remedy="give seconds above zero", zero=False)
        self._now = clock or time.time
        self._source: SecretSource = SecretsManagerSource() if source is None else source
        self._owns_source = source is None
        if batch and not isinstance(self._source, BatchSource):
            msg = (
                f"batch=True is for sources with the coroutine method fetch_batch, which {type(source).__name__} lacks"
            )
            raise ConfigurationError(msg)
        self._batch = batch
        self._closed = False
        self._store = Store(max_size)
        self._entries = self._store.entries
        self._backoff = Backoff(max_size)
        self._counters = Counters()
        self._rotations = Rotations(self, max_size)
        self._take_off()
        _caches.add(self)

    def _take_off(self) -> None:
        self._lock = threading.RLock()
        fetch_batch = self._source.fetch_batch if isinstance(self._source, BatchSource) else None
        self._flights = SingleFlight(
            Fetches(self._source.fetch, fetch_batch),
            self._take_in,
            lock=self._lock,
            timeout=self._fetch_timeout,
            clock=self._now,
            counters=self._counters,
        )

    async def get_secret(
        self, secret_id: str, *, version_stage: str | None = None, version_id: str | None = None
    ) -> str:
        """Return the text of a secret, from memory while it is fresh.

        Arguments:
            secret_id: a name or an ARN.
            version_stage: a staging label instead of AWSCURRENT.
            version_id: a version's id; what is named so never expires.

        Raises:
            SecretCacheError: one of its subclasses; SecretFormatError if the secret is binary.
        """
        # The hit path: one look-up, one clock read. It falls through rather than awaiting inside the except clause,
        # which would hang the KeyError on every error as its context.
        try:
            entry = self._entries[
                secret_id if version_stage is None is version_id else (secret_id, version_stage, version_id)
            ]
            if entry.born <= self._now() < entry.expires_at and entry.text is not None:
                entry.hits += 1
                return entry.text
        except (KeyError, TypeError):
            pass
        return (await self.get(secret_id, version_stage=version_stage, version_id=version_id))._text(secret_id)

    async def get_secret_binary(
        self, secret_id: str, *, version_stage: str | None = None, version_id: str | None = None
    ) -> bytes:
        """Return the bytes of a binary secret; as get_secret otherwise."""
        return (await self.get(secret_id, version_stage=version_stage, version_id=version_id))._bytes(secret_id)

    async def get_json(
        self,
        secret_id: str,
        key: str | None = None,
        *,
        version_stage: str | None = None,
        version_id: str | None = None,
    ) -> Any:
        """Return the parsed JSON of a secret, or the value of one key of its object.

        It is parsed anew for each caller, so nobody's changes reach anybody else.

        Raises:
            SecretCacheError: one of its subclasses; SecretFormatError if it isn't JSON or there is no such key.
        """
        return read_json(await self.get(secret_id, version_stage=version_stage, version_id=version_id), secret_id, key)

    async def get_as(
        self,
        secret_id: str,
        parse: Callable[[str], T],
        *,
        version_stage: str | None = None,
        version_id: str | None = None,
    ) -> T:
        """Return what ``parse`` makes of the text of a secret, such as ``Settings.model_validate_json`` of pydantic.

        It is parsed anew for each caller, so nobody's changes reach anybody else.

        Arguments:
            secret_id: a name or an ARN.
            parse: a function of the text. Whatever it raises becomes a SecretFormatError that tells its type alone.
            version_stage: a staging label instead of AWSCURRENT.
            version_id: a version's id.

        Raises:
            SecretCacheError: one of its subclasses; SecretFormatError if ``parse`` raised or the secret is binary.
        """
        check_parser(parse)
        secret = await self.get(secret_id, version_stage=version_stage, version_id=version_id)
        return read_as(secret, secret_id, parse)

    async def get(self, secret_id: str, *, version_stage: str | None = None, version_id: str | None = None) -> Secret:
        """Return the record of a secret: value, version, stages; as get_secret otherwise."""
        return (await self._obtain(SecretRequest.of(secret_id, version_stage, version_id))).secret

    @overload
    async def get_many(
        self, secret_ids: Iterable[str], *, return_exceptions: Literal[False] = False
    ) -> dict[str, Secret]: ...
    @overload
    async def get_many(
        self, secret_ids: Iterable[str], *, return_exceptions: bool
    ) -> dict[str, Secret | SecretCacheError]: ...
    async def get_many(
        self, secret_ids: Iterable[str], *, return_exceptions: bool = False
    ) -> dict[str, Secret] | dict[str, Secret | SecretCacheError]:
        """Return several secrets by the ids asked for, fetched concurrently; what succeeds is cached in any case.

        Arguments:
            secret_ids: names or ARNs.
            return_exceptions: whether an error stands in the result in its secret's place, instead of being raised.

        Raises:
            SecretErrorGroup: with an error for each secret that could not be had.
        """
        if isinstance(secret_ids, (str, bytes)):
            msg = "get_many takes several secret ids: get_many(['a', 'b'])"
            raise ConfigurationError(msg)
        outcomes = await self._obtain_many([SecretRequest.of(secret_id) for secret_id in secret_ids])
        if not return_exceptions:
            raise_failures(outcomes)
        return {
            request.secret_id: outcome if isinstance(outcome, SecretCacheError) else outcome.secret
            for request, outcome in outcomes.items()
        }

    async def refresh(
        self, secret_id: str, *, version_stage: str | None = None, version_id: str | None = None
    ) -> Secret:
        """Fetch a secret now, whatever is stored, and return it; concurrent refreshes share one call.

        Raises:
            SecretCacheError: one of its subclasses; what is stored stays, and is served for as long as it is fresh.
        """
        request = SecretRequest.of(secret_id, version_stage, version_id)
        return (await self._fetch(request, REFRESH)).secret

    async def prefetch(self, *secret_ids: str) -> None:
        """Prepare the source (imports, models, connection set-up) and fetch what isn't in memory, concurrently.

        Raises:
            SecretErrorGroup: with an error for each secret that could not be had.
        """
        await self._prefetch([SecretRequest.of(secret_id) for secret_id in secret_ids])

    async def call_with_secret(
        self,
        secret_id: str,
        function: Callable[[Secret], Awaitable[T]],
        *,
        refresh_on: type[Exception] | tuple[type[Exception], ...],
        patience: float = 5.0,
    ) -> T:
        """Return what ``await function(secret)`` returns, with a newer version if the one in memory is refused.

        When the function raises ``refresh_on``, the secret is refreshed, with one call for all who ask at the same
        time, and with none if a newer version is in memory already. If the version has changed, the function is called
        once more. While it hasn't, it is refreshed again, less and less often: during a rotation the database may be
        ahead of the secret for a moment.

        Arguments:
            secret_id: a name or an ARN.
            function: takes the Secret and connects with it, for example.
            refresh_on: what it raises when the secret isn't valid any more.
            patience: seconds to wait for another version; no longer than the invocation lasts.

        Raises:
            SecretCacheError: the secret could not be had in the first place.
            Exception: what the function raised, if there is no other version or that one is refused as well.
        """
        return await self._rotations.call(secret_id, function, refresh_on, patience)

    def inject(
        self, /, **references: str
    ) -> Callable[[Callable[..., Coroutine[Any, Any, T]]], Callable[..., Coroutine[Any, Any, T]]]:
        """Return a decorator that passes secrets to an ``async def`` function, as keyword arguments at each call.

        ``@cache.inject(password="prod/db:password")``. They are fetched concurrently where they aren't fresh; an
        argument that a caller passes itself isn't fetched. The signature that is seen from outside lacks them.

        Arguments:
            references: by the names of the function's arguments, ``name-or-arn:json-key:version-stage:version-id``,
                trailing parts optional.

        Raises:
            ConfigurationError: when it is applied: a reference is wrong, or the function isn't ``async def`` or doesn't
                take an argument; when the function is called, and as any SecretCacheError: as get_secret.
            SecretErrorGroup: when the function is called: several were asked for and some could not be had.
        """
        return injector(self._read, references)

    def peek(self, secret_id: str, *, version_stage: str | None = None, version_id: str | None = None) -> Secret | None:
        """Return what is stored, fresh or not, or None; neither I/O nor a coroutine."""
        self._check_open()
        entry = self._entries.get(SecretRequest.of(secret_id, version_stage, version_id).key)
        return None if entry is None else entry.secret

    def invalidate(self, secret_id: str) -> None:
        """Forget all versions of a secret. A fetch under way still answers those who wait, but isn't stored."""
        self._check_open()
        secret_id = SecretRequest.of(secret_id).secret_id
        with self._lock:
            ids = self._store.ids_of(secret_id)
            self._store.drop(secret_id)
            # A fetch by name may be about to show that this ARN is the name's.
            self._flights.forget(ids | {SecretRequest(each).by_name.secret_id for each in ids})
            self._backoff.forget_all(ids)

    def clear(self) -> None:
        """Forget all secrets, as invalidate does with one."""
        with self._lock:
            self._store.clear()
            self._flights.forget()
            self._backoff.clear()

    def stats(self) -> CacheStats:
        """Return what has been counted since the cache was made."""
        with self._lock:
            counters = self._counters
            return CacheStats(
                hits=self._store.hits,
                misses=counters.misses,
                refreshes=counters.refreshes,
                coalesced=counters.coalesced,
                get_calls=counters.fetches,
                batch_calls=counters.batches,
                batched_ids=counters.batched_ids,
                errors=counters.errors,
                stale_served=counters.stale,
                evictions=self._store.evictions,
            )

    async def aclose(self) -> None:
        """Forget everything, end the fetches under way and close the source if the cache made it. Idempotent.

        Using the cache afterwards raises ConfigurationError.
        """
        self._closed = True
        with self._lock:
            self._store.clear()
        try:
            await self._flights.cancel_all()
        finally:
            if self._owns_source:
                # Shielded, or a caller that is being cancelled would leave the connections open.
                with CancelScope(shield=True):
                    await self._source.aclose()

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._store)} secrets"
        return f"<SecretCache {state} ttl={self._policy.ttl!r}>"

    async def _obtain(self, request: SecretRequest) -> Answer:
        self._check_open()
        answer = self._serve((request,), READ).get(request)
        return answer or await self._fetch(request, READ)

    async def _obtain_many(
        self, requests: Iterable[SecretRequest], purpose: Purpose = READ
    ) -> dict[SecretRequest, Answer | SecretCacheError]:
        self._check_open()
        wanted = dict.fromkeys(requests)
        outcomes: dict[SecretRequest, Answer | SecretCacheError] = {**self._serve(wanted, purpose)}
        missing = [request for request in wanted if request not in outcomes]
        # An ARN whose name is asked for too may turn out to be that secret's, and then costs no call.
        later = [request for request in missing if request.by_name != request and request.by_name in missing]
        outcomes |= await self._fetch_many([request for request in missing if request not in later], purpose)
        if later:
            outcomes |= (served := self._serve(later, purpose))
            outcomes |= await self._fetch_many([request for request in later if request not in served], purpose)
        return {request: outcomes[request] for request in wanted}

    async def _prefetch(self, requests: Iterable[SecretRequest]) -> None:
        self._check_open()
        if isinstance(self._source, WarmableSource):
            # A client that is made now is to have the time-outs that it would have if a fetch made it.
            token = fetch_timer.set(FetchTimer(self._fetch_timeout, self._now, time.monotonic))
            try:
                await self._source.warm()
            finally:
                fetch_timer.reset(token)
        raise_failures(await self._obtain_many(requests, PREFETCH))

    async def _read(
        self,
        references: Sequence[SecretReference],
        tell: Callable[[SecretReference, bool], None] = lambda _reference, _is_fetched: None,
    ) -> list[str]:
        """Return the texts that references mean; ``tell`` is told of each whether it was fetched."""
        outcomes = await self._obtain_many([reference.request for reference in references])
        raise_failures(outcomes)
        values: list[str] = []
        errors: list[SecretCacheError] = []
        for reference in references:
            answer = outcomes[reference.request]
            if not isinstance(answer, SecretCacheError):  # pragma: no branch - those have been raised
                tell(reference, answer.is_fetched)
                try:
                    values.append(reference.read(answer.secret))
                except SecretFormatError as exc:
                    errors.append(exc)
        if errors:
            values.clear()
            raise SecretErrorGroup._of(errors, len(references))
        return values

    def _serve(self, requests: Iterable[SecretRequest], purpose: Purpose) -> dict[SecretRequest, Answer]:
        """Return what may be served from memory now, and start the refreshes that this gives cause for."""
        served: dict[SecretRequest, Answer] = {}
        revalidated: dict[SecretRequest, None] = {}
        now = self._now()
        for request in requests:
            entry = self._entries.get(request.key)
            if entry is None:
                continue
            if is_fresh(entry.born, entry.expires_at, now):
                entry.hits += not purpose.is_prefetch
            elif purpose.is_prefetch or not self._serves_stale(request, entry, now, revalidated):
                continue
            served[request] = Answer(entry.secret, is_fetched=False)
        if revalidated:
            # A fetch that reads its own secret's stale value has no use for a refresh of it, which it is.
            with suppress(ConfigurationError):
                self._flights.board(revalidated, REVALIDATION, batch=self._batch)
        return served

    def _serves_stale(
        self, request: SecretRequest, entry: Entry, now: float, revalidated: dict[SecretRequest, None]
    ) -> bool:
        """Whether an expired value is served without waiting; note in ``revalidated`` what to fetch meanwhile."""
        with self._lock:
            request = self._store.canonical(request)
            failure = self._backoff.holding(request.key, now)
            if not self._may_serve_stale(entry, failure, now):
                return False
            if failure is None:
                revalidated[request] = None
            self._counters.stale += 1
        return True

    async def _fetch(self, request: SecretRequest, purpose: Purpose) -> Answer:
        outcome = (await self._fetch_many((request,), purpose))[request]
        if isinstance(outcome, SecretCacheError):
            try:
                raise outcome
            finally:
                del outcome  # Its traceback holds this frame.
        return outcome

    async def _fetch_many(
        self, requests: Sequence[SecretRequest], purpose: Purpose
    ) -> dict[SecretRequest, Answer | SecretCacheError]:
        outcomes: dict[SecretRequest, Answer | SecretCacheError] = {}
        with self._lock:
            if purpose.is_asked:
                self._counters.ask(len(requests), refresh=purpose.is_refresh)
            if not purpose.is_refresh:
                now = self._now()
                for request in requests:
                    error = self._backoff.throttled(self._store.canonical(request).key, now)
                    if error is not None:
                        outcomes[request] = self._in_place_of(error._asked_for(request.secret_id), request, purpose)
        tries = {request: 0 for request in requests if request not in outcomes}
        while tries:
            self._check_open()
            # By name where an ARN is known to be that name's, unless it turned out not to be.
            boarding = {request: request if tries[request] else self._store.canonical(request) for request in tries}
            wanted = list(dict.fromkeys(boarding.values()))
            flights = dict(zip(wanted, self._flights.board(wanted, purpose, batch=self._batch), strict=True))
            await wait_for_all(flights.values(), current_deadline())
            for request, boarded in boarding.items():
                outcome = self._outcome(request, flights[boarded], purpose, tries[request])
                if outcome is None:
                    tries[request] += 1
                else:
                    outcomes[request] = outcome
                    del tries[request]
        return outcomes

    def _outcome(
        self, request: SecretRequest, flight: Flight, purpose: Purpose, tries: int
    ) -> Answer | SecretCacheError | None:
        """Return what a flight means for who asked for ``request``; None: try again."""
        secret_id = request.secret_id
        if flight.secret is not None:
            is_other = flight.request != request and flight.secret.arn != secret_id
            return None if is_other else Answer(flight.secret, is_fetched=True)
        if flight.error is not None:
            error = flight.error._asked_for(secret_id)
        elif not flight.landed:
            msg = f"secret {secret_id!r} didn't arrive before the invocation's deadline"
            error = SecretUnavailableError(msg, secret_id=secret_id)
        elif tries == 0 or self._closed:
            # When somebody else cancels a flight, that is no cancellation of those who wait for it.
            return None
        else:
            msg = f"the fetch of secret {secret_id!r} was cancelled from outside, twice"
            error = SecretUnavailableError(msg, secret_id=secret_id)
        return self._in_place_of(error, request, purpose)

    def _in_place_of(
        self, error: SecretCacheError, request: SecretRequest, purpose: Purpose
    ) -> Answer | SecretCacheError:
        """Return the expired value that may be served instead of an error, if there is one."""
        if purpose is READ and isinstance(error, _TRANSIENT):
            entry, now = self._entries.get(request.key), self._now()
            # It may be fresh by now, if another fetch has landed meanwhile.
            if entry is not None and (
                is_fresh(entry.born, entry.expires_at, now) or self._may_serve_stale(entry, error, now)
            ):
                with self._lock:
                    self._counters.stale += 1
                return Answer(entry.secret, is_fetched=False)
        return error

    def _is_refreshing(self, secret_id: str) -> bool:
        return self._flights.is_refreshing(self._store.canonical(SecretRequest.of(secret_id)))

    def _take_in(self, flight: Flight) -> str | None:
        """Store what a flight brought, or take note of its failure; return what is to be logged of that."""
        key, error, now = flight.request.key, flight.error, self._now()
        if flight.secret is not None:
            # Fresh from when the fetch began: the value may have been read at any time since, and be delivered after
            # a freeze.
            expires_at = self._policy.expires_at(flight.request, flight.secret.arn, flight.born)
            entry = Entry(flight.secret, started=flight.started, born=flight.born, expires_at=expires_at)
            self._store.put(flight.request, entry, now)
            self._backoff.forget(key)
            return None
        if error is None:
            return None
        present = self._entries.get(key)
        if isinstance(error, _REVOKED) and present is not None and present.started < flight.started:
            was_revoked, present.is_revoked = present.is_revoked, True
            return None if was_revoked else f"{error}; the value in memory isn't served beyond its ttl"
        is_stale_served = present is not None and self._may_serve_stale(present, error, now)
        if flight.arms:
            self._backoff.note(key, error, now, is_stale_served=is_stale_served)
        return f"{error}; a stale value is served meanwhile" if is_stale_served else None

    def _may_serve_stale(self, entry: Entry, error: SecretCacheError | None, now: float) -> bool:
        """Whether a value that has expired may be served, this being what the latest fetch failed with."""
        if entry.is_revoked or is_fresh(entry.born, entry.expires_at, now):
            return False
        if self._policy.may_serve_while_revalidating(entry.born, entry.expires_at, now):
            return True
        return isinstance(error, _TRANSIENT) and self._policy.may_serve_on_error(entry.born, entry.expires_at, now)

    def _check_open(self) -> None:
        if self._closed:
            msg = "this SecretCache is closed: make a new one, or don't leave its `async with` before the last use"
            raise ConfigurationError(msg)


def raise_failures(outcomes: Mapping[SecretRequest, Answer | SecretCacheError]) -> None:
    """Raise a SecretErrorGroup of the errors among the outcomes, if there are any."""
    errors = [outcome for outcome in outcomes.values() if isinstance(outcome, SecretCacheError)]
    if errors:
        raise SecretErrorGroup._of(errors, len(outcomes))


# All that are alive, for what concerns the whole process: a fork, a snapshot, the end of an invocation.
_caches: WeakSet[SecretCache] = WeakSet()


def live_caches() -> list[SecretCache]:
    """Return the caches that are in use in this process."""
    return [cache for cache in list(_caches) if not cache._closed]


def _after_fork() -> None:
    """Give the child the values, but none of the parent's flights, and a lock that no thread of the parent's holds."""
    for cache in list(_caches):
        # Kept, not ended: to unwind the parent's fetches here would touch the sockets that both processes share.
        _inherited.append(cache._flights)
        cache._take_off()


_inherited: list[SingleFlight] = []
if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_after_fork)
