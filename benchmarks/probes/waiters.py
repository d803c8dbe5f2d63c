"""Print what it costs to wait for one fetch, and to fetch many secrets at once, as JSON.

Usage: waiters.py COUNT ROUNDS [bytes]. It runs in the environment of asecretcache.

The controls do the same without a cache: tasks that await one bare future, and coroutines of the source in a gather.
Each measurement and its control are timed in pairs, one right after the other, from the first task made to the last one
done. CPU time is measured: nothing waits for I/O, and on a busy machine wall time would measure other processes. With
``bytes``, a pass of its own measures those that tracemalloc sees: the peak, and what is kept.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

from asecretcache import Secret, SecretCache, SecretCacheError, SecretRequest

Outcome = tuple[float, int, int]


class Source:
    """Returns secrets made beforehand: in the loop's next iteration, or when the gate opens."""

    def __init__(self, count: int) -> None:
        self.secrets = {
            name: Secret(name=name, arn=f"arn:aws:secretsmanager:eu-west-1:1:secret:{name}-AbCdEf", version_id="v",
                         secret_string='{"password": "value"}', version_stages=("AWSCURRENT",))
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
    """Measures the CPU seconds of some work, or its bytes: the peak, and what is kept."""

    def __init__(self, *, trace: bool) -> None:
        self.trace = trace

    async def measure(self, work: Callable[[], Awaitable[object]]) -> Outcome:
        gc.collect()
        if self.trace:
            tracemalloc.start()
        began = time.process_time()
        await work()
        took = time.process_time() - began
        if not self.trace:
            return took, 0, 0
        gc.collect()
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return took, peak, kept


async def in_tasks(
    read: Callable[[], Coroutine[object, object, object]], gate: asyncio.Future[None], count: int
) -> None:
    """Let many tasks wait for the gate, then open it and await them all."""
    tasks = [asyncio.create_task(read()) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gate.set_result(None)
    for task in tasks:
        await task


async def one_future(clock: Clock, count: int) -> Outcome:
    """The control of waiters."""
    gate = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await gate

    return await clock.measure(lambda: in_tasks(wait, gate, count))


async def one_fetch(clock: Clock, count: int, reference: str = "secret-0") -> Outcome:
    source = Source(1)
    source.gate = gate = asyncio.get_running_loop().create_future()
    cache = SecretCache(source)
    outcome = await clock.measure(lambda: in_tasks(lambda: cache.get_secret(reference), gate, count))
    assert cache.stats().get_calls == 1
    return outcome


async def one_fetch_of_a_key(clock: Clock, count: int) -> Outcome:
    return await one_fetch(clock, count, "secret-0:password")


async def source_alone(clock: Clock, count: int) -> Outcome:
    """The control of many secrets."""
    source = Source(count)

    async def work() -> None:
        await asyncio.gather(*(source.fetch(SecretRequest(name)) for name in source.secrets))

    return await clock.measure(work)


async def gathered(clock: Clock, count: int) -> Outcome:
    source = Source(count)
    cache = SecretCache(source, max_size=count)

    async def work() -> None:
        await asyncio.gather(*(cache.get_secret(name) for name in source.secrets))

    return await clock.measure(work)


async def together(clock: Clock, count: int) -> Outcome:
    source = Source(count)
    cache = SecretCache(source, max_size=count)
    return await clock.measure(lambda: cache.get_secrets(*source.secrets))


async def in_batches(clock: Clock, count: int) -> Outcome:
    source = Source(count)
    cache = SecretCache(source, max_size=count, batch=True)
    return await clock.measure(lambda: cache.get_secrets(*source.secrets))


Kind = Callable[[Clock, int], Awaitable[Outcome]]
# Each with its control.
KINDS: dict[Kind, Kind] = {
    one_fetch: one_future,
    one_fetch_of_a_key: one_future,
    gathered: source_alone,
    together: source_alone,
    in_batches: source_alone,
}


async def main(count: int, rounds: int, *, trace: bool) -> None:
    found: dict[str, dict[str, list[float]]] = {kind.__name__: {"seconds": [], "control": []} for kind in KINDS}
    for turn in range(rounds + 1):
        for kind, control in KINDS.items():
            pair = {"control": control, "seconds": kind} if turn % 2 else {"seconds": kind, "control": control}
            for name, each in pair.items():
                took, _, _ = await each(Clock(trace=False), count)
                if turn:
                    found[kind.__name__][name].append(took)
    traced = {}
    for kind in (*KINDS, one_future, source_alone) if trace else ():
        _, peak, kept = await kind(Clock(trace=True), count)
        traced[kind.__name__] = {"peak": peak, "kept": kept}
    controls = {kind.__name__: control.__name__ for kind, control in KINDS.items()}
    print(json.dumps({"seconds": found, "bytes": traced, "controls": controls}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), trace="bytes" in sys.argv))
