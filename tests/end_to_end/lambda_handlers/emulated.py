"""Handlers for AWS's emulator: what a time-out and a new INIT do."""

from __future__ import annotations

import os
import time
from typing import Any

from asecretcache import async_handler, get_secret


@async_handler(prefetch=["prod/api"])
async def handler(event: Any, context: Any) -> list[Any]:
    """Read the secret; an event of seconds blocks for as long, past the function's time."""
    if isinstance(event, float):
        time.sleep(event)  # a handler that is stuck
    return [await get_secret("prod/api"), os.getpid()]
