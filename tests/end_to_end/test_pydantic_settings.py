"""Settings of several secrets, by pydantic-settings."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr
from pydantic_settings import BaseSettings

from asecretcache import SecretCache
from moto_server import MotoServer
from rotation_load import run_block


class Settings(BaseSettings):
    """What an application is configured with, from secrets and the environment."""

    password: SecretStr
    api_key: SecretStr
    log_level: str = "INFO"


async def test_pydantic_settings(moto_server: MotoServer, aws_environment: Any) -> None:
    """Several secrets are one batch call; settings that are made again have the new version, and cost nothing."""
    moto_server.create("prod/db", '{"password": "one"}')
    moto_server.create("prod/api", "key-1")
    aws_environment.setenv("LOG_LEVEL", "DEBUG")
    async with SecretCache(batch=True) as cache:
        names: dict[str, Any] = {"cache": cache, "Settings": Settings}
        for _ in range(3):
            await run_block("pydantic-settings", names)
        settings = names["settings"]
        assert (settings.password.get_secret_value(), settings.api_key.get_secret_value()) == ("one", "key-1")
        assert settings.log_level == "DEBUG"
        assert moto_server.calls("BatchGetSecretValue") == 1
        assert moto_server.calls("GetSecretValue") == 0

        moto_server.client.put_secret_value(SecretId="prod/api", SecretString="key-2")
        await cache.refresh("prod/api")
        await run_block("pydantic-settings", names)
        assert names["settings"].api_key.get_secret_value() == "key-2"
