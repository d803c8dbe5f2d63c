"""Concurrent callers share one fetch, whatever happens to any of them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import itertools
import os
import signal
import threading
import traceback

import anyio
import pytest

from asecretcache import (
    ConfigurationError,
    Secret,
    SecretAccessDeniedError,
    SecretCache,
    SecretErrorGroup,
    SecretFormatError,
    SecretRequest,
    SecretUnavailableError,
    _cache,
    get_default_cache,
)
from asecretcache._core.fetch import Flight
from asecretcache._core.single_flight import READ
from asecretcache._core.timeouts import Deadline, FetchTimeout, invocation_deadline
from asecretcache._lambda import default as _default
from asecretcache._references import SecretReference
from asecretcache.testing import InMemorySource, ManualClock
from turns import until

NAME = "prod/db"
VALUE = "hunter2"


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({NAME: VALUE, "other": "else"})


@pytest.fixture
def cache(source: InMemorySource) -> SecretCache:
    return SecretCache(source)


@pytest.mark.every_loop
async def test_a_thousand_concurrent_first_gets_are_one_call(cache: SecretCache, source: InMemorySource) -> None:
    """However many ask for a secret at once, it is fetched once."""
    values = await asyncio.gather(*(cache.get_secret(NAME) for _ in range(1000)))

    assert values == [VALUE] * 1000
    assert len(source.calls) == 1


@pytest.mark.every_loop
@pytest.mark.parametrize("method", ["get_secret", "get"])
async def test_cancelling_the_first_caller_leaves_the_others_their_value(
    cache: SecretCache, source: InMemorySource, method: str
) -> None:
    """The fetch belongs to all who wait, not to the one who came first."""
    source.pause()
    first, second = (asyncio.create_task(getattr(cache, method)(NAME)) for _ in range(2))
    await until(lambda: source.calls)

    first.cancel()
    await asyncio.wait([first])
    source.resume()

    assert await second == (VALUE if method == "get_secret" else await cache.get(NAME))
    assert first.cancelled()
    assert len(source.calls) == 1
    assert cache.stats().coalesced == 1


@pytest.mark.every_loop
@pytest.mark.parametrize("method", ["get_secret", "get"])
async def test_cancelling_all_callers_ends_the_fetch_and_the_next_starts_afresh(
    cache: SecretCache, source: InMemorySource, method: str
) -> None:
    """A fetch that nobody waits for is cancelled, and nobody joins it."""
    source.pause()
    callers = [asyncio.create_task(getattr(cache, method)(NAME)) for _ in range(3)]
    await until(lambda: source.calls)

    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    source.resume()

    assert await cache.get_secret(NAME) == VALUE
    assert len(source.calls) == 2


async def test_a_caller_cancelled_before_the_fetch_began_leaves_nothing(
    cache: SecretCache, source: InMemorySource
) -> None:
    """Cancellation in the very turn of the loop in which the flight starts makes no call and hangs nobody."""
    caller = asyncio.create_task(cache.get_secret(NAME))
    asyncio.get_running_loop().call_soon(caller.cancel)
    await asyncio.wait([caller])

    assert caller.cancelled()
    assert await cache.get_secret(NAME) == VALUE
    assert not cache._flights._all()


@pytest.mark.every_loop
async def test_a_flight_cancelled_by_a_third_party_is_retried_once(cache: SecretCache, source: InMemorySource) -> None:
    """Who waits isn't cancelled by the cancellation of the fetch's task: it comes back for another."""
    source.pause()
    caller = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)

    cache._flights._all()[0].carrier.task.cancel()
    source.resume()

    assert await caller == VALUE
    assert len(source.calls) == 2


async def test_a_flight_cancelled_twice_by_a_third_party_is_an_error(
    cache: SecretCache, source: InMemorySource
) -> None:
    """A second cancellation from outside is told, not retried for ever."""
    source.pause()
    caller = asyncio.create_task(cache.get_secret(NAME))
    for calls in (1, 2):
        await until(lambda: len(source.calls) == calls)  # noqa: B023 - it is called in this very turn
        cache._flights._all()[0].carrier.task.cancel()

    with pytest.raises(SecretUnavailableError, match="cancelled from outside"):
        await caller


@pytest.mark.every_loop
async def test_a_failure_is_one_call_and_an_error_of_its_own_for_each_waiter(
    cache: SecretCache, source: InMemorySource
) -> None:
    """Each waiter raises its own instance with a short traceback, and the cause is the source's."""
    error = SecretAccessDeniedError("no", secret_id=NAME, code="AccessDeniedException", request_id="r-1")
    error.__cause__ = cause = ValueError("the source's")
    source.fail(error)

    errors = await asyncio.gather(*(cache.get_secret(NAME) for _ in range(100)), return_exceptions=True)

    assert len(source.calls) == 1
    assert len({id(each) for each in errors}) == 100
    for each in errors:
        assert isinstance(each, SecretAccessDeniedError)
        assert (each.secret_id, each.code, each.request_id) == (NAME, "AccessDeniedException", "r-1")
        assert each.__cause__ is cause
        assert each.__context__ is None or each.__suppress_context__
        assert len(traceback.extract_tb(each.__traceback__)) < 10


