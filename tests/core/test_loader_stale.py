"""Expired values: served while they are fetched anew, and while they can't be fetched; clocks that jump."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import observe
from asecretcache import (
    ConfigurationError,
    CredentialsError,
    Secret,
    SecretAccessDeniedError,
    SecretCache,
    SecretCacheError,
    SecretDecryptionError,
    SecretErrorGroup,
    SecretFormatError,
    SecretNotFoundError,
    SecretRequest,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache._core.timeouts import Deadline, invocation_deadline
from asecretcache.testing import InMemorySource, ManualClock
from gated_source import GatedSource
from turns import until

NAME, OLD, NEW = "prod/db", "old", "new"
DOWN = SecretUnavailableError("down")
THROTTLED = SecretThrottledError("slow down")


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({NAME: OLD, "other": "else"})


def new_cache(source: InMemorySource, clock: ManualClock, **options: Any) -> SecretCache:
    """Make a cache whose values expire after exactly 100 s."""
    return SecretCache(source, clock=clock, ttl=100.0, jitter=0.0, **options)


def reads(cache: SecretCache) -> list[Callable[[], Awaitable[object]]]:
    """The ways to read one secret."""
    return [
        lambda: cache.get_secret(NAME),
        lambda: cache.get(NAME),
        lambda: cache.get_many(NAME, "other"),
        lambda: cache.get_secrets(NAME, "other"),
        lambda: cache.get_as(NAME, str),
    ]


async def idle(cache: SecretCache) -> None:
    """Let the fetches in the background end."""
    await until(lambda: not observe.running(cache))


# Stale-while-revalidate


@pytest.mark.every_loop
async def test_an_expired_value_is_served_at_once_while_it_is_fetched(
    source: InMemorySource, clock: ManualClock
) -> None:
    """However many reads there are meanwhile, it is one refresh; once that has ended, the new value is served."""
    cache = new_cache(source, clock, stale_while_revalidate=50)
    await cache.get_secret(NAME)
    source.rotate(NAME, NEW)
    clock.advance(100)
    source.pause()

    assert [await cache.get_secret(NAME) for _ in range(10)] == [OLD] * 10
    assert set(await asyncio.gather(*(cache.get_secret(NAME) for _ in range(10)))) == {OLD}
    assert (await cache.get_many(NAME))[NAME].secret_string == OLD
    await until(lambda: len(source.calls) == 2)
    source.resume()
    await idle(cache)

    assert await cache.get_secret(NAME) == NEW
    assert len(source.calls) == 2


async def test_past_its_window_a_reader_waits_for_the_fetch(source: InMemorySource, clock: ManualClock) -> None:
    """The window begins at the expiry and is the given seconds long."""
    cache = new_cache(source, clock, stale_while_revalidate=50)
    await cache.get_secret(NAME)
    source.rotate(NAME, NEW)

    clock.advance(149.9)
    assert await cache.get_secret(NAME) == OLD
    clock.advance(0.1)
    assert await cache.get_secret(NAME) == NEW


async def test_the_background_refreshes_of_many_go_in_batches(source: InMemorySource, clock: ManualClock) -> None:
    """As the first fetches do."""
    cache = new_cache(source, clock, stale_while_revalidate=50, batch=True)
    await cache.get_many(NAME, "other")
    clock.advance(100)

    await cache.get_many(NAME, "other")
    await idle(cache)

    assert source.batches == [(NAME, "other")] * 2
    assert not source.calls


async def test_a_background_refresh_survives_a_reader_that_left(source: InMemorySource, clock: ManualClock) -> None:
    """No caller waits for it, so it goes on when a reader that joined it is cancelled."""
    cache = new_cache(source, clock, stale_while_revalidate=50, fetch_timeout=1000)
    await cache.get_secret(NAME)
    source.rotate(NAME, NEW)
    clock.advance(100)
    source.pause()
    await cache.get_secret(NAME)
    clock.advance(50)
    reader = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: observe.running(cache)[0].waiters)
    reader.cancel()
    await asyncio.wait([reader])
    source.resume()
    await idle(cache)

    assert await cache.get_secret(NAME) == NEW
    assert len(source.calls) == 2


async def test_a_background_refresh_that_fails_is_spaced_by_the_back_off(
    source: InMemorySource, clock: ManualClock
) -> None:
    """Though each read within the window would start one."""
    cache = new_cache(source, clock, stale_while_revalidate=1000, stale_if_error=0)
    await cache.get_secret(NAME)
    source.fail(DOWN)
    clock.advance(100)
    for seconds, calls in ((0, 2), (0.5, 2), (1.5, 3), (1, 3), (3, 4)):
        clock.advance(seconds)
        assert await cache.get_secret(NAME) == OLD
        await idle(cache)
        assert len(source.calls) == calls


def test_refreshes_that_are_cut_off_with_their_loops_are_waited_for(source: InMemorySource, clock: ManualClock) -> None:
    """With asyncio.run for each invocation each cuts off the refresh that it started; the fourth read waits for one."""

    class Slow(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            secret = await super().fetch(request)
            await asyncio.sleep(0.01)
            return secret

    source = Slow({NAME: "0"})
    cache = new_cache(source, clock, stale_while_revalidate=1000)
    assert asyncio.run(cache.get_secret(NAME)) == "0"

    for number in (1, 2):
        source.rotate(NAME, str(number))
        clock.advance(100)
        read = [asyncio.run(cache.get_secret(NAME)) for _ in range(5)]
        assert read == [str(number - 1)] * 3 + [str(number)] * 2
    assert len(source.calls) == 1 + 2 * 4


async def test_a_refresh_that_failed_is_not_a_lost_one(source: InMemorySource, clock: ManualClock) -> None:
    """It ended by itself, so no read has to wait for the next."""
    cache = new_cache(source, clock, stale_while_revalidate=1000)
    await cache.get_secret(NAME)
    source.fail(DOWN)
    clock.advance(100)
    for _ in range(5):
        assert await cache.get_secret(NAME) == OLD
        await idle(cache)
        clock.advance(130)
    source.recover()
    source.pause()

    assert await cache.get_secret(NAME) == OLD
    source.resume()


async def test_a_source_may_read_its_own_stale_secret(clock: ManualClock) -> None:
    """The value that its fetch is to replace is in memory, and is served."""

    class Own(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            if self.calls:
                assert await cache.get_secret(NAME) == OLD
            return await super().fetch(request)

    source = Own({NAME: OLD})
    cache = new_cache(source, clock, stale_while_revalidate=50)
    await cache.get_secret(NAME)
    source.rotate(NAME, NEW)
    clock.advance(100)
    await cache.get_secret(NAME)
    await idle(cache)

    assert await cache.get_secret(NAME) == NEW


# Stale-if-error


@pytest.mark.parametrize("error", [DOWN, THROTTLED])
async def test_a_stale_value_is_served_on_a_transient_failure(
    source: InMemorySource, clock: ManualClock, error: SecretCacheError
) -> None:
    """By every method that reads, and up to the bound, not beyond."""
    cache = new_cache(source, clock, stale_if_error=1000)
    await cache.get_many(NAME, "other")
    source.fail(error)
    clock.advance(1099)
    for read in reads(cache):
        assert await read()
    assert await cache.get_secret(NAME) == OLD

    await idle(cache)
    clock.advance(1)
    with pytest.raises(type(error)):
        await cache.get_secret(NAME)
    with pytest.raises(SecretErrorGroup):
        await cache.get_many(NAME, "other")


@pytest.mark.parametrize(
    "error",
    [
        SecretAccessDeniedError("no"),
        SecretNotFoundError("gone"),
        SecretDecryptionError("no key"),
        ConfigurationError("no region"),
        CredentialsError("revoked"),
        SecretFormatError("what?"),
        SecretCacheError("new"),
    ],
)
async def test_no_stale_value_is_served_on_any_other_failure(
    source: InMemorySource, clock: ManualClock, error: SecretCacheError
) -> None:
    """What AWS refuses, or what isn't there any more, isn't served from memory either."""
    cache = new_cache(source, clock)
    await cache.get_secret(NAME)
    source.fail(error)
    clock.advance(100)

    for read in reads(cache):
        with pytest.raises(SecretCacheError):
            await read()
    with pytest.raises(type(error)):
        await cache.get_secret(NAME)


async def test_a_stale_value_is_served_on_any_failure_that_is_transient(
    source: InMemorySource, clock: ManualClock
) -> None:
    """is_transient decides, not the class: expired credentials, once a source has had good ones."""
    cache = new_cache(source, clock)
    await cache.get_secret(NAME)
    error = CredentialsError("expired")
    error.is_transient = True
    source.fail(error)
    clock.advance(100)

    assert await cache.get_secret(NAME) == OLD


@pytest.mark.parametrize("error", [SecretAccessDeniedError("no"), SecretNotFoundError("x"), SecretDecryptionError("x")])
async def test_a_value_that_was_refused_is_never_stale_again(
    source: InMemorySource, clock: ManualClock, error: SecretCacheError
) -> None:
    """Not when Secrets Manager is down afterwards, nor while it is fetched anew; a new fetch makes it good."""
    cache = new_cache(source, clock, stale_while_revalidate=1000)
    await cache.get_secret(NAME)
    source.fail(error, times=1)
    with pytest.raises(type(error)):
        await cache.refresh(NAME)
    assert await cache.get_secret(NAME) == OLD, "it is fresh for as long as the ttl says"
    clock.advance(100)
    source.fail(DOWN)
    with pytest.raises(SecretUnavailableError):
        await cache.get_secret(NAME)

    source.recover()
    assert await cache.get_secret(NAME) == OLD
    clock.advance(100)
    source.fail(DOWN)
    assert await cache.get_secret(NAME) == OLD


async def test_a_refusal_by_one_id_leaves_the_value_of_another(source: InMemorySource, clock: ManualClock) -> None:
    """A policy may allow an ARN and not the name: an id is its own key."""
    cache = new_cache(source, clock)
    arn = (await cache.get(NAME)).arn
    await cache.get(arn)
    source.fail(SecretAccessDeniedError("no"), NAME)
    source.fail(DOWN, arn)
    clock.advance(100)

    with pytest.raises(SecretAccessDeniedError):
        await cache.get_secret(NAME)
    assert await cache.get_secret(arn) == OLD


async def test_a_refusal_from_before_the_value_ends_nothing(clock: ManualClock) -> None:
    """The order is that of the starts."""
    source = GatedSource({NAME: OLD})
    cache = new_cache(source, clock)
    source.fail(SecretAccessDeniedError("no"), times=1)
    refused = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(source.gates) == 1)
    refresh = asyncio.create_task(cache.refresh(NAME))
    await until(lambda: len(source.gates) == 2)
    source.gates[1].set()
    await refresh
    source.gates[0].set()
    with pytest.raises(SecretAccessDeniedError):
        await refused

    clock.advance(100)
    source.fail(DOWN)
    read = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(source.gates) == 3)
    source.gates[2].set()
    assert await read == OLD


async def test_a_fetch_from_before_a_refusal_is_not_stored(clock: ManualClock) -> None:
    """What AWS said last, in the order of the starts, is that the secret is gone."""
    source = GatedSource({NAME: OLD})
    cache = new_cache(source, clock)
    first = asyncio.create_task(cache.get(NAME))
    await until(lambda: len(source.gates) == 1)
    source.gates[0].set()
    await first
    clock.advance(100)
    before = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(source.gates) == 2)
    source.fail(SecretNotFoundError("deleted"))
    refresh = asyncio.create_task(cache.refresh(NAME))
    await until(lambda: len(source.gates) == 3)
    source.gates[2].set()
    with pytest.raises(SecretNotFoundError):
        await refresh
    source.gates[1].set()
    assert await before == OLD

    source.fail(DOWN)
    clock.advance(1)
    read = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(source.gates) == 4)
    source.gates[3].set()
    with pytest.raises(SecretUnavailableError):
        await read


async def test_a_fetch_that_fails_late_gives_way_to_a_newer_value(clock: ManualClock) -> None:
    """A fresh value in memory is better than the failure of an older fetch."""
    source = GatedSource({NAME: OLD})
    cache = new_cache(source, clock)
    source.fail(DOWN, times=1)
    failing = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(source.gates) == 1)
    refresh = asyncio.create_task(cache.refresh(NAME))
    await until(lambda: len(source.gates) == 2)
    source.gates[1].set()
    await refresh
    source.gates[0].set()

    assert await failing == OLD


async def test_refresh_raises_rather_than_return_what_is_stored(source: InMemorySource, clock: ManualClock) -> None:
    """Its caller wants a value that is newer than that."""
    cache = new_cache(source, clock)
    await cache.get_secret(NAME)
    source.fail(DOWN)
    clock.advance(100)

    with pytest.raises(SecretUnavailableError):
        await cache.refresh(NAME)
    assert cache.stats().stale_served == 0


async def test_a_prefetch_fetches_what_is_stale(source: InMemorySource, clock: ManualClock) -> None:
    """It is there to have fresh values ready, and raises if it can't."""
    cache = new_cache(source, clock, stale_while_revalidate=50)
    await cache.get_secret(NAME)
    source.rotate(NAME, NEW)
    clock.advance(100)
    await cache.prefetch(NAME)

    assert await cache.get_secret(NAME) == NEW
    assert cache.stats().stale_served == 0
    clock.advance(100)
    source.fail(DOWN)
    with pytest.raises(SecretErrorGroup):
        await cache.prefetch(NAME)


