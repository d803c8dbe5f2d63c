"""pytest's plugin, in a project of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "testing.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)

PROJECT = """
import os
import pytest
from asecretcache import async_handler, bootstrap, get_secret, get_default_cache


@pytest.fixture
def asecretcache_secrets():
    return {"prod/db": {"user": "app", "password": "hunter2"}, "prod/api": "key"}


@async_handler
async def handler(event, context):
    return await get_secret("prod/db:user")


def test_a_handler(asecretcache_default, asecretcache_source):
    assert handler({}, None) == "app"
    assert handler({}, None) == "app"
    asecretcache_source.assert_fetched({"prod/db": 1})


@MARK
async def test_expiry(asecretcache_cache, asecretcache_clock, asecretcache_source):
    await asecretcache_cache.get_secret("prod/api")
    asecretcache_clock.advance(3601)
    await asecretcache_cache.get_secret("prod/api")
    asecretcache_source.assert_fetched({"prod/api": 2})


@MARK
async def test_bootstrap(asecretcache_default):
    assert await get_secret("prod/api") == "key"
    await bootstrap({"API_KEY": "prod/api"})
    assert os.environ["API_KEY"] == "key"
    assert get_default_cache() is asecretcache_default


def test_nothing_is_left():
    assert "API_KEY" not in os.environ


@MARK
async def test_a_wrong_expectation(asecretcache_cache, asecretcache_source):
    await asecretcache_cache.get_secret("prod/api")
    asecretcache_source.assert_fetched({"prod/db": 1})
"""


@pytest.mark.parametrize(
    ("mark", "options"),
    [
        ("pytest.mark.asyncio", ("-p", "no:anyio", "-o", "asyncio_default_fixture_loop_scope=function")),
        ("pytest.mark.anyio", ("-p", "no:asyncio")),
    ],
    ids=["asyncio", "anyio"],
)
def test_a_project_of_its_own(pytester: pytest.Pytester, mark: str, options: tuple[str, ...]) -> None:
    """Its tests use the fixtures without an import, under either plugin for async tests."""
    backend = "\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    pytester.makepyfile(PROJECT.replace("@MARK", f"@{mark}") + backend)

    result = pytester.runpytest_subprocess("-W", "error", *options)

    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(
        ["E*AssertionError: 'prod/api' was fetched once, not never; 'prod/db' was fetched never, not once"]
    )
    assert "hunter2" not in result.stdout.str()


def test_the_pages_tests_pass(pytester: pytest.Pytester) -> None:
    """Each block of docs/testing.md is a module of tests."""
    pytester.makepyfile(**{f"test_{number}": block for number, block in enumerate(BLOCKS)})

    # werkzeug, of moto, leaves its listening socket to the garbage collector.
    options = ("-W", "error", "-W", "ignore::ResourceWarning", "-o", "asyncio_default_fixture_loop_scope=function")
    result = pytester.runpytest_subprocess(*options, "-p", "no:unraisableexception")

    assert result.parseoutcomes().keys() == {"passed"}
    for number in range(len(BLOCKS)):
        result.stdout.fnmatch_lines([f"test_{number}.py *[[]*%]"])


def test_the_fixtures_are_documented(pytester: pytest.Pytester) -> None:
    """``pytest --fixtures`` tells of each, and none is automatic."""
    result = pytester.runpytest_subprocess("--fixtures")

    for name in ("secrets", "source", "clock", "cache", "default"):
        result.stdout.fnmatch_lines([f"asecretcache_{name} -- *pytest_asecretcache.py:*"])


def test_loading_the_plugin_imports_nothing_of_the_package() -> None:
    """Every run of pytest in the environment loads it, also those of projects that don't use it."""
    code = (
        "import sys, pytest; before = set(sys.modules); import pytest_asecretcache; print(*set(sys.modules) - before)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert ended.stdout.split() == ["pytest_asecretcache"]