async def test_a_group_that_a_source_raises_is_raised_by_each_waiter(
    cache: SecretCache, source: InMemorySource
) -> None:
    """A source that asks several others may fail in several ways."""
    source.fail(SecretErrorGroup("both", [SecretUnavailableError("a"), SecretAccessDeniedError("b")]))

    errors = await asyncio.gather(*(cache.get_secret(NAME) for _ in range(2)), return_exceptions=True)

    assert errors[0] is not errors[1]
    assert all(isinstance(error, SecretErrorGroup) and len(error.exceptions) == 2 for error in errors)


async def test_waiters_are_woken_in_the_order_that_they_came(cache: SecretCache) -> None:
    """Nobody who came later overtakes who came before."""
    woken: list[int] = []

    async def wait(number: int) -> None:
        await cache.get_secret(NAME)
        woken.append(number)

    await asyncio.gather(*map(wait, range(100)))

    assert woken == list(range(100))


async def test_a_failure_is_not_cached(cache: SecretCache, source: InMemorySource) -> None:
    """The next caller after a failure tries again."""
    source.fail(SecretAccessDeniedError("no"), times=1)
    with pytest.raises(SecretAccessDeniedError):
        await cache.get_secret(NAME)

    assert await cache.get_secret(NAME) == VALUE


async def test_what_is_no_error_of_ours_is_told_by_type_and_place_alone() -> None:
    """An exception of a source may hold the value, so neither it nor its text is shown."""

    class Broken(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            raise ValueError(VALUE)

    with pytest.raises(SecretUnavailableError, match=r"raised ValueError at .*test_singleflight\.py:\d+") as caught:
        await SecretCache(Broken()).get_secret(NAME)

    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=False).format())
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert VALUE not in str(caught.value)
    assert f"ValueError: {VALUE}" not in shown


