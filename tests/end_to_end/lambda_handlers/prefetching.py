"""A handler that prefetches, and at import bootstraps, as code for a snapshot might."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import time_for_init  # noqa: F401  # for what it does

from asecretcache import async_handler, bootstrap, get_secret

if os.environ.get("BOOTSTRAP_AT_IMPORT"):
    asyncio.run(bootstrap({"FROM_SECRET": "prod/api"}))


@async_handler(prefetch=["prod/api"])
async def handler(event: Any, context: Any) -> list[Any]:
    return [await get_secret("prod/api"), "FROM_SECRET" in os.environ]
