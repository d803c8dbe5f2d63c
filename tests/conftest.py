"""What all tests share: the event loops they run on, servers, fixtures, and which asecretcache is tested."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import pkgutil
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import botocore.loaders
import pytest

import asecretcache
from asecretcache import SecretCache
from asecretcache._sources.sdk.patches import read_model
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
    "warm_python",
]

TESTS = Path(__file__).parent
#: Their subject is the whole, or text. That every branch is taken is for the tests of each module to see.
UNMEASURED = ("end_to_end", "simulation", "test_package.py")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_report_header() -> str:
    """Tell which package is tested; test_package.py fails unless it is the installed wheel."""
    return f"asecretcache {version('asecretcache')} from {asecretcache.__path__[0]}"


def pytest_xdist_auto_num_workers() -> int:
    """Half as many processes again as there are cores: many tests wait, for processes, servers and time-outs."""
    return max(1, (os.cpu_count() or 1) * 3 // 2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure no coverage where it proves little and costs most: CPython 3.11 takes twice as long for the same code.

    pytest-cov's own marker, no_cover, leaves a second tracer running in the processes of pytest-xdist.
    """
    if item.path.relative_to(TESTS).parts[0] not in UNMEASURED:
        return (yield)
    with _untraced():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Measure no coverage of the collection, but for the package's own modules, and collect no garbage in it."""
    for module in pkgutil.walk_packages(asecretcache.__path__, "asecretcache."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.disable()
    try:
        with _untraced():
            return (yield)
    finally:
        gc.enable()


@contextmanager
def _untraced() -> Iterator[None]:
    here, in_new_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        yield
    finally:
        sys.settrace(here)
        threading.settrace(in_new_threads)


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


@pytest.fixture(scope="module", autouse=True)
def _gc_freeze() -> None:
    """Leave what earlier tests imported out of later collections of garbage, which hundreds of tests ask for."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let pytest's last collection see all of it, for warnings of what was left open or never awaited."""
    gc.unfreeze()


#: What reads the SDK's models, which are the same for each of the hundreds of clients that the tests make.
READERS: dict[str, Callable[..., Any]] = {
    "botocore.loaders.JSONFileLoader.load_file": botocore.loaders.JSONFileLoader.load_file,
    "botocore.loaders.Loader.list_available_services": botocore.loaders.Loader.list_available_services,
    "asecretcache._sources.sdk.patches.read_model": read_model,
}


@pytest.fixture(scope="session", autouse=True)
def _cached_models() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, reader in READERS.items():
            patch.setattr(name, _cached(reader))
        yield


@pytest.fixture(scope="session", autouse=True)
def _without_httpx() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS / "without_httpx"))
        yield


@pytest.fixture
def uncached_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of reading them."""
    for name, reader in READERS.items():
        monkeypatch.setattr(name, reader)


def _cached(reader: Callable[..., Any]) -> Callable[..., Any]:
    """Return a reader that keeps what it returned for a path or a type, whatever loader is asked."""
    kept: dict[tuple[str, ...], Any] = {}

    def cached(*args: Any, **kwargs: Any) -> Any:
        key = tuple(each for each in (*args, *kwargs.values()) if isinstance(each, str))
        if key not in kept:
            kept[key] = reader(*args, **kwargs)
        return kept[key]

    return cached


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