@pytest.mark.virtual_time
async def test_a_deadline_gives_the_stale_value(source: InMemorySource, clock: ManualClock) -> None:
    """Where there is one it is the answer in time; and the deadline isn't held against Secrets Manager."""
    cache = new_cache(source, clock)
    await cache.get_secret(NAME)
    clock.advance(100)
    source.pause()
    token = invocation_deadline.set(Deadline(1, asyncio.get_running_loop().time))
    assert await cache.get_secret(NAME) == OLD
    invocation_deadline.reset(token)
    source.rotate(NAME, NEW)
    source.resume()

    # The next reader waits, so no failure was recorded.
    assert await cache.get_secret(NAME) == NEW
    assert len(source.calls) == 2


# Retries while a stale value is served


async def test_the_first_reader_waits_and_others_join(source: InMemorySource, clock: ManualClock) -> None:
    """As long as no fetch has failed, the fetch is expected to bring a fresh value."""
    cache = new_cache(source, clock)
    await cache.get_secret(NAME)
    clock.advance(100)
    source.rotate(NAME, NEW)

    assert await asyncio.gather(*(cache.get_secret(NAME) for _ in range(5))) == [NEW] * 5
    assert len(source.calls) == 2


async def test_while_a_stale_value_is_served_retries_are_spaced(source: InMemorySource, clock: ManualClock) -> None:
    """Between 1 and 2 s at first, then doubling up to a minute; in between no call is made."""
    cache = new_cache(source, clock, stale_if_error=1e6)
    await cache.get_secret(NAME)
    source.fail(DOWN)
    clock.advance(100)
    calls, longest = 1, 2.0
    for _ in range(8):
        assert [await cache.get_secret(NAME) for _ in range(5)] == [OLD] * 5
        await idle(cache)
        calls += 1
        assert len(source.calls) == calls
        clock.advance(longest / 2 - 0.01)
        assert await cache.get_secret(NAME) == OLD
        await idle(cache)
        assert len(source.calls) == calls
        clock.advance(longest / 2 + 0.01)
        longest = min(60.0, longest * 2)

    source.recover()
    source.rotate(NAME, NEW)
    assert await cache.get_secret(NAME) == NEW
    # Started over: the next failure waits no longer than the first did.
    clock.advance(100)
    source.fail(DOWN)
    await cache.get_secret(NAME)
    clock.advance(2)
    await cache.get_secret(NAME)
    await idle(cache)
    assert len(source.calls) == calls + 3


