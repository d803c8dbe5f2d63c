"""Without the decorator: asyncio.run for each invocation. Values outlive the loop, so warm invocations make no call."""

from __future__ import annotations

import asyncio
from typing import Any

from asecretcache import SecretCache

cache = SecretCache(ttl=900)


async def handle(event: dict[str, Any]) -> dict[str, Any]:
    user = await cache.get_json("prod/db:user")
    key = await cache.get_secret("prod/api")
    return {"user": user, "has_key": bool(key)}


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return asyncio.run(handle(event))
