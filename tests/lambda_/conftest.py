"""What the tests of the entry points share: a default cache over the source, and an environment without Lambda."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest

import observe
from asecretcache import SecretCache, set_default_cache
from asecretcache._cache import live_caches
from asecretcache._init_phase import init_budget
from asecretcache._process_events import before_snapshot
from virtual_runner import virtual_time

__all__ = ["virtual_time"]

VARIABLES = (
    "STORED_SECRET",
    "SECRET_ID",
    "ASECRETCACHE_TTL",
    "ASECRETCACHE_SOURCE",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "_HANDLER",
)


@pytest.fixture(autouse=True)
def hooks(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], list[Any]]:
    """SnapStart's hooks, those of the test alone; the library would keep every handler and its cache alive."""
    before: list[Any] = []
    after: list[Any] = []
    try:
        import snapshot_restore_py
    except ImportError:  # pragma: no cover - awslambdaric depends on it
        return before, after
    monkeypatch.setattr(snapshot_restore_py, "register_before_snapshot", before.append)
    monkeypatch.setattr(snapshot_restore_py, "register_after_restore", after.append)
    monkeypatch.setattr(before_snapshot, "is_hooked", False)
    return before, after


@pytest.fixture
def alone() -> None:
    """No cache of an earlier test counts as in use, though a traceback may keep it alive."""
    gc.collect()
    for each in live_caches():
        observe.loader(each).is_closed = True


@pytest.fixture(autouse=True)
def default(alone: None, cache: SecretCache, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretCache]:
    """The cache as the default one; afterwards the environment is as before, and the invocations' loop is closed."""
    before = dict(os.environ)
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    set_default_cache(cache)
    init_budget.reset()
    yield cache
    before_snapshot.happen()
    before_snapshot.is_over = False
    set_default_cache(None)
    for variable in set(os.environ) - set(before):
        del os.environ[variable]


@pytest.fixture
def lambda_init(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lambda's INIT: the runtime is there."""
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")
