"""Run one scenario, whose calls the server counts, and print how many reads or secrets it had, as JSON.

Usage: calls.py CLIENT SCENARIO COUNT TTL. It runs in the client's environment.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

NAME = "secret-0"


def asynchronous(client: Any, scenario: str, count: int, ttl: float) -> int:
    async def first() -> None:
        await client.get(NAME)

    async def expired() -> None:
        await client.get(NAME)
        await asyncio.sleep(ttl + 0.3)
        await client.get(NAME)

    async def many() -> None:
        names = [f"secret-{number}" for number in range(count)]
        if hasattr(client, "get_many"):
            await client.get_many(names)
        else:
            for name in names:
                await client.get(name)

    async def at_once() -> None:
        await asyncio.gather(*(client.get(NAME) for _ in range(count)))

    if scenario == "invocations":
        for _ in range(count):
            asyncio.run(first())
    else:
        asyncio.run({"first": first, "expired": expired, "many": many, "at once": at_once}[scenario]())
    return count


def synchronous(client: Any, scenario: str, count: int, ttl: float) -> int:
    client.get(NAME if scenario != "many" else "secret-0") if scenario != "at once" else None
    if scenario == "expired":
        time.sleep(ttl + 0.3)
        client.get(NAME)
    elif scenario == "many":
        for number in range(1, count):
            client.get(f"secret-{number}")
    elif scenario == "invocations":
        for _ in range(1, count):
            client.get(NAME)
    elif scenario == "at once":
        return in_threads(lambda: client.get(NAME), count)
    return count


def in_threads(call: Callable[[], object], count: int) -> int:
    """Call a function in this many threads at once, or in as many as can be started; return how many."""
    go = threading.Event()

    def work() -> None:
        go.wait()
        call()

    threads: list[threading.Thread] = []
    try:
        for _ in range(count):
            thread = threading.Thread(target=work)
            thread.start()
            threads.append(thread)
    except RuntimeError:
        print(f"only {len(threads)} threads of {count} could be started", file=sys.stderr)
    go.set()
    for thread in threads:
        thread.join()
    return len(threads)


def main(module: str, scenario: str, count: str, ttl: str) -> None:
    client = importlib.import_module(module)
    # By name: some decorators return functions that iscoroutinefunction doesn't recognize.
    run = synchronous if module in {"official", "powertools"} else asynchronous
    assert not (run is synchronous and inspect.iscoroutinefunction(client.get))
    print(json.dumps({"count": run(client, scenario, int(count), float(ttl))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
