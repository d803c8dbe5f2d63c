"""Event loops for a moment, for synchronous code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


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
        try:
            cancel_all_tasks(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()


def cancel_all_tasks(loop: asyncio.AbstractEventLoop, seconds: float = 0.5) -> None:
    """Cancel what still runs on a loop, and wait for it, but not for long."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=seconds))
