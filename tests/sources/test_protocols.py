"""The protocols, and which of them the sources implement."""

from __future__ import annotations

import pytest

from asecretcache import BatchSource, Secret, SecretRequest, SecretSource
from asecretcache._sources.protocols import WarmableSource
from asecretcache.testing import InMemorySource
from source_helpers import SourceClass


@pytest.mark.parametrize("protocol", [SecretSource, BatchSource, WarmableSource])
async def test_the_sources_implement_all_protocols(any_source: SourceClass, protocol: type) -> None:
    """They can fetch single secrets and batches, and can be warmed."""
    source = any_source()

    assert isinstance(source, protocol)
    await source.aclose()


def test_a_source_in_memory_needs_no_warming() -> None:
    """It has batches, and nothing to do before its first fetch."""
    assert isinstance(InMemorySource(), BatchSource)
    assert not isinstance(InMemorySource(), WarmableSource)


def test_a_source_needs_two_methods() -> None:
    """A user's class with fetch and aclose is a SecretSource, and no BatchSource."""

    class Source:
        async def fetch(self, request: SecretRequest) -> Secret:
            raise NotImplementedError

        async def aclose(self) -> None:
            raise NotImplementedError

    assert isinstance(Source(), SecretSource)
    assert not isinstance(Source(), BatchSource)
