"""Use a cache for long, with everything that goes wrong, and see that nothing is left over.

Its parts, each with its figures: invocations with an ``asyncio.run`` each, over a source in memory; the same over HTTP
and the real client; many readers at once on one loop; and the simulation with seeds that nobody has run. In all of them
reads are cancelled, sources fail and values are rotated. What the process holds is measured after each quarter, and
must not grow from the second to the last. A descriptor, thread, task, fetch, warning or complaint left over, or memory,
makes it fail::

    make soak INVOCATIONS=10000 GETS=1000000 SEEDS=8000
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import random
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import observe
from asecretcache import (
    SecretCache,
    SecretCacheError,
    SecretsManagerSource,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache.testing import InMemorySource, ManualClock
from moto_server import REGION, MotoServer
from simulation.replay import check_seed

NAMES = [f"soak/{number}" for number in range(100)]
FAULTS = (SecretUnavailableError("down"), SecretThrottledError("slow down"))
READERS = 50
#: What the interpreter's own caches may take meanwhile.
SLACK_BLOCKS, SLACK_KIB = 5000, 8 * 1024


class Watch:
    """Measures what the process holds, and keeps the complaints."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self._looks: list[tuple[int, int, int, int]] = []
        warnings.simplefilter("error")
        sys.unraisablehook = lambda what: self.complain(f"unraisable: {what.exc_value!r} in {what.object!r}")
        handler = logging.Handler()
        handler.emit = lambda record: self.complain(record.getMessage())  # type: ignore[method-assign]  # the shortest
        logging.getLogger("asyncio").addHandler(handler)
        # It logs each failure, and there are a great many.
        logging.getLogger("asecretcache").setLevel(logging.CRITICAL)
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)

    def complain(self, what: str) -> None:
        self.complaints.append(what)
        print(f"  LEFT OVER: {what}")

    def look(self) -> None:
        for _ in range(50):
            gc.collect()
            held = self._holds()
            # A server in this process closes its ends of connections a little later.
            time.sleep(0.02)
            if held[:2] == self._holds()[:2]:
                break
        self._looks.append(held)

    @staticmethod
    def _holds() -> tuple[int, int, int, int]:
        resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return (
            len(list(Path("/proc/self/fd").iterdir())),
            threading.active_count(),
            sys.getallocatedblocks(),
            resident * os.sysconf("SC_PAGE_SIZE") // 1024,
        )

    def judge(self) -> None:
        """Compare the last quarter with the second one."""
        before, after = self._looks[1], self._looks[-1]
        self._looks.clear()
        what = ("descriptors", "threads", "blocks", "KiB")
        slack = (0, 0, SLACK_BLOCKS, SLACK_KIB)
        print("  " + ", ".join(f"{name} {old} -> {new}" for name, old, new in zip(what, before, after, strict=True)))
        for name, old, new, more in zip(what, before, after, slack, strict=True):
            if new > old + more:
                self.complain(f"{name}: {old} after the second quarter, {new} after the last")

    def part(self, title: str, count: int, unit: str, quarter: Callable[[int], str]) -> None:
        """Run a part in quarters, which return what happened."""
        print(f"{title}: {count} {unit}")
        began, told = time.monotonic(), ""
        for _ in range(4):
            told = quarter(count // 4)
            self.look()
        seconds = time.monotonic() - began
        print(f"  {told}; {seconds:.1f} s, {seconds / max(count, 1) * 1e6:.1f} us each")
        self.judge()

    def nothing_runs(self, cache: SecretCache) -> None:
        if running := observe.running(cache):
            self.complain(f"{len(running)} fetches")


class Reader:
    """Reads in all ways, and counts the results."""

    def __init__(self, cache: SecretCache, seed: int, names: list[str]) -> None:
        self.cache = cache
        self.random = random.Random(seed)
        self.names = names
        self.met: Counter[str] = Counter()

    async def read(self, cancelled: float, others: float) -> None:
        """Read one secret, or be cancelled while it does, or do something else with these chances."""
        name, chance = self.random.choice(self.names), self.random.random()
        try:
            if chance < cancelled:
                await self._cancel(name)
            elif chance < cancelled + others / 3:
                await self.cache.get_many(*self.random.sample(self.names, min(30, len(self.names))))
            elif chance < cancelled + others / 2:
                self.cache.invalidate(name)
            elif chance < cancelled + others:
                await self.cache.refresh(name)
            else:
                await self.cache.get_secret(name)
            self.met["read"] += 1
        except SecretCacheError:
            self.met["failed"] += 1

    async def _cancel(self, name: str) -> None:
        task = asyncio.ensure_future(self.cache.get_secret(name))
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        self.met["cancelled"] += task.cancelled()
        if not task.cancelled():
            task.exception()

    def told(self) -> str:
        stats = self.cache.stats()
        calls = stats.get_calls + stats.batch_calls
        met = ", ".join(f"{number} {what}" for what, number in sorted(self.met.items()))
        return f"{met}; {calls} calls, {stats.coalesced} coalesced, {stats.stale_served} stale, {stats.hits} hits"


def _disturb(draw: random.Random, source: InMemorySource, clock: ManualClock) -> None:
    """Let time pass, values rotate and faults come and go."""
    source.calls.clear()
    source.batches.clear()
    source.recover()
    clock.advance(draw.choice([0.0, 10.0, 40.0, -1.0]))
    for name in draw.sample(NAMES, 5):
        # Deleted first, or the source would keep all its versions.
        source.delete(name)
        source.rotate(name, str(draw.random()))
    if draw.random() < 0.3:
        source.fail(draw.choice(FAULTS))


def invocations(watch: Watch, count: int) -> None:
    """Like a handler that calls asyncio.run each time."""
    source, clock, draw = InMemorySource(dict.fromkeys(NAMES, "0")), ManualClock(), random.Random(1)
    cache = SecretCache(source, ttl=60, max_size=50, batch=True, stale_while_revalidate=20, clock=clock)
    reader = Reader(cache, 2, NAMES)

    async def invoke() -> None:
        _disturb(draw, source, clock)
        await asyncio.gather(*(reader.read(0.2, 0.2) for _ in range(5)))
        # Left to die with the loop.
        reader.left = asyncio.ensure_future(reader.read(0.0, 0.5))  # type: ignore[attr-defined]  # a reference is needed
        await asyncio.sleep(0)

    def quarter(number: int) -> str:
        for _ in range(number):
            asyncio.run(invoke())
        return reader.told()

    watch.part("asyncio.run, a source in memory", count, "invocations", quarter)
    asyncio.run(cache.aclose())
    watch.nothing_runs(cache)


def real_invocations(watch: Watch, count: int) -> None:
    """The same over HTTP, with a client for each loop."""
    server = MotoServer()
    os.environ.update(AWS_ACCESS_KEY_ID="soak", AWS_SECRET_ACCESS_KEY="soak", AWS_EC2_METADATA_DISABLED="true")
    names = NAMES[:10]
    for name in names:
        server.create(name, "0")
    cache = SecretCache(SecretsManagerSource(region_name=REGION, endpoint_url=server.url), ttl=0.001, batch=True)
    reader = Reader(cache, 3, [*names, "soak/none"])

    async def invoke() -> None:
        await asyncio.gather(*(reader.read(0.3, 0.3) for _ in range(4)))

    def quarter(number: int) -> str:
        for _ in range(number):
            asyncio.run(invoke())
        return reader.told()

    watch.part("asyncio.run, HTTP and the real client", count, "invocations", quarter)
    asyncio.run(cache.aclose())
    watch.nothing_runs(cache)
    server.stop()


def reads(watch: Watch, count: int) -> None:
    """Many at once on one loop."""
    source, clock, draw = InMemorySource(dict.fromkeys(NAMES, "0")), ManualClock(), random.Random(4)
    cache = SecretCache(source, ttl=60, max_size=80, batch=True, stale_while_revalidate=20, clock=clock)
    readers = [Reader(cache, seed, NAMES) for seed in range(READERS)]

    async def work(reader: Reader, number: int) -> None:
        for done in range(number):
            await reader.read(0.02, 0.003)
            if done % 100 == 0:
                _disturb(draw, source, clock)

    async def all_work(number: int) -> None:
        await asyncio.gather(*(work(reader, number // READERS) for reader in readers))
        source.recover()
        while observe.running(cache):
            await asyncio.sleep(0)
        # The tasks of fetches that have ended take a turn more.
        await asyncio.sleep(0)
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            watch.complain(f"{len(left)} tasks")

    with asyncio.Runner() as runner:

        def quarter(number: int) -> str:
            runner.run(all_work(number))
            whole = Reader(cache, 0, NAMES)
            for reader in readers:
                whole.met.update(reader.met)
            return whole.told()

        watch.part(f"one loop, {READERS} at once", count, "gets", quarter)
        runner.run(cache.aclose())
    watch.nothing_runs(cache)


def simulations(watch: Watch, count: int) -> None:
    """Run seeds that nobody has run."""
    seeds = iter(range(first := random.SystemRandom().randrange(10**9), first + count))

    def quarter(number: int) -> str:
        for _ in range(number):
            try:
                check_seed(next(seeds))
            except AssertionError as exc:
                watch.complain(str(exc))
        return f"from seed {first} on"

    watch.part("the simulation", count, "seeds", quarter)


def main() -> int:
    """Run all parts, and return whether anything was left over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--invocations", type=int, default=10_000)
    parser.add_argument("--http", type=int, default=400)
    parser.add_argument("--gets", type=int, default=1_000_000)
    parser.add_argument("--seeds", type=int, default=8000)
    arguments = parser.parse_args()
    watch = Watch()
    for part, count in (
        (invocations, arguments.invocations),
        (real_invocations, arguments.http),
        (reads, arguments.gets),
        (simulations, arguments.seeds),
    ):
        if count:
            part(watch, count)
    print(f"{len(watch.complaints)} left over" if watch.complaints else "nothing is left over")
    return 1 if watch.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
