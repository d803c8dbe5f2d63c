"""Rotation as a database does it: the real thing, with more clients than the server has room for."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from asecretcache import Secret, SecretCache
from moto_server import MotoServer
from postgres import ADMIN, PASSWORD, Postgres

NAME, ROLE = "prod/db", "app"
# What a rotation may cost at the server, however many clients there are.
CALLS = 12


class Rotation:
    """A login role whose password is in Secrets Manager, and who of its clients has got in with the current one."""

    def __init__(self, admin: Any, moto: MotoServer, host: str) -> None:
        self.logins = 0
        self._admin = admin
        self._moto = moto
        self._host = host
        self._room = asyncio.Semaphore(20)
        self._password = ""
        self._inside: set[int] = set()
        self._changed = asyncio.Condition()

    async def change_in_database(self) -> None:
        self._password = secrets.token_hex()
        self._inside.clear()
        await self._admin.execute(f"ALTER ROLE {ROLE} PASSWORD '{self._password}'")

    async def change_in_secrets_manager(self) -> None:
        await asyncio.to_thread(self._moto.client().put_secret_value, SecretId=NAME, SecretString=self._password)

    async def connect(self, secret: Secret) -> Any:
        async with self._room:
            return await asyncpg.connect(host=self._host, user=ROLE, password=secret.secret_string, database="postgres")

    async def log_in_for_ever(self, cache: Any, number: int) -> None:
        while True:
            password = self._password
            connection = await cache.call_with_secret(NAME, self.connect, refresh_on=asyncpg.InvalidPasswordError)
            await connection.close()
            async with self._changed:
                self.logins += 1
                if password == self._password:
                    self._inside.add(number)
                    self._changed.notify_all()

    async def all_inside(self, count: int) -> None:
        """Return when every client has begun and ended a login since the password was changed in the database."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._inside) == count)


@pytest.fixture
async def rotation(postgres: Postgres, moto_server: MotoServer, aws_environment: Any) -> AsyncIterator[Rotation]:
    moto_server.create(NAME, "no password yet")
    admin = await asyncpg.connect(host=postgres.host, user=ADMIN, password=PASSWORD, database="postgres")
    await admin.execute(f"CREATE ROLE {ROLE} LOGIN")
    rotation = Rotation(admin, moto_server, postgres.host)
    await rotation.change_in_database()
    await rotation.change_in_secrets_manager()
    yield rotation
    await admin.execute(f"DROP ROLE {ROLE}")
    await admin.close()


async def test_the_database_refuses_a_wrong_password(rotation: Rotation) -> None:
    """With the error that the clients refresh on, so that the tests below can fail."""
    wrong = Secret(name=NAME, arn="arn", version_id="1", secret_string="wrong")

    with pytest.raises(asyncpg.InvalidPasswordError):
        await rotation.connect(wrong)


@pytest.mark.parametrize("clients", [20, 200])
async def test_no_client_sees_a_rotation_and_few_calls_are_made(
    rotation: Rotation, moto_server: MotoServer, clients: int
) -> None:
    """The database changes first, the secret a second later, and the calls don't grow with the clients."""
    async with asyncio.timeout(120), SecretCache() as cache, asyncio.TaskGroup() as group:
        # A client that fails ends the group, and with it the test.
        tasks = [group.create_task(rotation.log_in_for_ever(cache, number)) for number in range(clients)]
        await rotation.all_inside(clients)
        assert moto_server.calls() == 1
        for _ in range(2):
            calls = moto_server.calls()
            await rotation.change_in_database()
            # The time in which Secrets Manager is behind the database is what this is about, so it passes in fact.
            await asyncio.sleep(1)
            await rotation.change_in_secrets_manager()
            await rotation.all_inside(clients)
            assert 1 <= moto_server.calls() - calls <= CALLS
        for task in tasks:
            task.cancel()
