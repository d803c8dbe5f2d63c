"""Single-flight: concurrent callers that want the same secret share one fetch.

Detached tasks do the fetching. Each waiter awaits a private future that only wakes it, and reads the result from the
fetch. A lock around the fetch was measured and refused: a lock held by a dead loop hangs the next invocation, after a
failure every waiter fetches again, and the waiters are woken one after the other.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary, ref

from asecretcache._core.batch_fetch import BatchFetchTask, into_batches
from asecretcache._core.fetch import AfterStore, Fetch, FetchContext, FetchReason, FetchTask, StoreResult
from asecretcache._core.observer import FetchObserver
from asecretcache._core.options import CacheOptions
from asecretcache._core.timeouts import FetchTimeout, invocation_deadline
from asecretcache._exceptions import SecretCacheError, SecretUnavailableError
from asecretcache._models import Key, Secret, SecretRequest, may_be_same_secret

_logger: Final = logging.getLogger("asecretcache")


class _LoopFetches:
    """The running fetches of one loop, in the order of their starts; and by key those that callers may join."""

    __slots__ = ("running", "shareable", "thread")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.running: dict[Fetch, None] = {}
        self.shareable: dict[tuple[Key, bool], Fetch] = {}

    def joinable(self, request: SecretRequest, reason: FetchReason) -> list[Fetch]:
        """Return the fetches that a caller may join: a refresh joins only refreshes."""
        found = []
        for is_refresh in (True,) if reason is FetchReason.REFRESH else (True, False):
            fetch = self.shareable.get((request.key, is_refresh))
            if fetch is not None and not fetch.task.is_cancelled:
                found.append(fetch)
        return found


class SingleFlight:
    """The running fetches of one cache, per event loop. Any thread may call it; a fetch is awaited on its own loop.

    All state changes in synchronous methods, under the lock.

    Args:
        context: what the fetches share; its callbacks become this object's.
        store_result: stores the result of a fetch, under the lock, and returns what is left to do without it.
        records: what reads look up; a key without a value has its running fetch there.
        options: the options of the cache.

    Attributes:
        lock: guards the fetches, the records and what ``store_result`` changes.
        observer: is told of each fetch, or None.
    """

    def __init__(
        self, context: FetchContext, store_result: StoreResult, records: dict[Any, Any], options: CacheOptions
    ) -> None:
        self.observer: FetchObserver | None = None
        self._context = context
        self.lock = threading.RLock()
        context.finish, context.lock = self.finish, self.lock
        self._store_result = store_result
        self._clock = options.clock
        self._timing = options.fetch_timeout, options.clock, options.monotonic
        self._records = records
        # After a fork, drop the parent's running fetches.
        for key in [key for key, found in records.items() if type(found) is Fetch]:
            del records[key]
        self._latest_loop: Callable[[], object] = lambda: None
        # Weak, so that an idle loop isn't kept alive. A fetch holds its loop, so closed loops are swept out.
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopFetches] = WeakKeyDictionary()

    def join_or_start(
        self, request: SecretRequest, reason: FetchReason, *, is_retry: bool = False, name: object = None
    ) -> Fetch:
        """Return the fetch of this request on the running loop, started now if there is none to join.

        A refresh joins only refreshes: another fetch may have started before what made the caller ask for one.

        Args:
            is_retry: whether the caller has waited for another fetch of it before.
            name: what later reads of the same look up.
        """
        # Before anything changes: a user's clock may raise.
        now = self._clock()
        if self._latest_loop() is not asyncio.get_running_loop():
            self._sweep()
        with self.lock:
            fetch, is_new = self._share(request, reason, now, is_retry=is_retry)
            if name is not None and name not in self._records:
                self._records[name] = fetch
                fetch.names += (name,)
            if is_new:
                FetchTask([fetch], self._context, FetchTimeout(*self._timing, now)).start()
        observer = self.observer  # Read once: being told, it may end the observing, and so may another thread.
        if observer is not None:
            if is_new:
                observer.started(fetch.task)
            observer.joined(fetch, reason, is_new=is_new, is_retry=is_retry)
        return fetch

    def join_or_start_all(
        self, requests: Iterable[SecretRequest], reason: FetchReason, *, is_retry: bool = False
    ) -> list[Fetch]:
        """Return the fetches of several different requests; those that are started go in batches if they can."""
        if self._context.fetch_batch is None or self._context.is_batch_denied:
            return [self.join_or_start(request, reason, is_retry=is_retry) for request in requests]
        now = self._clock()
        if self._latest_loop() is not asyncio.get_running_loop():
            self._sweep()
        with self.lock:
            shared = [self._share(request, reason, now, is_retry=is_retry) for request in requests]
            for batch in into_batches([fetch for fetch, is_new in shared if is_new]):
                kind = BatchFetchTask if len(batch) > 1 else FetchTask
                kind(batch, self._context, FetchTimeout(*self._timing, now)).start()
        observer = self.observer
        if observer is not None:
            for task in dict.fromkeys(fetch.task for fetch, is_new in shared if is_new):
                observer.started(task)
            for fetch, is_new in shared:
                observer.joined(fetch, reason, is_new=is_new, is_retry=is_retry)
        return [fetch for fetch, _ in shared]

    def try_join(self, fetch: Fetch, now: float) -> asyncio.Future[None] | None:
        """Join a fetch that a read has found where it looks for the value; if None, join_or_start has to decide.

        This is the short way of many concurrent readers: it takes no lock, and leaves out callers with a deadline.
        """
        if (
            fetch.is_done
            or fetch.loop is not asyncio.get_running_loop()
            or fetch.task.is_cancelled
            or fetch.task.timeout.has_expired(now)
            or invocation_deadline.get() is not None
            # It was found by a reference, and there is a value by its key, which may be fresh.
            or type(self._records.get(fetch.request.key)) is not Fetch
        ):
            return None
        fetch.joins += 1
        fetch.counts_as_failure = True
        observer = self.observer
        if observer is not None:
            observer.joined(fetch, FetchReason.READ, is_new=False, is_retry=False)
        # As add_waiter has it: one call less.
        waiter: asyncio.Future[None] = asyncio.Future(loop=fetch.loop)
        fetch.waiters[waiter] = None
        return waiter

    def is_joinable(self, request: SecretRequest, reason: FetchReason) -> bool:
        """Return whether a fetch is running on this loop that a caller with this reason would join."""
        with self.lock:
            here = self._loops.get(asyncio.get_running_loop())
            fetches = [] if here is None else here.joinable(request, reason)
            return any(not fetch.task.timeout.has_expired() for fetch in fetches)

    def finish(self, fetch: Fetch, result: object) -> None:
        """End a fetch: take its result, store it, wake the waiters. Only this method ends one.

        The result is a Secret, an error of this package, or None if the fetch was cancelled. Anything else is a mistake
        of the source and becomes an error.
        """
        after: AfterStore | None = None
        try:
            with self.lock:
                if fetch.is_done:
                    return
                if isinstance(result, Secret):
                    fetch.secret = result
                elif isinstance(result, SecretCacheError):
                    fetch.error = result.with_traceback(None)
                elif result is not None:
                    wrong = f"returned {type(result).__name__} instead of a Secret"
                    fetch.error = SecretUnavailableError(f"the fetch of secret {fetch.request.secret_id!r} {wrong}")
                fetch.is_done = True
                fetch.was_cancelled = result is None
                self._unshare(fetch)
                self._of(fetch.loop).running.pop(fetch, None)
                self._context.counts["errors"] += fetch.error is not None
                self._context.counts["misses"] += fetch.joins
                self._context.counts["coalesced"] += fetch.joins
                if fetch.is_cacheable and not (fetch.forgotten_ids and fetch.is_forgotten):
                    after = self._store_result(fetch)
        except Exception as exc:  # noqa: BLE001 - a user's clock may raise; the waiters get the result all the same
            after = partial(_logger.warning, "a result could not be stored: the clock raised %s", type(exc).__name__)
        observer = self.observer
        try:
            if observer is not None:
                observer.ended(fetch)
        finally:
            # Also where an observer of a user's raises what is no Exception.
            fetch.wake_waiters()
        # Not under the lock: a log handler or a callback may take its time, or use the cache.
        if fetch.secret is not None and _logger.isEnabledFor(logging.INFO):
            _logger.info("secret %s was fetched from Secrets Manager", fetch.request.secret_id, extra=fetch.log_extra())
        if after is not None:
            after()

    def forget(self, secret_id: str | None) -> None:
        """Let the running fetches of a secret, or all, neither store their results nor be joined."""
        with self.lock:
            for fetch in self.running():
                if secret_id is None or fetch.request.secret_id == secret_id:
                    fetch.is_cacheable = False
                    self._unshare(fetch)
                    continue
                # Whether it is this secret's, its result will show: a source may have ids of its own.
                fetch.forgotten_ids += (secret_id,)
                if may_be_same_secret(fetch.request.secret_id, secret_id):
                    self._unshare(fetch)

    def running(self) -> list[Fetch]:
        """Return the fetches that run now, on all loops."""
        return [fetch for here in self._loops.values() for fetch in here.running]

    async def cancel_all(self) -> None:
        """Cancel every fetch, and wait for those of this loop to end."""
        self._sweep()
        with self.lock:
            tasks = dict.fromkeys(fetch.task for fetch in self.running())
        for task in tasks:
            task.cancel()
        if mine := [task.task for task in tasks if task.task.get_loop() is asyncio.get_running_loop()]:
            await asyncio.wait(mine)

    async def drain(self, seconds: float) -> None:
        """Wait at most ``seconds`` for this loop's fetches that no caller waits for, then cancel them."""
        with self.lock:
            here = self._loops.get(asyncio.get_running_loop())
            tasks = {} if here is None else dict.fromkeys(fetch.task for fetch in here.running)
        unwaited = [task for task in tasks if not task.has_waiters]
        if unwaited:
            await asyncio.wait([task.task for task in unwaited], timeout=seconds)
            for task in unwaited:
                # A task that outlives its invocation may have come to wait for it meanwhile.
                if not task.task.done() and not task.has_waiters:
                    task.cancel()
            # One iteration of the loop, in which each begins its clean-up; the rest goes on in the next invocation.
            await asyncio.sleep(0)

    def stopped_loops(self) -> list[asyncio.AbstractEventLoop]:
        """Return the loops that this thread has run, and left open with fetches that it may go on with."""
        thread = threading.get_ident()
        with self.lock:
            mine = [loop for loop, here in self._loops.items() if here.running and here.thread == thread]
        return [loop for loop in mine if not (loop.is_running() or loop.is_closed())]

    def _share(self, request: SecretRequest, reason: FetchReason, now: float, *, is_retry: bool) -> tuple[Fetch, bool]:
        """Return a running fetch that the caller joins, or a new one that has no task yet; and whether it is new."""
        loop = asyncio.get_running_loop()
        key, here = request.key, self._of(loop)
        for fetch in here.joinable(request, reason):
            if not fetch.task.timeout.has_expired(now):
                fetch.counts_as_failure |= reason is not FetchReason.PREFETCH
                if not is_retry and reason in (FetchReason.READ, FetchReason.REFRESH):
                    self._context.counts["coalesced"] += 1
                return fetch, False
            # It slept through a freeze. Its cancellation wakes its waiters, which come back for a new fetch.
            fetch.task.cancel()
        fetch = Fetch(request, reason, loop, now)
        here.running[fetch] = None
        here.shareable[key, fetch.is_refresh] = fetch
        # Of the fetches of several loops, the last one that was started.
        if type(self._records.get(key, fetch)) is Fetch:
            self._records[key] = fetch
        return fetch, True

    def _unshare(self, fetch: Fetch) -> None:
        """Let no caller join the fetch any more."""
        shareable = self._of(fetch.loop).shareable
        key = fetch.request.key, fetch.is_refresh
        if shareable.get(key) is fetch:
            del shareable[key]
        for name in (fetch.request.key, *fetch.names):
            if self._records.get(name) is fetch:
                del self._records[name]

    def _of(self, loop: asyncio.AbstractEventLoop) -> _LoopFetches:
        found = self._loops.get(loop)
        if found is None:
            found = self._loops[loop] = _LoopFetches()
        return found

    def _sweep(self) -> None:
        """End the fetches of closed loops, which nothing will run. Not under the lock, since an observer is told."""
        self._latest_loop = ref(asyncio.get_running_loop())
        with self.lock:
            tasks = dict.fromkeys(fetch.task for fetch in self.running() if fetch.loop.is_closed())
        for task in tasks:
            task.abandon()
