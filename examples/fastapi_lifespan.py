"""A server: the application's lifespan owns the cache, and prefetches before the first request.

A request that needs a secret while Secrets Manager is down is answered with 503.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse

from asecretcache import SecretCache, SecretCacheError


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with SecretCache(ttl=900) as cache:
        try:
            await cache.prefetch("prod/db", "prod/api")
        except SecretCacheError as error:
            # While Secrets Manager is down, start all the same. A mistake in the configuration ends the start.
            if not error.is_transient:
                raise
        app.state.secrets = cache
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(SecretCacheError)
async def unavailable(request: Request, error: SecretCacheError) -> JSONResponse:
    if not error.is_transient:
        raise error
    return JSONResponse({"detail": "try again in a moment"}, status_code=503, headers={"retry-after": "5"})


def secrets(request: Request) -> SecretCache:
    cache: SecretCache = request.app.state.secrets
    return cache


@app.get("/")
async def index(cache: Annotated[SecretCache, Depends(secrets)]) -> dict[str, object]:
    return {"user": await cache.get_json("prod/db", "user"), "has_key": bool(await cache.get_secret("prod/api"))}
