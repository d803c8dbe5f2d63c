"""Handlers for what async_handler promises beyond running."""

from __future__ import annotations

import asyncio
import contextvars
import os
from typing import Any

from asecretcache import async_handler, bootstrap, get_secret

seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")
tasks: list[asyncio.Task[str]] = []
gate = asyncio.Event()


@async_handler
async def contexts(event: str, context: Any) -> str:
    before = seen.get()
    seen.set(event)
    return before


async def _behind_the_gate() -> str:
    await gate.wait()
    # By now the deadline of the invocation that started this has passed.
    return await get_secret("prod/api")


@async_handler
async def background(event: str, context: Any) -> str:
    if event == "start":
        tasks.append(asyncio.create_task(_behind_the_gate()))
        return "started"
    gate.set()
    return await tasks[0]


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
