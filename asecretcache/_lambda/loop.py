"""The one event loop on which all invocations of this process run."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from asecretcache._cache import live_caches
from asecretcache._core.timeouts import Deadline, invocation_deadline
from asecretcache._exceptions import ConfigurationError

T = TypeVar("T")

# What an invocation keeps of its time to answer in, at most, and of a short one the fraction of it.
_MARGIN_SECONDS: Final = 0.5
_MARGIN_FRACTION: Final = 0.1
_DRAIN_SECONDS: Final = 0.5


# The process in whose invocation this runs; threads that an invocation starts inherit it, as its loop waits for them.
_inside: ContextVar[int | None] = ContextVar("asecretcache.inside", default=None)


class Invocations:
    """Runs invocations one after another on one loop, which survives between them as the environment does."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._inherited: list[asyncio.Runner | None] = []

    @staticmethod
    def is_inside_a_loop() -> bool:
        """Whether a loop runs in this thread, or it was started by an invocation, so that none can be run here."""
        if _inside.get() == os.getpid():
            return True
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return True

    def run(
        self,
        invocation: Callable[[], Coroutine[Any, Any, T]],
        context: Any,
        *,
        before: Callable[[], Awaitable[None]],
    ) -> T:
        """Run one invocation in a copy of the caller's context, and return or raise what it does."""
        if self.is_inside_a_loop():
            msg = (
                "an async_handler was called inside a running event loop or another handler, where it can't block; "
                "await handler.__wrapped__(event, context) instead"
            )
            raise ConfigurationError(msg)
        with self._turn() as runner:
            # Not before: other threads' invocations may have taken their time.
            remaining = None if context is None else _remaining(context)
            return runner.run(_invoke(invocation, before, remaining), context=contextvars.copy_context())

    def prepare(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run what is to be done before the first invocation."""
        with self._turn() as runner:
            runner.run(_prepare(work), context=contextvars.copy_context())

    def close(self, *, wait: bool = True) -> None:
        """End what runs on the loop, close its clients and the loop; the next invocation gets a new one.

        With ``wait=False`` an invocation that is under way in another thread is left alone.
        """
        self._part_from_parent()
        if not self._lock.acquire(blocking=wait):
            return
        try:
            runner, self._runner = self._runner, None
            if runner is not None:
                _close(runner)
        finally:
            self._lock.release()

    @contextmanager
    def _turn(self) -> Iterator[asyncio.Runner]:
        self._part_from_parent()
        with self._lock:
            if self._runner is None:
                self._runner = asyncio.Runner()
            yield self._runner

    def _part_from_parent(self) -> None:
        """After a fork, neither use nor close the parent's loop, whose selector both share, nor wait for its lock."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._lock = threading.Lock()
            self._inherited.append(self._runner)
            self._runner = None


async def _invoke(
    invocation: Callable[[], Coroutine[Any, Any, T]],
    before: Callable[[], Awaitable[None]],
    remaining: float | None,
) -> T:
    _inside.set(os.getpid())
    loop = asyncio.get_running_loop()
    deadline = None
    if remaining is not None:
        deadline = Deadline(loop.time() + remaining - min(_MARGIN_SECONDS, remaining * _MARGIN_FRACTION))
        invocation_deadline.set(deadline)
    try:
        await before()
        return await invocation()
    finally:
        until = loop.time() + _DRAIN_SECONDS
        if deadline is not None and deadline.at is not None:
            until = min(until, deadline.at)
            deadline.clear()
        for cache in live_caches():
            await cache._flights.drain(max(0.0, until - loop.time()))


async def _prepare(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    _inside.set(os.getpid())
    await work()


def _remaining(context: Any) -> float | None:
    """Return the seconds that Lambda gives the invocation; None for a test's context that doesn't say."""
    tell = getattr(context, "get_remaining_time_in_millis", None)
    return float(tell()) / 1000 if callable(tell) else None


def _close(runner: asyncio.Runner) -> None:
    """Close the loop as Runner.close does, but start nothing: 3.12 on can't start threads while Python exits."""
    loop = runner.get_loop()
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_DRAIN_SECONDS))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


invocations: Final = Invocations()
atexit.register(invocations.close, wait=False)
