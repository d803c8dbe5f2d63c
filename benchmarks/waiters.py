"""10,000 waiters for one fetch, and 10,000 secrets at once: CPU time and bytes, against no cache."""

from __future__ import annotations

from typing import Any

from bench import Bench
from environments import PROBES
from figures import judged, ratios, spread, table

COUNT = 10_000
NAMES = {
    "one_future": "control: tasks that await one bare future",
    "one_fetch": "get_secret by name, one fetch",
    "one_fetch_of_a_key": "get_secret with a JSON key, one fetch",
    "source_alone": "control: the source alone, in a gather",
    "gathered": "10,000 secrets: get_secret in a gather",
    "together": "10,000 secrets: get_secrets",
    "in_batches": "10,000 secrets: get_secrets, batch=True",
}
# Of a median ratio to the control.
LIMITS = {"one_fetch": 1.5, "one_fetch_of_a_key": 1.5, "gathered": 7.6}


def measure(bench: Bench) -> dict[str, Any]:
    ours = bench.ours()
    rounds = 3 if bench.quick else 9
    found: dict[str, Any] = bench.ask(ours, ours.python(str(PROBES / "waiters.py"), str(COUNT), str(rounds), "bytes"))
    return found


def report(found: dict[str, Any]) -> str:
    rows = []
    seconds: dict[str, dict[str, list[float]]] = dict(found["seconds"])
    for kind, control in found["controls"].items():
        every = seconds.setdefault(control, {"seconds": [], "control": []})
        for part in every.values():
            part.extend(found["seconds"][kind]["control"])
    for name, label in NAMES.items():
        each = seconds[name]
        against = ratios(each["seconds"], each["control"])
        rows.append(
            (
                label,
                spread([value / COUNT for value in each["seconds"]], 1, 1e-6),
                spread(against, 2),
                judged(against, LIMITS.get(name)),
                f"{found['bytes'][name]['peak'] / COUNT:,.0f}",
                f"{found['bytes'][name]['kept'] / COUNT:,.0f}",
            )
        )
    head = (f"{COUNT:,} at once", "CPU, us each", "ratio to control", "at most", "bytes each, peak", "bytes each, kept")
    return table("Waiters, and many secrets at once", head, rows)
