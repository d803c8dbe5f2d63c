"""How a secret is loaded: from memory if that may be, else by a fetch; and how the results of fetches are stored."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final

from asecretcache._core.changes import Changes
from asecretcache._core.entries import EntryStore
from asecretcache._core.fetch import AfterStore, Fetch, FetchBatch, FetchContext, FetchOne, FetchReason, wait_for
from asecretcache._core.freshness import REFUSED, RetrySpacing, is_fresh, may_serve_stale, new_entry
from asecretcache._core.observer import FetchObserver
from asecretcache._core.options import CacheOptions
from asecretcache._core.outcome import CHANGED, FETCHED, UNCHANGED
from asecretcache._core.single_flight import SingleFlight
from asecretcache._core.stats import CacheStats, Counts
from asecretcache._core.timeouts import FetchTimeout, current_fetch_timeout, network_hint, time_left
from asecretcache._exceptions import CacheClosedError, SecretCacheError, SecretUnavailableError
from asecretcache._models import Secret, SecretRequest

_logger: Final = logging.getLogger("asecretcache")

# Of the parents of forks. Kept, since ending their tasks would touch sockets that both processes share.
_inherited: Final[list[object]] = []


class Loader:
    """The engine of a cache. Any task, loop and thread may share it.

    Args:
        options: the options of the cache.
        fetch: fetches one secret.
        fetch_batch: fetches several secrets with one call; None if each is fetched by itself.
    """

    def __init__(self, options: CacheOptions, fetch: FetchOne, fetch_batch: FetchBatch | None) -> None:
        self.options = options
        self.is_closed = False
        self.observer: FetchObserver | None = None
        self.store = EntryStore(options.max_size)
        self.changes = Changes()
        self._retries = RetrySpacing(options.max_size)
        self._counts: Counts = dict.fromkeys(CacheStats._fields, 0)
        self._context = FetchContext(self._counts, fetch, fetch_batch)
        self._start_over()

    def reset_after_fork(self) -> None:
        """Start with no running fetches and a new lock, which no thread of the parent holds."""
        _inherited.extend((self.single_flight, self.changes.leave_tasks()))
        self._start_over()

    def _start_over(self) -> None:
        self.single_flight = SingleFlight(self._context, self._store_result, self.store.records, self.options)
        self.lock = self.single_flight.lock
        self.tell(self.observer)

    def tell(self, observer: FetchObserver | None) -> None:
        """Let an observer be told of the fetches, or none."""
        self.observer = self.single_flight.observer = observer
        self._context.task_started = None if observer is None else observer.started
        self._context.task_ended = None if observer is None else observer.task_ended

    def check_open(self) -> None:
        """Raise CacheClosedError if the cache is closed."""
        if self.is_closed:
            msg = "this SecretCache is closed: make a new one, or keep its `async with` open until the last use"
            raise CacheClosedError(msg)

    async def load(
        self,
        request: SecretRequest,
        reason: FetchReason = FetchReason.READ,
        *,
        name: object = None,
        joined: Fetch | None = None,
    ) -> Secret:
        """Return one secret, from memory or fetched.

        Args:
            request: which secret.
            reason: why it is wanted; a refresh doesn't look into memory.
            name: what later reads of the same look up.
            joined: a fetch that the caller has joined and that has ended.

        Raises:
            SecretCacheError: an instance of the caller's own.
        """
        self.check_open()
        result = None if joined else self._look_up(request, reason) or self._admit(request, reason)
        fetch, is_retry = joined, False
        while result is None:
            if fetch is None:
                fetch = self.single_flight.join_or_start(request, reason, is_retry=is_retry, name=name)
                await wait_for((fetch,))
            result = fetch.secret or self._conclude(fetch, request, reason, is_retry=is_retry)
            fetch, is_retry = None, True
        if isinstance(result, SecretCacheError):
            try:
                raise result
            finally:
                del result  # Its traceback holds this frame.
        return result

    async def load_all(
        self, requests: Iterable[SecretRequest], reason: FetchReason = FetchReason.READ
    ) -> dict[SecretRequest, Secret | SecretCacheError]:
        """Return several secrets or their errors, in the order of the requests; what is missing is fetched at once."""
        self.check_open()
        results: dict[SecretRequest, Secret | SecretCacheError | None] = {}
        expired: list[SecretRequest] = []
        for request in requests:
            if request not in results:
                results[request] = self._look_up(request, reason, expired) or self._admit(request, reason)
        if expired:
            self.single_flight.join_or_start_all(expired, FetchReason.REVALIDATION)
        for is_retry in (False, True):
            missing = [request for request, result in results.items() if result is None]
            if not missing:
                break
            fetches = self.single_flight.join_or_start_all(missing, reason, is_retry=is_retry)
            await wait_for(fetches)
            for request, fetch in zip(missing, fetches, strict=True):
                results[request] = fetch.secret or self._conclude(fetch, request, reason, is_retry=is_retry)
        return {request: result for request, result in results.items() if result is not None}

    def servable(self, request: SecretRequest, error: SecretCacheError | None) -> Secret | None:
        """Return the stored value if it is fresh, or may be served stale given what its latest fetch failed with."""
        entry, now = self.store.entries.get(request.key), self.options.clock()
        if entry is not None and (is_fresh(entry, now) or may_serve_stale(entry, error, now)):
            return entry.secret
        return None

    async def warm(self, warm: Callable[[], Awaitable[None]]) -> None:
        """Let the source prepare, within the time of a fetch; raise SecretUnavailableError if it takes longer."""
        timeout = FetchTimeout(time_left(self.options.fetch_timeout), self.options.clock, self.options.monotonic)
        token = current_fetch_timeout.set(timeout)
        try:
            async with timeout.start():
                return await warm()
        except TimeoutError:
            if not timeout.was_raised:
                raise
        finally:
            current_fetch_timeout.reset(token)
        raise SecretUnavailableError(f"preparing the source took longer than {timeout.seconds:g} s")

    def forget(self, secret_id: str | None = None) -> None:
        """Forget all versions of a secret, and its failures; None: all secrets."""
        with self.lock:
            if secret_id is None:
                self.store.clear()
            else:
                self.store.drop_secret(secret_id)
            self.single_flight.forget(secret_id)
            self._retries.forget_secret(secret_id)

    def stats(self) -> CacheStats:
        """Return what has been counted so far."""
        with self.lock:
            joins = sum(fetch.joins for fetch in self.single_flight.running())
            counts = self._counts | {"hits": self.store.hits, "evictions": self.store.evictions}
            counts["misses"] += joins
            counts["coalesced"] += joins
        return CacheStats(**counts)

    def _look_up(
        self,
        request: SecretRequest,
        reason: FetchReason,
        expired: list[SecretRequest] | None = None,
        *,
        is_retry: bool = False,
    ) -> Secret | None:
        """Return the value that may be served now. If it is stale, start its refresh, or leave that to ``expired``."""
        entry = self.store.entries.get(request.key)
        if entry is None or reason is FetchReason.REFRESH:
            return None
        now = self.options.clock()
        if is_fresh(entry, now):
            # A retry was counted as a miss already, and a prefetch is no read.
            entry.whole.hits += reason is FetchReason.READ and not is_retry
            return entry.secret
        if reason is FetchReason.PREFETCH:
            return None
        with self.lock:
            failure = self._retries.failures.get(request.key)
            error = None
            # After a recent failure readers don't wait for a retry, and they never join one that is running.
            if failure is not None:
                is_retrying = self.single_flight.is_joinable(request, reason)
                error = failure.error if failure.is_known(now, is_retrying=is_retrying) else None
            if not may_serve_stale(entry, error, now):
                return None
            self._counts["misses"] -= is_retry  # A read that was counted as a miss is a stale answer instead.
            self._counts["stale_served"] += 1
        observer = self.observer
        if observer is not None:
            observer.stale_served(request, error)
        if failure is None or not failure.blocks_retry(now):
            if expired is None:
                self.single_flight.join_or_start(request, FetchReason.REVALIDATION)
            else:
                expired.append(request)
        return entry.secret

    def _admit(self, request: SecretRequest, reason: FetchReason) -> Secret | SecretCacheError | None:
        """Count a read that memory can't answer, and return the answer of a moment ago that still holds, if any."""
        with self.lock:
            if reason is FetchReason.REFRESH:
                self._counts["refreshes"] += 1
                return None
            self._counts["misses"] += reason is FetchReason.READ
            failure = self._retries.failures.get(request.key)
            if failure is None or not failure.is_held(self.options.clock()):
                return None
        return self._instead_of(failure.error._copy(request.secret_id), request, reason)

    def _conclude(
        self, fetch: Fetch, request: SecretRequest, reason: FetchReason, *, is_retry: bool
    ) -> Secret | SecretCacheError | None:
        """Return what a fetch without a value means for one caller: a stale value, or an error of the caller's own.

        None means that the caller fetches once more.
        """
        error = fetch.error
        if error is None:
            ended = f"didn't end before the invocation's deadline{network_hint()}"
            if fetch.was_cancelled:
                self.check_open()
                if not is_retry:
                    # Another task cancelled it, or it slept through a freeze. Memory may have a value by now.
                    return self._look_up(request, reason, is_retry=True)
                ended = "was cancelled from outside, twice"
            error = SecretUnavailableError(f"the fetch of secret {request.secret_id!r} {ended}")
        return self._instead_of(error._copy(request.secret_id), request, reason)

    def _instead_of(
        self, error: SecretCacheError, request: SecretRequest, reason: FetchReason
    ) -> Secret | SecretCacheError:
        """Return the stored value if it may be served instead of an error, else the error."""
        if reason is not FetchReason.READ or not error.is_transient:
            return error
        # It may be fresh by now, if another fetch has ended meanwhile.
        stored = self.servable(request, error)
        if stored is None:
            return error
        with self.lock:
            self._counts["misses"] -= 1  # As in _look_up.
            self._counts["stale_served"] += 1
        observer = self.observer
        if observer is not None:
            observer.stale_served(request, error)
        return stored

    def _store_result(self, fetch: Fetch) -> AfterStore | None:
        """Store the value of a fetch, or record its failure; return what is left to do without the lock."""
        if self.is_closed:
            return None
        key, error = fetch.request.key, fetch.error
        present = self.store.entries.get(key)
        if fetch.secret is not None:
            entry = new_entry(self.options, fetch.request, fetch.secret, fetch.sequence, fetch.started_at)
            if not self.store.put(key, entry):
                return None
            fetch.evicted = self.store.evicted
            fetch.stored_as = FETCHED
            if present is not None:
                is_same = present.secret.version_id == fetch.secret.version_id
                fetch.stored_as = UNCHANGED if is_same else CHANGED
            self._retries.failures.pop(key, None)
            listeners = self.changes.listeners and self.changes.learn(key, fetch.secret, fetch.sequence)
            return partial(self.changes.tell, listeners, fetch.secret) if listeners else None
        if fetch.was_cancelled and fetch.is_background and present is not None:
            present.lost_refreshes += 1
        if error is None or (present is not None and present.sequence > fetch.sequence):
            # A later fetch has brought a value, so this failure is no news.
            return None
        now = self.options.clock()
        after: AfterStore | None = None
        is_stale_served = False
        if isinstance(error, REFUSED) and present is not None:
            if not present.refused_sequence:
                after = partial(_warn, fetch, "the value in memory isn't served beyond its ttl")
            present.refused_sequence = max(present.refused_sequence, fetch.sequence)
        elif present is not None and may_serve_stale(present, error, now):
            is_stale_served = True
            after = partial(_warn, fetch, "a stale value is served meanwhile")
        if fetch.counts_as_failure:
            self._retries.record_failure(key, error, now, is_stale_served=is_stale_served)
        return after


def _warn(fetch: Fetch, consequence: str) -> None:
    """Log a failure that callers don't see."""
    _logger.warning("%s; %s", fetch.error, consequence, extra=fetch.log_extra())
