"""Runs in our environment: nanoseconds to store one more value when the store is full, by max_size. eviction.py ROUNDS.

A value is stored under a new id, each time; the baseline is the same in a store that never evicts.
"""

from __future__ import annotations

import json
import sys
import time

from asecretcache import Secret, SecretRequest
from asecretcache._core.entries import Entry, Store

PUTS = 20_000
SIZES = {"no eviction": 10_000_000, "16": 16, "1,024": 1_024, "65,536": 65_536}


def nanoseconds(max_size: int) -> float:
    store = Store(max_size)

    def put(count: int, first: int) -> None:
        for number in range(first, first + count):
            secret = Secret(name="n", arn=f"arn:{number}", version_id="v", secret_string="v", fetched_at=0.0)
            store.put(SecretRequest(f"s{number}"), Entry(secret, started=number, born=0.0, expires_at=1e9), 0.0)

    filled = min(max_size, PUTS) if max_size > 1_000_000 else max_size
    put(filled, 0)
    began = time.perf_counter_ns()
    put(PUTS, filled)
    return (time.perf_counter_ns() - began) / PUTS


def main(rounds: int) -> None:
    found: dict[str, list[float]] = {name: [] for name in SIZES}
    for _ in range(rounds):
        for name, size in SIZES.items():
            found[name].append(nanoseconds(size))
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))
