"""asecretcache: the default cache, whose source ASECRETCACHE_SOURCE chooses, or one with batches."""

from __future__ import annotations

import os

from asecretcache import SecretCache, get_default_cache

if os.environ.get("BENCH_BATCH"):
    cache = SecretCache(ttl=float(os.environ["ASECRETCACHE_TTL"]), batch=True)
else:
    cache = get_default_cache()

get = cache.get_secret


async def get_many(names: list[str]) -> object:
    return await cache.get_many(names)
