"""Event loops for a moment, for synchronous code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")
_TASKS_SECONDS: Final = 0.5


def is_loop_running() -> bool:
    """Return whether an event loop runs in this thread, so that no other one can."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def run_on_new_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Return what a coroutine returns, run on a loop of its own.

    Unlike ``asyncio.run`` it leaves the thread's current loop alone, which a module may get after this, and waits for
    no thread.
    """
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work())
    finally:
        end_loop(loop)


def end_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel a loop's tasks, close its generators, and so its clients, and close it.

    As asyncio.Runner does it, but without waiting for long, and without starting a thread: from 3.12 on that fails
    while Python exits.
    """
    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=_TASKS_SECONDS))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
