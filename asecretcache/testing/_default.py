"""The default cache of a test, after which everything is as it was before."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from asecretcache._cache import SecretCache
from asecretcache._lambda.default import STORED_SECRET, process
from asecretcache.testing._source import InMemorySource


@contextmanager
def default_cache(cache: SecretCache) -> Iterator[SecretCache]:
    """Let a cache be the default one within a block.

    Within it each handler runs its prefetch once more, and STORED_SECRET isn't set, nor what bootstrap wrote before.
    Afterwards these and the cache that was the default one are back, and what bootstrap wrote in the block is gone.
    """
    before = process.cache, dict(process.written), {name: os.environ.get(name) for name in process.written}
    stored = os.environ.get(STORED_SECRET)
    process.forget_written()
    os.environ.pop(STORED_SECRET, None)
    process.replace_cache(cache)
    try:
        yield cache
    finally:
        process.forget_written()
        previous, written, values = before
        process.replace_cache(previous)
        process.written.update(written)
        for name, value in {**values, STORED_SECRET: stored}.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class use_secrets:  # noqa: N801 - it is used as a verb, as a function would be
    """Let ``get_secret``, ``get_secrets``, ``bootstrap`` and handlers without a cache of their own read these secrets.

    A context manager, which gives the source. It isn't a decorator, which would end before an async test has begun.
    Within it each handler runs its prefetch once more, and STORED_SECRET isn't set, nor what bootstrap wrote before;
    both are back afterwards, and what bootstrap wrote within it is gone. It is for one test at a time, since a process
    has one default cache.

    Args:
        secrets: values by name: str or bytes, or a mapping that becomes JSON.
        options: arguments of SecretCache, such as ``clock`` or ``ttl``.

    Raises:
        ConfigurationError: a value or an option is wrong.
    """

    def __init__(self, secrets: Mapping[str, str | bytes | Mapping[str, Any]] | None = None, /, **options: Any) -> None:
        self._source = InMemorySource(secrets)
        self._block = default_cache(SecretCache(self._source, **options))

    def __enter__(self) -> InMemorySource:
        self._block.__enter__()
        return self._source

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._block.__exit__(kind, error, trace)
