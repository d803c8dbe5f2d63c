"""Failures: which are held for a moment, which leave no trace, and what is logged of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

import observe
from asecretcache import (
    ConfigurationError,
    SecretAccessDeniedError,
    SecretCache,
    SecretCacheError,
    SecretDecryptionError,
    SecretErrorGroup,
    SecretNotFoundError,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache.testing import InMemorySource, ManualClock
from turns import until

NAME, OLD, NEW = "prod/db", "hunter2", "new"
ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/db-000001"
DOWN = SecretUnavailableError("down")
THROTTLED = SecretThrottledError("slow down")
HELD = [THROTTLED, SecretNotFoundError("gone"), SecretAccessDeniedError("no"), SecretDecryptionError("no key")]


async def idle(cache: SecretCache) -> None:
    """Let the fetches in the background end."""
    await until(lambda: not observe.running(cache))


# Held answers


@pytest.mark.every_loop
@pytest.mark.parametrize("error", HELD, ids=lambda error: type(error).__name__)
async def test_a_refusal_or_throttle_is_held_for_a_second(
    cache: SecretCache, source: InMemorySource, clock: ManualClock, error: SecretCacheError
) -> None:
    """Each caller gets an instance of its own; after the second the next call tries again."""
    source.fail(error)
    errors = []
    for _ in range(3):
        with pytest.raises(type(error)) as caught:
            await cache.get_secret(NAME)
        errors.append(caught.value)
    with pytest.raises(SecretErrorGroup):
        await cache.get_many(NAME)
    with pytest.raises(SecretErrorGroup):
        await cache.get_secrets(f"{NAME}:key")
    assert len({id(each) for each in errors}) == 3
    assert all(each.secret_id == NAME for each in errors)
    assert len(source.calls) == 1

    clock.advance(0.9)
    with pytest.raises(type(error)):
        await cache.get(NAME)
    assert len(source.calls) == 1

    clock.advance(0.1)
    source.recover()
    assert await cache.get_secret(NAME) == OLD


@pytest.mark.parametrize("error", HELD, ids=lambda error: type(error).__name__)
async def test_refresh_passes_a_held_answer(
    cache: SecretCache, source: InMemorySource, error: SecretCacheError
) -> None:
    """Its caller asks for a call, and its success ends the hold."""
    source.fail(error, times=2)
    with pytest.raises(type(error)):
        await cache.get_secret(NAME)
    with pytest.raises(type(error)):
        await cache.refresh(NAME)
    with pytest.raises(type(error)):
        await cache.get_secret(NAME)
    assert len(source.calls) == 2

    secret = await cache.refresh(NAME)
    assert await cache.get(NAME) is secret


@pytest.mark.parametrize("forget", ["invalidate", "invalidate by arn", "clear"])
async def test_invalidating_passes_a_held_answer(cache: SecretCache, source: InMemorySource, forget: str) -> None:
    """Its caller knows that something has changed: all versions and ids of the secret are tried again."""
    source.fail(THROTTLED, times=3)
    reads: list[Callable[[], Awaitable[str]]] = [
        lambda: cache.get_secret(NAME),
        lambda: cache.get_secret(NAME, version_stage="AWSPREVIOUS"),
        lambda: cache.get_secret(ARN),
    ]
    source.rotate(NAME, NEW)
    for read in reads:
        with pytest.raises(SecretThrottledError):
            await read()
    cache.invalidate("other")
    for read in reads:
        with pytest.raises(SecretThrottledError):
            await read()
    assert len(source.calls) == 3

    if forget == "clear":
        cache.clear()
    else:
        cache.invalidate(NAME if forget == "invalidate" else ARN)

    assert [await read() for read in reads] == [NEW, OLD, NEW]


async def test_a_held_answer_is_that_of_one_id_and_version(cache: SecretCache, source: InMemorySource) -> None:
    """The other ids and versions of the secret are tried by themselves."""
    source.fail(SecretNotFoundError("gone"), NAME)
    with pytest.raises(SecretNotFoundError):
        await cache.get(NAME)

    assert await cache.get_secret(ARN) == OLD
    with pytest.raises(SecretNotFoundError):
        await cache.get(NAME, version_stage="AWSPENDING")
    assert len(source.calls) == 3


@pytest.mark.parametrize("error", [DOWN, ConfigurationError("no region"), SecretCacheError("new")])
async def test_other_failures_are_tried_again_by_each_call(
    cache: SecretCache, source: InMemorySource, error: SecretCacheError
) -> None:
    """Without a value in memory there is nothing to serve meanwhile."""
    source.fail(error)
    for calls in (1, 2, 3):
        with pytest.raises(type(error)):
            await cache.get_secret(NAME)
        assert len(source.calls) == calls


async def test_a_fresh_value_is_served_in_spite_of_a_held_answer(cache: SecretCache, source: InMemorySource) -> None:
    """A refresh that was refused says nothing of the ttl."""
    await cache.get(NAME)
    source.fail(SecretAccessDeniedError("no"))
    with pytest.raises(SecretAccessDeniedError):
        await cache.refresh(NAME)

    assert await cache.get_secret(NAME) == OLD


async def test_a_held_throttle_gives_way_to_a_stale_value(
    cache: SecretCache, source: InMemorySource, clock: ManualClock
) -> None:
    """A refresh was throttled while the value was fresh, and within the second it has expired: no call is made."""
    await cache.get_secret(NAME)
    source.fail(THROTTLED)
    clock.advance(99.5)
    with pytest.raises(SecretThrottledError):
        await cache.refresh(NAME)
    clock.advance(0.7)

    assert await cache.get_secret(NAME) == OLD
    assert (await cache.get_many(NAME))[NAME].secret_string == OLD
    await idle(cache)
    assert cache.stats().stale_served == 2
    with pytest.raises(SecretErrorGroup):
        await cache.prefetch(NAME)
    assert len(source.calls) == 2


async def test_a_held_refusal_gives_way_to_no_stale_value(
    cache: SecretCache, source: InMemorySource, clock: ManualClock
) -> None:
    """What AWS refuses isn't served beyond its ttl, and costs no further call within the second."""
    await cache.get_secret(NAME)
    source.fail(SecretAccessDeniedError("no"))
    clock.advance(100)
    for _ in range(3):
        with pytest.raises(SecretAccessDeniedError):
            await cache.get_secret(NAME)

    assert len(source.calls) == 2


