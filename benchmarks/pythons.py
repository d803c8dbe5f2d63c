"""Our own figures on several Pythons, from this checkout: python benchmarks/pythons.py [--quick] PYTHON...

It measures warm reads, waiters and one miss, over a source in memory: nothing is installed, and no server is started.
Its exit status is 1 if a median exceeds its limit.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import hit
import one_miss
import waiters
from bench import ask_checkout
from environments import PROBES
from figures import MANY, judged, median, ratios, spread, table
from machine import as_text, machine

# What is measured: the ratios of each round, and the limit of their median.
Figures = dict[str, tuple[list[float], float | None]]


def measured(python: str, *, quick: bool) -> Figures:
    found: Figures = {}
    rounds, milliseconds = (25, 2) if quick else (101, 4)
    reads = ask_checkout(python, str(PROBES / "hits.py"), "ours", "asyncio", str(rounds), str(milliseconds))
    for statements in reads.values():
        for statement, pair in statements.items():
            found[f"`{statement}`"] = ratios(pair["ns"], pair["bare"]), hit.LIMITS.get(statement)
    rounds = 3 if quick else 15
    waited: dict[str, Any] = ask_checkout(python, str(PROBES / "waiters.py"), str(waiters.COUNT), str(rounds))
    for name, pair in waited["seconds"].items():
        found[waiters.NAMES[name]] = ratios(pair["seconds"], pair["control"]), waiters.LIMITS.get(name)
    for reference in one_miss.REFERENCES:
        calls = ask_checkout(python, one_miss.PROBE, reference)
        found[f"one miss of {reference}: calls"] = [len(calls)], one_miss.MOST_CALLS
        found[f"one miss of {reference}: changes of module"] = [one_miss.changes(calls)], one_miss.MOST_CHANGES
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", nargs="+", help="an interpreter")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, no measurement")
    options = parser.parse_args()
    facts = {python: machine(python) for python in options.python}
    print(as_text(next(iter(facts.values()))))
    print(f"median ratios; in brackets minimum and maximum, or of {MANY} values and more the 10th and 90th percentile")
    found = {facts[python]["python"]: measured(python, quick=options.quick) for python in options.python}
    rows = []
    for name, (_, limit) in next(iter(found.values())).items():
        every = [figures[name][0] for figures in found.values()]
        worst = max(every, key=median)
        shown = [spread(values, 2) if len(values) > 1 else f"{values[0]:g}" for values in every]
        rows.append((name, *shown, judged(worst, limit)))
    print(table("Ratios to the bare coroutine, or to the control", ("", *found, "at most"), rows))
    is_within = all(
        limit is None or median(values) <= limit for figures in found.values() for values, limit in figures.values()
    )
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main())
