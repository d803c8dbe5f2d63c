"""Rotation as a database does it: the real thing, with more clients than the server has room for."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from asecretcache import Secret, SecretCache
from moto_server import MotoServer
from postgres import ADMIN, PASSWORD, Postgres
from rotation_load import NAME, USERS, Rotation, rotate_under_load, run_block

_uses = itertools.count()


def is_last_use() -> bool:
    """Whether a connection of a pool is to be closed, so that another one logs in: every tenth time.

    A login is what costs a server most, by the start of a process.
    """
    return next(_uses) % 10 == 0


class Database:
    """The login roles of a PostgreSQL server."""

    def __init__(self, admin: Any) -> None:
        self._admin = admin

    async def set_password(self, user: str, password: str) -> None:
        await self._admin.execute(f"ALTER ROLE {user} PASSWORD '{password}'")


@pytest.fixture
async def rotation(postgres: Postgres, moto_server: MotoServer, aws_environment: Any) -> AsyncIterator[Rotation]:
    admin = await asyncpg.connect(host=postgres.host, user=ADMIN, password=PASSWORD, database="postgres")
    for user in USERS:
        await admin.execute(f"CREATE ROLE {user} LOGIN")
    rotation = Rotation(Database(admin), moto_server)
    await rotation.begin()
    yield rotation
    for user in USERS:
        await admin.execute(f"DROP ROLE {user}")
    await admin.close()


@pytest.fixture
def dsn(postgres: Postgres) -> str:
    return f"postgresql:///postgres?host={postgres.host}"


@pytest.fixture
async def caches(aws_environment: Any) -> AsyncIterator[tuple[SecretCache, SecretCache]]:
    """Yield a cache for what is tested, and one for the usual way beside it."""
    async with SecretCache(ttl=None) as cache, SecretCache(ttl=None) as usual:
        yield cache, usual


async def test_the_database_refuses_a_wrong_password(rotation: Rotation, dsn: str) -> None:
    """With the errors that the clients refresh on, so that the tests below can fail."""
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(dsn, user=USERS[0], password="wrong")
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        await psycopg.AsyncConnection.connect(dsn, user=USERS[0], password="wrong")


async def test_call_with_secret(
    rotation: Rotation, moto_server: MotoServer, caches: tuple[SecretCache, SecretCache], dsn: str
) -> None:
    """A function with the secret; beside it one that reads the cache."""
    cache, other = caches

    idle: list[asyncpg.Connection] = []
    opened: list[asyncpg.Connection] = []

    async def connect(secret: Secret) -> asyncpg.Connection:
        return await asyncpg.connect(dsn, user=secret.json("username"), password=secret.json("password"))

    async def usual() -> None:
        await (await connect(await other.get(NAME))).close()

    async def use() -> None:
        if idle:
            connection = idle.pop()
        else:
            connection = await cache.call_with_secret(NAME, connect, refresh_on=asyncpg.InvalidPasswordError)
            opened.append(connection)
        assert await connection.fetchval("SELECT 1") == 1
        if is_last_use():
            await connection.close()
        else:
            idle.append(connection)

    await rotate_under_load("call_with_secret", rotation, moto_server, use, usual)
    for connection in opened:  # Those of cancelled uses too.
        connection.terminate()
    await asyncio.sleep(0)  # Their sockets are closed in the loop's next turn.


async def test_asyncpg(
    rotation: Rotation, moto_server: MotoServer, caches: tuple[SecretCache, SecretCache], dsn: str
) -> None:
    """Its connect, in a pool; beside it a pool with a callable for the password."""
    cache, other = caches
    names: dict[str, Any] = {"cache": cache, "dsn": dsn}
    await run_block("asyncpg", names)
    credentials = await other.get_json(NAME)
    async with (
        names["pool"] as pool,
        asyncpg.create_pool(
            dsn,
            user=credentials["username"],
            password=lambda: other.get_secret(f"{NAME}:password"),
            min_size=1,
            max_size=5,
        ) as usual_pool,
    ):

        async def use(pool: Any = pool) -> None:
            async with pool.acquire() as connection:
                assert await connection.fetchval("SELECT 1") == 1
                if is_last_use():
                    await connection.close()

        await rotate_under_load("asyncpg", rotation, moto_server, use, lambda: use(usual_pool))


async def test_a_pool_that_is_told_of_a_new_password(
    rotation: Rotation, caches: tuple[SecretCache, SecretCache], dsn: str
) -> None:
    """It uses no connection of the old one any more."""
    cache, _ = caches
    names: dict[str, Any] = {"cache": cache, "dsn": dsn}
    await run_block("asyncpg", names)
    await run_block("asyncpg, a pool's old connections", names)
    async with names["pool"] as pool:
        before = {await pool.fetchval("SELECT pg_backend_pid()") for _ in range(3)}
        await rotation.rotate_single()
        assert {await pool.fetchval("SELECT pg_backend_pid()") for _ in range(3)} == before

        await cache.refresh(NAME)
        await asyncio.sleep(0)  # The callback's task.
        assert await pool.fetchval("SELECT pg_backend_pid()") not in before


async def test_psycopg(
    rotation: Rotation, moto_server: MotoServer, caches: tuple[SecretCache, SecretCache], dsn: str
) -> None:
    """Its pool, with a class of connections; beside it the pool's own callable for user and password."""
    cache, other = caches
    names: dict[str, Any] = {"cache": cache, "dsn": dsn}
    await run_block("psycopg", names)

    async def credentials() -> dict[str, Any]:
        secret = await other.get_json(NAME)
        return {"user": secret["username"], "password": secret["password"]}

    async with (
        names["pool"] as pool,
        AsyncConnectionPool(dsn, kwargs=credentials, min_size=1, max_size=5, timeout=0.5, open=False) as usual_pool,
    ):

        async def use(pool: Any = pool) -> None:
            async with pool.connection() as connection:
                await connection.execute("SELECT 1")
                if is_last_use():
                    await connection.close()

        await rotate_under_load("psycopg", rotation, moto_server, use, lambda: use(usual_pool))


