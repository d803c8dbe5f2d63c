"""Callers that are cancelled, and fetches that are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import observe
from asecretcache import CacheClosedError, Secret, SecretCache, SecretRequest, SecretUnavailableError
from asecretcache._core.fetch import Fetch, FetchReason
from asecretcache._core.observer import FetchObserver
from asecretcache._core.timeouts import Deadline, invocation_deadline
from asecretcache.testing import InMemorySource
from turns import until

NAME, VALUE = "prod/db", "hunter2"
METHODS = ["get_secret", "get", "get_many"]


def value(result: Any) -> str | None:
    """The text in what any of the methods returns."""
    if isinstance(result, dict):
        (result,) = result.values()
    return result.secret_string if isinstance(result, Secret) else result


class Ending(FetchObserver):
    """Calls a function when a fetch ends, before its waiters wake."""

    def __init__(self, on_end: Callable[[], object]) -> None:
        self.on_end = on_end

    def ended(self, fetch: Fetch) -> None:
        self.on_end()


# Callers


@pytest.mark.every_loop
@pytest.mark.parametrize("method", METHODS)
async def test_cancelling_the_first_caller_harms_no_other(
    cache: SecretCache, source: InMemorySource, method: str
) -> None:
    """The fetch belongs to all its waiters, not to the first one."""
    source.pause()
    first, second = (asyncio.create_task(getattr(cache, method)(NAME)) for _ in range(2))
    await until(lambda: source.calls)

    first.cancel()
    await asyncio.wait([first])
    source.resume()

    assert value(await second) == VALUE
    assert first.cancelled()
    assert len(source.calls) == 1
    assert cache.stats().coalesced == 1


@pytest.mark.every_loop
@pytest.mark.parametrize("method", METHODS)
async def test_cancelling_a_later_caller_harms_no_other(
    cache: SecretCache, source: InMemorySource, method: str
) -> None:
    """A caller that joined leaves as the first one does."""
    source.pause()
    first = asyncio.create_task(getattr(cache, method)(NAME))
    await until(lambda: source.calls)
    second = asyncio.create_task(getattr(cache, method)(NAME))
    await asyncio.sleep(0)

    second.cancel()
    await asyncio.wait([second])
    source.resume()

    assert value(await first) == VALUE
    assert second.cancelled()
    assert len(source.calls) == 1


@pytest.mark.every_loop
@pytest.mark.parametrize("method", METHODS)
async def test_cancelling_all_callers_cancels_the_fetch(
    cache: SecretCache, source: InMemorySource, method: str
) -> None:
    """Nothing waits for it any more, so the next caller starts afresh and doesn't join it."""
    source.pause()
    callers = [asyncio.create_task(getattr(cache, method)(NAME)) for _ in range(3)]
    await until(lambda: source.calls)

    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    source.resume()

    assert value(await getattr(cache, method)(NAME)) == VALUE
    assert len(source.calls) == 2


@pytest.mark.every_loop
async def test_a_caller_cancelled_before_the_fetch_began_leaves_nothing(cache: SecretCache) -> None:
    """Cancellation in the very iteration in which the fetch starts makes no call and hangs no other caller."""
    caller = asyncio.create_task(cache.get_secret(NAME))
    asyncio.get_running_loop().call_soon(caller.cancel)
    await asyncio.wait([caller])

    assert caller.cancelled()
    assert await cache.get_secret(NAME) == VALUE
    assert not observe.running(cache)


async def test_a_caller_cancelled_as_its_value_arrives_is_cancelled(cache: SecretCache, source: InMemorySource) -> None:
    """Its cancellation isn't lost, and the value is stored all the same."""
    caller = asyncio.create_task(cache.get_secret(NAME))
    observe.watch(cache, Ending(caller.cancel))

    await asyncio.wait([caller])

    assert caller.cancelled()
    assert cache.peek(NAME)
    assert len(source.calls) == 1


async def test_a_fetch_that_is_being_cancelled_is_not_joined(cache: SecretCache, source: InMemorySource) -> None:
    """A caller that comes before the cancelled task has ended starts another fetch and needs no retry."""
    source.pause()
    callers = [asyncio.create_task(cache.get(NAME))]
    await until(lambda: source.calls)
    (fetch,) = observe.running(cache)
    fetch.task.cancel()
    source.resume()

    assert await cache.get_secret(NAME) == VALUE
    assert await asyncio.gather(*callers) == [cache.peek(NAME)]
    assert len(source.calls) == 2


