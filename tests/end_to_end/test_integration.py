"""The whole package in one process, over HTTP, with the calls counted at the server."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from asecretcache import (
    SecretCache,
    SecretErrorGroup,
    SecretFormatError,
    SecretNotFoundError,
    bootstrap,
    get_secret,
    get_secrets,
    set_default_cache,
)
from moto_server import SESSION_TOKEN, MotoServer

NAME, VALUE = "prod/db", "canary-hunter2"


@pytest.fixture
def moto(moto_server: MotoServer, aws_environment: pytest.MonkeyPatch) -> Iterator[MotoServer]:
    moto_server.create(NAME, VALUE)
    yield moto_server
    set_default_cache(None)


@pytest.mark.every_loop
async def test_a_thousand_concurrent_first_gets_are_one_call_at_the_server(moto: MotoServer) -> None:
    """And each gets the value."""
    async with SecretCache() as cache:
        values = await asyncio.gather(*(cache.get_secret(NAME) for _ in range(1000)))

    assert set(values) == {VALUE}
    assert moto.calls() == 1


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_loop_for_each_invocation_costs_one_call(moto: MotoServer, run: Callable[[Any], str]) -> None:
    """With asyncio.run and with uvloop."""
    cache = SecretCache()

    assert [run(cache.get_secret(NAME)) for _ in range(20)] == [VALUE] * 20
    assert moto.calls() == 1


def test_threads_with_a_loop_each_share_the_values(moto: MotoServer) -> None:
    """After the first fetch none of them makes a call."""
    cache = SecretCache()
    asyncio.run(cache.get_secret(NAME))
    values: list[str] = []
    threads = [threading.Thread(target=lambda: values.append(asyncio.run(cache.get_secret(NAME)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert values == [VALUE] * 4
    assert moto.calls() == 1


async def test_versions_binaries_and_json_as_secrets_manager_has_them(moto: MotoServer) -> None:
    """Each kind is read by its method, and each version is a call of its own."""
    moto.create("binary", b"\x00\xff")
    moto.create("json", '{"user": "app"}')
    moto.client.put_secret_value(SecretId=NAME, SecretString="second")
    async with SecretCache() as cache:
        assert await cache.get_secret(NAME) == "second"
        assert await cache.get_secret(NAME, version_stage="AWSPREVIOUS") == VALUE
        version = (await cache.get(NAME)).version_id
        assert await cache.get_secret(NAME, version_id=version) == "second"
        assert await cache.get_secret_binary("binary") == b"\x00\xff"
        assert await cache.get_json("json", "user") == "app"
        with pytest.raises(SecretFormatError, match="get_secret_binary"):
            await cache.get_secret("binary")

    assert moto.calls() == 5


async def test_unknown_and_deleted_secrets_are_not_found(moto: MotoServer) -> None:
    """Also those that could still be restored, and each of several is named."""
    moto.create("gone", "x")
    moto.client.delete_secret(SecretId="gone")
    async with SecretCache() as cache:
        with pytest.raises(SecretErrorGroup) as caught:
            await cache.get_many("gone", "never", NAME)

    assert [(getattr(error, "secret_id", None), type(error)) for error in caught.value.exceptions] == [
        ("gone", SecretNotFoundError),
        ("never", SecretNotFoundError),
    ]


async def test_the_articles_flow_over_http(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the default cache, by name and by ARN."""
    arn = moto.create("config", '{"user": "app", "port": 5432}')
    monkeypatch.setenv("SECRET_ID", f"{arn}:user")
    monkeypatch.setenv("STORED_SECRET", "")
    set_default_cache(cache := SecretCache())
    await bootstrap()
    assert await get_secret() == "app"
    assert await get_secrets(f"{arn}:port", NAME) == {f"{arn}:port": "5432", NAME: VALUE}
    await cache.aclose()

    assert moto.calls() == 2


async def test_no_log_record_holds_value_or_token(moto: MotoServer, caplog: pytest.LogCaptureFixture) -> None:
    """With every logger at DEBUG, from the first import to the end."""
    caplog.set_level(logging.DEBUG)
    async with SecretCache() as cache:
        await cache.get_secret(NAME)
        with pytest.raises(SecretNotFoundError):
            await cache.get_secret("never")

    told = [record for record in caplog.records if record.name.partition(".")[0] != "werkzeug"]
    assert told
    for record in told:
        shown = record.getMessage() + repr(record.__dict__)
        assert VALUE not in shown
        assert SESSION_TOKEN not in shown