async def test_a_source_that_returns_no_secret_is_told(cache: SecretCache) -> None:
    """A source's mistake is an error that says what it returned, not a value."""

    class Broken(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            return VALUE  # type: ignore[return-value]  # the mistake

    with pytest.raises(SecretUnavailableError, match="returned str instead of a Secret"):
        await SecretCache(Broken()).get(NAME)


async def test_a_hanging_fetch_ends_after_the_fetch_timeout(source: InMemorySource) -> None:
    """A fetch that takes longer than fetch_timeout is an error for its waiters."""
    source.pause()
    with pytest.raises(SecretUnavailableError, match=r"took longer than 0\.01 s"):
        await SecretCache(source, fetch_timeout=0.01).get_secret(NAME)


def test_each_loop_has_its_own_flights_and_all_share_the_values(cache: SecretCache, source: InMemorySource) -> None:
    """With asyncio.run for each invocation the first one fetches and the others hit."""
    values = [asyncio.run(cache.get_secret(NAME)) for _ in range(5)]

    assert values == [VALUE] * 5
    assert len(source.calls) == 1


def test_a_flight_of_a_closed_loop_is_never_awaited_and_warns_of_nothing(
    cache: SecretCache, source: InMemorySource, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A loop that is closed in the middle of a fetch leaves nothing behind that hangs or complains."""
    source.pause()
    loop = asyncio.new_event_loop()
    task = loop.create_task(cache.get_secret(NAME))
    loop.run_until_complete(until(lambda: source.calls))
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # the test's own task, not the cache's
    loop.close()
    source.resume()

    assert asyncio.run(cache.get_secret(NAME)) == VALUE
    assert not cache._flights._all()
    del task, loop
    gc.collect()
    assert not caplog.records
    assert capfd.readouterr().err == ""


def test_a_flight_that_never_began_on_a_closed_loop_is_swept(cache: SecretCache) -> None:
    """A fetch whose task had no turn before its loop was closed doesn't warn that it was never awaited."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(asyncio.wait_for(_board_only(cache), 1))
    loop.close()

    asyncio.run(cache.get_secret("other"))
    gc.collect()

    assert not cache._flights._all()


def test_a_waiter_of_a_closed_loop_hinders_nobody(cache: SecretCache) -> None:
    """There is nobody to wake when the fetch that it waited for is swept, though it never began."""
    loop = asyncio.new_event_loop()
    caller = loop.create_task(cache.get_secret(NAME))
    loop.call_soon(loop.stop)
    loop.run_forever()
    caller._log_destroy_pending = False  # type: ignore[attr-defined]  # the test's own task, not the cache's
    assert cache._flights._all()[0].waiters
    loop.close()

    assert asyncio.run(cache.get_secret("other")) == "else"
    assert not cache._flights._all()


async def _board_only(cache: SecretCache) -> None:
    cache._flights.board([SecretRequest.of(NAME)], READ)


def test_asyncio_run_ending_mid_fetch_is_quiet(
    cache: SecretCache, source: InMemorySource, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio.run cancels the fetch's task; the next run fetches."""

    async def leave() -> None:
        source.pause()
        asyncio.ensure_future(cache.get_secret(NAME))  # noqa: RUF006 - left to die
        await until(lambda: source.calls)

    asyncio.run(leave())
    source.resume()

    assert asyncio.run(cache.get_secret(NAME)) == VALUE
    assert not caplog.records


def test_four_threads_with_a_loop_each_share_the_values(cache: SecretCache, source: InMemorySource) -> None:
    """Threads read what another thread's loop has fetched."""
    asyncio.run(cache.get_secret(NAME))
    values: list[str] = []

    def work() -> None:
        values.extend(asyncio.run(cache.get_secret(NAME)) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert values == [VALUE] * 20
    assert len(source.calls) == 1


async def test_a_flight_that_slept_through_a_freeze_is_not_joined(source: InMemorySource) -> None:
    """A fetch older than its time-out by the wall clock is replaced, and its waiters get the new one's value."""
    clock = ManualClock()
    cache = SecretCache(source, clock=clock, fetch_timeout=10)
    source.pause()
    before = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)

    clock.advance(3600)
    after = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(source.calls) == 2)
    source.resume()

    assert list(await asyncio.gather(before, after)) == [VALUE, VALUE]
    assert len(source.calls) == 2


async def test_a_flight_that_slept_by_the_monotonic_clock_is_not_joined(source: InMemorySource) -> None:
    """Either clock tells a freeze: here the wall clock stood still and the monotonic one went on."""
    cache = SecretCache(source, clock=ManualClock(), fetch_timeout=10)
    cache._flights.monotonic = monotonic = ManualClock()
    source.pause()
    before = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)

    monotonic.advance(11)
    after = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(source.calls) == 2)
    source.resume()

    assert list(await asyncio.gather(before, after)) == [VALUE, VALUE]


async def test_a_refresh_that_slept_hides_no_fetch_that_may_be_joined(source: InMemorySource) -> None:
    """Only the one that is overdue is replaced: here by a clock that was set back."""
    clock = ManualClock()
    cache = SecretCache(source, clock=clock, fetch_timeout=10)
    source.pause()
    plain = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(source.calls) == 1)
    clock.advance(1)
    refresh = asyncio.create_task(cache.refresh(NAME))
    await until(lambda: len(source.calls) == 2)

    clock.advance(-10.5)
    after = asyncio.create_task(cache.get_secret(NAME))
    # The refresh is replaced, because who asked for it still waits.
    await until(lambda: len(source.calls) == 3)
    source.resume()

    assert list(await asyncio.gather(plain, after)) == [VALUE, VALUE]
    assert (await refresh).secret_string == VALUE
    assert len(source.calls) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")  # 3.12 on; that is what is tested
