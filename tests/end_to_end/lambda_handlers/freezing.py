"""Handlers for environments that are frozen, multiplied and ended; their events move the wall clock."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import time_for_init  # noqa: F401  # for what it does

from asecretcache import SecretCache, SecretsManagerSource, async_handler
from asecretcache._sources import loop_clients

if os.environ.get("ON_SIGTERM") == "signal":
    # As AWS shows it for functions that clean up.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))


class WallClock:
    """The time, plus the seconds that the events say the process was frozen for."""

    slept = 0.0

    def __call__(self) -> float:
        return time.time() + self.slept


clock = WallClock()
loop_clients.wall_clock = clock
source = SecretsManagerSource()
# Three seconds, so that a time-out comes soon; more where many processes import the SDK at once.
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
    """Leave a fetch running: the event names a file that exists once the fetch runs. After a freeze, collect it."""
    if isinstance(event, str):
        tasks.append(asyncio.create_task(cache.get_secret("name")))
        while not Path(event).exists():
            await asyncio.sleep(0.01)
        return []
    clock.slept += event
    return [await cache.get_secret("name"), *[await task for task in tasks]]
