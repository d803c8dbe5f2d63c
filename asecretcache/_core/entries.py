"""The stored values: look-up, start order, eviction. No I/O, no await, no clock.

Reading takes no lock: an entry never changes once it is stored, but for its counts and the mark of a refusal. Every
change of a store is made under the lock of the loader that owns it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any, Final

from asecretcache._models import Key, Secret

_MAX_FIELDS: Final = 64


class Record:
    """What a read looks up: a secret, or what a reference selects of it, so that a hit parses nothing.

    One class for both: code that meets objects of several classes takes longer.

    Attributes:
        secret: the secret.
        is_whole: whether it stands for the secret, not for what a reference selects of it.
        value: the value of the JSON key; None without a key, or where null is there.
        text: what the read returns as text. Not set for a binary secret; None for a selected value that has no text or
            isn't kept.
        started_at: the wall-clock time at which the secret's fetch started, from which its age counts.
        expires_at: until when it is fresh.
        hits: how often it was read while it was fresh.
    """

    __slots__ = ("expires_at", "hits", "is_whole", "secret", "started_at", "text", "value")
    # Set when it is stored.
    started_at: float
    expires_at: float

    def __init__(self, secret: Secret, value: object, text: str | None, *, is_whole: bool = False) -> None:
        self.secret = secret
        self.is_whole = is_whole
        self.value = value
        self.text = text
        self.hits = 0


class Entry:
    """A stored secret.

    Attributes:
        secret: the secret.
        sequence: the place of its fetch in the order of starts.
        started_at: the wall-clock time at which its fetch started, from which its age counts.
        expires_at: until when it is fresh.
        stale_until: until when it may be served while it is refreshed in the background.
        stale_on_error_until: until when it may be served if its refresh fails.
        lost_refreshes: how many refreshes in the background were cut off since it was stored.
        refused_sequence: the latest fetch by which AWS said that the value may not be read any more; 0 for none.
        spent_hits: how many of all its hits have earned it a second chance already.
        whole: what a read of the secret looks up.
        fields: what reads of parts of it look up, by that. They live as long as the entry.
    """

    __slots__ = (
        "expires_at",
        "fields",
        "lost_refreshes",
        "refused_sequence",
        "secret",
        "sequence",
        "spent_hits",
        "stale_on_error_until",
        "stale_until",
        "started_at",
        "whole",
    )

    def __init__(self, secret: Secret, sequence: int, started_at: float, expires_at: float) -> None:
        self.secret = secret
        self.sequence = sequence
        self.started_at = started_at
        self.expires_at = self.stale_until = self.stale_on_error_until = expires_at
        self.refused_sequence = self.spent_hits = self.lost_refreshes = 0
        self.whole = Record(secret, None, secret.secret_string, is_whole=True)
        self.whole.started_at, self.whole.expires_at = started_at, expires_at
        if secret.secret_string is None:
            del self.whole.text  # A read of it fails, without a check on the hit path.
        self.fields: dict[Any, Record] = {}

    @property
    def all_hits(self) -> int:
        """How often it was read while it was fresh, its fields included."""
        return self.whole.hits + sum(field.hits for field in self.fields.values())


class EntryStore:
    """At most ``max_size`` entries: the oldest is evicted first, but gets a second chance if it was read since.

    Attributes:
        entries: the entries by key, oldest first.
        records: what a read looks up: that of a secret by its key, that of a part by its reference. By a key without an
            entry, the single-flight keeps its running fetch here. A read of a key that isn't here costs an exception,
            for which Python makes the coroutine's frame an object: more than everything else that waiting costs. With
            the fetch here, only the first of many concurrent readers pays that.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self.records: Final[dict[Any, Any]] = {}
        # Not a dict, where finding the first key gets slow once keys before it were deleted.
        self.entries: Final[OrderedDict[Key, Entry]] = OrderedDict()
        self._past_hits = 0
        self._replacements = 0
        self.evictions = 0
        #: What the latest put has evicted.
        self.evicted: Key | None = None

    @property
    def hits(self) -> int:
        """How often entries were read while they were fresh, those that are gone included."""
        return self._past_hits + sum(entry.all_hits for entry in self.entries.values())

    def put(self, key: Key, entry: Entry) -> bool:
        """Store an entry, unless a later fetch has brought a value or a refusal; return whether it was stored."""
        present = self.entries.get(key)
        self.evicted = None
        if present is not None:
            if max(present.sequence, present.refused_sequence) > entry.sequence:
                return False
            self._retire(present)
            self.entries.move_to_end(key)
        elif len(self.entries) >= self._max_size:
            self.evicted = self._evict()
        # Counted before and after, so that a reader of several records sees that they may be of two versions.
        self._replacements += 1
        self.entries[key] = entry
        # In place: readers in other threads hold no lock and must find one record or the other.
        self.records[key] = entry.whole
        self._replacements += 1
        return True

    def fresh_texts(self, references: Sequence[str], now: float) -> dict[str, str] | None:
        """Return the texts if all of them are fresh and none was replaced meanwhile by another thread, else None."""
        records, replacements = self.records, self._replacements
        texts: dict[str, str] = {}
        try:
            for reference in references:
                found = records[reference]
                # Two comparisons: a chained one takes longer here.
                if not (now < found.expires_at and now >= found.started_at):
                    break
                texts[reference] = found.text
                found.hits += 1
            else:
                if len(texts) == len(references) and replacements == self._replacements:
                    return texts
        except (KeyError, TypeError, AttributeError):
            pass
        # The long way counts all of them, and a reference that is given twice only once.
        with suppress(KeyError, TypeError, AttributeError):
            for reference in takewhile(texts.__contains__, references):
                records[reference].hits -= 1
        return None

    def add_field(self, key: Key, name: Any, field: Record) -> None:
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

    def _evict(self) -> Key:
        self.evictions += 1
        while True:
            key, entry = next(iter(self.entries.items()))
            if entry.all_hits == entry.spent_hits:
                self._drop(key)
                return key
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
