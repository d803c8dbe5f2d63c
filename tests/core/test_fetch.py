"""One fetch and its task: in which context it runs, what it makes of a source's result, how its waiters wait."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import traceback

import pytest

import observe
from asecretcache import (
    Secret,
    SecretAccessDeniedError,
    SecretCache,
    SecretErrorGroup,
    SecretFormatError,
    SecretRequest,
    SecretUnavailableError,
)
from asecretcache._core.fetch import Fetch
from asecretcache._core.timeouts import Deadline, invocation_deadline
from asecretcache.testing import InMemorySource, ManualClock
from turns import until

NAME, VALUE = "prod/db", "hunter2"


class RaisingSource(InMemorySource):
    """Raises, once for each fetch, what the test gives it."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    async def fetch(self, request: SecretRequest) -> Secret:
        raise self.error


class ReentrantSource(InMemorySource):
    """Reads another secret through its own cache while it fetches one."""

    cache: SecretCache
    needs: dict[str, str]

    async def fetch(self, request: SecretRequest) -> Secret:
        secret = await super().fetch(request)
        if request.secret_id in self.needs:
            await self.cache.get_secret(self.needs[request.secret_id])
        return secret


def reentrant_cache(**needs: str) -> SecretCache:
    source = ReentrantSource({"a": "1", "b": "2", "c": "3"})
    source.cache, source.needs = SecretCache(source), needs
    return source.cache


# Its context


@pytest.mark.every_loop
async def test_a_fetch_does_not_run_in_its_first_callers_context() -> None:
    """A caller's context variables stay its own, because others wait for the same fetch."""
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")
    seen: list[str] = []

    class Recording(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            seen.append(tenant.get())
            return await super().fetch(request)

    tenant.set("first")
    await SecretCache(Recording({NAME: VALUE})).get_secret(NAME)

    assert seen == ["none"]


async def test_the_task_of_a_fetch_names_its_secret(cache: SecretCache, source: InMemorySource) -> None:
    """A list of the loop's tasks shows what is fetched."""
    source.pause()
    caller = asyncio.create_task(cache.get(NAME))
    await until(lambda: source.calls)

    assert observe.running(cache)[0].task.task.get_name() == f"fetch secret {NAME!r}"
    source.resume()
    await caller


async def test_a_fetch_may_need_another_secret() -> None:
    """A source that reads its own credentials through the cache works."""
    assert await reentrant_cache(a="b", b="c").get_secret("a") == "1"


@pytest.mark.virtual_time
@pytest.mark.parametrize("needs", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "a"}])
async def test_a_fetch_that_needs_itself_ends_with_its_time_out(needs: dict[str, str]) -> None:
    """However long the circle is, it costs the time of one fetch and no more calls than secrets."""
    cache = reentrant_cache(**needs)

    with pytest.raises(SecretUnavailableError, match="took longer than 10 s"):
        await cache.get_secret("a")

    assert asyncio.get_running_loop().time() == pytest.approx(10)
    assert cache.stats().get_calls == len(needs)
    await until(lambda: not observe.running(cache))


@pytest.mark.virtual_time
async def test_two_fetches_that_need_each_other_end_with_their_time_out() -> None:
    """Also where the circle is closed by fetches that different callers started."""
    cache = reentrant_cache(a="b", b="a")

    results = await asyncio.gather(*map(cache.get_secret, "ab"), return_exceptions=True)

    assert [type(result) for result in results] == [SecretUnavailableError] * 2
    assert asyncio.get_running_loop().time() == pytest.approx(10)


