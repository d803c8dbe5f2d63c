"""The usual code, which the demo compares with: the secrets are read with aioboto3 at each invocation."""

from __future__ import annotations

import asyncio
from typing import Any

import aioboto3


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return asyncio.run(read())


async def read() -> dict[str, Any]:
    async with aioboto3.Session().client("secretsmanager") as client:
        database, key = await asyncio.gather(
            client.get_secret_value(SecretId="prod/db"), client.get_secret_value(SecretId="prod/api")
        )
    return {"user": "app" if "app" in database["SecretString"] else "", "has_key": bool(key["SecretString"])}
