"""What storing one more value costs when the cache is full, by max_size: the cost of an eviction doesn't grow with it.

A value is stored under a new id, each time; the baseline is the same in a cache that never evicts, in the same run.
"""

from __future__ import annotations

import platform
import statistics
import time

from asecretcache import Secret, SecretRequest
from asecretcache._store import Entry, Store

ROUNDS, PUTS = 7, 20_000


def nanoseconds(max_size: int) -> float:
    """Fill a store, then time further puts, each of which evicts one."""
    store = Store(max_size)

    def put(count: int, first: int) -> None:
        for number in range(first, first + count):
            secret = Secret(name="n", arn=f"arn:{number}", version_id="v", secret_string="v", fetched_at=0.0)
            store.put(SecretRequest(f"s{number}"), Entry(secret, started=number, born=0.0, expires_at=1e9), 0.0)

    filled = min(max_size, 1_000_000)
    put(filled if max_size < 1_000_000 else PUTS, 0)
    began = time.perf_counter_ns()
    put(PUTS, filled)
    return (time.perf_counter_ns() - began) / PUTS


def main() -> None:
    sizes = [16, 1024, 65_536]
    print(f"CPython {platform.python_version()}, {platform.machine()}, {ROUNDS} rounds of {PUTS:,} puts, medians")
    rounds = [[nanoseconds(size) for size in (10_000_000, *sizes)] for _ in range(ROUNDS)]
    base = statistics.median(each[0] for each in rounds)
    print(f"  no eviction      {base:8.0f} ns")
    for index, size in enumerate(sizes, 1):
        times = sorted(each[index] for each in rounds)
        ratio = statistics.median(each[index] / each[0] for each in rounds)
        spread = f"{times[0]:.0f} to {times[-1]:.0f}"
        print(f"  max_size {size:7,} {statistics.median(times):8.0f} ns ({spread}), ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
