"""One client per event loop, closed with its loop."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Any, Final, Protocol

from asecretcache._exceptions import CacheClosedError
from asecretcache._process_events import after_fork, before_snapshot

_Loop = asyncio.AbstractEventLoop

# Load balancers and NAT gateways drop idle connections, and nothing tells of it over a freeze. A request on a dead
# connection costs the SDK's back-off; a new connection costs some milliseconds.
MAX_IDLE: Final = 20.0
# Between invocations the loop isn't running, so closed connections go unnoticed until it has run a few iterations:
# TLS takes several.
_UNNOTICED_IDLE: Final = 1.0
_ITERATIONS: Final = 4
_CLOSE_TIMEOUT: Final = 1.0
#: The clock by which clients grow old; tests replace it.
wall_clock: Callable[[], float] = time.time


class ClientFactory(Protocol):
    """Makes clients, and closes their connections."""

    def prepare(self) -> bool:
        """Do what clients of all loops need; return whether a client takes long to make and may serve any loop."""
        ...

    def open(self) -> AbstractAsyncContextManager[Any]:
        """Return a context manager of a new client."""
        ...

    async def connect(self, client: Any) -> None:
        """Open a connection for the client's first call. It may raise anything."""
        ...

    def outdate(self, client: Any) -> None:
        """Don't use the client once it is closed: its credentials were refused."""
        ...

    async def close_connections(self, client: Any) -> bool:
        """Close the connections of a client that nobody uses; return False if it can't be used any more then."""
        ...

    def abandon(self, client: Any, *, abort: bool) -> None:
        """Close the connections of a client whose loop doesn't run, without awaiting anything.

        Args:
            client: the client, or None.
            abort: False in the child of a fork, which must leave the parent's event loop alone.
        """
        ...


class LoopClients:
    """The clients of all loops. Any task, loop or thread may use it.

    Args:
        factory: makes the clients. It must not refer to the LoopClients object, which would then never be collected.
        max_concurrency: the number of slots of each loop.
    """

    def __init__(self, factory: ClientFactory, max_concurrency: int) -> None:
        self._new_client = partial(LoopClient, factory, max_concurrency)
        self._lock = threading.Lock()
        self._clients: MutableMapping[_Loop, LoopClient] = weakref.WeakKeyDictionary()
        self._is_closed = False
        # Unlike __del__ it runs before the collector finalizes the objects of a dead reference cycle, and at exit.
        weakref.finalize(self, _abandon_all, self._clients)
        after_fork.add(self.reset_after_fork)
        before_snapshot.add(self.abandon_all)

    def for_running_loop(self) -> LoopClient:
        """Return the running loop's client.

        Raises:
            CacheClosedError: after ``aclose()``.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._is_closed:
                raise CacheClosedError("the source is closed: make a new one")
            loop_client = self._clients.get(loop)
            if loop_client is not None:
                return loop_client
            closed_loops = [other for other in self._clients if other.is_closed()]
            dead = [self._clients.pop(other) for other in closed_loops]
            self._clients[loop] = loop_client = self._new_client()
        for client in dead:
            client.abandon()
        return loop_client

    async def close_this_loops(self) -> None:
        """Close this loop's client; the next fetch makes another one."""
        with self._lock:
            loop_client = self._clients.get(asyncio.get_running_loop())
        if loop_client is not None:
            await loop_client.aclose()

    def abandon_all(self) -> None:
        """Close the clients of all loops that don't run."""
        with self._lock:
            _abandon_all(self._clients)

    async def aclose(self) -> None:
        """Close this loop's client; other running loops close theirs soon after. Idempotent."""
        with self._lock:
            self._is_closed = True
            loop_client = self._clients.pop(asyncio.get_running_loop(), None)
            _abandon_all(self._clients)
        if loop_client is not None:
            await loop_client.aclose()

    def reset_after_fork(self) -> None:
        """Drop the parent's clients, without touching what the parent still uses.

        The child inherits the parent's epoll object: unregistering a socket there would make the parent's loop miss its
        events.
        """
        self._lock = threading.Lock()
        for client in self._clients.values():
            client.abandon_after_fork()
        _inherited.extend(self._clients.items())
        self._clients.clear()


