"""Settings of several secrets as one typed object; the secrets are fetched together, during INIT.

Each invocation makes a new object from memory, so a rotated secret arrives within the ttl.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, SecretStr

from asecretcache import SecretCache, async_handler

DATABASE, API_KEY = "prod/db", "prod/api"


class Database(BaseModel):
    """The fields of the JSON secret."""

    user: str
    password: SecretStr  # not shown by the repr


class Settings(BaseModel):
    """All settings of the function, from several secrets."""

    database: Database
    api_key: SecretStr

    @classmethod
    async def load(cls, cache: SecretCache) -> Settings:
        """Return the settings, from memory if the secrets are fresh."""
        await cache.get_secrets(DATABASE, API_KEY)  # those that aren't fresh are fetched concurrently
        return cls(
            database=await cache.get_as(DATABASE, Database.model_validate_json),
            api_key=SecretStr(await cache.get_secret(API_KEY)),
        )


cache = SecretCache()


@async_handler(prefetch=[DATABASE, API_KEY], cache=cache)
async def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    settings = await Settings.load(cache)
    return {"user": settings.database.user, "has_key": bool(settings.api_key.get_secret_value())}
