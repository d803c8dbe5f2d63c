"""A warm hit: nanoseconds for a get of what is in memory, in multiples of ``async def get(k): return d[k]``.

Both are measured by turns in one process of the peer's environment, the loop around them included. A peer without
coroutines is called plainly, so it is spared their cost. Node's ratio is to a bare ``async (k) => map.get(k)``.
"""

from __future__ import annotations

from typing import Any

from bench import Bench
from figures import ratios, spread, table


def measure(bench: Bench) -> dict[str, Any]:
    # Many short rounds: what else the machine does comes and goes, and hits both of a pair.
    rounds, milliseconds = (25, 2) if bench.quick else (101, 4)
    found: dict[str, Any] = {}
    for loop in ("asyncio", "uvloop"):
        for installed in bench.peers("hit"):
            peer = installed.peer
            if not peer.caches or (loop == "uvloop" and (peer.kind != "async" or "uvloop" not in installed.versions)):
                continue
            if peer.kind == "node":
                command, label = installed.command("hits", rounds, milliseconds), "Node"
            else:
                command, label = installed.command("hits.py", peer.kind, loop, rounds, milliseconds), loop
            found.setdefault(label, {})[peer.name] = bench.ask(installed, command)
    return found


def report(found: dict[str, Any]) -> str:
    parts = []
    for loop, peers in found.items():
        rows: list[tuple[str, ...]] = []
        for peer, candidates in peers.items():
            base = candidates["bare"]
            rows.extend(
                (
                    peer if name == "get" else f"  {name}",
                    spread(values, 0),
                    spread(ratios(values, base), 2),
                    spread(base, 0),
                )
                for name, values in candidates.items()
                if name != "bare"
            )
        head = ("", "ns", "ratio to bare coroutine", "bare coroutine, ns")
        parts.append(table(f"Warm hit, {loop}", head, rows))
    return "\n".join(parts)
