"""Event loops, threads and forks: values are shared by all, running fetches belong to one loop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading

import pytest

import observe
from asecretcache import CacheClosedError, SecretCache, SecretRequest, get_default_cache
from asecretcache._core.fetch import Fetch, FetchReason
from asecretcache.testing import InMemorySource
from turns import until

NAME, VALUE = "prod/db", "hunter2"


async def start_only(cache: SecretCache) -> Fetch:
    """Start a fetch whose task gets no iteration of the loop."""
    return observe.loader(cache).single_flight.join_or_start(SecretRequest(NAME), FetchReason.READ)


def leave_pending(task: asyncio.Task[object]) -> None:
    """Let no warning come of a task of the test's own that dies with its loop."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # as asyncio.gather does


# Loops


def test_loops_share_the_values(cache: SecretCache, source: InMemorySource) -> None:
    """With asyncio.run for each invocation the first one fetches and the others hit."""
    values = [asyncio.run(cache.get_secret(NAME)) for _ in range(5)]

    assert values == [VALUE] * 5
    assert len(source.calls) == 1


@pytest.mark.parametrize("method", ["get_secret", "get", "get_many"])
def test_a_fetch_of_a_closed_loop_is_never_awaited(
    cache: SecretCache,
    source: InMemorySource,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    method: str,
) -> None:
    """A loop that is closed in the middle of a fetch leaves nothing behind that hangs or warns."""
    source.pause()
    loop = asyncio.new_event_loop()
    task = loop.create_task(getattr(cache, method)(NAME))
    loop.run_until_complete(until(lambda: source.calls))
    leave_pending(task)
    loop.close()
    source.resume()

    assert asyncio.run(cache.get_secret(NAME)) == VALUE
    assert not observe.running(cache)
    del task, loop
    gc.collect()
    assert not caplog.records
    assert capfd.readouterr().err == ""


def test_a_fetch_that_never_began_on_a_closed_loop_is_swept(cache: SecretCache) -> None:
    """It doesn't warn that its coroutine was never awaited."""
    loop = asyncio.new_event_loop()
    fetch = loop.run_until_complete(start_only(cache))
    loop.close()

    asyncio.run(cache.get_secret("other"))
    gc.collect()

    assert not observe.running(cache)
    assert fetch.was_cancelled


def test_a_waiter_of_a_closed_loop_hinders_no_other(cache: SecretCache) -> None:
    """It can't be woken when the fetch that it waited for is swept."""
    loop = asyncio.new_event_loop()
    caller = loop.create_task(cache.get_secret(NAME))
    loop.call_soon(loop.stop)
    loop.run_forever()
    leave_pending(caller)
    assert observe.running(cache)[0].waiters
    loop.close()

    assert asyncio.run(cache.get_secret("other")) == "else"
    assert not observe.running(cache)


def test_a_running_fetch_of_another_loop_is_not_joined(cache: SecretCache, source: InMemorySource) -> None:
    """A reader that finds it where it looks for the value starts a fetch on its own loop."""
    source.pause()
    loop = asyncio.new_event_loop()
    caller = loop.create_task(cache.get_secret(NAME))
    loop.run_until_complete(until(lambda: source.calls))

    async def read() -> str:
        reader = asyncio.create_task(cache.get_secret(NAME))
        await until(lambda: len(source.calls) == 2)
        assert [fetch.loop for fetch in observe.running(cache)] == [loop, asyncio.get_running_loop()]
        source.resume()
        return await reader

    assert asyncio.run(read()) == VALUE
    assert loop.run_until_complete(caller) == VALUE
    loop.close()
    assert len(source.calls) == 2


def test_fetches_of_a_loop_that_only_rests_are_kept(cache: SecretCache, source: InMemorySource) -> None:
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