def test_a_forked_child_has_the_values_a_new_lock_and_no_flights(cache: SecretCache, source: InMemorySource) -> None:
    """A child forked while the parent holds the lock and a fetch is under way can use the cache at once."""

    async def fork_mid_flight() -> int:
        await cache.get_secret("other")
        source.pause()
        caller = asyncio.create_task(cache.get_secret(NAME))
        await until(lambda: len(source.calls) == 2)
        held, release = threading.Event(), threading.Event()

        def hold() -> None:
            with cache._reader.lock:
                held.set()
                release.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        pid = os.fork()
        if pid == 0:  # pragma: no cover - another process
            status = 1
            try:
                asyncio._set_running_loop(None)
                source._paused = False
                hit = asyncio.run(asyncio.wait_for(cache.get_secret("other"), 5))
                got = asyncio.run(asyncio.wait_for(cache.get_secret(NAME), 5))
                status = 0 if (hit, got, len(source.calls)) == ("else", VALUE, 3) else 2
            finally:
                os._exit(status)
        release.set()
        thread.join()
        source.resume()
        await caller
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert asyncio.run(fork_mid_flight()) == 0


@pytest.mark.every_loop
async def test_the_fetch_does_not_run_in_its_first_callers_context() -> None:
    """A caller's context variables stay its own, though others wait for the same fetch."""
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
    seen: list[str] = []

    class Nosy(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            seen.append(tenant.get())
            return await super().fetch(request)

    tenant.set("first")
    await SecretCache(Nosy({NAME: VALUE})).get_secret(NAME)

    assert seen == ["nobody"]


class Reentrant(InMemorySource):
    """Asks its cache for another secret while it fetches one."""

    cache: SecretCache
    needs: dict[str, str]

    async def fetch(self, request: SecretRequest) -> Secret:
        secret = await super().fetch(request)
        if request.secret_id in self.needs:
            await self.cache.get_secret(self.needs[request.secret_id])
        return secret


def reentrant(**needs: str) -> SecretCache:
    source = Reentrant({"a": "1", "b": "2", "c": "3"})
    source.cache, source.needs = SecretCache(source), needs
    return source.cache


async def test_a_fetch_may_need_another_secret() -> None:
    """A source that reads its own credentials through the cache works."""
    assert await reentrant(a="b", b="c").get_secret("a") == "1"


@pytest.mark.parametrize("needs", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "a"}])
async def test_a_fetch_that_needs_itself_fails_instead_of_hanging(needs: dict[str, str]) -> None:
    """A circle is told, however long it is."""
    with pytest.raises(ConfigurationError, match="would wait for itself"):
        await reentrant(**needs).get_secret("a")


async def test_two_fetches_that_need_each_other_fail_instead_of_hanging() -> None:
    """A circle closed by two fetches that were started independently is told as well."""
    cache = reentrant(a="b", b="a")

    outcomes = await asyncio.wait_for(asyncio.gather(*map(cache.get_secret, "ab"), return_exceptions=True), 5)

    assert all(isinstance(outcome, ConfigurationError) for outcome in outcomes)


async def test_a_refresh_does_not_join_a_plain_fetch_that_began_before_it(
    cache: SecretCache, source: InMemorySource
) -> None:
    """What made the caller ask for a refresh may have happened after the plain fetch was sent."""
    source.pause()
    plain = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)
    refreshes = [asyncio.create_task(cache.refresh(NAME)) for _ in range(10)]
    await until(lambda: len(source.calls) == 2)
    source.resume()

    await asyncio.gather(plain, *refreshes)

    assert len(source.calls) == 2


async def test_a_plain_get_joins_a_refresh(cache: SecretCache, source: InMemorySource) -> None:
    """A fetch under way is as good as another one."""
    source.pause()
    refresh = asyncio.create_task(cache.refresh(NAME))
    await until(lambda: source.calls)
    plain = asyncio.create_task(cache.get_secret(NAME))
    await asyncio.sleep(0)
    source.resume()

    assert (await refresh).secret_string == await plain
    assert len(source.calls) == 1


