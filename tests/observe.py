"""The one seam through which tests look into a cache: its running fetches, its stored entries, its clocks.

Everything else is tested by the public API, or on the parts themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from asecretcache import SecretCache
from asecretcache._core import freshness
from asecretcache._core.entries import Entry
from asecretcache._core.fetch import Fetch, FetchReason, FetchTask
from asecretcache._core.loader import Loader
from asecretcache._core.observer import FetchObserver
from asecretcache._core.timeouts import Deadline, invocation_deadline
from asecretcache._models import Key

__all__ = [
    "Deadline",
    "Entry",
    "Fetch",
    "FetchObserver",
    "FetchReason",
    "FetchTask",
    "Key",
    "draw_fractions",
    "entries",
    "entry",
    "loader",
    "new_cache",
    "running",
    "set_deadline",
    "task",
    "watch",
]


def new_cache(*arguments: Any, monotonic: Callable[[], float], **options: Any) -> SecretCache:
    """Make a cache whose monotonic clock is the test's."""
    with mock.patch("time.monotonic", monotonic):
        return SecretCache(*arguments, **options)


def loader(cache: SecretCache) -> Loader:
    return cache._loader


def running(cache: SecretCache) -> list[Fetch]:
    """Return the running fetches, on all loops, in the order of their starts."""
    return loader(cache).single_flight.running()


def entry(cache: SecretCache, key: Key) -> Entry | None:
    """Return what is stored by this key, fresh or not."""
    return loader(cache).store.entries.get(key)


def watch(cache: SecretCache, observer: FetchObserver) -> None:
    """Tell an observer of each fetch of this cache."""
    loader(cache).tell(observer)


def entries(cache: SecretCache) -> dict[Key, Entry]:
    """Return all that is stored, by key, fresh or not."""
    return dict(loader(cache).store.entries)


def task(fetch: Fetch) -> asyncio.Task[None]:
    """Return the task that makes the call for a fetch; the fetches of a batch have one task."""
    return fetch.task.task


def set_deadline(seconds: float) -> Deadline:
    """Let the current context be that of an invocation which has this long left by the loop's clock."""
    deadline = Deadline(seconds, asyncio.get_running_loop().time)
    invocation_deadline.set(deadline)
    return deadline


def draw_fractions(draw: Callable[[], float]) -> AbstractContextManager[object]:
    """Draw the random part of ttls and back-offs, a number of [0, 1), from here instead of from the kernel."""
    return mock.patch.object(freshness, "random_fraction", draw)
