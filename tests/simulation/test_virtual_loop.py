"""The loop that the simulations run on does what it says."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from simulation.virtual_loop import StuckError, VirtualLoop, VirtualTime


@contextmanager
def loop_of(
    seed: int | None = None, clock: VirtualTime | None = None, most_callbacks: int = 10_000
) -> Iterator[VirtualLoop]:
    loop = VirtualLoop(None if seed is None else random.Random(seed), clock, most_callbacks=most_callbacks)
    try:
        yield loop
    finally:
        loop.close()


def test_time_passes_without_waiting() -> None:
    """Sleeping for years takes as long as running what comes then, and the loop's clock shows the years."""
    with loop_of() as loop:
        loop.run_until_complete(asyncio.sleep(1e9))

        assert loop.time() == pytest.approx(1e9)


async def _sleep_and_tell(told: list[int], number: int, seconds: float) -> None:
    await asyncio.sleep(seconds)
    told.append(number)


async def _gather(told: list[int], seconds: Callable[[int], float]) -> None:
    await asyncio.gather(*(_sleep_and_tell(told, number, seconds(number)) for number in range(10)))


def order(seed: int | None, seconds: Callable[[int], float]) -> list[int]:
    told: list[int] = []
    with loop_of(seed) as loop:
        loop.run_until_complete(_gather(told, seconds))
    return told


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_timers_keep_the_order_of_their_times(seed: int | None) -> None:
    """What is due later runs later, whatever the seed."""
    assert order(seed, lambda number: 10.0 - number) == list(range(9, -1, -1))


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_what_is_ready_at_once_runs_in_the_seeds_order(seconds: float) -> None:
    """The same seed gives the same order, and others give others."""
    orders = {seed: order(seed, lambda _: seconds) for seed in range(20)}

    assert all(sorted(each) == list(range(10)) for each in orders.values())
    assert orders == {seed: order(seed, lambda _: seconds) for seed in range(20)}
    assert len({tuple(each) for each in orders.values()}) > 15


def test_without_a_seed_the_order_is_asyncios() -> None:
    """Ready callbacks run in the order in which they became ready."""
    assert order(None, lambda _: 0.0) == list(range(10))


def test_waiting_for_ever_is_raised() -> None:
    """A hang is an error at once."""

    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    with loop_of() as loop, pytest.raises(StuckError, match="for ever"):
        loop.run_until_complete(_quietly(hang))


def test_going_round_for_ever_is_raised() -> None:
    """So is a loop that never ends, in which no time passes."""

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    with loop_of() as loop, pytest.raises(StuckError, match="no end"):
        loop.run_until_complete(_quietly(spin))


async def _quietly(function: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.current_task()
    assert task is not None
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # the loop dies with it, which is what is tested
    await function()


def test_loops_of_one_machine_share_its_clock() -> None:
    """What sleeps on a loop that rests is late when that runs again, as with a real clock."""
    clock = VirtualTime()
    with loop_of(clock=clock) as one, loop_of(clock=clock) as other:
        sleeper = one.create_task(asyncio.sleep(5))
        one.run_until_complete(asyncio.sleep(1))
        other.run_until_complete(asyncio.sleep(100))
        one.run_until_complete(sleeper)

    assert clock() == pytest.approx(101)


def test_what_nobody_retrieves_is_kept_as_a_complaint() -> None:
    """A simulation looks at the end whether anything was left behind."""

    async def fail() -> None:
        raise ValueError

    with loop_of() as loop:
        task = loop.create_task(fail())
        loop.run_until_complete(asyncio.sleep(1))
        del task

        assert [type(each["exception"]) for each in loop.complaints] == [ValueError]


def test_timeouts_and_cancellations_work_in_any_order() -> None:
    """asyncio's own primitives need no order either."""

    async def run() -> list[str]:
        told: list[str] = []
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(2)
        except TimeoutError:
            told.append("late")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.sleep(1000))
            await asyncio.sleep(0)
            task.cancel()
        told.append(str(task.cancelled()))
        return told

    for seed in range(50):
        with loop_of(seed) as loop:
            assert loop.run_until_complete(run()) == ["late", "True"]
            assert loop.time() == pytest.approx(1)
