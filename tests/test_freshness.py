"""Freshness: ttl, stale-while-revalidate, stale-if-error, back-off, and clocks that jump."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asecretcache import (
    ConfigurationError,
    SecretAccessDeniedError,
    SecretCache,
    SecretCacheError,
    SecretDecryptionError,
    SecretErrorGroup,
    SecretFormatError,
    SecretNotFoundError,
    SecretThrottledError,
    SecretUnavailableError,
)
from asecretcache._core.backoff import Backoff
from asecretcache._core.freshness import back_off
from asecretcache._core.timeouts import Deadline, invocation_deadline
from asecretcache.testing import InMemorySource, ManualClock
from turns import until

NAME, OLD, NEW = "prod/db", "old", "new"
DOWN = SecretUnavailableError("down")
THROTTLED = SecretThrottledError("slow down")


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({NAME: OLD, "other": "else"})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def make(source: InMemorySource, clock: ManualClock, **arguments: Any) -> SecretCache:
    """A cache whose values expire after 100 s sharp."""
    return SecretCache(source, clock=clock, ttl=100.0, jitter=0.0, **arguments)


async def gets(cache: SecretCache) -> list[Callable[[], Awaitable[object]]]:
    """The ways to read one secret."""
    return [
        lambda: cache.get_secret(NAME),
        lambda: cache.get(NAME),
        lambda: cache.get_many([NAME, "other"]),
        lambda: cache.get_as(NAME, str),
    ]


# Stale-while-revalidate


@pytest.mark.every_loop
async def test_an_expired_value_is_served_at_once_while_it_is_fetched_anew(
    source: InMemorySource, clock: ManualClock
) -> None:
    """However many ask meanwhile, one refresh; when it has landed, the new value is served."""
    cache = make(source, clock, stale_while_revalidate=50)
    await cache.get_secret(NAME)
    source.rotate(NAME, NEW)
    clock.advance(100)
    source.pause()

    assert [await cache.get_secret(NAME) for _ in range(10)] == [OLD] * 10
    assert set(await asyncio.gather(*(cache.get_secret(NAME) for _ in range(10)))) == {OLD}
    assert (await cache.get_many([NAME]))[NAME].secret_string == OLD
    await until(lambda: len(source.calls) == 2)
    source.resume()
    await until(lambda: not cache._flights._all())

    assert await cache.get_secret(NAME) == NEW
    assert len(source.calls) == 2


async def test_past_its_window_a_reader_waits_for_the_fetch(source: InMemorySource, clock: ManualClock) -> None:
    """The window begins at the expiry and is the given seconds long."""
    cache = make(source, clock, stale_while_revalidate=50)
    await cache.get_secret(NAME)
    source.rotate(NAME, NEW)

    clock.advance(149.9)
    assert await cache.get_secret(NAME) == OLD
    cache.invalidate("other")
    clock.advance(0.1)
    assert await cache.get_secret(NAME) == NEW


async def test_the_refreshes_of_many_come_in_batches(source: InMemorySource, clock: ManualClock) -> None:
    """In the background too."""
    cache = make(source, clock, stale_while_revalidate=50, batch=True)
    await cache.get_many([NAME, "other"])
    clock.advance(100)

    await cache.get_many([NAME, "other"])
    await until(lambda: not cache._flights._all())

    assert source.batches == [(NAME, "other")] * 2
    assert not source.calls


async def test_a_background_refresh_survives_a_reader_that_joined_it_and_left(
    source: InMemorySource, clock: ManualClock
) -> None:
    """It belongs to nobody in particular."""
    cache = make(source, clock, stale_while_revalidate=50)
    await cache.get_secret(NAME)
    source.rotate(NAME, NEW)
    clock.advance(100)
    source.pause()
    await cache.get_secret(NAME)
    clock.advance(50 - 45)
    cache._store.drop(NAME)
    reader = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(source.calls) == 2)
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.wait([reader])
    source.resume()
    await until(lambda: not cache._flights._all())

    assert await cache.get_secret(NAME) == NEW
    assert len(source.calls) == 2


async def test_a_refresh_that_fails_is_spaced_by_the_back_off(source: InMemorySource, clock: ManualClock) -> None:
    """Though each read within the window asks for one."""
    cache = make(source, clock, stale_while_revalidate=1000, stale_if_error=0)
    await cache.get_secret(NAME)
    source.fail(DOWN)
    clock.advance(100)
    for seconds, calls in ((0, 2), (0.5, 2), (1.5, 3), (1, 3), (3, 4)):
        clock.advance(seconds)
        assert await cache.get_secret(NAME) == OLD
        await until(lambda: not cache._flights._all())
        assert len(source.calls) == calls


async def test_a_source_that_reads_its_own_stale_secret_is_no_circle(clock: ManualClock) -> None:
    """The value that it is to replace is in memory, and is served."""

    class Own(InMemorySource):
        async def fetch(self, request: Any) -> Any:
            if self.calls:
                assert await cache.get_secret(NAME) == OLD
            return await super().fetch(request)

    source = Own({NAME: OLD})
    cache = make(source, clock, stale_while_revalidate=50)
    await cache.get_secret(NAME)
    source.rotate(NAME, NEW)
    clock.advance(100)
    await cache.get_secret(NAME)
    await until(lambda: not cache._flights._all())

    assert await cache.get_secret(NAME) == NEW


# Stale-if-error


@pytest.mark.parametrize("error", [DOWN, THROTTLED])
async def test_a_stale_value_is_served_on_a_transient_failure(
    source: InMemorySource, clock: ManualClock, error: SecretCacheError
) -> None:
    """By every method that reads, and up to the bound, not beyond."""
    cache = make(source, clock, stale_if_error=1000)
    await cache.get_many([NAME, "other"])
    source.fail(error)
    clock.advance(1099)
    for get in await gets(cache):
        assert await get()
    assert await cache.get_secret(NAME) == OLD

    clock.advance(1)
    with pytest.raises(type(error)):
        await cache.get_secret(NAME)
    with pytest.raises(SecretErrorGroup):
        await cache.get_many([NAME, "other"])


@pytest.mark.parametrize(
    "error",
    [
        SecretAccessDeniedError("no"),
        SecretNotFoundError("gone"),
        SecretDecryptionError("no key"),
        ConfigurationError("expired token"),
        SecretFormatError("what?"),
        SecretCacheError("new"),
    ],
)
async def test_no_stale_value_is_served_on_any_other_failure(
    source: InMemorySource, clock: ManualClock, error: SecretCacheError
) -> None:
    """What may not be had, or isn't there any more, isn't served from memory either."""
    cache = make(source, clock)
    await cache.get_secret(NAME)
    source.fail(error)
    clock.advance(100)

    for _ in range(2):
        with pytest.raises(type(error)):
            await cache.get_secret(NAME)
    assert len(source.calls) == 3


@pytest.mark.parametrize("error", [SecretAccessDeniedError("no"), SecretNotFoundError("x"), SecretDecryptionError("x")])
async def test_a_value_that_was_refused_is_never_stale_again(
    source: InMemorySource, clock: ManualClock, error: SecretCacheError
) -> None:
    """Not when Secrets Manager is down afterwards, nor while it is fetched anew; a new fetch makes it good."""
    cache = make(source, clock, stale_while_revalidate=1000)
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


async def test_a_refusal_that_came_before_the_value_revokes_nothing(source: InMemorySource, clock: ManualClock) -> None:
    """The order is that of the starts."""
    cache = make(source, clock)
    source.pause()
    refused = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)
    gate = source._waiting.pop()
    refresh = asyncio.create_task(cache.refresh(NAME))
    await until(lambda: len(source.calls) == 2)
    source.resume()
    await refresh
    source.fail(SecretAccessDeniedError("no"), times=1)
    gate.set_result(None)
    with pytest.raises(SecretAccessDeniedError):
        await refused

    clock.advance(100)
    source.fail(DOWN)
    assert await cache.get_secret(NAME) == OLD


async def test_refresh_raises_rather_than_serve_what_is_stored(source: InMemorySource, clock: ManualClock) -> None:
    """Its caller wants a value that is newer than that."""
    cache = make(source, clock)
    await cache.get_secret(NAME)
    source.fail(DOWN)
    clock.advance(100)

    with pytest.raises(SecretUnavailableError):
        await cache.refresh(NAME)


async def test_a_deadline_gives_the_stale_value(source: InMemorySource, clock: ManualClock) -> None:
    """Where there is one it is the answer in time; and it isn't held against Secrets Manager."""
    cache = make(source, clock)
    await cache.get_secret(NAME)
    clock.advance(100)
    source.pause()
    token = invocation_deadline.set(Deadline(asyncio.get_running_loop().time()))
    assert await cache.get_secret(NAME) == OLD
    invocation_deadline.reset(token)
    assert not cache._reader.backoff._failures
    source.rotate(NAME, NEW)
    source.resume()

    assert await cache.get_secret(NAME) == NEW
    assert len(source.calls) == 2


