"""Print the longest stall of the event loop during a first fetch, as JSON.

Usage: stall.py CLIENT WHEN. It runs in the client's environment.

The client is imported ``before`` the loop runs, as at the top of a module, or ``within`` the fetch, as in a function
whose import is lazy. A task that wakes every millisecond measures how long the loop ran nothing else.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time

TICK = 0.001


async def measure(module: str) -> tuple[float, float]:
    """Return the longest delay of a tick and the time of the whole fetch, in seconds."""
    stalls = [0.0]
    ticking = asyncio.Event()

    async def tick() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TICK)
            ticking.set()
            stalls.append(time.perf_counter() - before - TICK)

    ticker = asyncio.create_task(tick())
    await ticking.wait()
    started = time.perf_counter()
    await importlib.import_module(module).get("secret-0")
    took = time.perf_counter() - started
    await asyncio.sleep(2 * TICK)  # Let the ticker measure a stall that lasted to the end of the fetch.
    ticker.cancel()
    return max(stalls), took


if __name__ == "__main__":
    if sys.argv[2] == "before":
        importlib.import_module(sys.argv[1])
    print(json.dumps(asyncio.run(measure(sys.argv[1]))))
