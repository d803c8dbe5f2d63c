"""Runs in a peer's environment: nanoseconds for a warm hit, by turns with a bare coroutine's.

hits.py CLIENT KIND LOOP ROUNDS MILLISECONDS, each round taking about so many milliseconds for each candidate.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import repeat
from typing import Any

NAME = "secret-0"
WARM_UP = 5_000

d = {NAME: "value"}


async def bare(key: str) -> str:
    return d[key]


async def awaited(get: Callable[[str], Awaitable[object]], count: int) -> float:
    began = time.perf_counter_ns()
    for _ in repeat(None, count):
        await get(NAME)
    return (time.perf_counter_ns() - began) / count


async def called(get: Callable[[str], object], count: int) -> float:
    began = time.perf_counter_ns()
    for _ in repeat(None, count):
        get(NAME)
    return (time.perf_counter_ns() - began) / count


async def measure(client: Any, kind: str, rounds: int, milliseconds: float) -> dict[str, list[float]]:
    candidates: dict[str, tuple[Callable[..., Awaitable[float]], Callable[..., Any]]] = {"bare": (awaited, bare)}
    candidates["get"] = (called if kind == "sync" else awaited, client.get)
    if hasattr(client, "cache") and hasattr(client.cache, "peek"):
        from asecretcache import get_secret

        cache = client.cache

        async def with_stage(name: str) -> Any:
            return await cache.get_secret(name, version_stage="AWSPREVIOUS")

        candidates |= {
            "peek": (called, cache.peek),
            "get (record)": (awaited, cache.get),
            "get_secret with a version stage": (awaited, with_stage),
            "get_json": (awaited, cache.get_json),
            "module-level get_secret": (awaited, get_secret),
        }
    counts = {}
    for name, (timed, get) in candidates.items():
        await timed(get, 1)
        rough = await timed(get, WARM_UP)
        counts[name] = max(100, int(milliseconds * 1e6 / rough))
    found: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, (timed, get) in candidates.items():
            found[name].append(await timed(get, counts[name]))
    return found


def main(module: str, kind: str, loop: str, rounds: str, milliseconds: str) -> None:
    client = importlib.import_module(module)
    factory: Any = None
    if loop == "uvloop":
        factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        print(json.dumps(runner.run(measure(client, kind, int(rounds), float(milliseconds)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
