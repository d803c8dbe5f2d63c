"""Blocking work in threads for which nothing waits.

The threads of an event loop's executor are waited for: ``asyncio.run`` doesn't return, nor Python exit, before they are
done. A name server that doesn't answer holds such a thread for half a minute, which no invocation has.
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
#: As getaddrinfo returns it.
Address = tuple[int, int, int, str, Any]


async def in_thread(function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
    """Return what a function returns, or raise what it raises, in a thread of its own.

    If the caller is cancelled, or its loop ends, the thread goes on by itself.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_result(result) if error is None else future.set_exception(error)

    def work() -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = context.run(function, *arguments)
        except BaseException as exc:  # noqa: BLE001  # whatever it is, the caller gets it
            error = exc
        with suppress(RuntimeError):  # The loop is closed.
            loop.call_soon_threadsafe(settle, result, error)
        del error  # Its traceback holds this frame.

    threading.Thread(target=work, name=f"asecretcache {function.__name__}", daemon=True).start()
    return await future


async def resolve(host: str, port: int, family: int = socket.AF_UNSPEC) -> Sequence[Address]:
    """Return the addresses of a host; raise OSError if it has none."""
    for own_family, rest in ((socket.AF_INET, ()), (socket.AF_INET6, (0, 0))):
        with suppress(OSError):
            socket.inet_pton(own_family, host)  # It is an address itself.
            return [(own_family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, *rest))]
    return await in_thread(_addresses, host, port, family)


def _addresses(host: str, port: int, family: int) -> Sequence[Address]:
    return socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