async def test_a_task_that_a_fetch_left_running_may_use_the_cache() -> None:
    """Once its fetch has ended, a task that it started is a caller as any other."""
    tasks: list[asyncio.Task[str]] = []
    gate = asyncio.Event()

    class Leaving(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            if not tasks:
                tasks.append(asyncio.create_task(read_later()))
            return await super().fetch(request)

    async def read_later() -> str:
        await gate.wait()
        return await cache.get_secret(NAME)

    cache = SecretCache(Leaving({NAME: VALUE}), ttl=0)
    await cache.get_secret(NAME)
    gate.set()

    assert await tasks[0] == VALUE


# What the source returns or raises


async def test_a_foreign_exception_is_told_by_type_and_place_alone() -> None:
    """An exception of a source may hold the value, so neither it nor its text is shown."""
    cache = SecretCache(RaisingSource(ValueError(VALUE)))

    with pytest.raises(SecretUnavailableError, match=r"raised ValueError at .*test_fetch\.py:\d+$") as caught:
        await cache.get_secret(NAME)

    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert caught.value.secret_id == NAME
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert VALUE not in str(caught.value)
    assert VALUE not in shown


async def test_a_source_that_returns_no_secret_is_told() -> None:
    """A source's mistake is an error that says what type it returned, and isn't stored."""

    class Broken(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            return VALUE  # type: ignore[return-value]  # the mistake

    cache = SecretCache(Broken())
    with pytest.raises(SecretUnavailableError, match=f"{NAME!r} returned str instead of a Secret") as caught:
        await cache.get(NAME)

    assert VALUE not in str(caught.value)
    assert cache.peek(NAME) is None


@pytest.mark.virtual_time
async def test_a_hanging_fetch_ends_after_the_fetch_timeout(source: InMemorySource) -> None:
    """A fetch that takes longer than fetch_timeout is an error for its waiters."""
    source.pause()

    with pytest.raises(SecretUnavailableError, match=r"the fetch of secret 'prod/db' took longer than 2\.5 s"):
        await SecretCache(source, fetch_timeout=2.5).get_secret(NAME)

    assert asyncio.get_running_loop().time() == pytest.approx(2.5)


async def test_a_sources_own_time_out_is_not_taken_for_ours() -> None:
    """A TimeoutError that comes at once took no ten seconds."""
    with pytest.raises(SecretUnavailableError, match="raised TimeoutError at"):
        await SecretCache(RaisingSource(TimeoutError())).get(NAME)


async def test_a_group_that_a_source_raises_is_raised_by_each_waiter(
    cache: SecretCache, source: InMemorySource
) -> None:
    """A source that asks several others may fail in several ways."""
    source.fail(SecretErrorGroup("both", [SecretUnavailableError("a"), SecretAccessDeniedError("b")]))

    errors = await asyncio.gather(*(cache.get_secret(NAME) for _ in range(2)), return_exceptions=True)

    assert errors[0] is not errors[1]
    assert all(isinstance(error, SecretErrorGroup) and len(error.exceptions) == 2 for error in errors)


async def test_a_note_that_one_waiter_adds_is_its_own(cache: SecretCache, source: InMemorySource) -> None:
    """Notes are part of the instance."""
    error = SecretUnavailableError("down")
    error.add_note("the source's")
    source.fail(error)
    errors = await asyncio.gather(*(cache.get(NAME) for _ in range(2)), return_exceptions=True)

    errors[0].add_note("mine")  # type: ignore[union-attr]  # it is an error

    assert [getattr(each, "__notes__", None) for each in errors] == [["the source's", "mine"], ["the source's"]]


# Waiters


async def test_waiters_are_woken_in_the_order_in_which_they_came(cache: SecretCache) -> None:
    """No later waiter overtakes an earlier one."""
    woken: list[int] = []

    async def wait(number: int) -> None:
        await cache.get_secret(NAME)
        woken.append(number)

    await asyncio.gather(*map(wait, range(100)))

    assert woken == list(range(100))


@pytest.mark.virtual_time
async def test_a_deadline_ends_the_wait_and_not_the_fetch(cache: SecretCache, source: InMemorySource) -> None:
    """The caller is told while it has time to answer; the fetch goes on, and the next caller finds its value."""
    source.pause()
    deadline = Deadline(3, asyncio.get_running_loop().time)
    token = invocation_deadline.set(deadline)
    with pytest.raises(SecretUnavailableError, match=f"{NAME!r} didn't end before the invocation's deadline"):
        await cache.get_secret(NAME)
    invocation_deadline.reset(token)
    assert asyncio.get_running_loop().time() == pytest.approx(3)
    source.resume()

    assert await cache.get_secret(NAME) == VALUE
    assert len(source.calls) == 1


@pytest.mark.virtual_time
async def test_a_deadline_leaves_those_of_many_that_have_come() -> None:
    """Only the secrets that are still missing are errors."""

    class Slow(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            if request.secret_id == "slow":
                await asyncio.Event().wait()
            return await super().fetch(request)

    cache = SecretCache(Slow({NAME: VALUE}))
    invocation_deadline.set(Deadline(3, asyncio.get_running_loop().time))
    results = await cache.get_many(NAME, "slow", return_exceptions=True)

    assert isinstance(results[NAME], Secret)
    assert "deadline" in str(results["slow"])
    await cache.aclose()


@pytest.mark.virtual_time
async def test_a_deadline_that_was_cleared_ends_no_wait(cache: SecretCache, source: InMemorySource) -> None:
    """A task that an invocation leaves waiting waits on when that invocation's deadline would have come."""
    source.pause()
    deadline = Deadline(1, asyncio.get_running_loop().time)
    invocation_deadline.set(deadline)
    caller = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)
    deadline.clear()
    asyncio.get_running_loop().call_later(5, source.resume)

    assert await caller == VALUE
    assert asyncio.get_running_loop().time() == pytest.approx(5)
    assert len(source.calls) == 1


async def test_an_alarm_that_rings_a_moment_early_ends_the_wait(cache: SecretCache, source: InMemorySource) -> None:
    """A loop's timer may do so by the resolution of its clock; the clock may stand until the caller has gone."""
    source.pause()
    started = asyncio.get_running_loop().time()
    now = iter((started, *[started + 3 - 1e-9] * 20_000))
    invocation_deadline.set(Deadline(3, lambda: next(now)))

    with pytest.raises(SecretUnavailableError, match="deadline"):
        await cache.get_secret(NAME)

    source.resume()


@pytest.mark.virtual_time
async def test_a_caller_cancelled_before_its_deadline_is_cancelled(cache: SecretCache, source: InMemorySource) -> None:
    """Its fetch is cancelled too, and no alarm is left behind."""
    source.pause()
    invocation_deadline.set(Deadline(5, asyncio.get_running_loop().time))
    caller = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)

    caller.cancel()
    await asyncio.wait([caller])

    assert caller.cancelled()
    await until(lambda: not observe.running(cache))
    await asyncio.sleep(10)


async def test_a_fetch_with_a_deadline_ends_in_time(cache: SecretCache) -> None:
    """A deadline that isn't reached changes nothing."""
    invocation_deadline.set(Deadline(60, asyncio.get_running_loop().time))

    assert await cache.get_secret(NAME) == VALUE
    assert await asyncio.gather(cache.get("other"), cache.get("other"))
    assert cache.stats().coalesced == 1


# Memory


async def test_ended_fetches_wait_for_no_garbage_collector(cache: SecretCache) -> None:
    """No reference cycle keeps values or errors alive."""
    await cache.get(NAME)
    gc.collect()
    gc.disable()
    try:
        before = _count(Fetch) + _count(SecretFormatError)
        for _ in range(50):
            await cache.refresh(NAME)
            await cache.get_many(NAME, "other", "missing", return_exceptions=True)
            with contextlib.suppress(SecretErrorGroup):
                await cache.get_secrets(f"{NAME}:key", "missing")
        await asyncio.sleep(0)
        assert _count(Fetch) + _count(SecretFormatError) - before < 5
    finally:
        gc.enable()


def _count(kind: type) -> int:
    return sum(type(each) is kind for each in gc.get_objects())


async def test_a_fetch_is_never_fresh(clock: ManualClock) -> None:
    """A read that finds a fetch where it looks for a value must not serve it."""
    assert not Fetch.expires_at > clock()
