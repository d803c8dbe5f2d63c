"""Runs in our environment: the cost of waiting for one fetch, and of many keys at once. waiters.py COUNT ROUNDS.

The controls do the same without a cache: tasks that await one bare future, and tasks that await the source. Time is
from the first task made to the last one done; bytes are what tracemalloc has seen at most, in a pass of its own.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Mapping, Sequence

from asecretcache import Secret, SecretCache, SecretCacheError, SecretRequest

Outcome = tuple[float, int, int]


class Source:
    """Answers at once, or when the gate opens, with secrets that are made beforehand."""

    def __init__(self, count: int) -> None:
        self.secrets = {
            name: Secret(name=name, arn=f"arn:aws:secretsmanager:eu-west-1:1:secret:{name}-AbCdEf", version_id="v",
                         secret_string="value", version_stages=("AWSCURRENT",))
            for name in (f"secret-{number}" for number in range(count))
        }  # fmt: skip
        self.gate: asyncio.Future[None] | None = None

    async def fetch(self, request: SecretRequest) -> Secret:
        if self.gate is None:
            await asyncio.sleep(0)
        else:
            await self.gate
        return self.secrets[request.secret_id]

    async def fetch_batch(self, secret_ids: Sequence[str]) -> Mapping[str, Secret | SecretCacheError]:
        await asyncio.sleep(0)
        return {secret_id: self.secrets[secret_id] for secret_id in secret_ids}

    async def aclose(self) -> None:
        """Nothing to close."""


class Clock:
    """Times a stretch, or counts the bytes that it takes."""

    def __init__(self, *, trace: bool) -> None:
        self.trace = trace
        self.peak = 0

    async def measure(self, work: Callable[[], Awaitable[object]]) -> Outcome:
        gc.collect()
        if self.trace:
            tracemalloc.start()
        began = time.perf_counter()
        await work()
        took = time.perf_counter() - began
        if not self.trace:
            return took, 0, 0
        gc.collect()
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return took, peak, kept


async def one_future(clock: Clock, count: int) -> Outcome:
    """The control for waiters."""
    gate = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await gate

    async def work() -> None:
        tasks = [asyncio.create_task(wait()) for _ in range(count)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gate.set_result(None)
        for task in tasks:
            await task

    return await clock.measure(work)


async def one_fetch(clock: Clock, count: int) -> Outcome:
    source = Source(1)
    source.gate = gate = asyncio.get_running_loop().create_future()
    cache = SecretCache(source)

    async def work() -> None:
        tasks = [asyncio.create_task(cache.get_secret("secret-0")) for _ in range(count)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gate.set_result(None)
        for task in tasks:
            await task

    outcome = await clock.measure(work)
    assert cache.stats().get_calls == 1
    return outcome


async def source_alone(clock: Clock, count: int) -> Outcome:
    """The control for keys."""
    source = Source(count)

    async def work() -> None:
        await asyncio.gather(*(source.fetch(SecretRequest(name)) for name in source.secrets))

    return await clock.measure(work)


async def keys(clock: Clock, count: int) -> Outcome:
    source = Source(count)
    cache = SecretCache(source, max_size=count)

    async def work() -> None:
        await asyncio.gather(*(cache.get_secret(name) for name in source.secrets))

    return await clock.measure(work)


async def keys_in_get_many(clock: Clock, count: int) -> Outcome:
    source = Source(count)
    cache = SecretCache(source, max_size=count)
    return await clock.measure(lambda: cache.get_many(source.secrets))


async def keys_in_batches(clock: Clock, count: int) -> Outcome:
    source = Source(count)
    cache = SecretCache(source, max_size=count, batch=True)
    return await clock.measure(lambda: cache.get_many(source.secrets))


KINDS = (one_future, one_fetch, source_alone, keys, keys_in_get_many, keys_in_batches)


async def main(count: int, rounds: int) -> None:
    seconds: dict[str, list[float]] = {kind.__name__: [] for kind in KINDS}
    for turn in range(rounds + 1):
        for kind in KINDS:
            took, _, _ = await kind(Clock(trace=False), count)
            if turn:
                seconds[kind.__name__].append(took)
    traced = {kind.__name__: await kind(Clock(trace=True), count) for kind in KINDS}
    print(
        json.dumps(
            {
                name: {
                    "seconds": seconds[name],
                    "peak": traced[name][1],
                    "kept": traced[name][2],
                }
                for name in seconds
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
