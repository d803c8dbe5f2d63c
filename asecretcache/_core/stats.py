"""What a cache counts."""

from __future__ import annotations

from typing import NamedTuple

#: The counts of a cache, by the names of CacheStats. Hits and evictions are counted where they happen.
Counts = dict[str, int]


class CacheStats(NamedTuple):
    """What a cache has done since it was made, at one moment; immutable.

    A read is one secret asked for once, by any method but prefetch. Counts of hits are exact within one thread; threads
    that read the same secret at the same instant may lose a few.

    Attributes:
        hits: reads answered from memory while the value was fresh.
        misses: reads that waited for a fetch and got its result.
        refreshes: calls of ``refresh``, also those that ``call_with_secret`` makes.
        coalesced: misses and refreshes that joined a running fetch, and so cost no call.
        get_calls: fetches of one secret: GetSecretValue, the SDK's own retries not counted.
        batch_calls: fetches of several secrets: BatchGetSecretValue, further pages and the SDK's retries not counted.
        batched_ids: the secrets asked for in those batches.
        errors: fetches that failed, each secret of a batch counted.
        stale_served: reads answered with an expired value, as ``stale_while_revalidate`` or ``stale_if_error`` allow.
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

    def at_least(self, before: CacheStats) -> CacheStats:
        """Return these counts as a counter may report them, which may not fall.

        A read that waits for a fetch counts as a miss, and may then be answered with a stale value instead.
        """
        return CacheStats(*map(max, self, before))

    @property
    def calls_saved(self) -> int:
        """How many more calls a client without a cache would have made, which makes one call a read.

        It may be below zero while prefetched secrets haven't been read, and where batches were refused.
        """
        return self.hits + self.misses + self.refreshes + self.stale_served - self.get_calls - self.batch_calls
