"""What all tests share: the event loops they run on, the servers they talk to, and which asecretcache it is."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from importlib.metadata import version

import pytest

import asecretcache

pytest_plugins = ["moto_server", "raw_server", "fault_server", "postgres"]

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_report_header() -> str:
    """Tell which package is tested; test_package.py fails unless it is the installed wheel."""
    return f"asecretcache {version('asecretcache')} from {asecretcache.__path__[0]}"


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, LoopFactory]:
    """Give a test that is marked ``every_loop`` all the kinds of loop that this interpreter has; others, asyncio's."""
    factories: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    if item.get_closest_marker("every_loop"):
        if sys.platform != "win32":
            import uvloop

            factories["uvloop"] = uvloop.new_event_loop
        if sys.version_info >= (3, 12):
            factories["eager"] = _new_eager_loop
    return factories


if sys.version_info >= (3, 12):

    def _new_eager_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop
