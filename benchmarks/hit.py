"""Warm reads: nanoseconds of CPU to read what is in memory, and the ratio to ``async def get(k): return d[k]``.

Each statement and the bare coroutine are timed in pairs, in one process of the client's environment; the event loop
around them is included. A client without coroutines is called without one, so it is spared that cost. Node's ratio is
to a bare ``async (k) => map.get(k)``. Clients that decorate a coroutine function read a JSON key as they read a secret:
their user decorates a function that returns the value of the key.
"""

from __future__ import annotations

from typing import Any

from bench import Bench
from figures import judged, ratios, spread, table
from peers import OURS

# Of a median ratio to the bare coroutine, by statement.
LIMITS = {
    'await get_secret("prod/db")': 3.6,
    'await get_secret("prod/db:password")': 3.6,
    'await cache.get_secret("prod/db")': 2.6,
    'await cache.get_secret("prod/db:password")': 2.6,
    'await get_secrets("prod/db:username", "prod/db:password", "prod/api")': 8.0,
    'await cache.get_secrets("prod/db:username", "prod/db:password", "prod/api")': 8.0,
    'await cache.get_json("prod/db", "password")': 4.0,
    'await cache.get_json("prod/db", key="port")': 4.0,
    'await cache.get_json("prod/db:port")': 4.0,
}


def measure(bench: Bench) -> dict[str, Any]:
    # Many short rounds: disturbances come and go, and hit both of a pair.
    rounds, milliseconds = (25, 2) if bench.quick else (101, 4)
    found: dict[str, Any] = {}
    for loop in ("asyncio", "uvloop"):
        for installed in bench.peers("hit"):
            peer = installed.peer
            if not peer.caches or (loop == "uvloop" and (peer.name != OURS or "uvloop" not in installed.versions)):
                continue
            if peer.kind == "node":
                command, label = installed.command("hits", rounds, milliseconds), "Node"
            else:
                command, label = installed.command("hits.py", loop, rounds, milliseconds), loop
            found.setdefault(label, {})[peer.name] = bench.ask(installed, command)
    return found


def report(found: dict[str, Any]) -> str:
    parts = []
    for loop, peers in found.items():
        for what in dict.fromkeys(what for kinds in peers.values() for what in kinds):
            rows = [
                (
                    f"`{statement}`",
                    peer,
                    spread(pair["ns"], 0),
                    spread(ratios(pair["ns"], pair["bare"]), 2),
                    judged(ratios(pair["ns"], pair["bare"]), LIMITS.get(statement)),
                )
                for peer, kinds in peers.items()
                for statement, pair in kinds.get(what, {}).items()
            ]
            head = ("", "client", "CPU, ns", "ratio to bare coroutine", "at most")
            parts.append(table(f"Warm read, {loop}: {what}", head, rows, texts=2))
    return "\n".join(parts)
