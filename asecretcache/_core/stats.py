"""What a cache counts."""

from __future__ import annotations

from typing import NamedTuple


class CacheStats(NamedTuple):
    """What a cache has done since it was made, at one moment; immutable.

    A read is one secret asked for once, by whichever method but prefetch. Counts of hits are exact within one thread;
    threads that read the same secret at the same instant may lose a few.

    Attributes:
        hits: reads answered from memory while the value was fresh.
        misses: reads that had to wait for a fetch, and have what that brought.
        refreshes: calls of ``refresh``, also those that ``call_with_secret`` makes.
        coalesced: misses and refreshes that joined a fetch which was under way already, and so cost no call.
        get_calls: fetches of one secret: GetSecretValue, the SDK's own retries not counted.
        batch_calls: fetches of several secrets: BatchGetSecretValue, further pages and the SDK's retries not counted.
        batched_ids: the secrets asked for in those batches.
        errors: fetches that brought an error, each secret of a batch for itself.
        stale_served: reads answered with an expired value, as ``stale_while_revalidate`` or ``stale_if_error`` allow,
            at once or instead of a fetch's error.
        evictions: values dropped because there were more than ``max_size``.
    """

    hits: int = 0
    misses: int = 0
    refreshes: int = 0
    coalesced: int = 0
    get_calls: int = 0
    batch_calls: int = 0
    batched_ids: int = 0
    errors: int = 0
    stale_served: int = 0
    evictions: int = 0

    @property
    def calls_saved(self) -> int:
        """How many calls a client without a cache would have made beyond those that were made.

        Such a client makes one call a read. It may be below zero for as long as prefetched secrets haven't been read,
        and where batches were refused.
        """
        return self.hits + self.misses + self.refreshes + self.stale_served - self.get_calls - self.batch_calls


class Counters:
    """The counts that aren't kept where they arise."""

    __slots__ = ("batched_ids", "batches", "coalesced", "errors", "fetches", "misses", "refreshes", "stale")

    def __init__(self) -> None:
        self.misses = 0
        self.refreshes = 0
        self.coalesced = 0
        self.fetches = 0
        self.batches = 0
        self.batched_ids = 0
        self.errors = 0
        self.stale = 0

    def ask(self, reads: int, *, refresh: bool) -> None:
        """Count what can't be answered from memory."""
        if refresh:
            self.refreshes += reads
        else:
            self.misses += reads

    def join(self, reads: int) -> None:
        """Count misses that joined another's fetch."""
        self.misses += reads
        self.coalesced += reads

    def serve_stale(self, *, instead: bool) -> None:
        """Count a stale answer, ``instead`` of the miss as which the read was counted before."""
        self.misses -= instead
        self.stale += 1

    def stats(self, *, hits: int, evictions: int, joined: int) -> CacheStats:
        """Return the counts, with those that are kept elsewhere."""
        return CacheStats(
            hits=hits,
            misses=self.misses + joined,
            refreshes=self.refreshes,
            coalesced=self.coalesced + joined,
            get_calls=self.fetches,
            batch_calls=self.batches,
            batched_ids=self.batched_ids,
            errors=self.errors,
            stale_served=self.stale,
            evictions=evictions,
        )
