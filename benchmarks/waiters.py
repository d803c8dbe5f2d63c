"""10,000 waiters on one fetch, and 10,000 keys at once: time and bytes for each, against the same without a cache."""

from __future__ import annotations

from typing import Any

from bench import Bench
from environments import PROBES
from figures import ratios, spread, table

COUNT = 10_000
NAMES = {
    "one_future": "tasks that await one bare future",
    "one_fetch": "get_secret, one fetch",
    "source_alone": "keys: the source alone",
    "keys": "keys: get_secret in a gather",
    "keys_in_get_many": "keys: get_many",
    "keys_in_batches": "keys: get_many, batch=True",
}


def measure(bench: Bench) -> dict[str, Any]:
    ours = bench.ours()
    rounds = 3 if bench.quick else 9
    found: dict[str, Any] = bench.ask(ours, ours.python(str(PROBES / "waiters.py"), str(COUNT), str(rounds)))
    return found


def report(found: dict[str, Any]) -> str:
    rows = []
    for name, each in found.items():
        base = found["source_alone" if "keys" in NAMES[name] else "one_future"]
        rows.append(
            (
                NAMES[name],
                spread([seconds / COUNT for seconds in each["seconds"]], 1, 1e-6),
                spread(ratios(each["seconds"], base["seconds"]), 2),
                f"{sum(each['seconds']) / len(each['seconds']) * 1000:,.0f}",
                f"{each['peak'] / COUNT:,.0f}",
                f"{each['kept'] / COUNT:,.0f}",
            )
        )
    head = (f"{COUNT:,} at once", "us each", "ratio to control", "all, ms", "bytes each, peak", "bytes each, kept")
    return table("Waiters and keys", head, rows)