# What leaves no trace


@pytest.mark.parametrize("error", HELD, ids=lambda error: type(error).__name__)
async def test_a_prefetch_that_fails_leaves_no_trace(
    cache: SecretCache, source: InMemorySource, error: SecretCacheError
) -> None:
    """No caller has asked for the secret yet."""
    source.fail(error, times=1)
    with pytest.raises(SecretErrorGroup):
        await cache.prefetch(NAME)

    assert await cache.get_secret(NAME) == OLD


async def test_a_prefetch_that_a_reader_joined_counts(cache: SecretCache, source: InMemorySource) -> None:
    """Its failure is held then, by whichever way the reader joined."""
    source.fail(THROTTLED)
    for method in (cache.get_secret, cache.get, cache.get_many):
        source.pause()
        prefetch = asyncio.create_task(cache.prefetch(NAME))
        await until(lambda: observe.running(cache))
        reader: asyncio.Task[object] = asyncio.ensure_future(method(NAME))
        await until(lambda: len(observe.running(cache)[0].waiters) == 2)
        calls = len(source.calls)
        source.resume()
        await asyncio.wait([prefetch, reader])
        assert isinstance(prefetch.exception(), SecretErrorGroup)
        assert isinstance(reader.exception(), SecretThrottledError | SecretErrorGroup)

        with pytest.raises(SecretThrottledError):
            await cache.get_secret(NAME)
        assert len(source.calls) == calls
        cache.clear()


async def test_a_cancelled_fetch_leaves_no_trace(
    cache: SecretCache, source: InMemorySource, clock: ManualClock
) -> None:
    """Its caller left; Secrets Manager said nothing."""
    await cache.get_secret(NAME)
    source.rotate(NAME, NEW)
    clock.advance(100)
    source.pause()
    caller = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(source.calls) == 2)
    caller.cancel()
    await asyncio.wait([caller])
    source.resume()

    # The next reader waits for a fetch, so no failure was recorded.
    assert await cache.get_secret(NAME) == NEW


# What is logged


@pytest.mark.parametrize("error", [DOWN, THROTTLED])
async def test_a_failure_that_a_stale_value_hides_is_logged_once_a_fetch(
    cache: SecretCache,
    source: InMemorySource,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
    error: SecretCacheError,
) -> None:
    """However many callers get the stale value: none of them raises, so the log has to tell."""
    await cache.get_secret(NAME)
    clock.advance(100)
    source.fail(error)
    await asyncio.gather(*(cache.get_secret(NAME) for _ in range(100)))
    await cache.get_secret(NAME)

    assert caplog.record_tuples == [("asecretcache", logging.WARNING, f"{error}; a stale value is served meanwhile")]


async def test_a_background_refresh_that_is_refused_ends_the_stale_value(
    source: InMemorySource, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its readers were served before it was known; the log tells it once."""
    cache = SecretCache(source, ttl=100, jitter=0, stale_while_revalidate=1000, clock=clock)
    await cache.get_secret(NAME)
    clock.advance(100)
    source.fail(SecretAccessDeniedError("secret 'prod/db': no"))
    assert await cache.get_secret(NAME) == OLD
    await idle(cache)
    told = ["secret 'prod/db': no; the value in memory isn't served beyond its ttl"]
    assert caplog.messages == told
    for _ in range(2):
        with pytest.raises(SecretAccessDeniedError):
            await cache.get_secret(NAME)
        clock.advance(1)

    assert caplog.messages == told


async def test_a_background_refresh_that_is_not_set_up_is_spaced_too(
    source: InMemorySource, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Within its window the value is served; past it, stale-if-error isn't for such failures."""
    cache = SecretCache(source, ttl=100, jitter=0, stale_while_revalidate=10, clock=clock)
    await cache.get_secret(NAME)
    clock.advance(109)
    source.fail(ConfigurationError("expired token"))
    for _ in range(5):
        assert await cache.get_secret(NAME) == OLD
        await idle(cache)
    assert len(source.calls) == 2
    assert caplog.messages == ["expired token; a stale value is served meanwhile"]

    clock.advance(1)
    with pytest.raises(ConfigurationError):
        await cache.get_secret(NAME)


async def test_a_failure_that_is_raised_is_not_logged(
    cache: SecretCache, source: InMemorySource, caplog: pytest.LogCaptureFixture
) -> None:
    """The code that catches it decides what to make of it."""
    source.fail(DOWN)
    with pytest.raises(SecretUnavailableError):
        await cache.get_secret(NAME)

    assert not caplog.records
