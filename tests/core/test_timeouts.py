"""The deadline of an invocation, and the time-out of a fetch."""

from __future__ import annotations

import asyncio

import pytest

from asecretcache._core.timeouts import Deadline, FetchTimeout, invocation_deadline, time_left
from asecretcache.testing import ManualClock


@pytest.fixture
def monotonic() -> ManualClock:
    return ManualClock(0.0)


@pytest.fixture
def timeout(clock: ManualClock, monotonic: ManualClock) -> FetchTimeout:
    return FetchTimeout(10, clock, monotonic)


# The invocation's deadline


@pytest.mark.virtual_time
async def test_without_a_deadline_all_the_time_is_left() -> None:
    """As in a server, or in a task that an invocation left running."""
    assert time_left(5.0) == 5.0


@pytest.mark.virtual_time
async def test_a_deadline_bounds_the_time_that_is_left() -> None:
    """It never falls below zero."""
    invocation_deadline.set(Deadline(3.0, asyncio.get_running_loop().time))

    assert time_left(5.0) == pytest.approx(3.0)
    assert time_left(1.0) == 1.0
    await asyncio.sleep(4.0)
    assert time_left(5.0) == 0.0


@pytest.mark.virtual_time
async def test_a_deadline_that_was_cleared_bounds_nothing() -> None:
    """The invocation is over, so a task that still has its context may wait as long as it likes."""
    invocation_deadline.set(deadline := Deadline(3.0, asyncio.get_running_loop().time))

    deadline.clear()

    assert time_left(5.0) == 5.0


# The time-out of a fetch


@pytest.mark.virtual_time
async def test_a_time_out_ends_what_takes_longer(timeout: FetchTimeout) -> None:
    """By the loop's clock, after exactly its seconds."""
    assert not timeout.was_raised

    with pytest.raises(TimeoutError):
        async with timeout.start():
            await asyncio.sleep(11)

    assert timeout.was_raised
    assert asyncio.get_running_loop().time() == pytest.approx(10)


@pytest.mark.virtual_time
async def test_a_time_out_that_was_not_reached_was_not_raised(timeout: FetchTimeout) -> None:
    """A TimeoutError of the source's own is told apart by that."""
    with pytest.raises(TimeoutError, match="its own"):
        async with timeout.start():
            raise TimeoutError("its own")

    assert not timeout.was_raised


@pytest.mark.virtual_time
async def test_the_wait_for_a_slot_is_not_time_of_the_fetch(timeout: FetchTimeout) -> None:
    """While it is paused nothing ends it, and the whole time begins when it resumes."""
    with pytest.raises(TimeoutError):
        async with timeout.start():
            timeout.pause()
            await asyncio.sleep(1000)
            timeout.resume()
            await asyncio.sleep(11)

    assert asyncio.get_running_loop().time() == pytest.approx(1010)


async def test_a_time_out_may_be_paused_before_it_starts(timeout: FetchTimeout, clock: ManualClock) -> None:
    """Whichever comes first, nothing is counted until it resumes."""
    timeout.pause()
    clock.advance(1000)
    assert not timeout.has_expired()

    timeout.resume()
    assert not timeout.has_expired()
    clock.advance(11)
    assert timeout.has_expired()


@pytest.mark.virtual_time
async def test_the_remainder_ends_when_the_whole_would_have(timeout: FetchTimeout) -> None:
    """A batch and the single fetches that follow it share one time; pauses change nothing of that."""
    async with timeout.start():
        await asyncio.sleep(6)
    rest = timeout.remainder()

    with pytest.raises(TimeoutError):
        async with rest.start():
            rest.pause()
            rest.resume()
            await asyncio.sleep(5)

    assert rest.was_raised
    assert rest.seconds == 10
    assert asyncio.get_running_loop().time() == pytest.approx(10)


@pytest.mark.virtual_time
async def test_the_remainder_of_what_never_started_is_the_whole(timeout: FetchTimeout) -> None:
    """Nothing of it was used."""
    with pytest.raises(TimeoutError):
        async with timeout.remainder().start():
            await asyncio.sleep(11)

    assert asyncio.get_running_loop().time() == pytest.approx(10)


def test_the_remainder_expires_with_the_whole(timeout: FetchTimeout, clock: ManualClock) -> None:
    """By the clocks its time began with the whole's."""
    clock.advance(6)
    rest = timeout.remainder()
    assert not rest.has_expired()

    clock.advance(5)

    assert rest.has_expired()


@pytest.mark.parametrize(("seconds", "expired"), [(10.0, False), (10.1, True), (-10.0, False), (-10.1, True)])
def test_a_fetch_has_expired_by_the_wall_clock(
    timeout: FetchTimeout, clock: ManualClock, seconds: float, *, expired: bool
) -> None:
    """It slept through a freeze, or the clock was set back by so much that its age is unknown."""
    clock.advance(seconds)

    assert timeout.has_expired() is expired


@pytest.mark.parametrize(("seconds", "expired"), [(10.0, False), (10.1, True)])
def test_a_fetch_has_expired_by_the_monotonic_clock(
    timeout: FetchTimeout, monotonic: ManualClock, seconds: float, *, expired: bool
) -> None:
    """Where only the wall clock stood still over a freeze."""
    monotonic.advance(seconds)

    assert timeout.has_expired() is expired


def test_resuming_starts_both_clocks_anew(timeout: FetchTimeout, clock: ManualClock, monotonic: ManualClock) -> None:
    """The time in line counts by neither."""
    timeout.pause()
    clock.advance(100)
    monotonic.advance(100)
    asyncio.run(_resume(timeout))

    assert not timeout.has_expired()


async def _resume(timeout: FetchTimeout) -> None:
    timeout.resume()


def test_the_start_may_be_given(clock: ManualClock, monotonic: ManualClock) -> None:
    """The fetches of one batch start at one moment."""
    timeout = FetchTimeout(10, clock, monotonic, clock() - 11)

    assert timeout.has_expired()