async def test_sqlalchemy(
    rotation: Rotation, moto_server: MotoServer, caches: tuple[SecretCache, SecretCache], dsn: str
) -> None:
    """An engine with an async creator; beside it the event do_connect, which reads what is in memory."""
    cache, other = caches
    names: dict[str, Any] = {"cache": cache, "dsn": dsn}
    await run_block("SQLAlchemy", names)
    await other.prefetch(NAME)
    usual_engine = create_async_engine(f"postgresql+asyncpg{dsn.removeprefix('postgresql')}")

    def provide(dialect: Any, record: Any, arguments: Any, parameters: dict[str, Any]) -> None:
        secret = other.peek(NAME)
        assert secret is not None
        parameters |= {"user": secret.json("username"), "password": secret.json("password")}

    event.listen(usual_engine.sync_engine, "do_connect", provide)

    async def use(engine: Any = names["engine"]) -> None:
        async with engine.connect() as connection:
            assert (await connection.execute(sqlalchemy.text("SELECT 1"))).scalar_one() == 1
            if is_last_use():
                await connection.invalidate()

    await rotate_under_load("SQLAlchemy", rotation, moto_server, use, lambda: use(usual_engine))
    await names["engine"].dispose()
    await usual_engine.dispose()


async def test_an_error_of_psycopg_has_the_password() -> None:
    """docs/rotation.md warns of that: its text is safe to log, and what it refers to is not."""
    with pytest.raises(psycopg.OperationalError) as caught:
        await psycopg.AsyncConnection.connect("host=127.0.0.1 port=1", user="app", password=PASSWORD)

    assert PASSWORD not in str(caught.value)
    assert caught.value.pgconn is not None
    assert caught.value.pgconn.password == PASSWORD.encode()
