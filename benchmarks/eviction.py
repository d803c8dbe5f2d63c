"""What it costs to store one more value in a full cache, by max_size, against a cache that never evicts.

The oldest value is evicted, unless it was read since: then it goes to the end of the queue once. So the cost of a put
grows with the values that were read since the last evictions, and each read pays for at most one such move.
"""

from __future__ import annotations

from typing import Any

from bench import Bench
from environments import PROBES
from figures import ratios, spread, table


def measure(bench: Bench) -> dict[str, Any]:
    ours = bench.ours()
    rounds = "3" if bench.quick else "9"
    found: dict[str, Any] = bench.ask(ours, ours.python(str(PROBES / "eviction.py"), rounds))
    return found


def report(found: dict[str, Any]) -> str:
    rows = []
    for size, each in found.items():
        row = [size]
        for name, base in (("never read", "no eviction"), ("read once", "no eviction, read once")):
            row += [spread(each[name], 0), spread(ratios(each[name], each[base]), 2)]
        rows.append([*row, spread(each["longest"], 2, 1e6)])
    head = (
        "max_size",
        "values never read: CPU, ns",
        "ratio to no eviction",
        "each read once: CPU, ns with the read",
        "ratio to no eviction",
        "one put after all were read, ms",
    )
    return table("Storing one more value in a full cache", head, rows)