# Fetches


@pytest.mark.every_loop
@pytest.mark.parametrize("method", METHODS)
async def test_a_fetch_cancelled_by_a_third_party_is_retried_once(
    cache: SecretCache, source: InMemorySource, method: str
) -> None:
    """The cancellation of the fetch's task is not that of its waiters: they come back for another fetch."""
    source.pause()
    callers = [asyncio.create_task(getattr(cache, method)(NAME)) for _ in range(2)]
    await until(lambda: source.calls)

    observe.running(cache)[0].task.task.cancel()
    source.resume()

    assert [value(result) for result in await asyncio.gather(*callers)] == [VALUE] * 2
    assert len(source.calls) == 2
    assert cache.stats() == cache.stats()._replace(misses=2, coalesced=1, get_calls=2, errors=0)


@pytest.mark.parametrize("method", METHODS)
async def test_a_fetch_cancelled_twice_by_a_third_party_is_an_error(
    cache: SecretCache, source: InMemorySource, method: str
) -> None:
    """A second cancellation from outside is told, not retried for ever."""
    source.pause()
    caller = asyncio.create_task(getattr(cache, method)(NAME))
    for calls in (1, 2):
        await until(lambda: len(source.calls) == calls)  # noqa: B023 - it is called in this very iteration
        observe.running(cache)[0].task.task.cancel()

    with pytest.RaisesExc(Exception, match="the fetch of secret 'prod/db' was cancelled from outside, twice"):
        await caller
    assert isinstance(caller.exception(), SecretUnavailableError if method != "get_many" else ExceptionGroup)
    assert len(source.calls) == 2


async def test_a_refresh_that_is_cancelled_from_outside_fetches_again(
    cache: SecretCache, source: InMemorySource
) -> None:
    """It returns no value from memory, however fresh."""
    await cache.get(NAME)
    new = source.rotate(NAME, "new")
    source.pause()
    refresh = asyncio.create_task(cache.refresh(NAME))
    await until(lambda: len(source.calls) == 2)
    observe.running(cache)[0].task.task.cancel()
    await until(lambda: len(source.calls) == 3)
    source.resume()

    assert await refresh == new


async def test_a_retry_looks_into_memory_first(cache: SecretCache, source: InMemorySource) -> None:
    """Another fetch may have stored the value meanwhile; that is no hit, because the read was counted as a miss."""
    source.pause()
    callers = [asyncio.create_task(cache.get(NAME)), asyncio.create_task(cache.get_many(NAME))]
    await until(lambda: source.calls)
    refresh = asyncio.create_task(cache.refresh(NAME))
    await until(lambda: len(source.calls) == 2)
    cancelled, _ = observe.running(cache)
    observe.watch(cache, Ending(cancelled.task.task.cancel))
    source.resume()
    cancelled.task.task.cancel()

    secret = await refresh
    assert await callers[0] is secret
    assert await callers[1] == {NAME: secret}
    assert len(source.calls) == 2
    assert cache.stats().hits == 0


@pytest.mark.every_loop
async def test_an_anyio_scope_cancels_only_its_own_wait(cache: SecretCache, source: InMemorySource) -> None:
    """A cancelled scope ends one caller's wait; a task group's other tasks get the value of the same fetch."""
    source.pause()
    values: list[str] = []

    async def wait() -> None:
        values.append(await cache.get_secret(NAME))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        with anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_later(0, scope.cancel)
            await cache.get_secret(NAME)
        source.resume()

    assert scope.cancelled_caught
    assert values == [VALUE]
    assert len(source.calls) == 1


@pytest.mark.virtual_time
async def test_an_anyio_scope_that_runs_out_ends_the_wait(cache: SecretCache, source: InMemorySource) -> None:
    """move_on_after works as with any coroutine, and the fetch that it leaves is cancelled."""
    source.pause()
    with anyio.move_on_after(3) as scope:
        await cache.get_secret(NAME)
    await until(lambda: not observe.running(cache))

    assert scope.cancelled_caught
    assert asyncio.get_running_loop().time() == pytest.approx(3)


async def test_a_cancelled_anyio_task_group_cancels_the_fetch(cache: SecretCache, source: InMemorySource) -> None:
    """When all callers of a group are cancelled the fetch is too, and the next caller starts afresh."""
    source.pause()
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(cache.get_secret, NAME)
        await until(lambda: source.calls)
        group.cancel_scope.cancel()
    source.resume()

    assert await cache.get_secret(NAME) == VALUE
    assert len(source.calls) == 2