async def test_a_fetch_never_overwrites_the_result_of_one_that_began_after_it() -> None:
    """The order is that of the starts: a slow old answer doesn't replace a newer one."""
    gates: list[asyncio.Event] = []

    class Slow(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            secret = await super().fetch(request)
            gates.append(gate := asyncio.Event())
            await gate.wait()
            return secret

    source = Slow({NAME: "old"})
    cache = SecretCache(source)
    plain = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(gates) == 1)
    source.rotate(NAME, "new")
    refresh = asyncio.create_task(cache.refresh(NAME))
    await until(lambda: len(gates) == 2)

    gates[1].set()
    await refresh
    gates[0].set()

    assert await plain == "old"
    assert await cache.get_secret(NAME) == "new"


@pytest.mark.parametrize("everything", [False, True])
async def test_a_fetch_invalidated_mid_flight_answers_its_waiters_and_is_not_stored(
    cache: SecretCache, source: InMemorySource, *, everything: bool
) -> None:
    """Who asked before the invalidation gets what was true then; who asks after it gets a new fetch."""
    source.pause()
    before = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)
    if everything:
        cache.clear()
    else:
        cache.invalidate("other")
        cache.invalidate(NAME)
    after = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(source.calls) == 2)

    cache.invalidate(NAME)
    source.resume()

    assert list(await asyncio.gather(before, after)) == [VALUE, VALUE]
    assert cache.peek(NAME) is None


async def test_ten_thousand_keys_at_once_are_ten_thousand_flights(source: InMemorySource) -> None:
    """Launching doesn't slow down with the number of flights, and none is left over."""
    names = [f"secret-{number}" for number in range(10_000)]
    source = InMemorySource(dict.fromkeys(names, VALUE))
    cache = SecretCache(source, max_size=10_000)

    secrets = await cache.get_many(names)

    assert len(secrets) == len(source.calls) == 10_000
    assert not cache._flights._all()


@pytest.mark.every_loop
async def test_an_anyio_scope_that_runs_out_cancels_only_its_own_wait(
    cache: SecretCache, source: InMemorySource
) -> None:
    """move_on_after ends one caller's wait; a task group's other tasks get the value of the same fetch."""
    source.pause()
    values: list[str] = []

    async def patient() -> None:
        values.append(await cache.get_secret(NAME))

    async with anyio.create_task_group() as group:
        group.start_soon(patient)
        with anyio.move_on_after(0.01) as scope:
            await cache.get_secret(NAME)
        source.resume()

    assert scope.cancelled_caught
    assert values == [VALUE]
    assert len(source.calls) == 1


async def test_a_cancelled_anyio_task_group_ends_the_fetch(cache: SecretCache, source: InMemorySource) -> None:
    """All callers of a group being cancelled, the fetch is too, and the next one starts afresh."""
    source.pause()
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(cache.get_secret, NAME)
        await until(lambda: source.calls)
        group.cancel_scope.cancel()
    source.resume()

    assert await cache.get_secret(NAME) == VALUE
    assert len(source.calls) == 2


def test_a_flight_is_abandoned_from_another_thread(cache: SecretCache, source: InMemorySource) -> None:
    """aclose in one thread ends what another thread's loop fetches, whose waiters are told that it is closed."""
    source.pause()
    errors: list[BaseException] = []
    started = threading.Event()

    async def wait() -> None:
        caller = asyncio.create_task(cache.get_secret(NAME))
        await until(lambda: source.calls)
        started.set()
        errors.extend(await asyncio.gather(caller, return_exceptions=True))  # type: ignore[arg-type]  # no value is expected

    thread = threading.Thread(target=lambda: asyncio.run(wait()))
    thread.start()
    started.wait()
    asyncio.run(cache.aclose())
    thread.join(10)

    assert [type(error) for error in errors] == [ConfigurationError]


