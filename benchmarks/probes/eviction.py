"""Print the nanoseconds of CPU to store one more value in a full store, by max_size, as JSON.

Usage: eviction.py ROUNDS. It runs in the environment of asecretcache.

Each value is stored by a new key, so each evicts another. A value that was read since it was stored gets a second
chance: it goes to the end of the queue once. The baseline is a store that never evicts.
"""

from __future__ import annotations

import json
import sys
import time

from asecretcache import Secret
from asecretcache._core.entries import Entry, EntryStore

PUTS = 20_000
SIZES = (16, 1_024, 65_536)


class Filling:
    """A store that values are stored in, one after the other."""

    def __init__(self, max_size: int) -> None:
        self.store = EntryStore(max_size)
        self.count = 0

    def put(self) -> None:
        self.count += 1
        secret = Secret(name="n", arn=f"arn:{self.count}", version_id="v", secret_string="v")
        self.store.put(f"secret-{self.count}", Entry(secret, self.count, started_at=0.0, expires_at=1e9))

    def read(self) -> None:
        """Read the latest value, as SecretCache.get_secret does it."""
        self.store.records[f"secret-{self.count}"].hits += 1

    def fill(self, count: int, *, read: bool) -> None:
        for _ in range(count):
            self.put()
            if read:
                self.read()


def stored(max_size: int, already: int, *, read: bool) -> float:
    """Return the nanoseconds of one put; with ``read``, of one put and one read of its value."""
    filling = Filling(max_size)
    filling.fill(already, read=read)
    began = time.process_time_ns()
    filling.fill(PUTS, read=read)
    return (time.process_time_ns() - began) / PUTS


def longest(max_size: int) -> float:
    """Return the nanoseconds of the one put that gives every stored value its second chance."""
    filling = Filling(max_size)
    filling.fill(max_size, read=True)
    began = time.process_time_ns()
    filling.put()
    return time.process_time_ns() - began


def main(rounds: int) -> None:
    found: dict[str, dict[str, list[float]]] = {}
    for turn in range(rounds + 1):
        for size in SIZES:
            measured = {
                "no eviction": stored(10_000_000, size, read=False),
                "never read": stored(size, size, read=False),
                "no eviction, read once": stored(10_000_000, size, read=True),
                "read once": stored(size, size, read=True),
                "longest": longest(size),
            }
            for name, value in measured.items():
                if turn:
                    found.setdefault(f"{size:,}", {}).setdefault(name, []).append(value)
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))