class LoopClient:
    """The client of one loop, made when it is needed, and the slots of its callers. It belongs to that loop."""

    def __init__(self, factory: ClientFactory, max_concurrency: int) -> None:
        self.slots = asyncio.Semaphore(max_concurrency)
        self._factory = factory
        self._lock = asyncio.Lock()
        self._lifetime: AsyncGenerator[Any, None] | None = None
        self._client: Any = None
        self._users = 0
        self._used_at = 0.0
        self._is_outdated = False

    async def acquire(self) -> Any:
        """Return the client, a new one if there is none, without old connections; each acquire needs a release."""
        async with self._lock:
            await self._drop_old()
            # shutdown_asyncgens may have ended the generator, and the loop may be run again after it.
            if getattr(self._lifetime, "ag_frame", None) is None:
                self._lifetime = None
                lifetime = _lifetime_of(self._factory.open())
                self._client = await anext(lifetime)
                self._lifetime = lifetime
            # Nothing is awaited from here on, so a cancelled caller isn't counted.
            self._users += 1
            return self._client

    async def _drop_old(self) -> None:
        """Close connections that were idle for too long, or the client if it is outdated."""
        if self._lifetime is None:
            return
        idle = wall_clock() - self._used_at
        if not self._users and self._is_outdated:
            await self.aclose()
        elif not self._users and not 0 <= idle <= MAX_IDLE:
            if not await self._close_connections():
                await self.aclose()
        elif idle > _UNNOTICED_IDLE:
            for _ in range(_ITERATIONS):
                await asyncio.sleep(0)

    async def _close_connections(self) -> bool:
        with suppress(Exception):  # A dead peer must not hold up a fetch.
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                return await self._factory.close_connections(self._client)
        return False

    def outdate(self) -> None:
        """Let the next caller have another client, which looks for credentials anew: this one's were refused."""
        if self._client is not None:
            self._is_outdated = True
            self._factory.outdate(self._client)

    def release(self) -> None:
        """Give the client back."""
        self._users -= 1
        self._used_at = wall_clock()

    async def aclose(self) -> None:
        """Close the client. If it is in use, it is closed when the last reference to this object is dropped."""
        if self._users or self._lifetime is None:
            return
        lifetime, self._lifetime, self._client = self._lifetime, None, None
        self._is_outdated = False
        # An error in closing concerns no caller, and a dead peer must not hold up a fetch.
        with suppress(Exception):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await anext(lifetime, None)  # The normal exit of the context manager, which aclose() alone isn't.
                await lifetime.aclose()

    def abandon(self) -> None:
        """Close the client from outside of its loop, which doesn't run: no warning, no log, nothing awaited."""
        lifetime, client, self._lifetime, self._client = self._lifetime, self._client, None, None
        with suppress(Exception):
            self._factory.abandon(client, abort=True)
        if lifetime is not None:
            # Without connections the context manager's exit awaits nothing, so one step ends it.
            exit_ = lifetime.aclose()
            with suppress(Exception):
                exit_.send(None)
            with suppress(Exception):
                exit_.close()

    def abandon_after_fork(self) -> None:
        """In the child of a fork: close the copies of the sockets, and leave the rest as it is."""
        with suppress(Exception):
            self._factory.abandon(self._client, abort=False)


def _lifetime_of(manager: AbstractAsyncContextManager[Any]) -> AsyncGenerator[Any, None]:
    """Return a generator that yields the client once, and closes it when the generator is resumed or closed.

    asyncio.run, asyncio.Runner and uvloop close all generators of their loop at the same time. A generator inside of
    another one would be closed twice, which the loop would log. So the generator of an @asynccontextmanager is used
    itself.
    """
    generator = getattr(manager, "gen", None)
    return generator if isinstance(generator, AsyncGenerator) else _lifetime(manager)


async def _lifetime(manager: AbstractAsyncContextManager[Any]) -> AsyncGenerator[Any, None]:
    async with manager as client:
        yield client


def _abandon_all(clients: MutableMapping[_Loop, LoopClient]) -> None:
    # Not popitem: the collector may empty it meanwhile.
    for loop, client in list(clients.items()):
        clients.pop(loop, None)
        # A running loop closes the generator itself: asyncio's finalizer hook tells it to, from any thread.
        if not loop.is_running():
            client.abandon()


# The clients and loops of a fork's parent: the child must neither use nor finalize them.
_inherited: Final[list[tuple[_Loop, LoopClient]]] = []