async def test_a_caller_cancelled_as_its_value_arrives_is_cancelled(
    cache: SecretCache, source: InMemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cancellation is neither lost nor does it harm the value, which is stored."""
    keep = cache._flights._on_landing
    caller = asyncio.create_task(cache.get_secret(NAME))

    def cancel_and_keep(*landed: object) -> None:
        caller.cancel()
        keep(*landed)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(cache._flights, "_on_landing", cancel_and_keep)
    await asyncio.wait([caller])

    assert caller.cancelled()
    assert cache.peek(NAME)
    assert len(source.calls) == 1


def test_flights_of_a_loop_that_only_rests_are_kept(cache: SecretCache, source: InMemorySource) -> None:
    """A persistent loop between two of its runs isn't closed: its fetch goes on when it runs again."""
    source.pause()
    loop = asyncio.new_event_loop()
    caller = loop.create_task(cache.get_secret(NAME))
    loop.run_until_complete(until(lambda: source.calls))
    source.resume()

    assert asyncio.run(cache.get_secret("other")) == "else"
    assert loop.run_until_complete(caller) == VALUE
    assert len(source.calls) == 2
    loop.close()


async def test_closing_leaves_a_closed_loops_flight_alone(cache: SecretCache) -> None:
    """Nothing can be sent to a loop that is closed, and aclose doesn't try."""
    flights: list[Flight] = []

    async def board() -> None:
        flights.extend(cache._flights.board([SecretRequest.of(NAME)], READ))

    other = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: other.run_until_complete(board()))
    thread.start()
    thread.join()
    other.close()

    await cache.aclose()
    cache._flights._sweep()

    assert flights[0].landed


async def test_closing_stores_nothing_that_comes_in_spite_of_it() -> None:
    """Not even from a source that doesn't heed its cancellation."""

    class Stubborn(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            self.calls.append(request)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return self._find(request)

    source = Stubborn({NAME: VALUE})
    cache = SecretCache(source)
    caller = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)
    await cache.aclose()

    assert await caller == VALUE
    assert not cache._entries


def test_closing_sweeps_out_what_closed_loops_left(cache: SecretCache) -> None:
    """Else a fetch that never began would warn, when it is collected, that it was never awaited."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_board_only(cache))
    loop.close()

    asyncio.run(cache.aclose())
    gc.collect()

    assert not cache._flights._all()


@pytest.mark.parametrize("readings", range(5))
async def test_a_clock_that_raises_leaves_nobody_waiting_in_vain(readings: int) -> None:
    """Whenever it is that a user's clock fails, the next read fetches, and what had begun is brought to its end."""
    source = InMemorySource({"a": VALUE, "b": VALUE})
    left = itertools.count(readings, -1)

    def clock() -> float:
        if next(left) == 0:
            raise OSError("no time")
        return 1_000_000.0

    cache = SecretCache(source, clock=clock)
    with pytest.raises(OSError, match="no time"):
        await cache.get_many(["a", "b"])

    assert len(await cache.get_many(["a", "b"])) == 2
    assert not cache._flights._all()
    assert len(source.calls) == 2


def test_after_a_fork_flights_and_lock_are_new_and_the_values_are_kept(
    cache: SecretCache, source: InMemorySource
) -> None:
    """What the child's hook does, seen from inside; the test with a real fork sees it from outside."""
    asyncio.run(cache.get_secret(NAME))
    before = cache._flights, cache._reader.lock

    _cache._after_fork()

    assert cache._flights is not before[0]
    assert cache._reader.lock is not before[1]
    assert cache._flights._lock is cache._reader.lock
    assert asyncio.run(cache.get_secret(NAME)) == VALUE
    assert len(source.calls) == 1


async def test_after_a_fork_nothing_leads_to_the_flights_of_the_parent(
    cache: SecretCache, source: InMemorySource
) -> None:
    """Nor keeps the parent's loop alive."""
    source.pause()
    caller = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)
    assert cache._store.table

    _cache._after_fork()

    assert not cache._store.table
    source.resume()
    assert await caller == VALUE


async def test_time_in_line_is_not_time_of_the_fetch() -> None:
    """While it waits for a slot a fetch isn't overdue, however long that takes; its time begins with the slot."""
    clock = ManualClock()
    timer = FetchTimeout(10, clock, clock)
    timer.pause()
    clock.advance(1000)
    assert not timer.has_expired()

    timer.resume()
    assert not timer.has_expired()
    clock.advance(11)
    assert timer.has_expired()


def test_a_forked_childs_fetches_replace_what_it_inherited(cache: SecretCache, source: InMemorySource) -> None:
    """The order of the starts goes on after a fork, so a newer value isn't taken for an older one."""
    for _ in range(5):
        asyncio.run(cache.refresh(NAME))
    _cache._after_fork()
    source.rotate(NAME, "new")
    asyncio.run(cache.refresh(NAME))

    assert asyncio.run(cache.get_secret(NAME)) == "new"