@pytest.mark.parametrize("batch", [False, True])
async def test_soon_after_a_failure_no_reader_waits_for_the_retry(
    source: InMemorySource, clock: ManualClock, *, batch: bool
) -> None:
    """Within a minute of it the reader that starts the retry gets the stale value at once, as do all others."""
    cache = new_cache(source, clock, batch=batch)
    await cache.get_many(NAME, "other")
    source.fail(DOWN)
    clock.advance(100)
    await cache.get_many(NAME, "other")
    source.recover()
    source.rotate(NAME, NEW)
    source.pause()
    clock.advance(59)
    calls = len(source.calls), len(source.batches)

    for read in reads(cache):
        assert await read()
    assert await cache.get_secret(NAME) == OLD
    await until(lambda: (len(source.calls), len(source.batches)) != calls)
    assert len(observe.running(cache)) == 2
    source.resume()
    await idle(cache)

    assert await cache.get_secret(NAME) == NEW


async def test_a_minute_after_a_failure_the_reader_waits_for_its_retry(
    source: InMemorySource, clock: ManualClock
) -> None:
    """Secrets Manager has probably recovered, and the value may be long out of date."""
    cache = new_cache(source, clock)
    await cache.get_secret(NAME)
    source.fail(DOWN)
    clock.advance(100)
    await cache.get_secret(NAME)
    source.recover()
    source.rotate(NAME, NEW)

    clock.advance(60)

    assert await cache.get_secret(NAME) == NEW


