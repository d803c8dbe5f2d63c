"""For tests of code that uses the cache: secrets in memory, a clock that is moved by hand, rotations and outages.

    with use_secrets({"prod/db": {"user": "app", "password": "hunter2"}}) as source:
        assert handler({}, None) == "ok"
    source.assert_fetched({"prod/db": 1})

With pytest, the fixtures ``asecretcache_source``, ``_clock``, ``_cache`` and ``_default`` are there without an import.
"""

from asecretcache.testing._clock import ManualClock
from asecretcache.testing._default import use_secrets
from asecretcache.testing._rotation import RefusedError, RotatingCredentials
from asecretcache.testing._source import InMemorySource

__all__ = ["InMemorySource", "ManualClock", "RefusedError", "RotatingCredentials", "use_secrets"]
