"""Print the nanoseconds of CPU of each warm read that a client offers, in pairs with a bare coroutine, as JSON.

Usage: hits.py CLIENT LOOP ROUNDS MILLISECONDS. It runs in the client's environment.

A client is a module of benchmarks/clients/. It names its reads in ``HITS``: statements as a user writes them, by what
they read. A client without it has ``get`` alone, a coroutine function.

Each pair times a statement and the bare coroutine one right after the other, and swaps the two every other round, so
that whatever slows the machine slows both. Both take about MILLISECONDS. CPU time is measured: no read waits for
anything, and on a busy machine wall time would measure other processes.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import repeat
from types import ModuleType
from typing import Any

WARM_UP = 5_000
BARE = 'await bare("prod/db")'
# For clients that only decorate a coroutine function.
MEMOIZED = {
    "one secret": {'await get("prod/db")': 'await get("prod/db")'},
    "three secrets": {
        "await get(...), three times": "; ".join(f'await get("prod/{name}")' for name in ("db", "api", "mail"))
    },
}
# As in timeit, the statement stands in the loop itself, as it stands in a user's function.
TEMPLATE = """\
async def timed(count):
    began = clock()
    for _ in repeat(None, count):
        {statement}
    return (clock() - began) / count
"""

Timed = Callable[[int], Awaitable[float]]

values = {"prod/db": "value"}


async def bare(key: str) -> str:
    return values[key]


def compiled(statement: str, names: dict[str, Any]) -> Timed:
    """Return a coroutine function that takes a count and returns the nanoseconds of one run of the statement."""
    names = {**names, "clock": time.process_time_ns, "repeat": repeat}
    exec(TEMPLATE.format(statement=statement), names)
    timed: Timed = names["timed"]
    return timed


async def rounds_of(timed: Timed, milliseconds: float) -> int:
    """Warm a statement up, and return how many runs take so many milliseconds."""
    await timed(1)
    await timed(WARM_UP)
    return max(100, int(milliseconds * 1e6 / await timed(WARM_UP)))


async def measure(client: ModuleType, rounds: int, milliseconds: float) -> dict[str, dict[str, Any]]:
    hits = getattr(client, "HITS", MEMOIZED)
    statements = {(what, label): statement for what, each in hits.items() for label, statement in each.items()}
    base = compiled(BARE, {"bare": bare})
    base_count = await rounds_of(base, milliseconds)
    timed = {key: compiled(statement, vars(client)) for key, statement in statements.items()}
    counts = {key: await rounds_of(each, milliseconds) for key, each in timed.items()}
    found: dict[str, dict[str, Any]] = {what: {} for what in hits}
    for what, label in statements:
        found[what][label] = {"ns": [], "bare": []}
    for turn in range(rounds):
        for (what, label), each in timed.items():
            pair = found[what][label]
            if turn % 2:
                pair["ns"].append(await each(counts[what, label]))
            pair["bare"].append(await base(base_count))
            if not turn % 2:
                pair["ns"].append(await each(counts[what, label]))
    return found


def main(module: str, loop: str, rounds: str, milliseconds: str) -> None:
    client = importlib.import_module(module)
    factory: Any = None
    if loop == "uvloop":
        factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        print(json.dumps(runner.run(measure(client, int(rounds), float(milliseconds)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