async def test_readers_that_find_a_retry_running_do_not_wait(source: InMemorySource, clock: ManualClock) -> None:
    """However long ago the failure was: one reader waits for the retry, and the others get the stale value."""
    cache = new_cache(source, clock)
    await cache.get_secret(NAME)
    source.fail(DOWN)
    clock.advance(100)
    await cache.get_secret(NAME)
    source.recover()
    source.rotate(NAME, NEW)
    clock.advance(600)
    source.pause()
    first = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(source.calls) == 3)

    assert await cache.get_secret(NAME) == OLD
    assert (await cache.get_many(NAME))[NAME].secret_string == OLD
    source.resume()
    assert await first == NEW
    assert len(source.calls) == 3


async def test_past_stale_if_error_readers_wait_for_the_retry(source: InMemorySource, clock: ManualClock) -> None:
    """There is nothing to serve meanwhile."""
    cache = new_cache(source, clock, stale_if_error=50)
    await cache.get_secret(NAME)
    source.fail(DOWN)
    clock.advance(149)
    assert await cache.get_secret(NAME) == OLD
    source.recover()
    source.rotate(NAME, NEW)

    clock.advance(2)

    assert await cache.get_secret(NAME) == NEW


# Clocks


async def test_a_clock_set_back_before_the_start_leaves_nothing_to_serve(
    source: InMemorySource, clock: ManualClock
) -> None:
    """Expired by an unknown time: no stale-if-error, no stale-while-revalidate."""
    cache = new_cache(source, clock, stale_while_revalidate=1e6, stale_if_error=1e6)
    await cache.get_secret(NAME)
    clock.advance(-1)
    source.fail(DOWN)

    with pytest.raises(SecretUnavailableError):
        await cache.get_secret(NAME)
    clock.advance(1)
    assert await cache.get_secret(NAME) == OLD


