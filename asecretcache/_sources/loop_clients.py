"""One client per event loop, closed with its loop."""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator, MutableMapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Final, Protocol, runtime_checkable

from asecretcache._exceptions import ConfigurationError

OpenClient = Callable[[], AbstractAsyncContextManager[Any]]
_Loop = asyncio.AbstractEventLoop

# Load balancers and NAT gateways drop idle connections, and over a freeze nobody sees the end of them. A request on a
# dead socket costs the SDK's back-off; a new client costs some milliseconds.
MAX_IDLE: Final = 20.0
# While the loop stands still, as between invocations, nobody hears of connections that end: their news come with the
# loop's next turns, of which TLS takes several.
_SETTLED: Final = 1.0
_TURNS: Final = 4
_CLOSING: Final = 1.0


@runtime_checkable
class Detachable(Protocol):
    """A client that can let go of its connections by itself."""

    def detach_transports(self) -> Iterator[Any]:
        """Yield the transports, which are the caller's to end; it is called where the client's loop doesn't run."""
        ...


class LoopClient:
    """The client of one loop, and the slots of those who use it; it belongs to that loop's tasks."""

    def __init__(self, open_client: OpenClient, slots: int, clock: Callable[[], float]) -> None:
        self.slots = asyncio.Semaphore(slots)
        self._open = open_client
        self._clock = clock
        self._lock = asyncio.Lock()
        self._lifetime: AsyncGenerator[Any, None] | None = None
        self._client: Any = None
        self._users = 0
        self._used_at = 0.0

    async def acquire(self) -> Any:
        """Return the client, made now if there is none to trust; every acquire needs a release."""
        async with self._lock:
            idle = self._clock() - self._used_at
            if self._lifetime is not None and not self._users and not 0 <= idle <= MAX_IDLE:
                await self.aclose()
            elif self._lifetime is not None and idle > _SETTLED:
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
            # shutdown_asyncgens may have ended the generator of a loop that is run again.
            if self._lifetime is None or getattr(self._lifetime, "ag_frame", None) is None:
                self._lifetime = None
                lifetime = _lifetime_of(self._open())
                self._client = await anext(lifetime)
                self._lifetime = lifetime
            # No await from here on: a cancelled caller isn't counted.
            self._users += 1
            return self._client

    def release(self) -> None:
        """Give the client back."""
        self._users -= 1
        self._used_at = self._clock()

    async def aclose(self) -> None:
        """Close the client unless it is in use; then whoever drops the last reference to this object closes it."""
        if self._users or self._lifetime is None:
            return
        lifetime, self._lifetime, self._client = self._lifetime, None, None
        # What goes wrong in closing is nobody's concern, and a dead peer must not hold up a fetch.
        with suppress(Exception):
            async with asyncio.timeout(_CLOSING):
                await anext(lifetime, None)  # The normal exit, which aclose() alone isn't.
                await lifetime.aclose()

    def drop(self, *, touch_transports: bool = True) -> None:
        """Let go of the client from outside of its loop, which doesn't run: no warning, no log, no await."""
        with suppress(Exception):
            for transport in list(_detached(self._client)):
                hush(transport, abort=touch_transports)
        lifetime, self._lifetime, self._client = self._lifetime, None, None
        if lifetime is not None and touch_transports:
            # Nothing is left to wait for, so the exits run to their end in one step.
            ending = lifetime.aclose()
            with suppress(StopIteration, Exception):
                ending.send(None)
            with suppress(Exception):
                ending.close()


def _lifetime_of(manager: AbstractAsyncContextManager[Any]) -> AsyncGenerator[Any, None]:
    """Return the generator that yields the client once and closes it when it is resumed or ended.

    asyncio.run, a Runner and uvloop end the generators of their loop, all at the same time. So there must be only one:
    a generator inside of another would be ended twice, and the loop would log that. What @asynccontextmanager made has
    one already.
    """
    inside = getattr(manager, "gen", None)
    return inside if isinstance(inside, AsyncGenerator) else _lifetime(manager)


async def _lifetime(manager: AbstractAsyncContextManager[Any]) -> AsyncGenerator[Any, None]:
    async with manager as client:
        yield client


