"""cachetools-async around aioboto3."""

from __future__ import annotations

import os

from cachetools import TTLCache
from cachetools_async import cached
from plain_aioboto3 import get as fetch


@cached(cache=TTLCache(maxsize=1024, ttl=float(os.environ["BENCH_TTL"])))
async def get(name: str) -> str:
    return await fetch(name)
