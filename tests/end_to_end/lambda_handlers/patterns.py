"""The same work in each pattern that handlers are written in; every one reports what it got."""

from __future__ import annotations

import asyncio
import atexit
import sys
import threading
from typing import Any

import time_for_init  # noqa: F401  # for what it does
import uvloop

from asecretcache import SecretCache, async_handler, get_secret

cache = SecretCache()


async def work() -> str:
    return await cache.get_secret("prod/api")


async def undecorated(event: Any, context: Any) -> str:
    return await work()


@async_handler
async def decorated(event: Any, context: Any) -> str:
    return await get_secret("prod/api")


def asyncio_run(event: Any, context: Any) -> str:
    return asyncio.run(work())


_loop = asyncio.new_event_loop()
atexit.register(_loop.close)


def persistent_loop(event: Any, context: Any) -> str:
    return _loop.run_until_complete(work())


def uvloop_run(event: Any, context: Any) -> str:
    return uvloop.run(work())


_first = threading.Lock()


def four_threads(event: Any, context: Any) -> str:
    """Each thread has a loop of its own; they start one after another, so the first one's value is there for all."""
    values: list[str] = []

    def run() -> None:
        with _first:
            values.append(asyncio.run(work()))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (value,) = set(values)
    return value


def leave(event: str, context: Any) -> None:
    """Work in the pattern that the event names, then end the interpreter as it ends by itself."""
    assert globals()[event](event, context)
    sys.exit()
