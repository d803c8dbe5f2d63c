"""A server without prefetch, as a Lambda Web Function runs it: many first requests at the same time."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI

from asecretcache import asgi_lifespan, get_secret

app = FastAPI(lifespan=asgi_lifespan())
waiting = 0


@app.get("/")
async def index(together: int = 1) -> str:
    """Wait until so many requests are here, then read."""
    global waiting  # noqa: PLW0603  # one server, one loop
    waiting += 1
    while waiting < together:
        await asyncio.sleep(0.01)
    return await get_secret("prod/api")
