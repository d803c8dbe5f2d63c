"""SecretCache: construction, preparation of the source, deadlines, closing, and what is logged."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import sys
import threading
from typing import Any

import anyio
import pytest

import observe
from asecretcache import (
    CacheClosedError,
    ConfigurationError,
    Secret,
    SecretCache,
    SecretRequest,
    SecretsManagerSource,
    SecretUnavailableError,
)
from asecretcache._cache import live_caches
from asecretcache._core.fetch import FetchReason
from asecretcache._core.timeouts import Deadline, FetchTimeout, current_fetch_timeout, invocation_deadline
from asecretcache.testing import InMemorySource, ManualClock
from turns import until

JSON, TEXT, BINARY = "prod/db", "prod/api", "prod/key"


class FetchOnly:
    """A source without batches and without preparations."""

    async def fetch(self, request: SecretRequest) -> Secret:
        raise NotImplementedError

    async def aclose(self) -> None: ...


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"ttl": -1}, "ttl can't be -1: give seconds, or None for no expiry"),
        ({"ttl": math.nan}, "ttl can't be nan"),
        ({"ttl": "60"}, "ttl must be a number, not str"),
        ({"ttl_by_secret": {"a": -1}}, "ttl of 'a' can't be -1"),
        ({"jitter": 2}, "jitter must be a fraction of the ttl from 0 to 1"),
        ({"stale_while_revalidate": -1}, "stale_while_revalidate can't be -1"),
        ({"stale_if_error": math.inf}, "stale_if_error can't be inf"),
        ({"fetch_timeout": 0}, "fetch_timeout can't be 0: give seconds above zero"),
        ({"fetch_timeout": None}, "fetch_timeout must be a number, not NoneType"),
        ({"max_size": 0}, "max_size must be a whole number of values, at least 1"),
        ({"max_size": 1.5}, "max_size must be a whole number"),
        ({"max_size": True}, "max_size must be a whole number"),
        ({"batch": 1}, "batch must be True or False, not int"),
        ({"clock": 12}, "clock must be a callable"),
        ({"source": "direct"}, r"source must be an object such as DirectSource\(\), with the coroutine methods"),
        ({"source": "prod/db"}, "methods fetch and aclose, not str; a session of aioboto3"),
        ({"source": InMemorySource}, "methods fetch and aclose, not type"),
        ({"source": FetchOnly(), "batch": True}, "batch=True needs a source .* fetch_batch; FetchOnly has none"),
    ],
)
def test_a_bad_argument_is_refused_at_construction(arguments: dict[str, Any], says: str) -> None:
    """The error names the argument and the rule."""
    with pytest.raises(ConfigurationError, match=says):
        SecretCache(**arguments)


class WarmSource(InMemorySource):
    """A source that can be prepared before its first fetch."""

    warmed = 0
    timeout: FetchTimeout | None = None
    hangs = False
    raises: Exception | None = None

    async def warm(self) -> None:
        self.warmed += 1
        self.timeout = current_fetch_timeout.get()
        if self.hangs:
            await asyncio.Event().wait()
        if self.raises:
            raise self.raises


async def test_prefetch_without_references_prepares_the_source() -> None:
    """It makes no call; a client that is made then has the time-outs of a fetch."""
    source = WarmSource({TEXT: "key-1"})
    cache = SecretCache(source)
    await cache.prefetch()
    assert source.warmed == 1
    assert source.timeout
    assert source.timeout.seconds == 10.0
    assert not source.calls

    await cache.prefetch(TEXT)
    assert source.warmed == 1, "the first fetch prepares the source, within its own time"
    assert cache.peek(TEXT)


@pytest.mark.parametrize("deadline", [False, True])
async def test_preparing_a_source_takes_no_longer_than_a_fetch(*, deadline: bool) -> None:
    """It ends at fetch_timeout or at the invocation's deadline; a TimeoutError of its own is passed on."""
    source = WarmSource()
    source.hangs = True
    cache = SecretCache(source, fetch_timeout=60 if deadline else 0.01)
    if deadline:
        invocation_deadline.set(Deadline(0.01, asyncio.get_running_loop().time))
    with pytest.raises(SecretUnavailableError, match=r"preparing the source took longer than 0\.0"):
        await cache.prefetch()

    source.hangs, source.raises = False, TimeoutError("its own")
    with pytest.raises(TimeoutError, match="its own"):
        await cache.prefetch()


