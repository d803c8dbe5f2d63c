"""The stored values: look-up, start order, eviction. No I/O, no await, no clock of its own.

Reading needs no lock: an entry never changes once it is stored. Whoever changes the store holds its owner's lock.
"""

from __future__ import annotations

import heapq
from typing import Any, Final

from asecretcache._secret import Secret, SecretRequest

_HEAP_SLACK: Final = 2


class Entry:
    """A value and how long it is fresh; ``text`` stands beside the secret to save the hit path an attribute."""

    __slots__ = ("born", "expires_at", "secret", "started", "text")

    def __init__(self, secret: Secret, *, started: int, born: float, expires_at: float) -> None:
        self.secret = secret
        self.text = secret.secret_string
        self.started = started
        self.born = born
        self.expires_at = expires_at

    def __repr__(self) -> str:
        return f"<Entry {self.secret!r} expires_at={self.expires_at!r}>"


class Store:
    """At most ``max_size`` entries by key; the expired are evicted first, then the oldest."""

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        #: The cache's hit path reads it, so it is never replaced.
        self.entries: Final[dict[Any, Entry]] = {}
        # The keys in the order of storing, oldest first.
        self._order: dict[Any, None] = {}
        self._versions: dict[str, set[Any]] = {}
        # (expires_at, started, key), with leftovers of entries that were replaced or dropped since.
        self._expiries: list[tuple[float, int, Any]] = []

    def put(self, request: SecretRequest, entry: Entry, now: float) -> bool:
        """Store the entry, unless what is stored comes from a fetch that started after it; return whether it was."""
        key = request.key
        present = self.entries.get(key)
        if present is not None and present.started > entry.started:
            return False
        # In place: readers in other threads hold no lock and must find one entry or the other.
        self.entries[key] = entry
        self._order.pop(key, None)
        self._order[key] = None
        if key is not request.secret_id:
            self._versions.setdefault(request.secret_id, set()).add(key)
        heapq.heappush(self._expiries, (entry.expires_at, entry.started, key))
        if len(self.entries) > self._max_size:
            self._evict(now)
        if len(self._expiries) > _HEAP_SLACK * len(self.entries) + self._max_size:
            self._expiries = [(each.expires_at, each.started, key) for key, each in self.entries.items()]
            heapq.heapify(self._expiries)
        return True

    def drop(self, secret_id: str) -> None:
        """Forget all versions of a secret."""
        for key in (secret_id, *self._versions.pop(secret_id, ())):
            self.entries.pop(key, None)
            self._order.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self.entries.clear()
        self._order.clear()
        self._versions.clear()
        self._expiries.clear()

    def _evict(self, now: float) -> None:
        while self._expiries and self._expiries[0][0] <= now:
            _, started, key = heapq.heappop(self._expiries)
            entry = self.entries.get(key)
            if entry is not None and entry.started == started:
                self._remove(key)
                return
        self._remove(next(iter(self._order)))

    def _remove(self, key: Any) -> None:
        del self.entries[key], self._order[key]
        if isinstance(key, tuple):
            versions = self._versions[key[0]]
            versions.discard(key)
            if not versions:
                del self._versions[key[0]]
