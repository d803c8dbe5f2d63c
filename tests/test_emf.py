"""asecretcache.emf: the lines that CloudWatch makes metrics of."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import threading
from typing import Any
from unittest import mock

import pytest

import observe
from asecretcache import (
    CacheClosedError,
    ConfigurationError,
    SecretCache,
    SecretNotFoundError,
    SecretUnavailableError,
    async_handler,
    get_secret,
)
from asecretcache.emf import CacheMetrics
from asecretcache.testing import InMemorySource, ManualClock
from turns import until

NAME, VALUE = "prod/db", "hunter2"


@pytest.fixture
def asecretcache_secrets() -> dict[str, Any]:
    return {NAME: VALUE}


@pytest.fixture
def stream() -> Any:
    stream = io.StringIO()
    yield stream
    assert VALUE not in stream.getvalue()


@pytest.fixture(autouse=True)
def no_powertools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variables of Powertools and Lambda, which name the defaults."""
    for name in ("METRICS_NAMESPACE", "SERVICE_NAME", "METRICS_DISABLED"):
        monkeypatch.delenv(f"POWERTOOLS_{name}", raising=False)
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def values(line: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics that a line defines, without their prefix."""
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    return {each["Name"].removeprefix("SecretCache"): line[each["Name"]] for each in directive["Metrics"]}


async def test_a_line(source: InMemorySource, stream: io.StringIO) -> None:
    """As the specification of the format has it."""
    now = [10.0]
    cache = observe.new_cache(source, monotonic=lambda: now[0])
    metrics = CacheMetrics(cache, namespace="Shop", service="orders", stream=stream)
    source.pause()
    read = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)
    now[0] += 1.5
    source.resume()
    await read
    with mock.patch("time.time", return_value=1_700_000_000.5):
        metrics.flush()

    (line,) = lines(stream)
    assert line.pop("SecretCacheFetchLatency") == [1500.0]
    counts = ("Hits", "Misses", "StaleServed", "Calls", "Errors", "CallsSaved")
    assert line == {
        "_aws": {
            "Timestamp": 1_700_000_000_500,
            "CloudWatchMetrics": [
                {
                    "Namespace": "Shop",
                    "Dimensions": [["service"]],
                    "Metrics": [
                        *({"Name": f"SecretCache{name}", "Unit": "Count"} for name in counts),
                        {"Name": "SecretCacheFetchLatency", "Unit": "Milliseconds"},
                    ],
                }
            ],
        },
        "service": "orders",
        **{f"SecretCache{name}": 0 for name in counts},
        "SecretCacheMisses": 1,
        "SecretCacheCalls": 1,
    }


async def test_each_line_has_what_came_since_the_one_before(
    source: InMemorySource, clock: ManualClock, stream: io.StringIO
) -> None:
    """And there is none if nothing came."""
    cache = SecretCache(source, clock=clock, ttl=10.0, jitter=0.0)
    await cache.get_secret(NAME)
    metrics = CacheMetrics(cache, stream=stream)
    metrics.flush()
    for _ in range(3):
        await cache.get_secret(NAME)
    metrics.flush()
    source.fail(SecretUnavailableError("down"))
    clock.advance(60.0)
    await cache.get_secret(NAME)
    metrics.flush()
    metrics.flush()

    first, second = map(values, lines(stream))
    assert first == {"Hits": 3, "Misses": 0, "StaleServed": 0, "Calls": 0, "Errors": 0, "CallsSaved": 3}
    assert len(second.pop("FetchLatency")) == 1
    assert second == {"Hits": 0, "Misses": 0, "StaleServed": 1, "Calls": 1, "Errors": 1, "CallsSaved": 0}


async def test_no_count_falls(source: InMemorySource, clock: ManualClock, stream: io.StringIO) -> None:
    """A miss that waits while a line is written may turn out to be a stale answer."""
    cache = SecretCache(source, clock=clock, ttl=10.0, jitter=0.0)
    metrics = CacheMetrics(cache, stream=stream)
    await cache.get(NAME)
    clock.advance(20.0)
    source.pause()
    with source.outage():
        reading = asyncio.create_task(cache.get(NAME))
        await until(lambda: len(source.calls) == 2)
        metrics.flush()
        source.resume()
        await reading
    metrics.flush()
    clock.advance(3600.0)
    await cache.refresh(NAME)
    cache.clear()
    await cache.get(NAME)
    metrics.flush()

    told = [(line["SecretCacheMisses"], line["SecretCacheStaleServed"]) for line in lines(stream)]
    assert told == [(2, 0), (0, 1), (0, 0)]
    assert sum(line["SecretCacheMisses"] for line in lines(stream)) == cache.stats().misses
    assert sum(line["SecretCacheCallsSaved"] for line in lines(stream)) == cache.stats().calls_saved


def test_threads_that_write(cache: SecretCache, stream: io.StringIO) -> None:
    """Whichever of them writes a line, what was counted is in one of them."""
    metrics = CacheMetrics(cache, stream=stream)

    async def read() -> None:
        for _ in range(2000):
            await cache.get_secret(NAME)
            metrics.flush()

    threads = [threading.Thread(target=asyncio.run, args=(read(),)) for _ in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
    finally:
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    metrics.flush()

    assert sum(line["SecretCacheHits"] for line in lines(stream)) == cache.stats().hits


async def test_calls_of_batches_count(source: InMemorySource, stream: io.StringIO) -> None:
    """As those of single secrets do."""
    cache = SecretCache(source, batch=True)
    metrics = CacheMetrics(cache, stream=stream)
    for count in (1, 2):
        for _ in range(count):
            await cache.get_many(NAME, "other", return_exceptions=True)
            await cache.refresh(NAME)
            cache.clear()
        metrics.flush()

    assert [values(line)["Calls"] for line in lines(stream)] == [2, 4]


async def test_at_most_a_hundred_latencies(cache: SecretCache, stream: io.StringIO) -> None:
    """More values a metric would lose the line."""
    metrics = CacheMetrics(cache, stream=stream)
    for _ in range(120):
        await cache.refresh(NAME)
    metrics.flush()

    (line,) = map(values, lines(stream))
    assert (line["Calls"], len(line["FetchLatency"])) == (120, 100)


@pytest.mark.parametrize("interval", [0.0, 60.0])
@pytest.mark.usefixtures("asecretcache_default")
def test_a_line_after_an_invocation(stream: io.StringIO, interval: float) -> None:
    """After each, or at most one an interval; also where the handler raises."""
    with mock.patch("time.monotonic", return_value=100.0) as monotonic:
        metrics = CacheMetrics(interval=interval, stream=stream)

        @async_handler
        @metrics.log_metrics
        async def handler(event: Any, context: object) -> str:
            return await get_secret(event)

        handler(NAME, None)
        assert len(lines(stream)) == (not interval)
        monotonic.return_value += 61.0
        with pytest.raises(SecretNotFoundError):
            handler("missing", None)
        assert len(lines(stream)) == 1 + (not interval)
        handler(NAME, None)
    assert len(lines(stream)) == (1 if interval else 3)


def test_a_handler_that_is_not_async(cache: SecretCache, stream: io.StringIO) -> None:
    """As one that calls asyncio.run itself."""
    metrics = CacheMetrics(cache, interval=0.0, stream=stream)

    @metrics.log_metrics
    def handler(event: str, context: object) -> str:
        """Handle it."""
        return asyncio.run(cache.get_secret(event))

    assert handler(NAME, None) == VALUE
    assert handler.__doc__ == "Handle it."
    assert len(lines(stream)) == 1


async def test_a_handler_that_is_an_object(cache: SecretCache, stream: io.StringIO) -> None:
    """With an async __call__: the line is written when it has ended."""

    class Handler:
        async def __call__(self, event: object, context: object) -> str:
            return await cache.get_secret(NAME)

    handler = CacheMetrics(cache, interval=0, stream=stream).log_metrics(Handler())

    assert await handler({}, None) == VALUE
    assert [line["SecretCacheCalls"] for line in lines(stream)] == [1]


def test_a_stream_that_is_closed(cache: SecretCache, stream: io.StringIO, caplog: pytest.LogCaptureFixture) -> None:
    """It costs the line, and not the handler's result."""
    closed = io.StringIO()
    closed.close()

    @async_handler(cache=cache)
    @CacheMetrics(cache, interval=0, stream=closed).log_metrics
    async def handler(_event: object, _context: object) -> str:
        return await get_secret(NAME)

    assert handler({}, None) == VALUE
    assert "the metrics could not be written: ValueError" in caplog.text


@pytest.mark.virtual_time
async def test_a_server_writes_a_line_an_interval(cache: SecretCache, stream: io.StringIO) -> None:
    """As long as the task runs; its end writes what is left."""
    metrics = CacheMetrics(cache, interval=30.0, stream=stream)
    task = asyncio.create_task(metrics.run())
    await cache.get_secret(NAME)
    await asyncio.sleep(61.0)
    assert len(lines(stream)) == 1
    await cache.get_secret(NAME)
    task.cancel()
    await asyncio.wait([task])
    assert len(lines(stream)) == 2


async def test_the_names_are_powertools(
    cache: SecretCache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its variables name namespace and service, and can turn it off; else the function's name is the service."""
    found = []
    for variables in (
        {},
        {"AWS_LAMBDA_FUNCTION_NAME": "orders-prod"},
        {"POWERTOOLS_METRICS_NAMESPACE": "Shop", "POWERTOOLS_SERVICE_NAME": "orders"},
        {"POWERTOOLS_METRICS_DISABLED": "true"},
    ):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        metrics = CacheMetrics(cache)
        await cache.get_secret(NAME)
        metrics.flush()
        found += [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert [(each["_aws"]["CloudWatchMetrics"][0]["Namespace"], each["service"]) for each in found] == [
        ("asecretcache", "service_undefined"),
        ("asecretcache", "orders-prod"),
        ("Shop", "orders"),
    ]


async def test_wrong_use_is_told(cache: SecretCache) -> None:
    """At the earliest moment, with the remedy."""
    with pytest.raises(ConfigurationError, match="interval can't be -1: give seconds, or 0 for a line for each inv"):
        CacheMetrics(cache, interval=-1)
    for wrong in ("x" * 256, "Umläute", "two\nlines", 5):
        with pytest.raises(ConfigurationError, match="namespace must be a str of 1 to 255 printable ASCII"):
            CacheMetrics(cache, namespace=wrong)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ConfigurationError, match="cache must be a SecretCache, not InMemorySource"):
        CacheMetrics(InMemorySource())  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ConfigurationError, match="service must be a str"):
        CacheMetrics(cache, service="Umläute")
    CacheMetrics(cache, service="x", namespace="y" * 255)
    with pytest.raises(ConfigurationError, match=r"^run needs an interval above zero: CacheMetrics\(interval=60.0\)$"):
        await CacheMetrics(cache, interval=0.0).run()
    with pytest.raises(ConfigurationError, match="without a call; not NoneType"):
        CacheMetrics(cache).log_metrics(None)  # type: ignore[type-var]  # what is tested
    await cache.aclose()
    with pytest.raises(CacheClosedError):
        CacheMetrics(cache)
