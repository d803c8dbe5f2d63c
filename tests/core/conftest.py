"""The source that the engine's tests fetch from."""

from __future__ import annotations

import pytest

from asecretcache.testing import InMemorySource


@pytest.fixture
def source() -> InMemorySource:
    """A source with two text secrets."""
    return InMemorySource({"prod/db": "hunter2", "other": "else"})