async def test_a_freeze_counts_as_time(source: InMemorySource, clock: ManualClock) -> None:
    """A value that was requested before a freeze and came after it is as old as its request."""
    cache = new_cache(source, clock, fetch_timeout=1e6)
    source.pause()
    caller = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)
    clock.advance(100)
    source.resume()
    assert await caller == OLD
    source.rotate(NAME, NEW)

    assert await cache.get_secret(NAME) == NEW


async def test_a_clock_set_back_ends_a_back_off_and_a_hold(source: InMemorySource, clock: ManualClock) -> None:
    """They don't last until it has caught up."""
    cache = new_cache(source, clock)
    source.fail(THROTTLED, times=1)
    with pytest.raises(SecretThrottledError):
        await cache.get_secret(NAME)
    clock.advance(-3600)
    assert await cache.get_secret(NAME) == OLD

    clock.advance(150)
    source.fail(DOWN, times=1)
    assert await cache.get_secret(NAME) == OLD
    clock.advance(-10)
    source.rotate(NAME, NEW)
    assert await cache.get_secret(NAME) == NEW


# Ttls


async def test_secrets_may_have_ttls_of_their_own(source: InMemorySource, clock: ManualClock) -> None:
    """By name or by ARN, None being for ever; the others have the cache's."""
    arn = (await SecretCache(source).get("other")).arn
    cache = new_cache(source, clock, ttl_by_secret={NAME: 10, arn: None})
    source.rotate("third", "3")
    await cache.get_many(NAME, "other", "third")
    for seconds, fetched in ((10, [NAME]), (90, [NAME, "third"]), (1e9, [NAME, "third"])):
        source.calls.clear()
        clock.advance(seconds)
        await cache.get_many(NAME, "other", "third")
        assert [call.secret_id for call in source.calls] == fetched


async def test_a_ttl_by_name_holds_for_reads_by_arn(source: InMemorySource, clock: ManualClock) -> None:
    """Also for callers that use the ARN alone."""
    arn = (await SecretCache(source).get(NAME)).arn
    cache = new_cache(source, clock, ttl_by_secret={NAME: 10})
    await cache.get(arn)
    source.calls.clear()

    clock.advance(11)
    await cache.get(arn)

    assert len(source.calls) == 1
