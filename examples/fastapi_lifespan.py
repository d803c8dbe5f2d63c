"""A server: uvicorn, gunicorn or a Lambda Web Function; each worker fetches before its first request.

``uvicorn fastapi_lifespan:app --workers 2``. A request that needs a secret while Secrets Manager is down is answered
with 503.
"""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from asecretcache import SecretCacheError, asgi_lifespan, get_secret

# If Secrets Manager is down, that is logged and the server starts; required=True would end the start instead.
app = FastAPI(lifespan=asgi_lifespan(prefetch=["prod/db", "prod/api"]))


@app.exception_handler(SecretCacheError)
async def unavailable(request: Request, error: SecretCacheError) -> JSONResponse:
    if not error.is_transient:
        raise error
    return JSONResponse({"detail": "try again in a moment"}, status_code=503, headers={"retry-after": "5"})


@app.get("/")
async def index() -> dict[str, object]:
    return {"user": await get_secret("prod/db:user"), "has_key": bool(await get_secret("prod/api"))}