# Back-off


async def test_while_a_stale_value_is_served_retries_are_spaced(source: InMemorySource, clock: ManualClock) -> None:
    """Between 1 and 2 s at first, then doubling; in between no call is made."""
    cache = make(source, clock, stale_if_error=1e6)
    await cache.get_secret(NAME)
    source.fail(DOWN)
    clock.advance(100)
    calls, longest = 1, 2.0
    for _ in range(8):
        assert [await cache.get_secret(NAME) for _ in range(5)] == [OLD] * 5
        calls += 1
        assert len(source.calls) == calls
        clock.advance(longest / 2 - 0.01)
        assert await cache.get_secret(NAME) == OLD
        assert len(source.calls) == calls
        clock.advance(longest / 2 + 0.01)
        longest = min(60.0, longest * 2)

    source.recover()
    source.rotate(NAME, NEW)
    assert await cache.get_secret(NAME) == NEW
    # Begun anew: the next failure waits no longer than the first did.
    clock.advance(100)
    source.fail(DOWN)
    await cache.get_secret(NAME)
    clock.advance(2)
    source.recover()
    source.rotate(NAME, "newest")
    assert await cache.get_secret(NAME) == "newest"


def test_the_back_off_doubles_to_a_minute_with_chance_in_it() -> None:
    """The source of the chance isn't one whose state the clones of a snapshot share."""
    for failures, longest in ((1, 2), (2, 4), (3, 8), (5, 32), (6, 60), (7, 60), (1000, 60)):
        drawn = [back_off(failures) for _ in range(50)]
        assert all(longest / 2 <= seconds <= longest for seconds in drawn)
        assert len(set(drawn)) > 40


