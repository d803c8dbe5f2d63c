"""Runs in a peer's environment: the longest stall of the event loop during a first fetch. stall.py CLIENT WHEN.

The client is imported ``before`` the loop runs, as a module's own imports are, or ``within`` the fetch, as code does
that wants to start soon. A task that ticks every millisecond sees how long the loop did nothing else.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time

TICK = 0.001


async def measure(module: str) -> tuple[float, float]:
    """Return the longest time between two ticks beyond the tick, and the time of the whole fetch."""
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
    await asyncio.sleep(2 * TICK)  # Let the ticker see a stall that lasted to the end.
    ticker.cancel()
    return max(stalls), took


if __name__ == "__main__":
    if sys.argv[2] == "before":
        importlib.import_module(sys.argv[1])
    print(json.dumps(asyncio.run(measure(sys.argv[1]))))
