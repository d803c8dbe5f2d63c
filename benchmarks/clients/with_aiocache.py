"""aiocache around aioboto3."""

from __future__ import annotations

import os

from aiocache import Cache, cached
from plain_aioboto3 import get as fetch


@cached(ttl=float(os.environ["BENCH_TTL"]), cache=Cache.MEMORY)
async def get(name: str) -> str:
    return await fetch(name)
