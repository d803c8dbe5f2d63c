"""The public scope of a deadline."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from asecretcache import ConfigurationError, SecretCache, SecretUnavailableError, async_handler, deadline, sync_handler
from asecretcache._core.timeouts import time_left
from asecretcache._lambda.deadline import Scope, time_to_answer
from asecretcache.testing import InMemorySource
from virtual_runner import Context

NAME = "prod/api"


@pytest.fixture
def hung(source: InMemorySource) -> SecretCache:
    """A cache whose source doesn't answer."""
    source.pause()
    return SecretCache(source)


@pytest.mark.every_loop
async def test_a_read_ends_before_the_deadline(hung: SecretCache, source: InMemorySource) -> None:
    """The fetch goes on, and a later read without a deadline gets its value."""
    with deadline(0.01), pytest.raises(SecretUnavailableError, match="deadline"):
        await hung.get_secret(NAME)

    read = asyncio.create_task(hung.get_secret(NAME))
    await asyncio.sleep(0)
    source.resume()
    assert await read == "key-1"
    assert len(source.calls) == 1


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_it_holds_on_any_loop_that_runs_inside(hung: SecretCache, run: Any) -> None:
    """Also on one that is made there."""
    with deadline(0.01), pytest.raises(SecretUnavailableError, match="deadline"):
        run(hung.get_secret(NAME))


def test_it_holds_in_threads_and_tasks_that_get_the_context(hung: SecretCache) -> None:
    """As frameworks run synchronous endpoints."""

    async def main() -> tuple[Any, ...]:
        in_thread = asyncio.to_thread(lambda: asyncio.run(hung.get_secret(NAME)))
        return await asyncio.gather(in_thread, hung.get_secret(NAME), return_exceptions=True)

    with deadline(0.01):
        errors = asyncio.run(main())

    assert [type(error) for error in errors] == [SecretUnavailableError] * 2


def test_a_lambda_context_keeps_time_to_answer(hung: SecretCache) -> None:
    """Half a second, or a tenth of what is left."""
    assert time_to_answer(Context(6)) == 5.5
    assert time_to_answer(Context(1)) == 0.9
    with deadline(Context(0.01)), pytest.raises(SecretUnavailableError):
        asyncio.run(hung.get_secret(NAME))


async def test_outside_of_lambda_there_is_no_context() -> None:
    """scope.get("aws.context") is None on a server, and nothing is bounded."""
    with deadline(None):
        assert time_left(100.0) == 100.0


async def test_of_nested_deadlines_the_earlier_holds() -> None:
    """Also of a handler within a scope, and after the inner one has ended."""
    with deadline(50):
        with deadline(100):
            assert time_left(1000.0) == pytest.approx(50, abs=1)
        with deadline(10):
            assert time_left(1000.0) == pytest.approx(10, abs=1)
        assert time_left(1000.0) == pytest.approx(50, abs=1)
    assert time_left(1000.0) == 1000.0


@pytest.mark.parametrize("decorate", [async_handler, sync_handler])
def test_a_handler_within_a_scope_has_the_earlier_end(decorate: Any) -> None:
    """A test may give a handler less time than its context says."""

    @sync_handler
    def plain(event: object, context: object) -> float:
        return time_left(1000.0)

    @async_handler
    async def handler(event: object, context: object) -> float:
        return time_left(1000.0)

    called = handler if decorate is async_handler else plain
    with deadline(10):
        assert called(None, Context(100)) == pytest.approx(10, abs=1)
    assert called(None, Context(100)) == pytest.approx(99.5, abs=1)


async def test_a_task_that_outlives_it_waits_as_long_as_it_likes(hung: SecretCache, source: InMemorySource) -> None:
    """The block is over, so nobody has to be answered in time."""
    may_read = asyncio.Event()

    async def later() -> str:
        await may_read.wait()
        return await hung.get_secret(NAME)

    with deadline(0):
        task = asyncio.create_task(later())
    may_read.set()
    await asyncio.sleep(0)
    source.resume()

    assert await task == "key-1"


@pytest.mark.virtual_time
async def test_a_task_that_outlives_an_inner_block_has_the_outer_deadline(hung: SecretCache) -> None:
    """Where the inner one came first, and where it didn't."""
    loop = asyncio.get_running_loop()
    for inner in (1.0, 5.0):
        began = loop.time()
        with Scope(3.0, loop.time):
            with Scope(inner, loop.time):
                task = asyncio.create_task(hung.get_secret(NAME))
                await asyncio.sleep(0.1)
            with pytest.raises(SecretUnavailableError, match="deadline"):
                await task
        assert loop.time() - began == pytest.approx(3.0)


async def test_a_generator_may_be_ended_in_another_context() -> None:
    """As a fixture or a dependency is, whose steps run in tasks of their own."""

    async def steps() -> AsyncIterator[None]:
        with deadline(5):
            yield

    generator = steps()
    await asyncio.create_task(anext(generator))  # type: ignore[arg-type]  # it is a coroutine
    await asyncio.create_task(anext(generator, None))


def test_it_decorates_nothing() -> None:
    """A coroutine function would be called in the block, and run after it."""
    with pytest.raises(TypeError, match="not callable"):

        @deadline(5)  # type: ignore[operator]  # what is tested
        async def job() -> None: ...


@pytest.mark.parametrize(
    "limit", [-1, 10**400, float("nan"), float("inf"), True, "5", b"5", {"deadline": 5}, SimpleNamespace()]
)
def test_a_wrong_limit_is_refused(limit: Any) -> None:
    """It is told what is right; what was given isn't shown unless it is a number."""
    with (
        pytest.raises(ConfigurationError, match="deadline takes the context of a Lambda invocation, or seconds"),
        deadline(limit),
    ):
        pass


def test_threads_do_not_share_it() -> None:
    """A thread without the context has none."""
    found: list[float] = []
    with deadline(5):
        thread = threading.Thread(target=lambda: found.append(time_left(100.0)))
        thread.start()
        thread.join()

    assert found == [100.0]
