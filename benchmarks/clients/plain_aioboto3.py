"""aioboto3 as in its README: a session, and a client in ``async with``. It caches nothing."""

from __future__ import annotations

import aioboto3

session = aioboto3.Session()


async def get(name: str) -> str:
    async with session.client("secretsmanager") as client:
        value: str = (await client.get_secret_value(SecretId=name))["SecretString"]
        return value
