"""The stored values: look-up, aliases, start order, eviction. No I/O, no await, no clock of its own.

Reading needs no lock: but for counts, an entry never changes once it is stored. Whoever changes the store holds its
owner's lock.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import Any, Final

from asecretcache._models import Secret, SecretRequest

_HEAP_SLACK: Final = 2


class Entry:
    """A value and how long it is fresh; ``text`` stands beside the secret to save the hit path an attribute.

    ``hits`` is counted here, where the hit path is already. ``revoked_at`` is when AWS has said since, in the order of
    the starts, that the value may not be had any more; 0 for never.
    """

    __slots__ = ("born", "expires_at", "hits", "revoked_at", "secret", "started", "text")

    def __init__(self, secret: Secret, *, started: int, born: float, expires_at: float) -> None:
        self.secret = secret
        self.text = secret.secret_string
        self.started = started
        self.born = born
        self.expires_at = expires_at
        self.hits = 0
        self.revoked_at = 0

    @property
    def known_at(self) -> int:
        """The start of the latest fetch that has brought it or told that it may not be had."""
        return max(self.started, self.revoked_at)

    def __repr__(self) -> str:
        return f"<Entry {self.secret!r} expires_at={self.expires_at!r}>"


class Store:
    """At most ``max_size`` entries by key; the expired are evicted first, then the oldest.

    The entry of a name is found by its ARN too, once a fetch by that name has shown the ARN. Never the other way round:
    a name always means a secret of the caller's own account, an ARN may be another account's.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        #: What is found by which key, aliases included.
        self.entries: Final[dict[Any, Entry]] = {}
        #: What a read looks into: the entries, and by the keys that have none, what is to become one; never replaced.
        #: A key that isn't in it costs whoever asks for it an exception, for which a coroutine's frame is made an
        #: object: more than all else that waiting costs. So all who come during a fetch but the first find something.
        self.table: Final[dict[Any, Any]] = {}
        # The keys that entries were stored by, oldest first. Not a dict, whose first key gets slow to find.
        self._order: OrderedDict[Any, None] = OrderedDict()
        # By secret id, those keys of it that name a version.
        self._versions: dict[str, set[Any]] = {}
        self._names: dict[str, str] = {}
        self._arns: dict[str, str] = {}
        # (expires_at, started, key), with leftovers of entries that were replaced or dropped since.
        self._expiries: list[tuple[float, int, Any]] = []
        self._past_hits = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._order)

    @property
    def hits(self) -> int:
        """How often entries were read while they were fresh, including those that are gone."""
        return self._past_hits + sum(self.entries[key].hits for key in self._order)

    def canonical(self, request: SecretRequest) -> SecretRequest:
        """Return the request by name where this one is by an ARN that a fetch by name has shown."""
        name = self._names.get(request.secret_id)
        return request if name is None else request._replace(secret_id=name)

    def ids_of(self, secret_id: str) -> set[str]:
        """Return the ids by which this secret is known here: itself, its name or its ARN."""
        return {secret_id, self._names.get(secret_id, secret_id), self._arns.get(secret_id, secret_id)}

    def namesakes(self, name: str) -> set[str]:
        """Return the ARNs stored here that end in this name, one of which a fetch by name may show to be its own."""
        ids = {key if isinstance(key, str) else key[0] for key in self._order}
        return {each for each in ids if each != name and SecretRequest(each).by_name.secret_id == name}

    def put(self, request: SecretRequest, entry: Entry, now: float) -> bool:
        """Store the entry, unless what is known comes from a fetch that started after it; return whether it was."""
        arn, request = entry.secret.arn, self.canonical(request)
        is_named = arn.startswith("arn:") and not request.secret_id.startswith("arn:")
        if is_named and not self._introduce(request.secret_id, arn, entry.started):
            return False
        present = self.entries.get(request.key)
        if present is not None and present.known_at > entry.started:
            return False
        self._set(request, entry)
        heapq.heappush(self._expiries, (entry.expires_at, entry.started, request.key))
        if len(self._order) > self._max_size:
            self._evict(now)
        if len(self._expiries) > _HEAP_SLACK * len(self._order) + self._max_size:
            self._expiries = [(self.entries[key].expires_at, self.entries[key].started, key) for key in self._order]
            heapq.heapify(self._expiries)
        return True

    def drop(self, secret_id: str) -> None:
        """Forget all versions of a secret, by whichever of its ids they were stored."""
        for each in self.ids_of(secret_id):
            for key in self._keys_of(each):
                self._remove(key)

    def clear(self) -> None:
        """Forget everything but the counts."""
        self._past_hits = self.hits
        self.entries.clear()
        self.table.clear()
        self._order.clear()
        self._versions.clear()
        self._names.clear()
        self._arns.clear()
        self._expiries.clear()

    def _set(self, request: SecretRequest, entry: Entry) -> None:
        """Let an entry be found by its key and, if that is a name's, by the ARN's."""
        key = request.key
        # In place: readers in other threads hold no lock and must find one entry or the other.
        replaced, self.entries[key], self.table[key] = self.entries.get(key), entry, entry
        if key in self._order:
            assert replaced is not None
            self._past_hits += replaced.hits
            self._order.move_to_end(key)
        else:
            self._order[key] = None
        if not isinstance(key, str):
            self._versions.setdefault(request.secret_id, set()).add(key)
        arn = self._arns.get(request.secret_id)
        if arn is not None:
            alias = request._replace(secret_id=arn).key
            self.entries[alias] = self.table[alias] = entry

    def _introduce(self, name: str, arn: str, started: int) -> bool:
        """Take note that the name is this ARN's, unless a fetch that started later has shown another."""
        known = self._arns.get(name)
        if known == arn:
            return True
        if known is not None:
            if any(self.entries[key].known_at > started for key in self._keys_of(name)):
                return False
            # It was deleted and created again, so what is stored by its name is another secret's.
            self.drop(name)
        self._arns[name] = arn
        self._names[arn] = name
        # What was fetched by the ARN so far is the name's from now on.
        for key in self._keys_of(arn):
            entry = self.entries[key]
            self._strike(key)
            renamed = _renamed(key, name)
            self._set(SecretRequest(name) if isinstance(renamed, str) else SecretRequest(*renamed), entry)
            heapq.heappush(self._expiries, (entry.expires_at, entry.started, renamed))
        return True

    def _evict(self, now: float) -> None:
        self.evictions += 1
        while self._expiries and self._expiries[0][0] <= now:
            _, started, key = heapq.heappop(self._expiries)
            entry = self.entries.get(key)
            if key in self._order and entry is not None and entry.started == started:
                self._remove(key)
                return
        self._remove(next(iter(self._order)))

    def _remove(self, key: Any) -> None:
        """Forget what was stored by this key, and let it be found by no alias."""
        entry = self.entries.pop(key)
        self.table.pop(key, None)  # A fork may have come between the two.
        self._past_hits += entry.hits
        secret_id = self._strike(key)
        arn = self._arns.get(secret_id)
        if arn is None:
            return
        alias = _renamed(key, arn)
        if self.entries.get(alias) is entry:
            del self.entries[alias]
            self.table.pop(alias, None)
        if not self._keys_of(secret_id):
            # Nothing is left of the name, so nothing is left to share.
            del self._arns[secret_id]
            if self._names.get(arn) == secret_id:
                del self._names[arn]

    def _strike(self, key: Any) -> str:
        """Take a key off the lists, and return the secret id in it."""
        del self._order[key]
        if isinstance(key, str):
            return key
        secret_id: str = key[0]
        versions = self._versions[secret_id]
        versions.discard(key)
        if not versions:
            del self._versions[secret_id]
        return secret_id

    def _keys_of(self, secret_id: str) -> list[Any]:
        return [*([secret_id] if secret_id in self._order else []), *self._versions.get(secret_id, ())]


def _renamed(key: Any, secret_id: str) -> Any:
    """Return the key of the same version by another id."""
    return secret_id if isinstance(key, str) else (secret_id, *key[1:])