def test_asyncio_run_ending_in_mid_fetch_is_quiet(
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


# Threads


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


def test_closing_ends_the_fetches_of_other_threads(cache: SecretCache, source: InMemorySource) -> None:
    """aclose in one thread cancels what another thread's loop fetches, whose waiters are told that it is closed."""
    source.pause()
    errors: list[object] = []
    started = threading.Event()

    async def wait() -> None:
        caller = asyncio.create_task(cache.get_secret(NAME))
        await until(lambda: source.calls)
        started.set()
        errors.extend(await asyncio.gather(caller, return_exceptions=True))

    thread = threading.Thread(target=lambda: asyncio.run(wait()))
    thread.start()
    started.wait()
    asyncio.run(cache.aclose())
    thread.join(10)

    assert [type(error) for error in errors] == [CacheClosedError]


async def test_closing_leaves_a_closed_loops_fetch_alone(cache: SecretCache) -> None:
    """Nothing can be sent to a loop that is closed, also if it is closed while aclose runs."""
    fetches: list[Fetch] = []
    other = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: fetches.append(other.run_until_complete(start_only(cache))))
    thread.start()
    thread.join()
    other.close()

    fetches[0].task.cancel()
    await cache.aclose()

    assert fetches[0].is_done
    assert fetches[0].task.is_cancelled


def test_closing_sweeps_out_what_closed_loops_left(cache: SecretCache) -> None:
    """Otherwise a fetch that never began would warn, when it is collected, that it was never awaited."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(start_only(cache))
    loop.close()

    asyncio.run(cache.aclose())
    gc.collect()

    assert not observe.running(cache)


# Forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")  # 3.12 on; that is what is tested
def test_a_forked_child_has_the_values_a_new_lock_and_no_fetches(cache: SecretCache, source: InMemorySource) -> None:
    """A child forked while the parent holds the lock and a fetch is running can use the cache at once."""

    async def fork_in_mid_fetch() -> int:
        await cache.get_secret("other")
        source.pause()
        caller = asyncio.create_task(cache.get_secret(NAME))
        await until(lambda: len(source.calls) == 2)
        held, release = threading.Event(), threading.Event()

        def hold() -> None:
            with observe.loader(cache).lock:
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
                source.resume()
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

    assert asyncio.run(fork_in_mid_fetch()) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")  # 3.12 on; that is what is tested
def test_a_forked_child_waits_for_no_lock_of_the_parents(cache: SecretCache) -> None:
    """Another thread of the parent may hold the lock at the moment of the fork, and never release it in the child."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with observe.loader(cache).lock:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    pid = os.fork()
    if pid == 0:  # pragma: no cover - another process
        signal.alarm(10)
        get_default_cache()
        cache.invalidate(NAME)
        cache.stats()
        os._exit(0)
    release.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_after_a_fork_fetches_and_lock_are_new_and_values_are_kept(cache: SecretCache, source: InMemorySource) -> None:
    """What the child's hook does, seen from inside; the test with a real fork sees it from outside."""
    loader = observe.loader(cache)
    asyncio.run(cache.get_secret(NAME))
    single_flight, lock = loader.single_flight, loader.lock

    loader.reset_after_fork()

    assert loader.single_flight is not single_flight
    assert loader.lock is not lock
    assert asyncio.run(cache.get_secret(NAME)) == VALUE
    assert len(source.calls) == 1


async def test_after_a_fork_no_record_leads_to_the_parents_fetches(cache: SecretCache, source: InMemorySource) -> None:
    """They must neither be joined nor keep the parent's loop alive; the values stay."""
    loader = observe.loader(cache)
    await cache.get("other")
    source.pause()
    caller = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: len(source.calls) == 2)
    assert set(loader.store.records) == {"other", NAME}

    loader.reset_after_fork()

    assert set(loader.store.records) == {"other"}
    assert not observe.running(cache)
    source.resume()
    assert await caller == VALUE


def test_a_forked_childs_fetches_replace_what_it_inherited(cache: SecretCache, source: InMemorySource) -> None:
    """The order of the starts goes on after a fork, so that a newer value isn't taken for an older one."""
    for _ in range(5):
        asyncio.run(cache.refresh(NAME))
    observe.loader(cache).reset_after_fork()
    source.rotate(NAME, "new")
    asyncio.run(cache.refresh(NAME))

    assert asyncio.run(cache.get_secret(NAME)) == "new"
