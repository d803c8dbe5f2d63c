"""The lifespan of an ASGI application, once per worker or once per invocation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

import observe
from asecretcache import (
    ConfigurationError,
    SecretCache,
    SecretErrorGroup,
    SecretsManagerSource,
    SecretUnavailableError,
    asgi_lifespan,
    get_secret,
)
from asecretcache.testing import InMemorySource, ManualClock, use_secrets
from source_helpers import FakeClient

NAME, VALUE = "prod/api", "key-1"


async def test_the_start_prefetches(source: InMemorySource) -> None:
    """Requests find the values, which stay after the end."""
    async with asgi_lifespan(prefetch=[NAME])(None):
        assert len(source.calls) == 1
        assert await get_secret(NAME) == VALUE
    assert await get_secret(NAME) == VALUE
    assert len(source.calls) == 1


def test_a_lifespan_per_invocation_fetches_once(source: InMemorySource) -> None:
    """Also if the first one has failed: requests fetch what they need."""
    source.fail(SecretUnavailableError("down"))
    lifespan = asgi_lifespan(prefetch=[NAME])

    async def invocation() -> None:
        async with lifespan(None):
            pass

    for _ in range(3):
        asyncio.run(invocation())

    assert len(source.calls) == 1


async def test_each_block_of_a_test_sees_the_prefetch() -> None:
    """Two tests of one application count the same calls; a cache of its own is prefetched into once."""
    cache = SecretCache(own := InMemorySource({NAME: VALUE}))
    lifespan, with_own_cache = asgi_lifespan(prefetch=[NAME]), asgi_lifespan(prefetch=[NAME], cache=cache)
    for _ in range(2):
        with use_secrets({NAME: VALUE}) as source:
            for _ in range(2):
                async with lifespan(None), with_own_cache(None):
                    cache.clear()
        source.assert_fetched({NAME: 1})
    own.assert_fetched({NAME: 1})


async def test_a_failure_is_logged(source: InMemorySource, caplog: pytest.LogCaptureFixture) -> None:
    """The application starts."""
    caplog.set_level(logging.WARNING)
    async with asgi_lifespan(prefetch=["prod/missing"])(None):
        assert "prefetch failed" in caplog.text


async def test_a_failure_ends_the_start_if_it_is_required() -> None:
    """And the next start tries again."""
    source = InMemorySource({NAME: VALUE})
    source.fail(SecretUnavailableError("down"))
    lifespan = asgi_lifespan(prefetch=[NAME], required=True, cache=SecretCache(source))
    with pytest.raises(SecretErrorGroup):
        async with lifespan(None):
            pytest.fail("it has started")
    source.recover()
    async with lifespan(None):
        pass
    assert len(source.calls) == 2


async def test_the_applications_own_runs_within() -> None:
    """It may use the secrets at its start and its end, and its state is passed on."""
    events: list[str] = []

    @asynccontextmanager
    async def own(app: str) -> AsyncIterator[Mapping[str, Any]]:
        events.append(f"{app} {await get_secret(NAME)}")
        yield {"pool": 1}
        events.append(f"end {await get_secret(NAME)}")

    async with asgi_lifespan(own, prefetch=[NAME])("app") as state:
        assert state == {"pool": 1}

    assert events == [f"app {VALUE}", f"end {VALUE}"]


async def test_the_end_closes_the_clients() -> None:
    """Those of this loop, of every cache; a later read opens another one."""
    client = FakeClient()
    cache = SecretCache(SecretsManagerSource(client_factory=client))
    async with asgi_lifespan(cache=cache, prefetch=["name"])(None):
        assert (client.opened, client.closed) == (1, 0)
    assert client.closed == 1
    assert (await cache.refresh("name")).text
    assert client.opened == 2
    await cache.aclose()


async def test_the_end_waits_for_a_refresh(source: InMemorySource, clock: ManualClock) -> None:
    """But not for long; what doesn't end is cancelled."""
    cache = SecretCache(source, clock=clock, ttl=100.0, jitter=0.0, stale_while_revalidate=1000.0)
    await cache.get_secret(NAME)
    clock.advance(150)
    source.rotate(NAME, "key-2")
    async with asgi_lifespan(cache=cache)(None):
        await cache.get_secret(NAME)
    stored = cache.peek(NAME)
    assert stored is not None
    assert stored.text == "key-2"


async def test_without_references_the_source_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its imports would delay the first request."""
    client = FakeClient()
    source = SecretsManagerSource(client_factory=client)
    async with asgi_lifespan(cache=SecretCache(source))(None):
        assert (client.opened, client.calls) == (1, [])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"prefetch": NAME}, r"asgi_lifespan\(prefetch=\['prod/db'\]\)"),
        ({"cache": 5}, "cache must be a SecretCache, not int"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], says: str) -> None:
    """When it is made, not when the server starts."""
    with pytest.raises(ConfigurationError, match=says):
        asgi_lifespan(**arguments)


async def _generator(app: object) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize(
    ("lifespan", "says"),
    [
        (NAME, r"not str; secrets are named by prefetch="),
        (FastAPI(), r"not the application: FastAPI\(lifespan=asgi_lifespan\(prefetch="),
        (_generator, r"not an async generator function: decorate it with @contextlib\.asynccontextmanager"),
    ],
)
def test_what_is_no_lifespan_is_refused(lifespan: Any, says: str) -> None:
    """It is told what is right, before the server starts."""
    with pytest.raises(ConfigurationError, match=f"asgi_lifespan takes a lifespan function, {says}"):
        asgi_lifespan(lifespan)


@pytest.mark.virtual_time
async def test_in_an_invocation_the_start_takes_half_of_the_time(
    source: InMemorySource, caplog: pytest.LogCaptureFixture
) -> None:
    """And the end no more than there is left."""
    source.pause()
    loop = asyncio.get_running_loop()
    began = loop.time()
    observe.set_deadline(3.0)
    async with asgi_lifespan(prefetch=[NAME])(None):
        assert loop.time() - began == pytest.approx(1.5, abs=0.01)
    assert loop.time() - began <= 3.0
    assert "prefetch failed" in caplog.text