class LoopClients:
    """The clients of all loops. Any task, loop or thread may use it."""

    def __init__(self, open_client: OpenClient, slots: int, *, clock: Callable[[], float] = time.time) -> None:
        # open_client must not refer to this object: then it is never collected.
        self._open = open_client
        self._slots = slots
        self._clock = clock
        self._guard = threading.Lock()
        self._clients: MutableMapping[_Loop, LoopClient] = weakref.WeakKeyDictionary()
        self._closed = False
        # Unlike __del__ it runs before the collector finalizes anything of a dead cycle, and at exit.
        weakref.finalize(self, _drop_all, self._clients)
        _alive.add(self)

    def here(self) -> LoopClient:
        """Return the running loop's.

        Raises:
            ConfigurationError: after aclose.
        """
        loop = asyncio.get_running_loop()
        with self._guard:
            if self._closed:
                msg = "the source is closed: make a new one"
                raise ConfigurationError(msg)
            found = self._clients.get(loop)
            if found is not None:
                return found
            dead = [(other, client) for other, client in self._clients.items() if other.is_closed()]
            for other, _ in dead:
                del self._clients[other]
            found = self._clients[loop] = LoopClient(self._open, self._slots, self._clock)
        for _, client in dead:
            client.drop()
        return found

    async def aclose(self) -> None:
        """Close this loop's client; those of other live loops are closed by them, soon. Idempotent."""
        with self._guard:
            self._closed = True
            mine = self._clients.pop(asyncio.get_running_loop(), None)
            _drop_all(self._clients)
        if mine is not None:
            await mine.aclose()

    def _forget(self) -> None:
        """Start anew in the child of a fork.

        epoll objects are shared with the parent: unregistering a socket here would make the parent's loop deaf to it.
        """
        self._guard = threading.Lock()
        for client in self._clients.values():
            client.drop(touch_transports=False)
        _inherited.extend(self._clients.items())
        self._clients.clear()


def _drop_all(clients: MutableMapping[_Loop, LoopClient]) -> None:
    while clients:
        loop, client = clients.popitem()
        # The generator of a running loop is ended by that loop: its finalizer hook calls it from any thread.
        if not loop.is_running():
            client.drop()


def mended(client: Any) -> Any:
    """Return a client of aiobotocore's, with two faults of its connections mended.

    It would take any certificate of a trusted authority, for whatever host: botocore turns the comparison of names off,
    because urllib3 makes it by itself, and aiohttp doesn't. And asyncio waits up to 30 s for the peer's end of TLS. A
    peer that hangs or was forgotten by a gateway owes it for ever, and most loops end before: their sockets would stay
    open, and warn. So connections that are given up are dropped without a farewell.
    """
    with suppress(AttributeError):  # Where a version has other names for these, the tests tell.
        session = client._endpoint.http_session
        session._create_connector = functools.partial(_connector, session._create_connector)
    return client


def _connector(create: Callable[[Any], Any], proxy_url: Any) -> Any:
    connector = create(proxy_url)
    with suppress(AttributeError):
        context = connector._ssl
        # One that verifies nothing was asked for with verify=False; TLS with a proxy has rules of its own.
        if context and context.verify_mode == ssl.CERT_REQUIRED and not str(proxy_url or "").startswith("https:"):
            context.check_hostname = True
        connector._factory = functools.partial(_abortive, connector._factory)
    return connector


def _abortive(create: Callable[[], Any]) -> Any:
    protocol = create()
    with suppress(AttributeError):
        protocol.close = protocol.abort
    return protocol


def _detached(client: Any) -> Iterator[Any]:
    """Part the client, or aiobotocore's HTTP sessions from their connectors, and yield the transports of the pools.

    Closing them is a coroutine of the dead loop, and left alone each warns in __del__.
    """
    if isinstance(client, Detachable):
        yield from client.detach_transports()
        return
    sessions = getattr(getattr(getattr(client, "_endpoint", None), "http_session", None), "_sessions", None) or {}
    for session in list(sessions.values()):
        connector = session.connector
        session.detach()
        pooled = [entry[0] for pool in list(connector._conns.values()) for entry in pool]
        transports = [protocol.transport for protocol in [*pooled, *connector._acquired]]
        # What close() does on a closed loop; its awaitable warns if nobody awaits it.
        connector._closed = True
        connector._conns.clear()
        yield from (transport for transport in transports if transport is not None)


def hush(transport: Any, *, abort: bool) -> None:
    """Close a transport of a loop that doesn't run; uvloop's own closes with its loop."""
    inner = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    for each in (inner, transport):
        if each is None:
            continue
        with suppress(Exception):
            each._call_connection_lost = _nothing
        if abort:  # pragma: no branch - False is for the child of a fork, which isn't measured
            # It marks itself closed before it fails for want of a loop.
            with suppress(Exception):
                each.abort()
        with suppress(Exception):
            each._closed = True
        with suppress(Exception):
            each._sock.close()
            each._sock = None


def _nothing(_: object) -> None:
    """What a loop that is run again has left to do for a connection that was ended meanwhile."""


# Who to tell of a fork, and what its child inherited and must neither use nor finalize.
_alive: weakref.WeakSet[LoopClients] = weakref.WeakSet()
_inherited: list[tuple[_Loop, LoopClient]] = []


def _after_fork() -> None:
    for clients in list(_alive):
        clients._forget()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