# Draining


@pytest.mark.virtual_time
async def test_unwaited_fetches_are_drained_and_then_cancelled(cache: SecretCache, source: InMemorySource) -> None:
    """Fetches that an invocation leaves behind get a moment to end; those with waiters are left alone."""
    source.pause()
    token = invocation_deadline.set(Deadline(0, asyncio.get_running_loop().time))
    with pytest.raises(SecretUnavailableError):
        await cache.get_secret(NAME)
    invocation_deadline.reset(token)
    waiting = asyncio.create_task(cache.get_secret("other"))
    await until(lambda: len(source.calls) == 2)

    await observe.loader(cache).single_flight.drain(0.5)

    assert asyncio.get_running_loop().time() == pytest.approx(0.5)
    assert [fetch.request.secret_id for fetch in observe.running(cache)] == ["other"]
    source.resume()
    assert await waiting == "else"
    assert cache.peek(NAME) is None


@pytest.mark.virtual_time
async def test_draining_ends_as_soon_as_the_fetches_have_ended(cache: SecretCache, source: InMemorySource) -> None:
    """Their values are stored; with nothing to drain it returns at once."""
    single_flight = observe.loader(cache).single_flight
    source.pause()
    single_flight.join_or_start(SecretRequest(NAME), FetchReason.READ)
    asyncio.get_running_loop().call_later(0.2, source.resume)

    await single_flight.drain(0.5)
    await single_flight.drain(0.5)

    assert asyncio.get_running_loop().time() == pytest.approx(0.2)
    assert cache.peek(NAME)


async def test_a_drained_fetch_is_joined_by_no_caller(cache: SecretCache, source: InMemorySource) -> None:
    """A caller that comes as it is being cancelled starts another fetch, and keeps its retry."""
    single_flight = observe.loader(cache).single_flight
    source.pause()
    drained = single_flight.join_or_start(SecretRequest(NAME), FetchReason.READ)
    await until(lambda: source.calls)
    draining = asyncio.create_task(single_flight.drain(0.0))
    await until(lambda: drained.task.is_cancelled)
    source.resume()

    assert await cache.get_secret(NAME) == VALUE
    await draining


@pytest.mark.virtual_time
async def test_a_fetch_that_found_a_waiter_meanwhile_is_not_drained(cache: SecretCache, source: InMemorySource) -> None:
    """A task that outlives its invocation may come to wait for it while it is given time to end."""
    single_flight = observe.loader(cache).single_flight
    source.pause()
    single_flight.join_or_start(SecretRequest(NAME), FetchReason.READ)
    await until(lambda: source.calls)
    draining = asyncio.create_task(single_flight.drain(0.5))
    await asyncio.sleep(0.2)
    caller = asyncio.create_task(cache.get(NAME))
    await draining
    source.resume()

    assert await caller is cache.peek(NAME)
    assert len(source.calls) == 1


# Closing


async def test_closing_ends_the_running_fetches(cache: SecretCache, source: InMemorySource) -> None:
    """Their waiters are told that the cache is closed, by whichever way they wait, and nothing is stored."""
    source.pause()
    callers = [asyncio.create_task(getattr(cache, method)(NAME)) for method in (*METHODS, "refresh", "prefetch")]
    await until(lambda: source.calls)
    await cache.aclose()

    errors = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(error) for error in errors] == [CacheClosedError] * len(callers)
    assert len(observe.loader(cache).store.entries) == 0


async def test_closing_stores_no_result_that_comes_in_spite_of_it() -> None:
    """Not even from a source that ignores its cancellation."""

    class Stubborn(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            self.calls.append(request)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return Secret(name=NAME, arn="arn", version_id="v", secret_string=VALUE)

    source = Stubborn()
    cache = SecretCache(source)
    caller = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)
    await cache.aclose()

    assert await caller == VALUE
    assert len(observe.loader(cache).store.entries) == 0


async def test_a_fetch_that_ends_after_the_closing_stores_nothing(cache: SecretCache) -> None:
    """Another thread may have passed the check just before."""
    loader = observe.loader(cache)
    fetch = loader.single_flight.join_or_start(SecretRequest(NAME), FetchReason.READ)
    loader.is_closed = True
    await until(lambda: fetch.is_done)

    assert fetch.secret
    assert len(loader.store.entries) == 0
