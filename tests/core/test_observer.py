"""An observer is told of each fetch: who started or joined it, and how it ended."""

from __future__ import annotations

import asyncio

import observe
from asecretcache import SecretCache, SecretUnavailableError
from asecretcache._core.fetch import Fetch, FetchReason
from asecretcache._core.observer import FetchObserver
from asecretcache.testing import InMemorySource, ManualClock
from turns import until

NAME = "prod/db"


class Recorder(FetchObserver):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.joins: list[tuple[str, str, bool, bool]] = []
        self.ends: list[tuple[str, str]] = []

    def joined(self, fetch: Fetch, reason: FetchReason, *, is_new: bool, is_retry: bool) -> None:
        self.joins.append((fetch.request.secret_id, reason.value, is_new, is_retry))

    def ended(self, fetch: Fetch) -> None:
        result = "cancelled" if fetch.was_cancelled else "failed" if fetch.error else "fetched"
        self.ends.append((fetch.request.secret_id, result))


async def test_starts_and_joins_are_told_with_their_reason(cache: SecretCache, source: InMemorySource) -> None:
    """Also those by the short way of many concurrent readers."""
    observe.watch(cache, recorder := Recorder())
    source.pause()
    callers = [
        asyncio.ensure_future(each)
        for each in (
            cache.get_secret(NAME),
            cache.get_secret(NAME),
            cache.get_many(NAME),
            cache.prefetch(NAME),
            cache.refresh(NAME),
        )
    ]
    await until(lambda: len(source.calls) == 2)
    source.resume()
    await asyncio.gather(*callers)

    assert recorder.joins == [
        (NAME, "read", True, False),
        (NAME, "read", False, False),
        (NAME, "read", False, False),
        (NAME, "prefetch", False, False),
        (NAME, "refresh", True, False),
    ]
    assert recorder.ends == [(NAME, "fetched")] * 2


async def test_a_hit_is_no_news(cache: SecretCache) -> None:
    """Only fetches are told."""
    await cache.get(NAME)
    observe.watch(cache, recorder := Recorder())

    await cache.get(NAME)

    assert not recorder.joins


async def test_ends_are_told_once_the_result_is_stored(cache: SecretCache, source: InMemorySource) -> None:
    """An observer that looks into the cache sees what the waiters will see."""
    seen: list[object] = []

    class Looking(Recorder):
        def ended(self, fetch: Fetch) -> None:
            seen.extend((cache.peek(NAME), fetch.secret, fetch.is_done))

    observe.watch(cache, Looking())
    secret = await cache.get(NAME)

    assert seen == [secret, secret, True]


async def test_failures_cancellations_and_retries_are_told(cache: SecretCache, source: InMemorySource) -> None:
    """A caller that comes back after a cancellation is told as a retry."""
    observe.watch(cache, recorder := Recorder())
    source.fail(SecretUnavailableError("down"))
    source.pause()
    caller = asyncio.create_task(cache.get(NAME))
    await until(lambda: source.calls)
    observe.running(cache)[0].task.task.cancel()
    source.resume()
    await asyncio.wait([caller])

    assert isinstance(caller.exception(), SecretUnavailableError)
    assert recorder.joins == [(NAME, "read", True, False), (NAME, "read", True, True)]
    assert recorder.ends == [(NAME, "cancelled"), (NAME, "failed")]


async def test_each_secret_of_a_batch_is_told(source: InMemorySource) -> None:
    """As if it were fetched by itself."""
    cache = SecretCache(source, batch=True)
    observe.watch(cache, recorder := Recorder())

    await cache.get_many(NAME, "other", "missing", return_exceptions=True)

    assert recorder.joins == [(name, "read", True, False) for name in (NAME, "other", "missing")]
    assert recorder.ends == [(NAME, "fetched"), ("other", "fetched"), ("missing", "failed")]


async def test_a_background_refresh_is_told_as_such(source: InMemorySource, clock: ManualClock) -> None:
    """It is no retry, and no read."""
    cache = SecretCache(source, clock=clock, ttl=10.0, jitter=0.0, stale_while_revalidate=60.0)
    await cache.get(NAME)
    clock.advance(11.0)
    observe.watch(cache, recorder := Recorder())

    await cache.get(NAME)
    await cache.get_many("other", NAME)

    assert recorder.joins == [
        (NAME, "revalidation", True, False),
        (NAME, "revalidation", False, False),
        ("other", "read", True, False),
    ]
    await cache.aclose()