async def test_a_key_with_nothing_stored_may_be_tried_by_each_call(source: InMemorySource, clock: ManualClock) -> None:
    """There is nothing to serve meanwhile."""
    cache = make(source, clock)
    source.fail(DOWN)
    for calls in (1, 2, 3):
        with pytest.raises(SecretUnavailableError):
            await cache.get_secret(NAME)
        assert len(source.calls) == calls


async def test_a_throttled_answer_is_held_for_a_second(source: InMemorySource, clock: ManualClock) -> None:
    """Each caller has an instance of its own; after the second, or by refresh, it is tried again."""
    cache = make(source, clock)
    source.fail(THROTTLED)
    errors = []
    for _ in range(3):
        with pytest.raises(SecretThrottledError) as caught:
            await cache.get_secret(NAME)
        errors.append(caught.value)
    with pytest.raises(SecretErrorGroup):
        await cache.get_many([NAME])
    assert len({id(error) for error in errors}) == 3
    assert len(source.calls) == 1

    with pytest.raises(SecretThrottledError):
        await cache.refresh(NAME)
    assert len(source.calls) == 2

    clock.advance(1)
    source.recover()
    assert await cache.get_secret(NAME) == OLD


async def test_a_throttled_answer_that_is_held_gives_way_to_a_stale_value(
    source: InMemorySource, clock: ManualClock
) -> None:
    """A refresh was throttled while the value was fresh, and within the second it has expired."""
    cache = make(source, clock)
    await cache.get_secret(NAME)
    source.fail(THROTTLED)
    clock.advance(99.5)
    with pytest.raises(SecretThrottledError):
        await cache.refresh(NAME)
    clock.advance(0.7)

    assert await cache.get_secret(NAME) == OLD
    assert cache.stats().stale_served == 1
    with pytest.raises(SecretErrorGroup):
        await cache.prefetch(NAME)
    assert len(source.calls) == 2


async def test_a_clock_set_back_ends_a_back_off_and_a_hold(source: InMemorySource, clock: ManualClock) -> None:
    """They don't last until it has caught up."""
    cache = make(source, clock)
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


async def test_prefetches_and_cancellations_arm_nothing(source: InMemorySource, clock: ManualClock) -> None:
    """What nobody asked for, or nobody waited for, leaves no trace."""
    cache = make(source, clock)
    source.fail(THROTTLED, times=1)
    with pytest.raises(SecretErrorGroup):
        await cache.prefetch(NAME)
    assert await cache.get_secret(NAME) == OLD

    clock.advance(100)
    source.pause()
    caller = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(source.calls) == 3)
    caller.cancel()
    await asyncio.wait([caller])
    assert not cache._reader.backoff._failures
    source.resume()


