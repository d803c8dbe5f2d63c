"""The clients of the regions that ARNs name, beside those of the source's own region."""

from __future__ import annotations

import threading
from functools import partial
from typing import Protocol

from asecretcache._process_events import after_fork
from asecretcache._sources.loop_clients import ClientFactory, LoopClients


class RegionalFactory(ClientFactory, Protocol):
    """Makes clients that can be told which region to call."""

    def own_region(self) -> str | None:
        """Return the region that is called by a client opened without one, as far as that is known without the SDK."""
        ...

    def serves(self, region: str) -> bool:
        """Whether that is the region that a client opened without one calls, or no client can be told which to call."""
        ...


class RegionalClients:
    """The clients of a source, by region. Any task, loop or thread may use it.

    Args:
        factory: makes the clients.
        max_concurrency: the number of slots of each loop and region.
    """

    def __init__(self, factory: ClientFactory, max_concurrency: int) -> None:
        self._new_clients = partial(LoopClients, factory, max_concurrency)
        self.own = self._new_clients()
        self._others: dict[str, LoopClients] = {}
        self._reset_lock()
        after_fork.add(self._reset_lock)

    def _reset_lock(self) -> None:
        self._lock = threading.Lock()

    def of(self, region: str | None) -> LoopClients:
        """Return the clients of a region.

        Raises:
            CacheClosedError: after ``aclose()``.
        """
        if region is None:
            return self.own
        self.own.check_open()
        with self._lock:
            found = self._others.get(region)
            if found is None:
                found = self._others[region] = self._new_clients(region)
        return found

    async def close_this_loops(self) -> None:
        """Close this loop's clients; the next fetch makes others."""
        for clients in self._all():
            await clients.close_this_loops()

    async def aclose(self) -> None:
        """Close this loop's clients; other running loops close theirs soon after. Idempotent."""
        for clients in self._all():
            await clients.aclose()

    def _all(self) -> list[LoopClients]:
        with self._lock:
            return [self.own, *self._others.values()]
