"""One miss: the calls that one cold ``await cache.get_secret()`` makes in the package, and its changes of module.

They tell how much code a reader of the package has to follow. By itself it measures this checkout:
python benchmarks/one_miss.py [--verbose] [PYTHON]. Its exit status is 1 if a limit is exceeded.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from typing import Any

from bench import Bench, ask_checkout
from environments import PROBES
from figures import judged, table

MOST_CALLS = 55
MOST_CHANGES = 20
REFERENCES = ("prod/db", "prod/db:password")
PROBE = str(PROBES / "one_miss.py")

# By reference: module and function of each call.
Found = dict[str, list[list[str]]]


def measure(bench: Bench) -> Found:
    ours = bench.ours()
    return {reference: bench.ask(ours, ours.python(PROBE, reference)) for reference in REFERENCES}


def changes(calls: list[list[str]]) -> int:
    """Return how many calls are of another module than the call before."""
    return sum(one != other for (one, _), (other, _) in itertools.pairwise(calls))


def is_within(found: Found) -> bool:
    return all(len(calls) <= MOST_CALLS and changes(calls) <= MOST_CHANGES for calls in found.values())


def report(found: Found) -> str:
    rows: list[tuple[Any, ...]] = [
        (
            f'`await cache.get_secret("{reference}")`',
            len(calls),
            judged([len(calls)], MOST_CALLS),
            changes(calls),
            judged([changes(calls)], MOST_CHANGES),
            len({module for module, _ in calls}),
        )
        for reference, calls in found.items()
    ]
    return table("One miss", ("", "calls", "at most", "changes of module", "at most", "modules"), rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", nargs="?", default=sys.executable, help="the interpreter")
    parser.add_argument("--verbose", action="store_true", help="print the calls too")
    options = parser.parse_args()
    found: Found = {reference: ask_checkout(options.python, PROBE, reference) for reference in REFERENCES}
    if options.verbose:
        for reference, calls in found.items():
            print(f"\n{reference}")
            for number, (module, function) in enumerate(calls, 1):
                print(f"{number:3} {module:28} {function}")
    print(report(found))
    return 0 if is_within(found) else 1


if __name__ == "__main__":
    sys.exit(main())
