"""Clients of the SDK: what is imported and loaded for them, when, and in which thread."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import aioboto3
import pytest

from asecretcache._sources.sdk import patches
from asecretcache._sources.sdk.client_factory import SdkClientFactory
from raw_server import GOOD, RawServer


async def fetch(factory: SdkClientFactory) -> str:
    """Open a client, call it once and close it."""
    async with factory.open() as client:
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

    monkeypatch.setattr(patches, "read_model", noted)
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


async def test_a_users_session_is_not_patched(aws_raw: RawServer) -> None:
    """It may be used for other services, and looks for models in its own places."""
    session = aioboto3.Session()

    assert await fetch(SdkClientFactory(session, None, None, None)) == "the value"

    loader = session._session.get_component("data_loader")
    assert "s3" in loader.list_available_services("service-2")
    assert "load_file" not in vars(loader.file_loader)
    assert "create_client" not in vars(session._session)
