"""async-lru around aioboto3."""

from __future__ import annotations

import os

from async_lru import alru_cache
from plain_aioboto3 import get as fetch


@alru_cache(maxsize=1024, ttl=float(os.environ["BENCH_TTL"]))
async def get(name: str) -> str:
    return await fetch(name)
