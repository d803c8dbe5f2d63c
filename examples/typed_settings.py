"""Settings of several secrets as one typed object, the secrets fetched during INIT and together.

The object is made anew for each invocation, from memory, so a rotated secret arrives within the ttl.
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
    """All that the function needs, of several secrets."""

    database: Database
    api_key: SecretStr

    @classmethod
    async def load(cls, cache: SecretCache) -> Settings:
        """Make it of what is in memory, or fetch what isn't."""
        await cache.get_many([DATABASE, API_KEY])  # what isn't fresh is fetched concurrently
        return cls(
            database=await cache.get_as(DATABASE, Database.model_validate_json),
            api_key=SecretStr(await cache.get_secret(API_KEY)),
        )


cache = SecretCache()


@async_handler(prefetch=[DATABASE, API_KEY], cache=cache)
async def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    settings = await Settings.load(cache)
    return {"user": settings.database.user, "has_key": bool(settings.api_key.get_secret_value())}
