"""Handlers beside the extension, without and with prefetch, or beside the provider as a layer."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from asecretcache import AgentSource, SecretCache, async_handler, get_secret

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "prefetch": {"prefetch": ["prod/api"], "cache": SecretCache(AgentSource(), fetch_timeout=2.0)},
    "provider": {"cache": SecretCache(AgentSource(server="provider"))},
}


@async_handler(**OPTIONS[os.environ["CASE"]])
async def handler(event: Any, context: Any) -> str:
    """Read the secret; a connection that is refused meanwhile makes the file REFUSED."""
    loop: Any = asyncio.get_running_loop()
    connect = type(loop).sock_connect

    async def tell_if_refused(*arguments: Any) -> None:
        try:
            await connect(loop, *arguments)
        except ConnectionRefusedError:
            Path(os.environ["REFUSED"]).touch()
            raise

    loop.sock_connect = tell_if_refused
    return await get_secret("prod/api")
