"""Handlers for environments that are frozen, cloned, multiplied and ended; the wall clock goes as their events say."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from asecretcache import SecretCache, SecretsManagerSource, async_handler

if os.environ.get("ON_SIGTERM") == "signal":
    # As AWS shows it for functions that have something to put in order.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))


class WallClock:
    """The time, and what the process is told to have slept."""

    slept = 0.0

    def __call__(self) -> float:
        return time.time() + self.slept


clock = WallClock()
source = SecretsManagerSource()
source._clients._clock = clock
# Three seconds, that what is tried again after a time-out is so soon; more where many import the SDK at once.
fetch_timeout = float(os.environ.get("FETCH_TIMEOUT", "3"))
cache = SecretCache(source, ttl=10.0, jitter=0.0, fetch_timeout=fetch_timeout, clock=clock)
tasks: list[asyncio.Task[str]] = []


@async_handler(cache=cache)
async def handler(slept: float, context: Any) -> list[Any]:
    if os.environ.get("ON_SIGTERM") == "loop":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sys.exit, 0)
    clock.slept += slept
    return [await cache.get_secret("name"), os.getpid()]


@async_handler(cache=cache)
async def leaving(event: Any, context: Any) -> list[str]:
    """Leave a fetch in the air: the event is a file that is there when it is. After a sleep, collect it."""
    if isinstance(event, str):
        tasks.append(asyncio.create_task(cache.get_secret("name")))
        while not Path(event).exists():
            await asyncio.sleep(0.01)
        return []
    clock.slept += event
    return [await cache.get_secret("name"), *[await task for task in tasks]]
