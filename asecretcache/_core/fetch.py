"""One running fetch with its waiters, and the task that fetches."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from contextvars import Context
from enum import Enum
from typing import Any, Final

from asecretcache._core.outcome import CANCELLED, DISCARDED, FAILED
from asecretcache._core.stats import Counts
from asecretcache._core.timeouts import FetchTimeout, current_fetch_timeout, invocation_deadline, network_hint
from asecretcache._exceptions import SecretCacheError, SecretUnavailableError, origin_of
from asecretcache._models import Key, Secret, SecretRequest, may_be_same_secret

# The order of starts. One for the process, so that the child of a fork, which has the values, goes on with it.
_sequence: Final = itertools.count(1)

FetchOne = Callable[[SecretRequest], Awaitable[Secret]]
TellTask = Callable[["FetchTask"], object]
FetchBatch = Callable[[Sequence[str]], Awaitable[Mapping[str, Secret | SecretCacheError]]]


class FetchReason(Enum):
    """Why a secret is fetched."""

    #: A caller wants a value that may be served.
    READ = "read"
    #: A caller wants a value that is fetched from now on, so it joins only other refreshes.
    REFRESH = "refresh"
    #: A stale value was served. No caller waits, so the fetch isn't cancelled for want of waiters.
    REVALIDATION = "revalidation"
    #: No caller has asked for the secret yet, so a failure has no bearing on later calls.
    PREFETCH = "prefetch"


class Fetch:
    """One running fetch and its waiters. It belongs to the event loop on which it was started.

    Attributes:
        started_at: the wall-clock time of its start.
        sequence: its place in the order of starts.
        is_background: no caller waits for it, so it goes on without waiters.
        counts_as_failure: whether its failure has a bearing on later calls.
        joins: how many reads have joined it by the short way.
        is_done: whether it has ended: with a ``secret``, with an ``error``, or because it ``was_cancelled``.
        is_cacheable: whether its result may be stored; invalidating the secret ends that.
        stored_as: what the value is to the one before, once it is stored.
        evicted: the key of the value that was evicted when its own was stored.
        forgotten_ids: ids other than its own that were invalidated while it ran.
    """

    #: A read that finds a fetch where it looks for a value takes it for an expired one.
    expires_at: Final = -math.inf
    task: FetchTask

    def __init__(
        self, request: SecretRequest, reason: FetchReason, loop: asyncio.AbstractEventLoop, started_at: float
    ) -> None:
        self.request = request
        self.loop = loop
        self.started_at = started_at
        self.sequence = next(_sequence)
        self.reason = reason
        self.is_refresh = reason is FetchReason.REFRESH
        self.is_background = reason is FetchReason.REVALIDATION
        self.counts_as_failure = reason is not FetchReason.PREFETCH
        self.joins = 0
        # In the order in which they came, which is the order in which they are woken.
        self.waiters: dict[asyncio.Future[None], None] = {}
        self.is_done = self.was_cancelled = False
        self.is_cacheable = True
        self.stored_as = DISCARDED
        self.evicted: Key | None = None
        self.forgotten_ids: tuple[str, ...] = ()
        #: The references by which readers find it, besides its key.
        self.names: tuple[object, ...] = ()
        self.secret: Secret | None = None
        self.error: SecretCacheError | None = None

    @property
    def outcome(self) -> str:
        """How it has ended."""
        if self.secret is None:
            return CANCELLED if self.was_cancelled else FAILED
        return self.stored_as

    @property
    def is_wanted(self) -> bool:
        """Whether a caller waits for it, or none was meant to."""
        return bool(self.waiters) or self.is_background

    @property
    def is_forgotten(self) -> bool:
        """Whether it is of a secret that was invalidated while it ran; of a failure only its id can tell."""
        if self.secret is not None:
            return self.secret.name in self.forgotten_ids or self.secret.arn in self.forgotten_ids
        return any(may_be_same_secret(self.request.secret_id, each) for each in self.forgotten_ids)

    def log_extra(self) -> dict[str, object]:
        """Return what a log line about its end has besides its text."""
        seconds = self.task.timeout.elapsed()
        return {"secret_id": self.request.secret_id, "outcome": self.outcome, "duration_ms": seconds * 1000}

    def add_waiter(self) -> asyncio.Future[None]:
        """Return a future that only wakes its waiter, so that cancelling it harms no other waiter."""
        # Not loop.create_future, which is one more call: many waiters may come at once.
        waiter: asyncio.Future[None] = asyncio.Future(loop=self.loop)
        self.waiters[waiter] = None
        return waiter

    def remove_waiter(self, waiter: asyncio.Future[None]) -> None:
        """Forget a waiter that was cancelled. When the last one goes, the fetch is cancelled."""
        self.waiters.pop(waiter, None)
        if not self.waiters and not self.is_done:
            self.task.cancel_if_unwanted()

    def wake_waiters(self) -> None:
        """Wake all waiters, which then look at the result."""
        waiters, self.waiters = self.waiters, {}
        if not self.loop.is_closed():
            _wake_all(waiters)


#: What is left to do once the lock is released: to log a line, or to tell of a change.
AfterStore = Callable[[], object]
StoreResult = Callable[[Fetch], AfterStore | None]


async def wait_for(fetches: Sequence[Fetch]) -> None:
    """Wait until all fetches have ended, or until the deadline of the caller's invocation; the fetches go on then.

    A cancelled caller's fetches are cancelled, unless others wait for them.
    """
    deadline = invocation_deadline.get()
    waiters = [fetch.add_waiter() for fetch in fetches]
    alarm = None
    if deadline is not None and (left := deadline.left()) < math.inf:
        alarm = asyncio.get_running_loop().call_later(left, _wake_all, waiters)
    try:
        for waiter in waiters:
            await waiter
    except asyncio.CancelledError:
        for fetch, waiter in zip(fetches, waiters, strict=True):
            fetch.remove_waiter(waiter)
        raise
    finally:
        if alarm is not None:
            alarm.cancel()
    if alarm is None or deadline is None:
        return
    for fetch, waiter in zip(fetches, waiters, strict=True):
        fetch.waiters.pop(waiter, None)
    late = [fetch for fetch in fetches if not fetch.is_done]
    if late and not deadline.has_come():
        # The invocation, or the block, had ended before, so its deadline doesn't hold for a task that outlives it.
        await wait_for(late)


def _wake_all(waiters: Iterable[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


class FetchContext:
    """What all fetches of a cache share: the source's calls, what is counted, and what ends a fetch.

    Attributes:
        counts: the counts of the cache.
        fetch: fetches one secret.
        fetch_batch: fetches several secrets with one call; None if each is fetched by itself.
        finish: ends a fetch with its result, or with None if it was cancelled.
        lock: guards the start of tasks.
        task_started, task_ended: are told of each task; None while nothing wants to know.
        is_batch_denied: whether AWS has denied a batch.
    """

    finish: Callable[[Fetch, object], None]
    lock: AbstractContextManager[object]

    def __init__(self, counts: Counts, fetch: FetchOne, fetch_batch: FetchBatch | None = None) -> None:
        self.counts = counts
        self.fetch = fetch
        self.fetch_batch = fetch_batch
        self.is_batch_denied = False
        self.task_started: TellTask | None = None
        self.task_ended: TellTask | None = None


class FetchTask:
    """A detached task that fetches. It runs in an empty context, and no caller's cancellation reaches it.

    Attributes:
        variables: the context in which it runs. An observer that is told of its start may put a span there.
    """

    __slots__ = ("context", "coroutine", "fetches", "has_ended", "is_cancelled", "task", "timeout", "variables")

    def __init__(self, fetches: list[Fetch], context: FetchContext, timeout: FetchTimeout) -> None:
        self.fetches = fetches
        self.context = context
        self.timeout = timeout
        self.is_cancelled = self.has_ended = False

    def start(self) -> None:
        """Start the task, on the loop of its fetches."""
        loop = self.fetches[0].loop
        for fetch in self.fetches:
            fetch.task = self
        # The task of a fetch that a source asks for during another fetch.
        is_nested = current_fetch_timeout.get() is not None
        self.coroutine = self._run_nested() if is_nested else self._run()
        # Not loop.create_task: an eager task would start in its caller's stack, under the lock. The empty context keeps
        # the first caller's variables (a trace, a tenant, a deadline) out of a shared fetch.
        self.variables = Context()
        self.task = asyncio.Task(self.coroutine, loop=loop, context=self.variables, name=f"fetch {self._subject()}")
        # A loop may be closed while fetches run; that is no mistake to warn of.
        self.task._log_destroy_pending = False  # type: ignore[attr-defined]  # as asyncio.gather does
        # A task that is cancelled before its first step never enters its coroutine.
        self.task.add_done_callback(self._end)

    @property
    def has_waiters(self) -> bool:
        """Whether a caller waits for any fetch of it."""
        return any(fetch.waiters for fetch in self.fetches)

    def cancel_if_unwanted(self) -> None:
        """Cancel the task if no fetch of it is wanted."""
        if not any(fetch.is_wanted for fetch in self.fetches):
            self.cancel()

    def cancel(self) -> None:
        """Cancel the task, from any loop."""
        self.is_cancelled = True
        loop = self.task.get_loop()
        if asyncio.get_running_loop() is loop:
            self.task.cancel()
        else:
            with suppress(RuntimeError):  # The loop is closed.
                loop.call_soon_threadsafe(self.task.cancel)

    def abandon(self) -> None:
        """End the fetches, whose loop is closed."""
        with suppress(Exception):  # What the fetch does on its way out may need its loop.
            self.coroutine.close()
        self._end()  # A coroutine that had not begun doesn't do it.

    async def _run(self) -> None:
        try:
            (fetch,) = self.fetches
            self.context.counts["get_calls"] += 1
            # A source with a cache of its own must pass that for a refresh.
            request = fetch.request._as_refresh() if fetch.is_refresh else fetch.request
            self.context.finish(fetch, await self._call(self.context.fetch, request))
        finally:
            self._end()

    async def _run_nested(self) -> None:
        """Run one iteration of the loop later, so that a cancellation catches up with a circle of fetches.

        When sources ask for secrets in a circle, cancelling a fetch cancels the one that it waits for, and so on. If
        each of them started another one as fast as that, there would be no end to it.
        """
        await asyncio.sleep(0)
        await self._run()

    async def _call(self, call: Callable[[Any], Awaitable[object]], argument: object) -> object:
        """Return what the source returns or raises. Of a foreign exception only type and place are told."""
        current_fetch_timeout.set(self.timeout)
        try:
            async with self.timeout.start():
                return await call(argument)
        except SecretCacheError as exc:
            # Without its traceback, whose frames would keep the fetch alive and show what they hold.
            return exc.with_traceback(None)
        except Exception as exc:  # noqa: BLE001 - a source may raise anything, with the value in it
            reason = f"raised {type(exc).__name__} at {origin_of(exc)}"
            if isinstance(exc, TimeoutError) and self.timeout.was_raised:
                reason = f"took longer than {self.timeout.seconds:g} s{network_hint()}"
        return SecretUnavailableError(f"the fetch of {self._subject()} {reason}")

    def _end(self, _task: object = None) -> None:
        """End the fetches that have no result: the task was cancelled."""
        # Break the reference cycle between task and fetches, so that values are freed at once.
        fetches, self.fetches = self.fetches, []
        for fetch in fetches:
            if not fetch.is_done:
                self.context.finish(fetch, None)
        tell, self.has_ended = None if self.has_ended else self.context.task_ended, True
        if tell is not None:
            tell(self)

    def _subject(self) -> str:
        count = len(self.fetches)
        return f"secret {self.fetches[0].request.secret_id!r}" if count == 1 else f"{count} secrets"
