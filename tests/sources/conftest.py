"""Fixtures that the tests of the sources share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from agent_server import TOKEN
from asecretcache import AgentSource, DirectSource, SecretsManagerSource
from asecretcache._sources import loop_clients
from asecretcache.testing import ManualClock
from raw_server import RawServer
from source_helpers import Served, SourceClass

PLACES = [
    (SecretsManagerSource, "aws_raw"),
    (SecretsManagerSource, "tls_server"),
    (DirectSource, "aws_raw"),
    (DirectSource, "tls_server"),
    (AgentSource, "agent_raw"),
]


@pytest.fixture(params=[SecretsManagerSource, DirectSource])
def any_source(request: pytest.FixtureRequest) -> SourceClass:
    """Each of the sources; DirectSource may use the SDK."""
    source: SourceClass = request.param
    return source


@pytest.fixture
def source_class(any_source: SourceClass, caplog: pytest.LogCaptureFixture) -> Iterator[SourceClass]:
    """Each of the sources; DirectSource must not use the SDK."""
    caplog.set_level(logging.INFO, "asecretcache")
    yield any_source
    assert [record for record in caplog.get_records("call") if "uses the AWS SDK" in record.getMessage()] == []


@pytest.fixture
def agent_raw(bare_environment: pytest.MonkeyPatch, raw_server: RawServer) -> RawServer:
    """A server over plain HTTP; the environment names its port as that of AWS's local provider, and a token."""
    bare_environment.setenv("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", str(raw_server.server_address[1]))
    bare_environment.setenv("AWS_TOKEN", TOKEN)
    return raw_server


@pytest.fixture(params=PLACES, ids=[f"{kind.__name__}-{server}" for kind, server in PLACES])
def served(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Served]:
    """Each of all sources with each server that it can fetch from; DirectSource must not use the SDK."""
    caplog.set_level(logging.INFO, "asecretcache")
    kind, server = request.param
    yield Served(kind, request.getfixturevalue(server))
    assert [record for record in caplog.get_records("call") if "uses the AWS SDK" in record.getMessage()] == []


@pytest.fixture
def clock() -> ManualClock:
    """A wall clock that stands still until it is moved."""
    return ManualClock()


@pytest.fixture
def client_clock(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """The same clock, by which clients grow old."""
    monkeypatch.setattr(loop_clients, "wall_clock", clock)
    return clock


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were slept, without sleeping."""
    taken: list[float] = []
    sleep = asyncio.sleep

    async def no_sleep(delay: float) -> None:
        if delay:
            taken.append(delay)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", no_sleep)
    return taken
