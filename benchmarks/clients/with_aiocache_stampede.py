"""aiocache around aioboto3, with its decorator against cache stampedes."""

from __future__ import annotations

import os

from aiocache import Cache, cached_stampede
from plain_aioboto3 import get as fetch


@cached_stampede(lease=10, ttl=float(os.environ["BENCH_TTL"]), cache=Cache.MEMORY)
async def get(name: str) -> str:
    return await fetch(name)
