"""The handler of all templates: it reads the secrets that SECRET_IDS names, and returns their names."""

from __future__ import annotations

import os
from typing import Any

from asecretcache import DirectSource, SecretCache, async_handler, get_default_cache

# References, separated by commas: a name, an ARN, or one key of a JSON secret such as prod/db:password.
SECRET_IDS = os.environ["SECRET_IDS"].split(",")

# ASECRETCACHE_SOURCE chooses the default cache's source. Batches need a cache that was made for them.
cache = SecretCache(DirectSource(), batch=True) if os.environ.get("BATCH") == "true" else get_default_cache()


async def read_secrets() -> dict[str, str]:
    """Read all of them, from memory while they are fresh."""
    return await cache.get_secrets(*SECRET_IDS)


@async_handler(prefetch=SECRET_IDS, cache=cache)
async def lambda_handler(event: Any, context: Any) -> dict[str, list[str]]:
    """Use the secrets. The response has their names only: a value belongs in no response and no log."""
    return {"read": sorted(await read_secrets())}
