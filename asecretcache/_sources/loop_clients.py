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


class Lease:
    """A client, and how many callers on its loop use it now."""

    __slots__ = ("client", "is_outdated", "users")

    def __init__(self) -> None:
        self.client: Any = None
        self.users = 0
        self.is_outdated = False


class ClientFactory(Protocol):
    """Makes clients, and closes their connections."""

    def prepare(self) -> bool:
        """Do what clients of all loops need; return whether a client takes long to make and may serve any loop."""
        ...

    def open(self, lease: Lease, region: str | None = None) -> AbstractAsyncContextManager[Any]:
        """Return a context manager of a client that no other loop uses, for a region or for the source's own."""
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
            client: the client.
            abort: False in the child of a fork, which must leave the parent's event loop alone.
        """
        ...


class LoopClients:
    """The clients of all loops. Any task, loop or thread may use it.

    Args:
        factory: makes the clients. It must not refer to the LoopClients object, which would then never be collected.
        max_concurrency: the number of slots of each loop.
        region: the region that they call; None for the source's own.
    """

    def __init__(self, factory: ClientFactory, max_concurrency: int, region: str | None = None) -> None:
        self._new_client = partial(LoopClient, factory, max_concurrency, region)
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
            self.check_open()
            loop_client = self._clients.get(loop)
            if loop_client is not None:
                return loop_client
            closed_loops = [other for other in self._clients if other.is_closed()]
            dead = [self._clients.pop(other) for other in closed_loops]
            self._clients[loop] = loop_client = self._new_client()
        for client in dead:
            client.abandon()
        return loop_client

    def check_open(self) -> None:
        """Raise CacheClosedError after ``aclose()``."""
        if self._is_closed:
            raise CacheClosedError("the source is closed: make a new one")

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

    def __init__(self, factory: ClientFactory, max_concurrency: int, region: str | None) -> None:
        self._region = region
        self.slots = asyncio.Semaphore(max_concurrency)
        self._factory = factory
        self._lock = asyncio.Lock()
        self._current: Lease | None = None
        # Besides the current one those that were replaced, until their last caller is done.
        self._lifetimes: dict[Lease, AsyncGenerator[Any, None]] = {}
        self._used_at = 0.0

    async def acquire(self) -> Lease:
        """Return the client, a new one if there is none, without old connections; each acquire needs a release."""
        async with self._lock:
            await self._drop_old()
            lease = self._current
            if lease is None:
                lease = Lease()
                lifetime = _lifetime_of(self._factory.open(lease, self._region))
                lease.client = await anext(lifetime)
                self._lifetimes[lease] = lifetime
                self._current = lease
            # Nothing is awaited from here on, so a cancelled caller isn't counted.
            lease.users += 1
            return lease

    async def _drop_old(self) -> None:
        """Close connections that were idle for too long; let go of a client that is outdated or was closed."""
        lease = self._current
        if lease is None:
            return
        idle = wall_clock() - self._used_at
        if lease.is_outdated or _has_ended(self._lifetimes[lease]):
            await self.aclose()
        elif not lease.users and not 0 <= idle <= MAX_IDLE:
            if not await self._close_connections(lease):
                await self.aclose()
        elif idle > _UNNOTICED_IDLE:
            for _ in range(_ITERATIONS):
                await asyncio.sleep(0)

    async def _close_connections(self, lease: Lease) -> bool:
        with suppress(Exception):  # A dead peer must not hold up a fetch.
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                return await self._factory.close_connections(lease.client)
        return False

    def outdate(self, lease: Lease) -> None:
        """Give later callers another client, which looks for credentials again: this one's were refused."""
        lease.is_outdated = True
        self._factory.outdate(lease.client)

    async def release(self, lease: Lease) -> None:
        """Give the client back; it is closed if it was replaced, and this was its last caller."""
        lease.users -= 1
        self._used_at = wall_clock()
        if lease is not self._current or _has_ended(self._lifetimes[lease]):
            await self._close_unused(lease)

    async def aclose(self) -> None:
        """Close the client, as soon as nobody uses it. A later caller gets a new one."""
        lease, self._current = self._current, None
        if lease is not None:
            await self._close_unused(lease)

    async def _close_unused(self, lease: Lease) -> None:
        lifetime = None if lease.users else self._lifetimes.pop(lease, None)
        if lifetime is None:
            return
        if lease is self._current:
            self._current = None
        if _has_ended(lifetime):
            # What its callers have opened since then.
            await self._close_connections(lease)
            return
        # An error in closing concerns no caller, and a dead peer must not hold up a fetch.
        with suppress(Exception):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await anext(lifetime, None)  # The normal exit of the context manager, which aclose() alone isn't.
                await lifetime.aclose()

    def abandon(self) -> None:
        """Close the clients from outside of their loop, which doesn't run: no warning, no log, nothing awaited."""
        self._current = None
        while self._lifetimes:
            lease, lifetime = self._lifetimes.popitem()
            with suppress(Exception):
                self._factory.abandon(lease.client, abort=True)
            # Without connections the context manager's exit awaits nothing, so one step ends it.
            exit_ = lifetime.aclose()
            with suppress(Exception):
                exit_.send(None)
            with suppress(Exception):
                exit_.close()

    def abandon_after_fork(self) -> None:
        """In the child of a fork: close the copies of the sockets, and leave the rest as it is."""
        for lease in self._lifetimes:
            with suppress(Exception):
                self._factory.abandon(lease.client, abort=False)


def _has_ended(lifetime: AsyncGenerator[Any, None]) -> bool:
    """Return whether shutdown_asyncgens has ended a client's generator. The loop may be run again after it."""
    return getattr(lifetime, "ag_frame", None) is None


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
