"""Clients of the SDK: what is imported and loaded for them, when, and in which thread."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import aioboto3
import aiobotocore
import pytest
from aiobotocore.client import AioBaseClient
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from botocore.config import Config
from botocore.loaders import JSONFileLoader

import asecretcache
from asecretcache import ConfigurationError
from asecretcache._sources.loop_clients import Lease
from asecretcache._sources.sdk import patches
from asecretcache._sources.sdk.client_factory import SdkClientFactory
from raw_server import GOOD, RawServer


async def fetch(factory: SdkClientFactory) -> str:
    """Open a client, call it once and close it."""
    async with factory.open(Lease()) as client:
        text: str = (await client.get_secret_value(SecretId="name"))["SecretString"]
        return text


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """The models that were read, and whether the main thread read them."""
    read: list[tuple[str, bool]] = []
    read_model = patches.read_model

    def noted(path: str) -> Any:
        model = read_model(path)
        if model is not None:
            read.append((Path(path).name, threading.current_thread() is threading.main_thread()))
        return model

    def fail(*_: object) -> None:
        pytest.fail("a loader that isn't ours has read a model")

    monkeypatch.setattr(patches, "read_model", noted)
    monkeypatch.setattr(JSONFileLoader, "load_file", fail)
    return read


def test_models_are_read_once_and_in_a_thread(aws_raw: RawServer, models: list[tuple[str, bool]]) -> None:
    """All loops share them, and making a client reads no other."""
    factory = SdkClientFactory(None, None, None, None)

    assert [asyncio.run(fetch(factory)) for _ in range(3)] == [GOOD["SecretString"]] * 3

    counts = Counter(name for name, _ in models)
    assert counts.keys() >= {"endpoints", "service-2", "endpoint-rule-set-1"}
    assert set(counts.values()) == {1}
    assert not any(is_main for _, is_main in models)


def test_two_threads_may_prepare_at_the_same_time(aws_raw: RawServer, models: list[tuple[str, bool]]) -> None:
    """Each has read the models, and the clients made afterwards read none."""
    factory = SdkClientFactory(None, None, None, None)
    factory.prepare()
    factory.prepare()
    count = len(models)

    assert [asyncio.run(fetch(factory)) for _ in range(3)] == [GOOD["SecretString"]] * 3

    assert len(models) == count


def test_a_model_that_is_missing_is_loaded_when_it_is_needed(
    aws_raw: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error while models are loaded early is ignored."""
    is_early = True
    read_model = patches.read_model

    def fail_early(path: str) -> Any:
        if is_early:
            raise OSError
        return read_model(path)

    monkeypatch.setattr(patches, "read_model", fail_early)
    factory = SdkClientFactory(None, None, None, None)
    factory.prepare()
    is_early = False

    assert asyncio.run(fetch(factory)) == GOOD["SecretString"]


async def test_a_users_session_stays_the_users(aws_raw: RawServer) -> None:
    """It may be used for other services, with clients as they are, and looks for models in its own places."""
    session = aioboto3.Session()

    assert await fetch(SdkClientFactory(session, None, None, None)) == "the value"

    loader = session._session.get_component("data_loader")
    assert "s3" in loader.list_available_services("service-2")
    assert "load_file" not in vars(loader.file_loader)
    async with session.client("s3", region_name="eu-west-1") as client:
        assert type(client._endpoint.http_session) is AIOHTTPSession


@pytest.mark.parametrize("make", [aioboto3.Session, AioSession])
async def test_a_session_of_either_kind_is_used(aws_raw: RawServer, make: Any) -> None:
    """aioboto3's has aiobotocore's inside."""
    session = make()

    assert await fetch(SdkClientFactory(session, None, None, None)) == "the value"


async def test_a_config_of_the_user_is_not_changed(aws_raw: RawServer) -> None:
    """Its settings count, and the client has a copy of it."""
    for config in (Config(user_agent="mine"), AioConfig({"keepalive_timeout": 9}, user_agent="mine")):
        before = dict(vars(config))

        assert await fetch(SdkClientFactory(None, None, None, config)) == "the value"

        assert vars(config) == before
    assert all(b"User-Agent: mine" in request for request in aws_raw.requests)
    assert len(aws_raw.requests) == 2


async def test_a_session_that_takes_another_http_session_is_refused(aws_raw: RawServer) -> None:
    """aiobotocore up to 3.7 drops ours when it merges a session's default config; later versions keep it."""
    session = AioSession()
    session.set_default_client_config(AioConfig(http_session_cls=AIOHTTPSession))
    factory = SdkClientFactory(session, None, None, None)

    if tuple(map(int, aiobotocore.__version__.split(".")[:2])) < (3, 8):
        with pytest.raises(ConfigurationError, match="leave out the session's default client config"):
            await fetch(factory)
        assert aws_raw.requests == []
    else:
        assert await fetch(factory) == "the value"


async def test_an_sdk_that_has_another_inside_is_refused(aws_raw: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the session can't be seen, it can't be known that it verifies."""
    enter = AioBaseClient.__aenter__

    async def hide(client: Any) -> Any:
        await enter(client)
        del client._endpoint
        return client

    monkeypatch.setattr(AioBaseClient, "__aenter__", hide)
    monkeypatch.setattr(AioBaseClient, "__aexit__", lambda *_: asyncio.sleep(0))

    with pytest.raises(ConfigurationError, match="didn't take the HTTP session that verifies connections"):
        await fetch(SdkClientFactory(None, None, None, None))


async def test_a_client_has_our_time_outs_and_attempts(aws_raw: RawServer) -> None:
    """And what the user's config sets instead of them."""
    given = AioConfig({"keepalive_timeout": 7}, read_timeout=1.5)
    for config, read_timeout, kept in ((None, 3.0, 12), (given, 1.5, 7)):
        async with SdkClientFactory(None, None, None, config).open(Lease()) as client:
            made = client.meta.config

        assert (made.connect_timeout, made.read_timeout) == (2.0, read_timeout)
        assert made.retries["mode"] == "standard"
        assert made.retries["total_max_attempts"] == 3
        assert made.tcp_keepalive is True
        assert made.user_agent_extra == f"asecretcache/{asecretcache.__version__}"
        assert made.connector_args["keepalive_timeout"] == kept
