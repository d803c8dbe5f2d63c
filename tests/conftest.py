"""What all tests share: the event loops they run on, servers, fixtures, and which asecretcache is tested."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest

import asecretcache
from asecretcache import SecretCache
from asecretcache.testing import InMemorySource, ManualClock
from simulation.virtual_loop import VirtualLoop

pytest_plugins = [
    "pytester",
    "moto_server",
    "raw_server",
    "agent_server",
    "fault_server",
    "postgres",
    "redis_server",
    "runtime_emulator",
    "lean_package",
]

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_report_header() -> str:
    """Tell which package is tested; test_package.py fails unless it is the installed wheel."""
    return f"asecretcache {version('asecretcache')} from {asecretcache.__path__[0]}"


def pytest_xdist_auto_num_workers() -> int:
    """Half as many processes again as there are cores: many tests wait, for processes, servers and time-outs."""
    return max(1, (os.cpu_count() or 1) * 3 // 2)


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, LoopFactory]:
    """Give a test the loops that its marker names: ``every_loop``, ``virtual_time``, or without one asyncio's."""
    if item.get_closest_marker("virtual_time"):
        return {"virtual": VirtualLoop}
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    if item.get_closest_marker("every_loop"):
        if sys.platform != "win32":
            import uvloop

            factories["uvloop"] = uvloop.new_event_loop
        if sys.version_info >= (3, 12):
            factories["eager"] = _new_eager_loop
    return factories


@pytest.fixture
def asecretcache_secrets() -> dict[str, Any]:
    """A JSON, a text and a binary secret."""
    return {
        "prod/db": {"user": "app", "password": "hunter2", "port": 5432, "hosts": ["a", "b"], "none": None},
        "prod/api": "key-1",
        "prod/key": b"\x00\x01",
    }


@pytest.fixture
def source(asecretcache_source: InMemorySource) -> InMemorySource:
    """A source with the three secrets."""
    return asecretcache_source


@pytest.fixture
def clock(asecretcache_clock: ManualClock) -> ManualClock:
    """The wall clock of the ``cache`` fixture."""
    return asecretcache_clock


@pytest.fixture
def cache(source: InMemorySource, clock: ManualClock) -> SecretCache:
    """A cache over the source, with a ttl of 100 s without jitter."""
    return SecretCache(source, clock=clock, ttl=100.0, jitter=0.0)


if sys.version_info >= (3, 12):

    def _new_eager_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop
