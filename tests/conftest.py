"""What all tests share: the event loops they run on, servers, fixtures, and which asecretcache is tested."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import pkgutil
import sys
import threading
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
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
    "warm_python",
]

TESTS = Path(__file__).parent
#: Their subject is the whole, or text. That every branch is taken is for the tests of each module to see.
UNMEASURED = ("end_to_end", "simulation", "test_package.py")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
#: The trace functions that coverage has set, for the thread that runs the tests and for those that are started.
TRACERS = pytest.StashKey[tuple[Any, Any]]()


def pytest_report_header() -> str:
    """Tell which package is tested; test_package.py fails unless it is the installed wheel."""
    return f"asecretcache {version('asecretcache')} from {asecretcache.__path__[0]}"


def pytest_xdist_auto_num_workers() -> int:
    """Half as many processes again as there are cores: many tests wait, for processes, servers and time-outs."""
    return max(1, (os.cpu_count() or 1) * 3 // 2)


# Coverage is measured where it proves something: CPython 3.11 takes half as long again for all code of a thread that is
# traced. pytest-cov's own marker, no_cover, leaves a second tracer running in the processes of pytest-xdist.


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Measure no coverage between the tests, nor in the process that only hands them out."""
    session.stash[TRACERS] = sys.gettrace(), threading.gettrace()
    with _traced_by(None, None):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure it of tests, but for those that are UNMEASURED."""
    if item.path.relative_to(TESTS).parts[0] in UNMEASURED:
        return (yield)
    with _traced_by(*item.session.stash[TRACERS]):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Measure no coverage of the collection, but for the package's own modules, and collect no garbage in it."""
    for module in pkgutil.walk_packages(asecretcache.__path__, "asecretcache."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.disable()
    try:
        with _traced_by(None, None):
            return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let two of three processes begin with tests of end_to_end/, which wait a lot, and one come to them later.

    pytest-xdist gives each process an equal share of the list; what is left at its end is taken by those that are done.
    """
    files = Counter(item.path for item in items)
    waiting = [path for path in files if path.parent == TESTS / "end_to_end"]
    others = [path for path in files if path not in waiting]
    ends = list(accumulate(files[path] for path in others))
    # In the middle of the second process's share, and where the third one's begins: some of end_to_end/ precede.
    middle, last = bisect(ends, 0.45 * len(items)), bisect(ends, 0.63 * len(items))
    order = waiting[::3] + others[:middle] + waiting[1::3] + others[middle:last] + waiting[2::3] + others[last:]
    items.sort(key=lambda item: order.index(item.path))


@contextmanager
def _traced_by(here: Any, in_new_threads: Any) -> Iterator[None]:
    before = sys.gettrace(), threading.gettrace()
    sys.settrace(here)
    threading.settrace(in_new_threads)
    try:
        yield
    finally:
        sys.settrace(before[0])
        threading.settrace(before[1])


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


#: What the SDK reads and finds out in the same way for each of the hundreds of clients that the tests make.
REPEATED: dict[str, Callable[..., Any]] = {
    name: pkgutil.resolve_name(name)
    for name in (
        "botocore.hooks.EventAliaser._alias_event_name",
        "botocore.hooks.accepts_kwargs",
        "botocore.loaders.JSONFileLoader.load_file",
        "botocore.loaders.Loader.list_available_services",
        "asecretcache._sources.sdk.patches.read_model",
    )
}


@pytest.fixture(scope="session", autouse=True)
def _cached_sdk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, function in REPEATED.items():
            patch.setattr(name, _cached(function))
        yield


@pytest.fixture(scope="session", autouse=True)
def _without_httpx() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS / "without_httpx"))
        yield


@pytest.fixture
def uncached_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what is cached."""
    for name, function in REPEATED.items():
        monkeypatch.setattr(name, function)


def _cached(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that keeps what was returned for a text or for the code of a function, whoever is asked."""
    kept: dict[tuple[object, ...], Any] = {}

    def cached(*args: Any, **kwargs: Any) -> Any:
        key = tuple(
            getattr(each, "__code__", each)
            for each in (*args, *kwargs.values())
            if isinstance(each, str) or hasattr(each, "__code__")
        )
        if not key:
            return function(*args, **kwargs)
        if key not in kept:
            kept[key] = function(*args, **kwargs)
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
