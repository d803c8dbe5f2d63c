"""FastAPI behind Mangum: one call per secret and execution environment, made during INIT, and answers in time."""

from __future__ import annotations

from fastapi import FastAPI
from mangum import Mangum

from asecretcache import get_secret, sync_handler

app = FastAPI()


@app.get("/")
async def index() -> dict[str, object]:
    return {"user": await get_secret("prod/db:user"), "has_key": bool(await get_secret("prod/api"))}


lambda_handler = sync_handler(Mangum(app, lifespan="off"), prefetch=["prod/db", "prod/api"])
