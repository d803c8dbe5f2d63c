"""SecretCache: stored values, single-flight and source put together."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Literal, Self, overload
from weakref import WeakSet

from anyio import CancelScope, create_task_group

from asecretcache._deadline import current_deadline
from asecretcache._errors import (
    ConfigurationError,
    SecretCacheError,
    SecretErrorGroup,
    SecretUnavailableError,
)
from asecretcache._policy import FreshnessPolicy, is_fresh, seconds
from asecretcache._reference import read_json
from asecretcache._secret import Secret, SecretRequest
from asecretcache._singleflight import Flight, SingleFlight
from asecretcache._sources._protocol import SecretSource, WarmableSource
from asecretcache._sources._secrets_manager import SecretsManagerSource
from asecretcache._store import Entry, Store


class SecretCache:
    """Secrets in memory, each fetched once: concurrent first gets share one call, later ones read a dict.

    Any task, loop and thread may share a cache. Values are shared by all of them; a fetch under way and the client it
    uses belong to one event loop, so threads with a loop each may fetch a secret once each at the very first.

    Arguments:
        source: where secrets come from; by default Secrets Manager, with boto3's own configuration. The cache closes
            it only if it made it.
        ttl: seconds that a value is served; None: for as long as the process lives.
        jitter: the fraction of the ttl, from 0 to 1, of which a random part is taken off each expiry, so that
            environments that started together don't fetch together.
        fetch_timeout: seconds that a fetch may take, counted from when it holds one of the source's slots.
        max_size: how many values are kept at most; the expired are evicted first, then the oldest.
        clock: returns the wall-clock time in seconds; for tests.

    Raises:
        ConfigurationError: an argument is out of range.
    """

    def __init__(
        self,
        source: SecretSource | None = None,
        *,
        ttl: float | None = 3600.0,
        jitter: float = 0.1,
        fetch_timeout: float = 10.0,
        max_size: int = 1024,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if source is not None and not (isinstance(source, SecretSource) and not isinstance(source, type)):
            # Not its repr: what was given by mistake may hold secrets.
            msg = f"source is an object with the coroutine methods fetch and aclose, not {type(source).__name__}"
            raise ConfigurationError(msg)
        if isinstance(max_size, bool) or not isinstance(max_size, int) or max_size < 1:
            msg = f"max_size is a whole number of values, at least 1, not {max_size!r}"
            raise ConfigurationError(msg)
        if clock is not None and not callable(clock):
            msg = f"clock is a callable that returns seconds, such as time.time, not {type(clock).__name__}"
            raise ConfigurationError(msg)
        self._policy = FreshnessPolicy.of(ttl, jitter)
        self._fetch_timeout = seconds("fetch_timeout", fetch_timeout, remedy="give seconds above zero", zero=False)
        self._now = clock or time.time
        self._source: SecretSource = SecretsManagerSource() if source is None else source
        self._owns_source = source is None
        self._closed = False
        self._store = Store(max_size)
        self._entries = self._store.entries
        self._take_off()
        _caches.add(self)

    def _take_off(self) -> None:
        self._lock = threading.RLock()
        self._flights = SingleFlight(
            self._source.fetch, self._keep, lock=self._lock, timeout=self._fetch_timeout, clock=self._now
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

    async def get(self, secret_id: str, *, version_stage: str | None = None, version_id: str | None = None) -> Secret:
        """Return the record of a secret: value, version, stages; as get_secret otherwise."""
        return (await self._obtain(SecretRequest.of(secret_id, version_stage, version_id)))[0]

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
            request.secret_id: outcome if isinstance(outcome, SecretCacheError) else outcome[0]
            for request, outcome in outcomes.items()
        }

    async def refresh(
        self, secret_id: str, *, version_stage: str | None = None, version_id: str | None = None
    ) -> Secret:
        """Fetch a secret now, whatever is stored, and return it; concurrent refreshes share one call.

        Raises:
            SecretCacheError: one of its subclasses; what is stored stays then.
        """
        return await self._fetch(SecretRequest.of(secret_id, version_stage, version_id), refresh=True)

    async def prefetch(self, *secret_ids: str) -> None:
        """Prepare the source (imports, models, connection set-up) and fetch what isn't in memory, concurrently.

        Raises:
            SecretErrorGroup: with an error for each secret that could not be had.
        """
        await self._prefetch([SecretRequest.of(secret_id) for secret_id in secret_ids])

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
            self._store.drop(secret_id)
            self._flights.forget(secret_id)

    def clear(self) -> None:
        """Forget all secrets, as invalidate does with one."""
        with self._lock:
            self._store.clear()
            self._flights.forget()

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
        state = "closed" if self._closed else f"{len(self._entries)} secrets"
        return f"<SecretCache {state} ttl={self._policy.ttl!r}>"

    async def _obtain(self, request: SecretRequest) -> tuple[Secret, bool]:
        """Return the secret and whether a fetch brought it."""
        self._check_open()
        entry = self._entries.get(request.key)
        if entry is not None and is_fresh(entry.born, entry.expires_at, self._now()):
            return entry.secret, False
        return await self._fetch(request, refresh=False), True

    async def _obtain_many(
        self, requests: Iterable[SecretRequest]
    ) -> dict[SecretRequest, tuple[Secret, bool] | SecretCacheError]:
        outcomes: dict[SecretRequest, tuple[Secret, bool] | SecretCacheError] = {}

        async def obtain(request: SecretRequest) -> None:
            try:
                outcomes[request] = await self._obtain(request)
            except SecretCacheError as exc:
                outcomes[request] = exc

        wanted = dict.fromkeys(requests)
        async with create_task_group() as group:
            for request in wanted:
                group.start_soon(obtain, request)
        return {request: outcomes[request] for request in wanted}

    async def _prefetch(self, requests: Iterable[SecretRequest]) -> None:
        self._check_open()
        if isinstance(self._source, WarmableSource):
            await self._source.warm()
        raise_failures(await self._obtain_many(requests))

    async def _fetch(self, request: SecretRequest, *, refresh: bool) -> Secret:
        # Twice: when somebody else cancels a flight, that is no cancellation of those who wait for it.
        for _ in range(2):
            self._check_open()
            flight = self._flights.board(request, refresh=refresh)
            if not await flight.wait(current_deadline()):
                msg = f"secret {request.secret_id!r} didn't arrive before the invocation's deadline"
                raise SecretUnavailableError(msg, secret_id=request.secret_id)
            if flight.secret is not None:
                return flight.secret
            if flight.error is not None:
                raise flight.error._copy()
        self._check_open()
        msg = f"the fetch of secret {request.secret_id!r} was cancelled from outside, twice"
        raise SecretUnavailableError(msg, secret_id=request.secret_id)

    def _keep(self, flight: Flight, secret: Secret) -> None:
        # Fresh from when the fetch began: the value may have been read at any time since, and be delivered after a
        # freeze.
        expires_at = self._policy.expires_at(flight.request, flight.born)
        entry = Entry(secret, started=flight.started, born=flight.born, expires_at=expires_at)
        self._store.put(flight.request, entry, self._now())

    def _check_open(self) -> None:
        if self._closed:
            msg = "this SecretCache is closed: make a new one, or don't leave its `async with` before the last use"
            raise ConfigurationError(msg)


def raise_failures(outcomes: dict[SecretRequest, tuple[Secret, bool] | SecretCacheError]) -> None:
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
