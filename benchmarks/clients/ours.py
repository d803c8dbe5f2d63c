"""asecretcache: the default cache, or one that the environment chooses.

Variables:
    ASECRETCACHE_SOURCE: the source of the default cache.
    BENCH_BATCH: any value: a cache with batch=True.
    BENCH_IN_MEMORY: any value: a default cache over a source in memory, which needs neither a server nor aioboto3.
"""

from __future__ import annotations

import os

from asecretcache import SecretCache, get_default_cache, get_secret, get_secrets, set_default_cache

if os.environ.get("BENCH_BATCH"):
    cache = SecretCache(ttl=float(os.environ["ASECRETCACHE_TTL"]), batch=True)
else:
    if os.environ.get("BENCH_IN_MEMORY"):
        from in_memory import Source

        set_default_cache(SecretCache(Source()))
    cache = get_default_cache()

__all__ = ["cache", "get_secret", "get_secrets"]  # HITS names them

get = cache.get_secret

# Read by probes/hits.py.
READS = {
    "one secret": (
        'await get_secret("prod/db")',
        'await cache.get_secret("prod/db")',
        'await cache.get("prod/db")',
        'cache.peek("prod/db")',
        'await cache.get_secret("prod/db", version_stage="AWSPREVIOUS")',
    ),
    "one key of its JSON": (
        'await get_secret("prod/db:password")',
        'await cache.get_secret("prod/db:password")',
        'await cache.get_json("prod/db", "password")',
        'await cache.get_json("prod/db", key="port")',
        'await cache.get_json("prod/db:port")',
    ),
    "three secrets": (
        'await get_secrets("prod/db:username", "prod/db:password", "prod/api")',
        'await cache.get_secrets("prod/db:username", "prod/db:password", "prod/api")',
    ),
    "its JSON, parsed": ('await cache.get_json("prod/db")',),
}
HITS = {what: {statement: statement for statement in statements} for what, statements in READS.items()}


async def get_many(names: list[str]) -> object:
    return await cache.get_secrets(*names)