async def test_a_source_without_preparations_is_left_alone(cache: SecretCache, source: InMemorySource) -> None:
    """prefetch() without references works with any source."""
    await cache.prefetch()

    assert not source.calls


async def test_a_deadline_ends_the_wait_and_not_the_fetch(cache: SecretCache, source: InMemorySource) -> None:
    """The caller gets an error in time; the fetch goes on, and the next caller finds its value."""
    source.pause()
    token = invocation_deadline.set(Deadline(0, asyncio.get_running_loop().time))
    with pytest.raises(SecretUnavailableError, match="didn't end before the invocation's deadline"):
        await cache.get_secret(TEXT)
    invocation_deadline.reset(token)
    source.resume()

    assert await cache.get_secret(TEXT) == "key-1"
    assert len(source.calls) == 1


async def test_a_deadline_leaves_several_the_values_that_have_come(source: InMemorySource) -> None:
    """Only what hasn't come in time is an error."""

    class SlowForOne(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            if request.secret_id == JSON:
                await asyncio.Event().wait()
            return await super().fetch(request)

    cache = SecretCache(SlowForOne({TEXT: "key-1"}))
    token = invocation_deadline.set(Deadline(0.02, asyncio.get_running_loop().time))
    results = await cache.get_many(TEXT, JSON, return_exceptions=True)
    invocation_deadline.reset(token)

    assert isinstance(results[TEXT], Secret)
    assert "deadline" in str(results[JSON])
    await cache.aclose()


async def test_a_closed_cache_refuses_every_use(source: InMemorySource) -> None:
    """After `async with` or aclose, which may be called twice, each use raises CacheClosedError."""
    async with SecretCache(source) as cache:
        await cache.get(TEXT)
        await cache.get_secret(JSON + ":user")
    await cache.aclose()

    @cache.inject(value=TEXT)
    async def function(value: str = "") -> str:
        return value

    async def use(secret: Secret) -> str:
        return secret.text

    uses = (
        cache.get_secret(TEXT),
        cache.get_secret(JSON + ":user"),
        cache.get_secrets(TEXT),
        cache.get_secret_binary(TEXT),
        cache.get_json(JSON, "user"),
        cache.get_as(TEXT, str),
        cache.get(TEXT),
        cache.get_many(TEXT),
        cache.get_many(TEXT, return_exceptions=True),
        cache.refresh(TEXT),
        cache.prefetch(TEXT),
        cache.prefetch(),
        cache.call_with_secret(TEXT, use, refresh_on=LookupError),
        function(),
    )
    for awaitable in uses:
        with pytest.raises(CacheClosedError, match="this SecretCache is closed: make a new one"):
            await awaitable
    for call in (cache.peek, cache.invalidate):
        with pytest.raises(CacheClosedError):
            call(TEXT)
    with pytest.raises(CacheClosedError):
        async with cache:
            pytest.fail("it was entered")
    assert repr(cache) == "<SecretCache closed ttl=3600.0>"
    assert not source.closed
    assert cache.stats().get_calls == 2, "what was counted can still be read"


@pytest.fixture
def owned(source: InMemorySource, monkeypatch: pytest.MonkeyPatch) -> SecretCache:
    """A cache that has made its source."""
    monkeypatch.setattr("asecretcache._cache.SecretsManagerSource", lambda: source)
    return SecretCache()


async def test_a_cache_closes_the_source_that_it_made(owned: SecretCache, source: InMemorySource) -> None:
    """The source that is made by default has no other owner."""
    async with owned:
        assert await owned.get_secret(TEXT) == "key-1"
        assert not source.closed

    assert source.closed


async def test_a_cancelled_aclose_closes_the_source_all_the_same(owned: SecretCache, source: InMemorySource) -> None:
    """Connections aren't left open because the caller is cancelled; the reader is told that the cache is closed."""
    source.pause()
    reader = asyncio.create_task(owned.get_secret(TEXT))
    await until(lambda: source.calls)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await owned.aclose()

    assert source.closed
    await asyncio.wait([reader])
    assert isinstance(reader.exception(), CacheClosedError)


async def test_closing_ends_the_running_fetches(cache: SecretCache, source: InMemorySource) -> None:
    """Their waiters get CacheClosedError, those of several secrets too, and nothing is stored."""
    source.pause()
    readers = [asyncio.create_task(cache.get_secret(TEXT)), asyncio.create_task(cache.get_many(TEXT, JSON))]
    await until(lambda: len(source.calls) == 2)
    await cache.aclose()

    for reader in readers:
        with pytest.raises(CacheClosedError, match="closed"):
            await reader
    assert observe.entry(cache, TEXT) is None


async def test_a_fetch_that_ends_after_the_closing_is_not_stored(cache: SecretCache, source: InMemorySource) -> None:
    """A reader in another thread may have passed the check just before."""
    loader = observe.loader(cache)
    fetch = loader.single_flight.join_or_start(SecretRequest(TEXT), FetchReason.READ)
    loader.is_closed = True
    await until(lambda: fetch.is_done)

    assert observe.entry(cache, TEXT) is None


async def test_any_cache_logs_its_fetches(cache: SecretCache, caplog: pytest.LogCaptureFixture) -> None:
    """At INFO and with the id, never the value; hits aren't logged by a cache."""
    caplog.set_level(logging.DEBUG, "asecretcache")
    await cache.get_secret(TEXT)
    await cache.get_secret(TEXT)
    await cache.get_secrets(TEXT, JSON + ":user")

    assert [(record.levelno, record.getMessage()) for record in caplog.records if record.name == "asecretcache"] == [
        (logging.INFO, "secret prod/api was fetched from Secrets Manager"),
        (logging.INFO, "secret prod/db was fetched from Secrets Manager"),
    ]


async def test_live_caches_are_those_that_are_in_use(cache: SecretCache) -> None:
    """A closed cache isn't listed, nor one that nobody holds."""
    closed, dropped = SecretCache(InMemorySource()), SecretCache(InMemorySource())
    assert {cache, closed, dropped} <= set(live_caches())
    await closed.aclose()
    shown = repr(dropped), id(dropped)
    del dropped
    gc.collect()

    assert cache in live_caches()
    assert closed not in live_caches()
    assert shown[1] not in map(id, live_caches())


def test_caches_can_be_listed_while_others_are_made() -> None:
    """The end of an invocation lists them, whatever other threads do."""
    stop = threading.Event()

    def make() -> None:
        while not stop.is_set():
            SecretCache(InMemorySource())

    kept = [SecretCache(InMemorySource()) for _ in range(50)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=make)
    thread.start()
    try:
        for _ in range(300):
            assert len(live_caches()) >= len(kept)
    finally:
        sys.setswitchinterval(before)
        stop.set()
        thread.join()


async def test_a_manual_clock_moves_all_times_of_a_cache(source: InMemorySource) -> None:
    """The clock that is given decides alone when a value expires; None: for as long as the process lives."""
    clock = ManualClock(0.0)
    cache = SecretCache(source, ttl=10, jitter=0, ttl_by_secret={JSON: None}, clock=clock)
    await cache.get_many(TEXT, JSON)
    clock.advance(1e9)
    await cache.get_many(TEXT, JSON)

    assert [request.secret_id for request in source.calls] == [TEXT, JSON, TEXT]


async def test_a_cancelled_caller_still_closes_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise its connections would stay open."""
    closed = asyncio.Event()

    async def aclose(_source: object) -> None:
        asyncio.get_running_loop().call_soon(scope.cancel)
        for _ in range(5):
            await asyncio.sleep(0)
        closed.set()

    monkeypatch.setattr(SecretsManagerSource, "aclose", aclose)
    cache = SecretCache()
    with anyio.CancelScope() as scope:
        await cache.aclose()

    assert scope.cancel_called
    assert closed.is_set()


async def test_closing_waits_for_the_running_fetches(source: InMemorySource) -> None:
    """What a source does on its way out has been done when aclose() returns."""
    ended: list[str] = []

    class Source(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            try:
                return await super().fetch(request)
            finally:
                await asyncio.sleep(0)
                ended.append(request.secret_id)

    source = Source({"prod/db": "v"})
    source.pause()
    cache = SecretCache(source)
    reader = asyncio.create_task(cache.get("prod/db"))
    await until(lambda: source.calls)

    await cache.aclose()

    assert ended == ["prod/db"]
    with pytest.raises(CacheClosedError) as caught:
        await reader
    remedy = "make a new one, or keep its `async with` open until the last use"
    assert str(caught.value) == f"this SecretCache is closed: {remedy}"