async def test_a_prefetch_that_a_reader_joined_counts(source: InMemorySource, clock: ManualClock) -> None:
    """Then somebody asked."""
    cache = make(source, clock)
    source.fail(THROTTLED)
    source.pause()
    prefetch = asyncio.create_task(cache.prefetch(NAME))
    await until(lambda: source.calls)
    reader = asyncio.create_task(cache.get_secret(NAME))
    await asyncio.sleep(0)
    source.resume()
    await asyncio.wait([prefetch, reader])
    assert isinstance(prefetch.exception(), SecretErrorGroup)
    assert isinstance(reader.exception(), SecretThrottledError)

    with pytest.raises(SecretThrottledError):
        await cache.get_secret(NAME)
    assert len(source.calls) == 1


async def test_a_prefetch_fetches_what_is_stale(source: InMemorySource, clock: ManualClock) -> None:
    """It is there to have fresh values ready."""
    cache = make(source, clock, stale_while_revalidate=50)
    await cache.get_secret(NAME)
    source.rotate(NAME, NEW)
    clock.advance(100)
    await cache.prefetch(NAME)

    assert cache.peek(NAME)
    assert await cache.get_secret(NAME) == NEW
    assert cache.stats().stale_served == 0


@pytest.mark.parametrize("forget", ["invalidate", "clear"])
async def test_forgetting_a_secret_forgets_its_back_off(
    source: InMemorySource, clock: ManualClock, forget: str
) -> None:
    """Who invalidates wants a fetch."""
    cache = make(source, clock)
    source.fail(THROTTLED, times=2)
    for stage in (None, "AWSCURRENT"):
        with pytest.raises(SecretThrottledError):
            await cache.get_secret(NAME, version_stage=stage)
    with pytest.raises(SecretThrottledError):
        await cache.get_secret(NAME, version_stage="AWSPREVIOUS")
    cache.invalidate("other")
    assert len(cache._reader.backoff._failures) == 2

    if forget == "invalidate":
        cache.invalidate(NAME)
    else:
        cache.clear()
    assert not cache._reader.backoff._failures
    assert await cache.get_secret(NAME) == OLD


def test_what_is_remembered_of_failures_is_bounded() -> None:
    """The oldest are forgotten."""
    backoff = Backoff(2)
    for number in range(5):
        backoff.note(number, THROTTLED, 0.0, is_stale_served=False)

    assert list(backoff._failures) == [3, 4]


# Ttls


async def test_secrets_may_have_ttls_of_their_own(source: InMemorySource, clock: ManualClock) -> None:
    """By name or by ARN, None being for ever; the others have the cache's."""
    arn = (await SecretCache(source).get("other")).arn
    cache = make(source, clock, ttl_by_secret={NAME: 10, arn: None})
    source.rotate("third", "3")
    await cache.get_many([NAME, "other", "third"])
    for seconds, fetched in ((10, [NAME]), (90, [NAME, "third"]), (1e9, [NAME, "third"])):
        source.calls.clear()
        clock.advance(seconds)
        await cache.get_many([NAME, "other", "third"])
        assert [call.secret_id for call in source.calls] == fetched


async def test_a_ttl_by_name_is_that_of_its_arn_too(source: InMemorySource, clock: ManualClock) -> None:
    """Also for who asks by the ARN alone."""
    arn = (await SecretCache(source).get(NAME)).arn
    cache = make(source, clock, ttl_by_secret={NAME: 10})
    await cache.get(arn)
    source.calls.clear()

    clock.advance(11)
    await cache.get(arn)

    assert len(source.calls) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"ttl_by_secret": [("a", 1)]}, "ttl_by_secret maps"),
        ({"ttl_by_secret": {"a": -1}}, "the ttl of 'a'"),
        ({"ttl_by_secret": {"a:b": 1}}, "colon"),
        ({"stale_while_revalidate": -1}, "stale_while_revalidate"),
        ({"stale_while_revalidate": None}, "stale_while_revalidate"),
        ({"stale_if_error": float("inf")}, "stale_if_error"),
    ],
)
def test_a_bad_freshness_argument_is_refused_at_construction(arguments: dict[str, Any], says: str) -> None:
    """Not when a value has expired."""
    with pytest.raises(ConfigurationError, match=says):
        SecretCache(InMemorySource(), **arguments)


# Clocks


