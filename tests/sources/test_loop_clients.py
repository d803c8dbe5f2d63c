"""One client per event loop: when it is made, shared, replaced and closed."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from types import TracebackType
from typing import Any

import pytest

from asecretcache import CacheClosedError
from asecretcache._sources.loop_clients import LoopClients
from asecretcache._sources.sdk.source import UsersClientFactory
from asecretcache.testing import ManualClock
from source_helpers import FakeClient, run_tasks


class Abandoned:
    """Notes which clients were abandoned, and how."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, bool]] = []

    def __call__(self, client: Any, *, abort: bool) -> None:
        self.calls.append((client, abort))


OpenClient = Callable[[], AbstractAsyncContextManager[Any]]


class Factory(UsersClientFactory):
    """Opens clients by a function, and abandons them by another."""

    def __init__(self, open_client: OpenClient, abandon: Callable[..., None]) -> None:
        super().__init__(open_client)
        self._abandon = abandon

    def abandon(self, client: Any, *, abort: bool) -> None:
        self._abandon(client, abort=abort)


def clients_of(open_client: OpenClient, abandon: Callable[..., None] | None = None) -> LoopClients:
    return LoopClients(Factory(open_client, abandon or Abandoned()), 2)


class Broken:
    """A context manager that can't open its client."""

    async def __aenter__(self) -> Any:
        raise OSError

    async def __aexit__(self, *_: object) -> None:
        raise AssertionError


def one_by_one(*open_clients: OpenClient) -> OpenClient:
    """Open one of these clients at each call."""
    remaining = iter(open_clients)

    def open_client() -> AbstractAsyncContextManager[Any]:
        return next(remaining)()

    return open_client


async def use(clients: LoopClients) -> Any:
    """Acquire and release this loop's client."""
    loop_client = clients.for_running_loop()
    lease = await loop_client.acquire()
    await loop_client.release(lease)
    return lease.client


async def test_concurrent_callers_share_one_client() -> None:
    """Only one caller opens the client; if it is cancelled, the next caller does."""
    client = FakeClient()
    client.may_open.clear()
    clients = clients_of(client)
    first, *others = [asyncio.create_task(use(clients)) for _ in range(5)]
    await run_tasks()
    assert client.opened == 1

    first.cancel()
    await run_tasks()
    client.may_open.set()
    await asyncio.gather(*others)
    await clients.aclose()

    assert client.opened == 2
    assert client.closed == 1


async def test_a_client_in_use_outlives_aclose() -> None:
    """aclose() takes no client away from its user; it is closed when the user has given it back."""
    client = FakeClient()
    clients = clients_of(client)
    loop_client = clients.for_running_loop()
    lease = await loop_client.acquire()

    await clients.aclose()
    await run_tasks()
    assert client.closed == 0

    await loop_client.release(lease)
    assert client.closed == 1


class Droppable(Factory):
    """Clients whose connections can be closed, unless that fails."""

    def __init__(self, open_client: OpenClient, *, fails: bool = False) -> None:
        super().__init__(open_client, Abandoned())
        self.dropped = 0
        self.fails = fails

    async def close_connections(self, client: Any) -> bool:
        self.dropped += 1
        if self.fails:
            raise OSError
        return True


@pytest.mark.parametrize("fails", [False, True])
async def test_an_idle_clients_connections_are_closed(client_clock: ManualClock, fails: bool) -> None:
    """The client stays, unless that fails."""
    client = FakeClient()
    factory = Droppable(client, fails=fails)
    clients = LoopClients(factory, 1)
    for idle in (0, 20, 21, 1):
        client_clock.advance(idle)
        await use(clients)

    assert factory.dropped == 1
    assert client.opened == 1 + fails
    await clients.aclose()


async def test_an_outdated_client_is_replaced_for_later_callers() -> None:
    """It is closed when its last caller is done; with overlapping callers it would never be, otherwise."""
    client = FakeClient()
    clients = clients_of(client)
    loop_client = clients.for_running_loop()
    first, second = await loop_client.acquire(), await loop_client.acquire()
    loop_client.outdate(first)
    await use(clients)
    await use(clients)
    assert (client.opened, client.closed) == (2, 0)
    await loop_client.release(first)
    assert client.closed == 0
    await loop_client.release(second)
    assert client.closed == 1

    await clients.aclose()
    assert (client.opened, client.closed) == (2, 2)


async def test_this_loops_client_can_be_closed() -> None:
    """The next caller opens another one; without a client there is nothing to do."""
    client = FakeClient()
    clients = clients_of(client)
    await clients.close_this_loops()
    await use(clients)
    await clients.close_this_loops()
    assert client.closed == 1
    await use(clients)
    await clients.aclose()

    assert (client.opened, client.closed) == (2, 2)


async def test_a_client_in_use_is_not_replaced(client_clock: ManualClock) -> None:
    """However old it is, a client with a user stays, and other callers share it."""
    client = FakeClient()
    clients = clients_of(client)
    loop_client = clients.for_running_loop()
    first = await loop_client.acquire()
    client_clock.advance(100)

    assert await loop_client.acquire() is first
    await loop_client.release(first)
    client_clock.advance(100)
    assert await loop_client.acquire() is first
    await loop_client.release(first)
    await loop_client.release(first)
    await clients.aclose()
    assert client.opened == 1


