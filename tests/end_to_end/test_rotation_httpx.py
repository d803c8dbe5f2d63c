"""Rotation of an API's key under load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn

from asecretcache import SecretCache
from moto_server import MotoServer
from rotation_load import NAME, Rotation, rotate_under_load, run_block


class Api:
    """An ASGI app that answers 401 to any key but those that are in use."""

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}

    async def set_password(self, user: str, password: str) -> None:
        self._keys[user] = password

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        key = dict(scope["headers"]).get(b"x-api-key", b"").decode()
        status = 200 if key in self._keys.values() else 401
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def api() -> AsyncIterator[tuple[Api, str]]:
    """Yield the app, and the URL at which it is served."""
    app = Api()
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="error"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield app, f"http://127.0.0.1:{port}"
    server.should_exit = True
    await task


async def test_httpx(api: tuple[Api, str], moto_server: MotoServer, aws_environment: Any) -> None:
    """A request that is sent once more after a 401; beside it a client that was made with the key."""
    app, url = api
    rotation = Rotation(app, moto_server)
    await rotation.begin()
    # A connection for each request: httpcore gives the requests that wait to the first idle connection, which takes one
    # and sends the others back, so that one of them may never be served.
    options: dict[str, Any] = {"base_url": url, "timeout": 60, "limits": httpx.Limits(max_keepalive_connections=0)}
    async with SecretCache(ttl=None) as cache, httpx.AsyncClient(**options) as client:
        names: dict[str, Any] = {"cache": cache, "client": client}
        await run_block("httpx", names)
        headers = {"X-Api-Key": await cache.get_secret(f"{NAME}:password")}
        async with httpx.AsyncClient(headers=headers, **options) as other:

            async def usual() -> None:
                (await other.get("/")).raise_for_status()

            await rotate_under_load("httpx", rotation, moto_server, lambda: names["request"]("GET", "/"), usual)