async def test_waiters_are_woken_whatever_happens_in_storing(
    cache: SecretCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock of a user's that raises hangs nobody."""

    def fail(*_: object) -> None:
        raise ArithmeticError

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    monkeypatch.setattr(cache._flights, "_on_landing", fail)

    assert await asyncio.wait_for(cache.get_secret(NAME), 5) == VALUE


async def test_a_task_that_a_fetch_left_running_may_use_the_cache() -> None:
    """Once its fetch has landed, what it started is a caller as any other."""
    tasks: list[asyncio.Task[str]] = []

    class Leaving(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            if not tasks:
                tasks.append(asyncio.create_task(later()))
            return await super().fetch(request)

    async def later() -> str:
        await gate.wait()
        return await cache.get_secret(NAME)

    gate = asyncio.Event()
    cache = SecretCache(Leaving({NAME: VALUE}), ttl=0)
    await cache.get_secret(NAME)
    gate.set()

    assert await tasks[0] == VALUE


async def test_a_deadline_that_is_cleared_ends_no_wait(cache: SecretCache, source: InMemorySource) -> None:
    """A task that an invocation leaves waiting waits on when that invocation's deadline would have come."""
    source.pause()
    deadline = Deadline(asyncio.get_running_loop().time() + 0.01)
    invocation_deadline.set(deadline)
    caller = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)
    deadline.clear()
    asyncio.get_running_loop().call_later(0.05, source.resume)

    assert await caller == VALUE
    assert len(source.calls) == 1


async def test_a_sources_own_time_out_is_not_taken_for_ours(source: InMemorySource) -> None:
    """A TimeoutError that comes at once took no ten seconds."""

    class Hasty(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            raise TimeoutError

    with pytest.raises(SecretUnavailableError, match="raised TimeoutError at"):
        await SecretCache(Hasty()).get(NAME)


async def test_what_one_waiter_notes_on_its_error_is_its_own(cache: SecretCache, source: InMemorySource) -> None:
    """Notes are part of the instance."""
    error = SecretUnavailableError("down")
    error.add_note("the source's")
    source.fail(error)
    errors = await asyncio.gather(*(cache.get(NAME) for _ in range(2)), return_exceptions=True)
    errors[0].add_note("mine")  # type: ignore[union-attr]  # it is an error

    assert [getattr(each, "__notes__", None) for each in errors] == [["the source's", "mine"], ["the source's"]]


async def test_what_has_landed_waits_for_no_collector(cache: SecretCache, source: InMemorySource) -> None:
    """No cycle keeps values or errors alive."""
    await cache.get(NAME)
    gc.collect()
    gc.disable()
    try:
        before = _count(Flight) + _count(SecretFormatError)
        for _ in range(50):
            await cache.refresh(NAME)
            await cache.get_many([NAME, "other", "missing"], return_exceptions=True)
            with pytest.raises(SecretErrorGroup):
                await cache._read([SecretReference.parse(f"{NAME}:key")])
        await asyncio.sleep(0)
        assert _count(Flight) + _count(SecretFormatError) - before < 5
    finally:
        gc.enable()


def _count(kind: type) -> int:
    return sum(type(each) is kind for each in gc.get_objects())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")  # 3.12 on; that is what is tested
def test_a_forked_child_waits_for_no_lock_of_the_parents(cache: SecretCache) -> None:
    """Neither that of the default cache nor that of the rotations, which another thread may hold."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with _default._process.lock, cache._reader.lock:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    pid = os.fork()
    if pid == 0:  # pragma: no cover - another process
        signal.alarm(10)
        get_default_cache()
        cache._rotations._claim(NAME)
        os._exit(0)
    release.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


async def test_a_drained_flight_is_joined_by_nobody(cache: SecretCache, source: InMemorySource) -> None:
    """Who comes as it is being cancelled starts another, and keeps its retry."""
    source.pause()
    cache._flights.board([SecretRequest.of(NAME)], READ)
    await until(lambda: source.calls)
    draining = asyncio.create_task(cache._flights.drain(0.0))
    await until(lambda: not cache._flights._of(asyncio.get_running_loop()).joinable)
    source.resume()

    assert await cache.get_secret(NAME) == VALUE
    await draining
