"""Fixtures for pytest: secrets in memory, and the default cache of a test. asecretcache has it as a plugin of pytest.

Nothing is imported until a fixture is used, since pytest loads this in every run of the environment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from asecretcache import SecretCache
    from asecretcache.testing import InMemorySource, ManualClock


@pytest.fixture
def asecretcache_secrets() -> Mapping[str, str | bytes | Mapping[str, Any]]:
    """The secrets of ``asecretcache_source``, by name: none. Override it with your own."""
    return {}


@pytest.fixture
def asecretcache_source(asecretcache_secrets: Mapping[str, Any]) -> InMemorySource:
    """A source with the secrets of ``asecretcache_secrets``; ``rotate`` adds others."""
    from asecretcache.testing import InMemorySource

    return InMemorySource(asecretcache_secrets)


@pytest.fixture
def asecretcache_clock() -> ManualClock:
    """The clock of ``asecretcache_cache``, which stands until it is moved."""
    from asecretcache.testing import ManualClock

    return ManualClock()


@pytest.fixture
def asecretcache_cache(asecretcache_source: InMemorySource, asecretcache_clock: ManualClock) -> SecretCache:
    """A cache over the source and the clock, with the default options but without jitter."""
    from asecretcache import SecretCache

    return SecretCache(asecretcache_source, clock=asecretcache_clock, jitter=0.0)


@pytest.fixture
def asecretcache_default(asecretcache_cache: SecretCache) -> Iterator[SecretCache]:
    """The same cache as the default one, of get_secret, bootstrap and handlers; afterwards all is as it was before."""
    from asecretcache.testing._default import default_cache

    with default_cache(asecretcache_cache):
        yield asecretcache_cache
