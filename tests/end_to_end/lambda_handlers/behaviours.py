"""Handlers for what async_handler promises beyond running."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
from typing import Any

from asecretcache import async_handler, bootstrap, get_secret

seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")
tasks: list[asyncio.Task[Any]] = []
first: list[Any] = []
gate = asyncio.Event()


@async_handler
async def contexts(event: str, context: Any) -> str:
    before = seen.get()
    seen.set(event)
    return before


async def _behind_the_gate() -> str:
    await gate.wait()
    return await get_secret("prod/api")


@async_handler
async def background(event: str, context: Any) -> str:
    if event == "start":
        first.append(context)
        tasks.append(asyncio.create_task(_behind_the_gate()))
        return "started"
    # The task asks for its secret when the time of the invocation that started it has passed.
    while first[0].get_remaining_time_in_millis():
        await asyncio.sleep(0.01)
    gate.set()
    value: str = await tasks[0]
    return value


@async_handler
async def hang(event: Any, context: Any) -> str:
    return await get_secret("prod/api")


class OwnError(Exception):
    """A user's error."""


@async_handler
async def fail(event: Any, context: Any) -> str:
    raise OwnError("mine")


@async_handler
async def stored(event: Any, context: Any) -> dict[str, bool]:
    was_there = "STORED_SECRET" in os.environ
    await bootstrap()
    return {"was_there": was_there, "is_there": bool(os.environ["STORED_SECRET"])}


async def _left_running() -> None:
    try:
        await gate.wait()
    finally:
        sys.stdout.write("ended\n")


@async_handler
async def _leave_a_task(event: Any, context: Any) -> None:
    await get_secret("prod/api")
    # It gives the loop an executor, and to shut that down in an orderly way would take a new thread.
    await asyncio.to_thread(os.getpid)
    tasks.append(asyncio.create_task(_left_running()))
    await asyncio.sleep(0)


def leave(event: Any, context: Any) -> None:
    """Leave a task running, then end the interpreter as it ends by itself."""
    _leave_a_task(event, context)
    sys.exit()