async def test_a_clock_set_back_before_the_birth_leaves_nothing_to_serve(
    source: InMemorySource, clock: ManualClock
) -> None:
    """Expired by an unknown time: no stale-if-error, no stale-while-revalidate."""
    cache = make(source, clock, stale_while_revalidate=1e6, stale_if_error=1e6)
    await cache.get_secret(NAME)
    clock.advance(-1)
    source.fail(DOWN)

    with pytest.raises(SecretUnavailableError):
        await cache.get_secret(NAME)
    clock.advance(1)
    assert await cache.get_secret(NAME) == OLD


async def test_a_freeze_counts_as_time(source: InMemorySource, clock: ManualClock) -> None:
    """A value that was asked for before a freeze and came after it is as old as its request."""
    cache = make(source, clock, fetch_timeout=1e6)
    source.pause()
    caller = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)
    clock.advance(100)
    source.resume()
    assert await caller == OLD
    source.rotate(NAME, NEW)

    assert await cache.get_secret(NAME) == NEW


# What is logged


@pytest.mark.parametrize("error", [DOWN, THROTTLED])
async def test_a_failure_that_a_stale_value_hides_is_logged_once_a_fetch(
    source: InMemorySource, clock: ManualClock, caplog: pytest.LogCaptureFixture, error: SecretCacheError
) -> None:
    """However many are served the stale value: nobody raises, so the log has to tell."""
    cache = make(source, clock)
    await cache.get_secret(NAME)
    clock.advance(100)
    source.fail(error)
    await asyncio.gather(*(cache.get_secret(NAME) for _ in range(100)))
    await cache.get_secret(NAME)

    assert [(record.name, record.levelname) for record in caplog.records] == [("asecretcache", "WARNING")]
    assert caplog.messages == [f"{error}; a stale value is served meanwhile"]


async def test_a_background_refresh_that_is_refused_is_logged_and_ends_the_stale_value(
    source: InMemorySource, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its readers have been served before it was known."""
    cache = make(source, clock, stale_while_revalidate=1000)
    await cache.get_secret(NAME)
    clock.advance(100)
    source.fail(SecretAccessDeniedError("secret 'prod/db': no"))
    assert await cache.get_secret(NAME) == OLD
    await until(lambda: not cache._flights._all())
    with pytest.raises(SecretAccessDeniedError):
        await cache.get_secret(NAME)

    assert caplog.messages == ["secret 'prod/db': no; the value in memory isn't served beyond its ttl"]


async def test_a_background_refresh_that_isnt_configured_is_spaced_too(
    source: InMemorySource, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Within its window the value is served; past it, stale-if-error isn't for such failures."""
    cache = make(source, clock, stale_while_revalidate=10)
    await cache.get_secret(NAME)
    clock.advance(109)
    source.fail(ConfigurationError("expired token"))
    for _ in range(5):
        assert await cache.get_secret(NAME) == OLD
        await until(lambda: not cache._flights._all())
    assert len(source.calls) == 2
    assert caplog.messages == ["expired token; a stale value is served meanwhile"]

    clock.advance(1)
    with pytest.raises(ConfigurationError):
        await cache.get_secret(NAME)


async def test_a_failure_that_is_raised_is_not_logged(
    source: InMemorySource, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever catches it decides what to make of it."""
    cache = make(source, clock)
    source.fail(DOWN)
    with pytest.raises(SecretUnavailableError):
        await cache.get_secret(NAME)
    await SecretCache(InMemorySource({NAME: OLD})).get_secret(NAME)

    assert not caplog.records


async def test_a_fetch_that_fails_late_serves_what_has_come_meanwhile(
    source: InMemorySource, clock: ManualClock
) -> None:
    """A fresh value in memory is better than an old failure."""
    cache = make(source, clock)
    source.pause()
    failing = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)
    gate = source._waiting.pop()
    refresh = asyncio.create_task(cache.refresh(NAME))
    await until(lambda: len(source.calls) == 2)
    source.resume()
    await refresh
    source.fail(DOWN, times=1)
    gate.set_result(None)

    assert await failing == OLD


async def test_a_fetch_from_before_a_refusal_isnt_stored(source: InMemorySource, clock: ManualClock) -> None:
    """What was said last, in the order of the starts, is that the secret is gone."""
    cache = make(source, clock)
    await cache.get_secret(NAME)
    clock.advance(100)
    source.pause()
    before = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(source.calls) == 2)
    gate = source._waiting.pop()
    source._paused = False
    source.fail(SecretNotFoundError("deleted"))
    with pytest.raises(SecretNotFoundError):
        await cache.refresh(NAME)
    source.recover()
    gate.set_result(None)
    assert await before == OLD

    source.fail(DOWN)
    with pytest.raises(SecretUnavailableError):
        await cache.get_secret(NAME)
