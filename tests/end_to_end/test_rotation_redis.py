"""Rotation of a Redis user's password under load."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from asecretcache import SecretCache
from moto_server import MotoServer
from redis_server import ADMIN, PASSWORD
from rotation_load import NAME, Rotation, rotate_under_load, run_block


class Users:
    """The users of a Redis server."""

    def __init__(self, admin: redis.asyncio.Redis) -> None:
        self._admin = admin

    async def set_password(self, user: str, password: str) -> None:
        rules = ("on", "resetpass", f">{password}", "allkeys", "+@all")
        await self._admin.execute_command("ACL", "SETUSER", user, *rules)  # type: ignore[no-untyped-call]  # redis-py's


@pytest.fixture
async def rotation(redis_port: int, moto_server: MotoServer, aws_environment: Any) -> AsyncIterator[Rotation]:
    async with redis.asyncio.Redis(port=redis_port, username=ADMIN, password=PASSWORD) as admin:
        rotation = Rotation(Users(admin), moto_server)
        await rotation.begin()
        yield rotation


async def test_redis(rotation: Rotation, moto_server: MotoServer, redis_port: int) -> None:
    """A function that logs connections in; beside it a credential provider, which reads the cache."""
    uses = itertools.count()

    async def use(client: redis.asyncio.Redis) -> None:
        connection = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py's
        try:
            await connection.send_command("PING")
            assert await connection.read_response() == b"PONG"
            if next(uses) % 5 == 0:
                await connection.disconnect()  # So that its next use logs in anew.
        finally:
            await client.connection_pool.release(connection)

    class Provider(redis.CredentialProvider):
        async def get_credentials_async(self) -> tuple[str, str]:
            secret = await other.get_json(NAME)
            return secret["username"], secret["password"]

    async with SecretCache(ttl=None) as cache, SecretCache(ttl=None) as other:
        names: dict[str, Any] = {"cache": cache, "url": f"redis://127.0.0.1:{redis_port}"}
        await run_block("redis", names)
        usual = redis.asyncio.Redis(port=redis_port, credential_provider=Provider(), retry=Retry(NoBackoff(), 0))
        async with names["client"] as client, usual:
            await rotate_under_load("redis", rotation, moto_server, lambda: use(client), lambda: use(usual))
