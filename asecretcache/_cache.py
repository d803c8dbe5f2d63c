"""SecretCache: the public methods, over a Reader and a source."""

from __future__ import annotations

import os
import time
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload
from weakref import WeakValueDictionary

from asecretcache._core.fetch import Flight
from asecretcache._core.fetch_task import Fetches
from asecretcache._core.freshness import FreshnessPolicy, seconds
from asecretcache._core.loader import Answer, Outcome, Reader
from asecretcache._core.rotation import Rotations
from asecretcache._core.single_flight import SingleFlight
from asecretcache._core.stats import CacheStats
from asecretcache._core.timeouts import FetchTimeout, current_fetch_timeout, time_left
from asecretcache._exceptions import (
    ConfigurationError,
    SecretCacheError,
    SecretErrorGroup,
    SecretFormatError,
    SecretUnavailableError,
)
from asecretcache._inject import injector
from asecretcache._models import CURRENT, Secret, SecretRequest
from asecretcache._reading import check_parser, read_as, read_json
from asecretcache._references import SecretReference
from asecretcache._sources.protocols import BatchSource, SecretSource, WarmableSource
from asecretcache._sources.sdk.source import SecretsManagerSource

T = TypeVar("T")


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
        policy = FreshnessPolicy.of(
            ttl,
            jitter,
            ttl_by_secret=ttl_by_secret,
            stale_while_revalidate=stale_while_revalidate,
            stale_if_error=stale_if_error,
        )
        fetch_timeout = seconds("fetch_timeout", fetch_timeout, remedy="give seconds above zero", zero=False)
        self._source: SecretSource = SecretsManagerSource() if source is None else source
        self._owns_source = source is None
        fetch_batch = self._source.fetch_batch if isinstance(self._source, BatchSource) else None
        if batch and fetch_batch is None:
            msg = (
                f"batch=True is for sources with the coroutine method fetch_batch, which {type(source).__name__} lacks"
            )
            raise ConfigurationError(msg)
        self._now = clock or time.time
        self._reader = Reader(
            Fetches(self._source.fetch, fetch_batch),
            policy,
            clock=self._now,
            fetch_timeout=fetch_timeout,
            max_size=max_size,
            batch=batch,
        )
        self._store = self._reader.store
        self._entries = self._store.entries
        self._table = self._store.table
        self._rotations = Rotations(self._reader, max_size)
        _caches[id(self)] = self

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
            found = self._table[
                secret_id if version_stage is None and version_id is None else (secret_id, version_stage, version_id)
            ]
            if found.born <= self._now() < found.expires_at and found.text is not None:
                found.hits += 1
                return found.text  # type: ignore[no-any-return]  # only an Entry is ever fresh
        except (KeyError, TypeError):
            found = None
        # The short way for those who come while it is being fetched: a call or a coroutine more would be felt.
        joined = None
        if type(found) is Flight and self._reader.flights.join(found):
            joined, waiter = found, found.enter()
            try:
                await waiter
            except CancelledError:
                joined.leave(waiter)
                raise
            if joined.secret is not None:
                return joined.secret._text(secret_id)
        return (await self._read_one(secret_id, version_stage, version_id, joined))._text(secret_id)

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
        if key is not None and not isinstance(key, str):
            msg = f"the key of get_json is a str or None, not {type(key).__name__}"
            raise ConfigurationError(msg)
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
        # As get_secret has it.
        try:
            found = self._table[
                secret_id if version_stage is None and version_id is None else (secret_id, version_stage, version_id)
            ]
            if found.born <= self._now() < found.expires_at:
                found.hits += 1
                return found.secret  # type: ignore[no-any-return]  # as there
        except (KeyError, TypeError):
            found = None
        joined = None
        if type(found) is Flight and self._reader.flights.join(found):
            joined, waiter = found, found.enter()
            try:
                await waiter
            except CancelledError:
                joined.leave(waiter)
                raise
            if joined.secret is not None:
                return joined.secret
        return await self._read_one(secret_id, version_stage, version_id, joined)

    async def _read_one(
        self, secret_id: str, version_stage: str | None, version_id: str | None, joined: Flight | None
    ) -> Secret:
        if version_stage is not None and version_stage == CURRENT and version_id is None:
            return await self.get(secret_id)
        return (await self._reader.read(SecretRequest.of(secret_id, version_stage, version_id), joined)).secret

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
        if isinstance(secret_ids, (str, bytes)) or not isinstance(secret_ids, Iterable):
            msg = "get_many takes several secret ids: get_many(['a', 'b'])"
            raise ConfigurationError(msg)
        outcomes = await self._reader.read_many([SecretRequest.of(secret_id) for secret_id in secret_ids])
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
        return await self._reader.refresh(SecretRequest.of(secret_id, version_stage, version_id))

    async def prefetch(self, *secret_ids: str) -> None:
        """Fetch what isn't fresh in memory, concurrently; without ids prepare the source (imports, models, client).

        Raises:
            SecretErrorGroup: with an error for each secret that could not be had.
            SecretCacheError: without ids: why the source could not be prepared.
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
                take an argument.
            SecretErrorGroup: when the function is called: with an error for each secret that could not be had.
        """
        return injector(self._read, references)

    def peek(self, secret_id: str, *, version_stage: str | None = None, version_id: str | None = None) -> Secret | None:
        """Return what is stored, fresh or not, or None; neither I/O nor a coroutine."""
        try:
            return self._entries[
                secret_id if version_stage is None and version_id is None else (secret_id, version_stage, version_id)
            ].secret
        except (KeyError, TypeError):
            pass
        self._reader.check_open()
        entry = self._entries.get(SecretRequest.of(secret_id, version_stage, version_id).key)
        return None if entry is None else entry.secret

    def invalidate(self, secret_id: str) -> None:
        """Forget all versions of a secret. A fetch under way still answers those who wait, but isn't stored."""
        self._reader.check_open()
        for each in self._reader.forget(SecretRequest.of(secret_id).secret_id):
            self._rotations.forget(each)

    def clear(self) -> None:
        """Forget all secrets, as invalidate does with one."""
        self._reader.clear()
        self._rotations.forget()

    def stats(self) -> CacheStats:
        """Return what has been counted since the cache was made."""
        return self._reader.stats()

    async def aclose(self) -> None:
        """Forget everything, end the fetches under way and close the source if the cache made it. Idempotent.

        Using the cache afterwards raises ConfigurationError.
        """
        self._reader.is_closed = True
        self._reader.clear()
        try:
            await self._flights.cancel_all()
        finally:
            if self._owns_source:
                from anyio import CancelScope  # Not for those who never close a cache: it takes some milliseconds.

                # Shielded, or a caller that is being cancelled would leave the connections open.
                with CancelScope(shield=True):
                    await self._source.aclose()

    async def __aenter__(self) -> Self:
        self._reader.check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        state = "closed" if self._reader.is_closed else f"{len(self._store)} secrets"
        return f"<SecretCache {state} ttl={self._reader.policy.ttl!r}>"

    @property
    def _flights(self) -> SingleFlight:
        return self._reader.flights

    async def _prefetch(self, requests: Collection[SecretRequest]) -> None:
        self._reader.check_open()
        if requests:
            # The first fetch does the source's preparations, within its own time.
            raise_failures(await self._reader.read_many(requests, prefetch=True))
        elif isinstance(self._source, WarmableSource):
            await self._warm(self._source)

    async def _warm(self, source: WarmableSource) -> None:
        # What is made now is to have the time-outs that it would have if a fetch made it.
        timer = FetchTimeout(time_left(self._reader.fetch_timeout), self._now, self._reader.monotonic)
        token = current_fetch_timeout.set(timer)
        try:
            async with timer.start():
                await source.warm()
        except TimeoutError:
            if not timer.was_raised:
                raise
        else:
            return
        finally:
            current_fetch_timeout.reset(token)
        raise SecretUnavailableError(f"preparing the source took longer than {timer.seconds:g} s")

    async def _read(
        self,
        references: Sequence[SecretReference],
        tell: Callable[[SecretReference, bool], None] = lambda _reference, _is_fetched: None,
    ) -> list[str]:
        """Return the texts that references mean; ``tell`` is told of each whether it was fetched."""
        outcomes = await self._reader.read_many([reference.request for reference in references])
        raise_failures(outcomes)
        values: list[str] = []
        errors: list[SecretCacheError] = []
        for reference in references:
            answer = outcomes[reference.request]
            if isinstance(answer, Answer):  # pragma: no branch - errors have been raised
                tell(reference, answer.is_fetched)
                try:
                    values.append(reference.read(answer.secret))
                except SecretFormatError as exc:
                    # Its traceback holds this frame.
                    errors.append(exc.with_traceback(None))
        if errors:
            values.clear()
            raise SecretErrorGroup._of(errors, len(references))
        return values


def raise_failures(outcomes: Mapping[SecretRequest, Outcome]) -> None:
    """Raise a SecretErrorGroup of the errors among the outcomes, if there are any."""
    errors = [outcome for outcome in outcomes.values() if isinstance(outcome, SecretCacheError)]
    if errors:
        raise SecretErrorGroup._of(errors, len(outcomes))


# All that are alive, for what concerns the whole process: a fork, a snapshot, the end of an invocation. Not a WeakSet,
# which can't be listed while another thread adds to it.
_caches: WeakValueDictionary[int, SecretCache] = WeakValueDictionary()


def live_caches() -> list[SecretCache]:
    """Return the caches that are in use in this process."""
    caches = (reference() for reference in _caches.valuerefs())
    return [cache for cache in caches if cache is not None and not cache._reader.is_closed]


def _after_fork() -> None:
    """Give the child the values, but none of the parent's flights, and a lock that no thread of the parent's holds."""
    for cache in live_caches():
        # Kept, not ended: to unwind the parent's fetches here would touch the sockets that both processes share.
        _inherited.append(cache._flights)
        cache._reader.take_off()


_inherited: list[SingleFlight] = []
if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_after_fork)
