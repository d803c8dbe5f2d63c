"""stats(): what is counted, and when."""

from __future__ import annotations

import asyncio

import pytest

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
    return InMemorySource(dict.fromkeys(NAMES, "v"))


async def test_hits_misses_and_what_is_coalesced(source: InMemorySource) -> None:
    """1,000 concurrent first gets are one call, 999 of them joined; then each read is a hit, by whichever method."""
    cache = SecretCache(source)
    await asyncio.gather(*(cache.get_secret("a") for _ in range(1000)))
    assert cache.stats() == CacheStats(misses=1000, coalesced=999, get_calls=1)
    assert cache.stats().calls_saved == 999

    await cache.get_secret("a")
    await cache.get("a")
    await cache.get_many(["a"])
    cache.peek("a")

    assert cache.stats().hits == 3
    assert cache.stats().calls_saved == 1002


async def test_hits_outlive_their_entry(source: InMemorySource) -> None:
    """Replaced, evicted, invalidated and cleared values have been read all the same."""
    cache = SecretCache(source, max_size=1)
    for forget in (
        lambda: cache.refresh("a"),
        lambda: cache.get("b"),
        lambda: asyncio.to_thread(cache.invalidate, "a"),
        lambda: asyncio.to_thread(cache.clear),
    ):
        await cache.get_secret("a")
        before = cache.stats().hits
        await cache.get_secret("a")
        await forget()
        assert cache.stats().hits == before + 1


async def test_batches_refreshes_and_evictions(source: InMemorySource) -> None:
    """Each by its own name."""
    cache = SecretCache(source, batch=True, max_size=2)
    await cache.get_many(NAMES)
    await cache.refresh("c")

    assert cache.stats() == CacheStats(misses=3, refreshes=1, get_calls=1, batch_calls=1, batched_ids=3, evictions=1)
    assert cache.stats().calls_saved == 2


async def test_a_name_and_its_arn_are_two_reads_of_one_call(source: InMemorySource) -> None:
    """Both asked for and both waited; not so in a prefetch."""
    ids = ["a", (await source.fetch(SecretRequest("a"))).arn]
    cache = SecretCache(source)
    await cache.prefetch(*ids)
    assert cache.stats() == CacheStats(get_calls=1)
    cache.clear()

    await cache.get_many(ids)

    assert cache.stats() == CacheStats(misses=2, get_calls=2)


async def test_prefetched_secrets_are_no_reads(source: InMemorySource) -> None:
    """Nobody asked for them yet: the calls stand against nothing until somebody does."""
    cache = SecretCache(source)
    await cache.prefetch("a", "b")
    await cache.prefetch("a", "b")
    assert cache.stats() == CacheStats(get_calls=2)
    assert cache.stats().calls_saved == -2

    for name in ("a", "b", "a"):
        await cache.get_secret(name)
    assert cache.stats().calls_saved == 1


async def test_errors_count_once_a_fetch(source: InMemorySource) -> None:
    """Not once for each who waited; in a batch, each secret for itself."""
    cache = SecretCache(source, batch=True)
    await asyncio.gather(*(cache.get_secret("missing") for _ in range(10)), return_exceptions=True)
    assert cache.stats().errors == 1

    with pytest.raises(SecretErrorGroup):
        await cache.get_many(["a", "no", "nor"])
    assert cache.stats().errors == 3


async def test_stale_answers_are_counted(source: InMemorySource) -> None:
    """Those while the value is fetched anew, after a failure, and during the back-off."""
    clock = ManualClock()
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


async def test_a_throttled_answer_that_is_held_costs_no_call(source: InMemorySource) -> None:
    """It is a miss all the same."""
    cache = SecretCache(source, clock=ManualClock())
    source.fail(SecretThrottledError("slow down"))
    for _ in range(3):
        with pytest.raises(SecretThrottledError):
            await cache.get("a")

    assert cache.stats() == CacheStats(misses=3, get_calls=1, errors=1)


def test_stats_are_a_record_that_doesnt_change() -> None:
    """A snapshot: immutable, and not of what comes after."""
    stats = SecretCache(InMemorySource()).stats()

    with pytest.raises(AttributeError):
        stats.hits = 1  # type: ignore[misc]  # the mistake
    assert repr(stats).startswith("CacheStats(hits=0, ")


async def test_a_retry_is_not_another_read(source: InMemorySource) -> None:
    """What somebody else cancels is fetched again, for the same reads."""
    cache = SecretCache(source)
    source.pause()
    readers = [asyncio.create_task(cache.get("a")) for _ in range(10)]
    await until(lambda: source.calls)
    cache._flights._all()[0].carrier.task.cancel()
    source.resume()
    await asyncio.wait(readers)

    assert cache.stats() == CacheStats(misses=10, coalesced=9, get_calls=2)
