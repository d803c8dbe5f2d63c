"""The stored values: look-up, start order, eviction. No I/O, no await, no clock.

Reading takes no lock: an entry never changes once it is stored, but for its counts and the mark of a refusal. Every
change of a store is made under the lock of the loader that owns it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from asecretcache._models import Key, Secret

_MAX_FIELDS: Final = 64


class Record:
    """What a read looks up.

    Attributes:
        secret: the secret.
        text: what the read returns as text.
        started_at: the wall-clock time at which the secret's fetch started, from which its age counts.
        expires_at: until when it is fresh.
        hits: how often it was read while it was fresh.
    """

    __slots__ = ("expires_at", "hits", "secret", "started_at", "text")


class Entry(Record):
    """A stored secret. A binary secret's entry has no ``text``; its ``hits`` don't include those of its fields.

    Attributes:
        sequence: the place of its fetch in the order of starts.
        spent_hits: how many of all its hits have earned it a second chance already.
        refused_sequence: the latest fetch by which AWS said that the value may not be read any more; 0 for none.
        fields: what references select of it, by what they are looked up by.
    """

    __slots__ = ("fields", "refused_sequence", "sequence", "spent_hits")

    def __init__(self, secret: Secret, sequence: int, started_at: float, expires_at: float) -> None:
        self.secret = secret
        if secret.secret_string is not None:
            self.text = secret.secret_string
        self.sequence = sequence
        self.started_at = started_at
        self.expires_at = expires_at
        self.hits = self.spent_hits = self.refused_sequence = 0
        self.fields: dict[Any, Field] = {}

    @property
    def all_hits(self) -> int:
        """How often it was read while it was fresh, its fields included."""
        return self.hits + sum(field.hits for field in self.fields.values())


class Field(Record):
    """What a reference selects of an entry, kept so that a hit parses nothing. It lives as long as its entry.

    Attributes:
        value: the value of the JSON key; None if the reference has no key, or null is there.
        text: the value as text; None where it has none, and then the field isn't kept.
    """

    __slots__ = ("value",)

    def __init__(self, secret: Secret, value: object, text: str | None) -> None:
        self.secret = secret
        self.value = value
        self.text = text
        self.hits = 0
        self.started_at = self.expires_at = 0.0


class EntryStore:
    """At most ``max_size`` entries: the oldest is evicted first, but gets a second chance if it was read since.

    Attributes:
        entries: the entries by key, oldest first.
        records: what a read looks up: an entry by its key, a field by its reference. By a key without an entry, the
            single-flight keeps its running fetch here. A read of a key that isn't here costs an exception, for which
            Python makes the coroutine's frame an object: more than everything else that waiting costs. With the fetch
            here, only the first of many concurrent readers pays that.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self.records: Final[dict[Any, Any]] = {}
        # Not a dict, where finding the first key gets slow once keys before it were deleted.
        self.entries: Final[OrderedDict[Key, Entry]] = OrderedDict()
        self._past_hits = 0
        self.evictions = 0

    @property
    def hits(self) -> int:
        """How often entries were read while they were fresh, those that are gone included."""
        return self._past_hits + sum(entry.all_hits for entry in self.entries.values())

    def put(self, key: Key, entry: Entry) -> bool:
        """Store an entry, unless a later fetch has brought a value or a refusal; return whether it was stored."""
        present = self.entries.get(key)
        if present is not None:
            if max(present.sequence, present.refused_sequence) > entry.sequence:
                return False
            self._retire(present)
            self.entries.move_to_end(key)
        elif len(self.entries) >= self._max_size:
            self._evict()
        # In place: readers in other threads hold no lock and must find one entry or the other.
        self.entries[key] = self.records[key] = entry
        return True

    def add_field(self, key: Key, name: Any, field: Field) -> None:
        """Keep a field of the entry, unless the entry has been replaced since or has as many fields as are kept."""
        entry = self.entries.get(key)
        if entry is not None and entry.secret is field.secret and len(entry.fields) < _MAX_FIELDS:
            field.started_at, field.expires_at = entry.started_at, entry.expires_at
            self.records[name] = entry.fields[name] = field

    def drop_secret(self, secret_id: str) -> None:
        """Drop each entry that was stored by this id, or whose secret has exactly this name or ARN."""
        for key, entry in list(self.entries.items()):
            if secret_id in (key if isinstance(key, str) else key[0], entry.secret.name, entry.secret.arn):
                self._drop(key)

    def clear(self) -> None:
        """Drop all entries, but not the counts."""
        self._past_hits = self.hits
        self.entries.clear()
        self.records.clear()

    def _evict(self) -> None:
        self.evictions += 1
        while True:
            key, entry = next(iter(self.entries.items()))
            if entry.all_hits == entry.spent_hits:
                self._drop(key)
                return
            # An entry that has expired gets no more hits, so no more chances.
            entry.spent_hits = entry.all_hits
            self.entries.move_to_end(key)

    def _drop(self, key: Key) -> None:
        self._retire(self.entries.pop(key))
        self.records.pop(key, None)  # A fork may have come between the two.

    def _retire(self, entry: Entry) -> None:
        self._past_hits += entry.all_hits
        for name in entry.fields:
            self.records.pop(name, None)
        entry.fields = {}
