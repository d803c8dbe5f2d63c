"""What storing one more value costs when the cache is full, by max_size: an eviction's cost doesn't grow with it."""

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
    base = found["no eviction"]
    rows = [(name, spread(values, 0), spread(ratios(values, base), 2)) for name, values in found.items()]
    return table("Storing one more value", ("max_size", "ns", "ratio to no eviction"), rows)
