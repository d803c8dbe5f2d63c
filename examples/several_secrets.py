"""Several secrets, fetched concurrently during INIT, before the first invocation arrives."""

from __future__ import annotations

from typing import Any

from asecretcache import async_handler, get_secrets

DATABASE_USER, DATABASE_PASSWORD, API_KEY = "prod/db:user", "prod/db:password", "prod/api"


@async_handler(prefetch=[DATABASE_USER, DATABASE_PASSWORD, API_KEY])
async def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    secrets = await get_secrets(DATABASE_USER, DATABASE_PASSWORD, API_KEY)
    return {"user": secrets[DATABASE_USER], "has_key": bool(secrets[API_KEY])}