@pytest.mark.parametrize(("idle", "opened"), [(0.0, 1), (20.0, 1), (20.1, 2), (-0.1, 2)])
async def test_an_idle_client_is_replaced(client_clock: ManualClock, idle: float, opened: int) -> None:
    """After more than 20 s by the wall clock, or after the clock was set back, there is a new client."""
    client = FakeClient()
    clients = clients_of(client)
    await use(clients)
    client_clock.advance(idle)
    await use(clients)
    await clients.aclose()

    assert client.opened == client.closed == opened


def test_a_loop_that_ends_closes_a_generators_client_quietly(caplog: pytest.LogCaptureFixture) -> None:
    """asyncio.run closes all generators of its loop, and logs one that is closed twice."""
    client = FakeClient()
    clients = clients_of(client)

    for _ in range(3):
        asyncio.run(use(clients))

    assert (client.opened, client.closed) == (3, 3)
    assert caplog.records == []


async def test_an_error_in_closing_is_suppressed() -> None:
    """An exception of the client's exit isn't raised by aclose()."""

    @asynccontextmanager
    async def open_client() -> AsyncIterator[FakeClient]:
        yield FakeClient()
        raise OSError

    clients = clients_of(open_client)
    await use(clients)

    await clients.aclose()


async def test_a_client_that_cant_be_opened_is_tried_again() -> None:
    """The error is raised, and the next caller opens a client."""
    client = FakeClient()
    clients = clients_of(one_by_one(Broken, client))
    with pytest.raises(OSError):
        await use(clients)

    assert await use(clients) is client
    await clients.aclose()


async def test_any_context_manager_will_do() -> None:
    """It need not be made by @asynccontextmanager."""
    events: list[str] = []

    class Manager:
        async def __aenter__(self) -> Any:
            events.append("open")
            return self

        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            events.append("closed")

    clients = clients_of(Manager)
    await use(clients)
    await clients.aclose()

    assert events == ["open", "closed"]


async def test_after_aclose_there_is_no_client() -> None:
    """Closed clients raise CacheClosedError, and closing them again does nothing."""
    clients = clients_of(FakeClient())
    await clients.aclose()
    await clients.aclose()

    with pytest.raises(CacheClosedError, match=r"^the source is closed: make a new one$"):
        clients.for_running_loop()


def test_the_client_of_a_closed_loop_is_abandoned_by_the_next() -> None:
    """Its connections are closed and its exit runs to the end."""
    clients, abandoned = [FakeClient(), FakeClient()], Abandoned()
    loop_clients = clients_of(one_by_one(*clients), abandoned)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(use(loop_clients))
    loop.close()
    assert abandoned.calls == []

    asyncio.run(use(loop_clients))

    assert abandoned.calls == [(clients[0], True)]
    assert clients[0].closed == 1


def test_a_client_that_fails_to_be_abandoned_is_closed_nevertheless() -> None:
    """An error in closing its connections is suppressed, and its exit runs."""

    def abandon(client: Any, *, abort: bool) -> None:
        raise OSError

    client = FakeClient()
    loop_clients = clients_of(client, abandon)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(use(loop_clients))
    loop.close()

    del loop_clients
    gc.collect()

    assert client.closed == 1


def test_a_dead_loop_without_a_client_is_forgotten() -> None:
    """If its client could not be opened, there is nothing to close."""
    client = FakeClient()
    loop_clients = clients_of(one_by_one(Broken, client))
    with suppress(OSError):
        asyncio.run(use(loop_clients))

    assert asyncio.run(use(loop_clients)) is client


def test_clients_that_the_collector_takes_with_their_loop_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when an error holds the loop and the cache in a cycle: the weak dictionary empties by itself meanwhile."""
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)

    def fail() -> None:
        clients = clients_of(Broken)
        try:
            asyncio.run(use(clients))
        except OSError as exc:
            kept = exc  # noqa: F841  # the cycle: its traceback holds this frame

    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            fail()
            gc.collect()
    finally:
        gc.enable()

    assert unraisable == []


def test_aclose_in_one_thread_closes_the_clients_of_all() -> None:
    """The loops of other threads close their clients themselves, soon after."""
    closed, is_ready, may_leave = threading.Event(), threading.Event(), threading.Event()
    opened: list[FakeClient] = []

    @asynccontextmanager
    async def open_client() -> AsyncIterator[FakeClient]:
        client = FakeClient()
        opened.append(client)
        try:
            yield client
        finally:
            if client is opened[0]:
                closed.set()

    clients = clients_of(open_client)

    async def in_thread() -> None:
        await use(clients)
        is_ready.set()
        await asyncio.to_thread(may_leave.wait)

    async def main() -> None:
        await use(clients)
        await clients.aclose()

    thread = threading.Thread(target=asyncio.run, args=(in_thread(),))
    thread.start()
    is_ready.wait()
    asyncio.run(main())
    assert closed.wait(10)
    may_leave.set()
    thread.join()
    assert len(opened) == 2


async def test_after_a_fork_the_parents_clients_are_neither_used_nor_closed() -> None:
    """Their connections are closed without an abort, and the next caller opens a client."""
    parents, childs, abandoned = FakeClient(), FakeClient(), Abandoned()
    clients = clients_of(one_by_one(parents, childs), abandoned)
    await use(clients)

    clients.reset_after_fork()
    assert await use(clients) is childs
    await clients.aclose()
    gc.collect()
    await run_tasks()

    assert abandoned.calls == [(parents, False)]
    assert (parents.closed, childs.closed) == (0, 1)
