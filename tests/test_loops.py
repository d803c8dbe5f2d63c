"""Event loops for a moment."""

from __future__ import annotations

import asyncio

import pytest

from asecretcache._loops import is_loop_running, run_on_new_loop


def test_the_threads_current_loop_stays() -> None:
    """A module may get it afterwards, as it could before."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        assert run_on_new_loop(lambda: asyncio.sleep(0, "done")) == "done"
        assert asyncio.get_event_loop_policy().get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_what_still_runs_is_ended() -> None:
    """Tasks are cancelled, generators are closed, and the loop is closed, also after an error."""
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("task")

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        tasks.append(asyncio.create_task(forever()))
        await asyncio.sleep(0)
        raise ValueError

    loops: list[asyncio.AbstractEventLoop] = []
    tasks: list[asyncio.Task[None]] = []
    with pytest.raises(ValueError):  # it is raised above
        run_on_new_loop(main)

    assert ended == ["task"]
    assert loops[0].is_closed()


async def test_whether_a_loop_runs_is_of_this_thread() -> None:
    """Another thread may run one."""
    assert is_loop_running()
    assert not await asyncio.to_thread(is_loop_running)
