"""The one event loop that runs all invocations of the process."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from asecretcache._cache import live_caches
from asecretcache._core.timeouts import time_left
from asecretcache._exceptions import ConfigurationError
from asecretcache._lambda.deadline import Scope, time_to_answer
from asecretcache._loops import end_loop, is_loop_running
from asecretcache._process_events import after_fork, before_snapshot

T = TypeVar("T")

#: What refreshes in the background get at the end of an invocation.
DRAIN_SECONDS: Final = 0.5


# The process whose invocation this context belongs to. Threads that the invocation starts inherit it, since its loop
# waits for them.
_inside: ContextVar[int | None] = ContextVar("asecretcache.inside", default=None)


class Invocations:
    """Runs invocations one after another on one event loop, which survives between them."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._lock = threading.Lock()
        self._inherited: list[asyncio.Runner | None] = []
        after_fork.add(self._reset_after_fork)
        before_snapshot.add(self._close_before_snapshot)

    @staticmethod
    def is_inside_a_loop() -> bool:
        """Return whether no loop can be run here: one runs in this thread, or an invocation started this thread."""
        if _inside.get() == os.getpid():
            return True
        return is_loop_running()

    def run(
        self, invocation: Callable[[], Coroutine[Any, Any, T]], context: Any, *, before: Callable[[], Awaitable[None]]
    ) -> T:
        """Run one invocation in a copy of the caller's context; return or raise what it does."""
        if self.is_inside_a_loop():
            msg = "an async_handler was called inside a running event loop or another handler, where it can't block: "
            raise ConfigurationError(msg + "await handler.__wrapped__(event, context) instead")
        try:
            return self.run_work(lambda: _invoke(invocation, before, context))
        except asyncio.CancelledError as exc:
            # It is no Exception, so it would end Lambda's runtime, and the environment with all that it has cached.
            raise RuntimeError("the handler ended with asyncio.CancelledError: something in it was cancelled") from exc

    def run_work(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run an invocation, or the preparations for the first one, in its turn."""
        with self._lock:
            if self._runner is None:
                self._runner = _new_runner()
            inside = contextvars.copy_context()
            inside.run(_inside.set, os.getpid())
            return self._runner.run(work(), context=inside)

    def close(self, *, wait: bool) -> None:
        """End the loop's tasks, close its clients and the loop. The next invocation gets a new loop.

        Args:
            wait: whether to wait for an invocation that is running in another thread; if not, nothing is closed then.
        """
        if not self._lock.acquire(blocking=wait):
            return
        try:
            runner, self._runner = self._runner, None
            if runner is not None:
                end_loop(runner.get_loop())
        finally:
            self._lock.release()

    def _close_before_snapshot(self) -> None:
        self.close(wait=True)

    def _reset_after_fork(self) -> None:
        """Neither use nor close the parent's loop, whose selector both processes share, nor wait for its lock."""
        self._inherited.append(self._runner)
        self._runner = None
        self._lock = threading.Lock()


async def _invoke(
    invocation: Callable[[], Coroutine[Any, Any, T]], before: Callable[[], Awaitable[None]], context: Any
) -> T:
    loop = asyncio.get_running_loop()
    until = 0.0
    try:
        # The context is read only now: invocations of other threads may have taken their time before.
        with Scope(time_to_answer(context), loop.time):
            try:
                await before()
                return await invocation()
            finally:
                until = loop.time() + time_left(DRAIN_SECONDS)
    finally:
        for cache in live_caches():
            await cache._loader.single_flight.drain(max(0.0, until - loop.time()))


def _new_runner() -> asyncio.Runner:
    """Return a runner. The threads of its loop's executor count as inside, since invocations wait for them."""
    from concurrent.futures import ThreadPoolExecutor  # A millisecond, which a plain asyncio.run needs not pay.

    runner = asyncio.Runner()
    executor = ThreadPoolExecutor(thread_name_prefix="asyncio", initializer=_inside.set, initargs=(os.getpid(),))
    runner.get_loop().set_default_executor(executor)
    return runner


invocations: Final = Invocations()
atexit.register(invocations.close, wait=False)
