"""cashews around aioboto3, with the lock that its documentation recommends for concurrent calls."""

from __future__ import annotations

import os

from cashews import cache
from plain_aioboto3 import get as fetch

cache.setup("mem://")


@cache(ttl=float(os.environ["BENCH_TTL"]), key="secret:{name}", lock=True)
async def get(name: str) -> str:
    return await fetch(name)
