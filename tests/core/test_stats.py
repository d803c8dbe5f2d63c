"""stats(): what is counted, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import observe
from asecretcache import (
    CacheStats,
    SecretCache,
    SecretErrorGroup,
    SecretRequest,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache.testing import InMemorySource, ManualClock
from turns import until

NAMES = ["a", "b", "c"]


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource(dict.fromkeys(NAMES, '{"key": "v"}'))


async def test_hits_misses_and_coalesced_reads(cache: SecretCache) -> None:
    """1,000 concurrent first gets are one call, 999 of them joined; then each read is a hit, by any method."""
    await asyncio.gather(*(cache.get_secret("a") for _ in range(1000)))
    assert cache.stats() == CacheStats(misses=1000, coalesced=999, get_calls=1)
    assert cache.stats().calls_saved == 999

    await cache.get_secret("a")
    await cache.get("a")
    await cache.get_many("a")
    await cache.get_secrets("a")
    await cache.get_json("a")
    cache.peek("a")

    assert cache.stats().hits == 5
    assert cache.stats().calls_saved == 1004


async def test_reads_that_wait_are_counted_while_they_wait(cache: SecretCache, source: InMemorySource) -> None:
    """stats() may be asked at any time."""
    source.pause()
    readers = [asyncio.create_task(cache.get("a")) for _ in range(3)]
    await until(lambda: source.calls and len(observe.running(cache)[0].waiters) == 3)

    assert cache.stats() == CacheStats(misses=3, coalesced=2, get_calls=1)
    source.resume()
    await asyncio.wait(readers)
    assert cache.stats() == CacheStats(misses=3, coalesced=2, get_calls=1)


async def test_reads_of_json_keys_are_hits_of_the_secret(cache: SecretCache) -> None:
    """They are counted where the field is kept, and stay when it goes."""
    for _ in range(3):
        await cache.get_secret("a:key")
        await cache.get_json("a", "key")
    assert cache.stats() == CacheStats(hits=5, misses=1, get_calls=1)

    cache.invalidate("a")

    assert cache.stats().hits == 5


@pytest.mark.parametrize("reference", ["a", "a:key"])
async def test_hits_outlive_their_entry(source: InMemorySource, reference: str) -> None:
    """Values that are replaced, evicted, invalidated and cleared have been read all the same."""
    cache = SecretCache(source, max_size=1)

    async def evict() -> None:
        await cache.get("b")
        await cache.get("c")

    forgets: list[Callable[[], Awaitable[object]]] = [
        lambda: cache.refresh("a"),
        evict,
        lambda: asyncio.to_thread(cache.invalidate, "a"),
        lambda: asyncio.to_thread(cache.clear),
    ]
    for forget in forgets:
        await cache.get_secret(reference)
        before = cache.stats().hits
        await cache.get_secret(reference)
        await forget()
        assert cache.stats().hits == before + 1


async def test_batches_refreshes_and_evictions(source: InMemorySource) -> None:
    """Each by its own name."""
    cache = SecretCache(source, batch=True, max_size=2)
    await cache.get_many(*NAMES)
    await cache.refresh("c")

    assert cache.stats() == CacheStats(misses=3, refreshes=1, get_calls=1, batch_calls=1, batched_ids=3, evictions=1)
    assert cache.stats().calls_saved == 2


async def test_a_name_and_its_arn_are_two_reads_and_two_calls(cache: SecretCache, source: InMemorySource) -> None:
    """An id is its own key; a prefetch is no read."""
    ids = ["a", (await source.fetch(SecretRequest("a"))).arn]
    await cache.prefetch(*ids)
    assert cache.stats() == CacheStats(get_calls=2)
    cache.clear()

    await cache.get_many(*ids)

    assert cache.stats() == CacheStats(misses=2, get_calls=4)


async def test_references_to_one_secret_are_one_read(cache: SecretCache) -> None:
    """A read is one secret asked for once."""
    await cache.get_secrets("a", "a:key", "a::AWSCURRENT")

    assert cache.stats() == CacheStats(misses=1, get_calls=1)


async def test_prefetched_secrets_are_no_reads(cache: SecretCache) -> None:
    """No caller asked for them yet: the calls stand against nothing until one does."""
    await cache.prefetch("a", "b")
    await cache.prefetch("a", "b")
    assert cache.stats() == CacheStats(get_calls=2)
    assert cache.stats().calls_saved == -2

    for name in ("a", "b", "a"):
        await cache.get_secret(name)
    assert cache.stats().calls_saved == 1


async def test_errors_are_counted_once_a_fetch(source: InMemorySource) -> None:
    """Not once for each waiter; in a batch, each secret by itself."""
    cache = SecretCache(source, batch=True)
    await asyncio.gather(*(cache.get_secret("missing") for _ in range(10)), return_exceptions=True)
    assert cache.stats().errors == 1

    with pytest.raises(SecretErrorGroup):
        await cache.get_many("a", "no", "nor")
    assert cache.stats().errors == 3


async def test_stale_reads_are_counted(source: InMemorySource, clock: ManualClock) -> None:
    """Those while the value is fetched anew, after a failure, and during the back-off; they are no misses then."""
    cache = SecretCache(source, ttl=10, jitter=0, stale_while_revalidate=5, stale_if_error=100, clock=clock)
    await cache.get("a")
    source.fail(SecretUnavailableError("down"))
    clock.advance(12)
    await cache.get("a")
    clock.advance(10)
    await cache.get("a")
    await cache.get("a")

    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.stale_served) == (0, 1, 3)
    # Four reads; the one that had to wait joined the fetch in the background.
    assert (stats.get_calls, stats.coalesced) == (2, 1)
    assert stats.calls_saved == 2


async def test_a_held_answer_costs_no_call(cache: SecretCache, source: InMemorySource) -> None:
    """It is a miss all the same."""
    source.fail(SecretThrottledError("slow down"))
    for _ in range(3):
        with pytest.raises(SecretThrottledError):
            await cache.get("a")

    assert cache.stats() == CacheStats(misses=3, get_calls=1, errors=1)


def test_stats_are_a_record_that_does_not_change(cache: SecretCache) -> None:
    """Of one moment, and immutable."""
    stats = cache.stats()
    asyncio.run(cache.get("a"))

    assert stats == CacheStats()
    with pytest.raises(AttributeError):
        stats.hits = 1  # type: ignore[misc]  # the mistake
    assert repr(stats).startswith("CacheStats(hits=0, ")


@pytest.mark.parametrize("method", ["get", "get_secret", "get_many"])
async def test_a_retry_is_not_another_read(cache: SecretCache, source: InMemorySource, method: str) -> None:
    """A fetch that is cancelled from outside is repeated for the same reads."""
    source.pause()
    readers = [asyncio.create_task(getattr(cache, method)("a")) for _ in range(10)]
    await until(lambda: source.calls)
    observe.running(cache)[0].task.task.cancel()
    source.resume()
    await asyncio.wait(readers)

    assert cache.stats() == CacheStats(misses=10, coalesced=9, get_calls=2)


async def test_the_secrets_of_several_batches_add_up(source: InMemorySource) -> None:
    """25 secrets are two calls."""
    names = [f"n{number}" for number in range(25)]
    cache = SecretCache(InMemorySource(dict.fromkeys(names, "v")), batch=True)

    await cache.get_many(*names)

    assert (cache.stats().batch_calls, cache.stats().batched_ids) == (2, 25)


async def test_reads_that_join_a_batch_are_coalesced(source: InMemorySource) -> None:
    """Each of its secrets is one that other readers may join."""
    cache = SecretCache(source, batch=True)

    await asyncio.gather(cache.get_many(*NAMES), cache.get_many(*NAMES), cache.prefetch(*NAMES))

    assert cache.stats()[:4] == (0, 6, 0, 3)


async def test_stale_answers_instead_of_errors_are_no_misses(source: InMemorySource, clock: ManualClock) -> None:
    """Each read is counted once: it was a miss until the fetch had failed."""
    cache = SecretCache(source, clock=clock, ttl=10.0, jitter=0.0)
    await cache.get_many(*NAMES)
    clock.advance(11.0)
    for name in NAMES:
        source.fail(SecretUnavailableError("down"), name)

    for name in NAMES:
        await cache.get(name)

    assert (cache.stats().misses, cache.stats().stale_served) == (3, 3)
