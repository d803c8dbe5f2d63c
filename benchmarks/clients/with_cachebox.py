"""cachebox around aioboto3."""

from __future__ import annotations

import os

import cachebox
from plain_aioboto3 import get as fetch


@cachebox.cached(cachebox.TTLCache(1024, global_ttl=float(os.environ["BENCH_TTL"])))
async def get(name: str) -> str:
    return await fetch(name)
