"""asecretcache.otel: the spans and metrics that OpenTelemetry's SDK gets."""

from __future__ import annotations

import asyncio
import gc
import re
import subprocess
import sys
import weakref
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from asecretcache import (
    CacheClosedError,
    CacheObserver,
    ConfigurationError,
    Secret,
    SecretAccessDeniedError,
    SecretCache,
    SecretRequest,
    SecretUnavailableError,
    __version__,
    get_secret,
)
from asecretcache.otel import instrument
from asecretcache.testing import InMemorySource, ManualClock, use_secrets
from turns import until

RPC = ("rpc.method=GetSecretValue", "rpc.service=Secrets Manager", "rpc.system.name=aws-api")
NAME, OTHER, VALUE = "prod/db", "prod/api", "hunter2"


class Telemetry:
    """OpenTelemetry's SDK, whose spans and metrics stay in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self.reader])
        self.tracer = self.tracer_provider.get_tracer("test")
        self.providers: dict[str, Any] = {
            "tracer_provider": self.tracer_provider,
            "meter_provider": self.meter_provider,
        }

    def spans(self, name: str = "Secrets Manager.GetSecretValue") -> list[ReadableSpan]:
        """Return the spans of this name that have ended."""
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def metrics(self) -> dict[tuple[str, ...], Any]:
        """Return what the metrics are now, by their names and the values of their attributes."""
        data = self.reader.get_metrics_data()
        return {
            (metric.name, *(f"{key}={value!s}" for key, value in sorted((point.attributes or {}).items()))): getattr(
                point, "value", getattr(point, "count", None)
            )
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        }


def span_id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


@pytest.fixture
def source() -> InMemorySource:
    return InMemorySource({NAME: VALUE, OTHER: VALUE})


@pytest.fixture
def telemetry() -> Any:
    telemetry = Telemetry()
    yield telemetry
    told = [span.to_json() for span in telemetry.exporter.get_finished_spans()]
    assert VALUE not in repr((told, telemetry.reader.get_metrics_data()))
    telemetry.tracer_provider.shutdown()
    telemetry.meter_provider.shutdown()


async def test_the_span_of_a_call(cache: SecretCache, telemetry: Telemetry) -> None:
    """A CLIENT span under the caller's, with the attributes of the conventions."""
    instrument(cache, **telemetry.providers)
    with telemetry.tracer.start_as_current_span("handler") as handler:
        secret = await cache.get(NAME)
        await cache.get(NAME)

    (span,) = telemetry.spans()
    assert span.kind is SpanKind.CLIENT
    assert span.parent is not None
    assert span.parent.span_id == handler.get_span_context().span_id
    assert span.attributes == {
        "rpc.system.name": "aws-api",
        "rpc.service": "Secrets Manager",
        "rpc.method": "GetSecretValue",
        "aws.secretsmanager.secret.arn": secret.arn,
        "asecretcache.reason": "read",
        "asecretcache.references": (NAME,),
        "asecretcache.outcomes": ("fetched",),
    }
    assert span.status.status_code is StatusCode.UNSET


async def test_only_the_span_crosses_into_the_call(telemetry: Telemetry) -> None:
    """The source sees the call's span, and of the caller's baggage nothing."""
    seen: list[object] = []

    class Seeing(InMemorySource):
        async def fetch(self, request: SecretRequest) -> Secret:
            seen.extend((trace.get_current_span().get_span_context().span_id, baggage.get_all()))
            return await super().fetch(request)

    cache = SecretCache(Seeing({NAME: VALUE}))
    instrument(cache, **telemetry.providers)
    token = context.attach(baggage.set_baggage("tenant", "one"))
    await cache.get(NAME)
    context.detach(token)

    (span,) = telemetry.spans()
    assert seen == [span_id(span), {}]


async def test_callers_that_join_are_linked(cache: SecretCache, source: InMemorySource, telemetry: Telemetry) -> None:
    """Their spans get a link to the call's, which is under the first caller's."""
    instrument(cache, **telemetry.providers)
    source.pause()

    async def read(name: str) -> None:
        with telemetry.tracer.start_as_current_span(name):
            await cache.get_secret(NAME)

    readers = [asyncio.create_task(read(name)) for name in ("first", "second")]
    untraced = asyncio.create_task(cache.get_secret(NAME))
    await until(lambda: source.calls)
    source.resume()
    await asyncio.gather(*readers, untraced)

    (call,), (first,), (second,) = (telemetry.spans(), telemetry.spans("first"), telemetry.spans("second"))
    assert call.parent is not None
    assert call.parent.span_id == span_id(first)
    assert not first.links
    assert [(link.context.span_id, dict(link.attributes or {})) for link in second.links] == [
        (span_id(call), {"asecretcache.reason": "read"})
    ]
    assert call.instrumentation_scope is not None
    assert (call.instrumentation_scope.name, call.instrumentation_scope.version) == ("asecretcache", __version__)


async def test_errors(cache: SecretCache, source: InMemorySource, telemetry: Telemetry) -> None:
    """By AWS's code, or the type where AWS didn't respond; with the request id."""
    instrument(cache, **telemetry.providers)
    denied = SecretAccessDeniedError("denied", code="AccessDeniedException", request_id="request-1")
    for error in (denied, SecretUnavailableError("down")):
        source.fail(error)
        await cache.get_many(NAME, return_exceptions=True)
        cache.clear()

    first, second = telemetry.spans()
    for span, kind in ((first, "AccessDeniedException"), (second, "SecretUnavailableError")):
        assert span.status.status_code is StatusCode.ERROR
        assert (span.attributes or {})["error.type"] == kind
    assert (first.attributes or {})["aws.request_id"] == "request-1"
    assert first.status.description == "denied"


async def test_a_cancelled_call_is_no_error(cache: SecretCache, source: InMemorySource, telemetry: Telemetry) -> None:
    """No caller waits for it any more."""
    instrument(cache, **telemetry.providers)
    source.pause()
    task = asyncio.create_task(cache.get(NAME))
    await until(lambda: source.calls)
    task.cancel()
    await asyncio.wait([task])
    await until(telemetry.spans)

    (span,) = telemetry.spans()
    assert span.status.status_code is StatusCode.UNSET
    assert (span.attributes or {})["asecretcache.outcomes"] == ("cancelled",)


async def test_a_batch_is_one_span(source: InMemorySource, telemetry: Telemetry) -> None:
    """It is an error only if nothing was fetched."""
    cache = SecretCache(source, batch=True)
    instrument(cache, **telemetry.providers)
    await cache.get_many(NAME, OTHER, "missing", return_exceptions=True)

    (span,) = telemetry.spans("Secrets Manager.BatchGetSecretValue")
    attributes = span.attributes or {}
    assert attributes["asecretcache.outcomes"] == ("fetched", "fetched", "failed")
    assert attributes["error.type"] == "ResourceNotFoundException"
    assert "aws.secretsmanager.secret.arn" not in attributes
    assert span.status.status_code is StatusCode.UNSET


async def test_metrics(source: InMemorySource, clock: ManualClock, telemetry: Telemetry) -> None:
    """The counts of stats(), and the durations of calls."""
    cache = SecretCache(source, clock=clock, ttl=10.0, jitter=0.0)
    instrument(cache, **telemetry.providers)
    for _ in range(3):
        await cache.get_secret(NAME)
    source.fail(SecretUnavailableError("down"))
    clock.advance(60.0)
    await cache.get_secret(NAME)

    assert telemetry.metrics() == {
        ("asecretcache.reads", "asecretcache.outcome=hit"): 2,
        ("asecretcache.reads", "asecretcache.outcome=miss"): 1,
        ("asecretcache.reads", "asecretcache.outcome=stale"): 1,
        ("asecretcache.calls", "rpc.method=GetSecretValue"): 2,
        ("asecretcache.calls", "rpc.method=BatchGetSecretValue"): 0,
        ("asecretcache.errors",): 1,
        ("asecretcache.evictions",): 0,
        ("asecretcache.calls_saved",): 2,
        ("rpc.client.call.duration", *RPC): 1,
        ("rpc.client.call.duration", "error.type=SecretUnavailableError", *RPC): 1,
    }


async def test_units(cache: SecretCache, telemetry: Telemetry) -> None:
    """Each metric has one, and a description; under the scope of the package."""
    instrument(cache, **telemetry.providers)
    await cache.get(NAME)

    data = telemetry.reader.get_metrics_data()
    assert data is not None
    ((scope,),) = (resource.scope_metrics for resource in data.resource_metrics)
    assert (scope.scope.name, scope.scope.version) == ("asecretcache", __version__)
    assert {metric.name: metric.unit for metric in scope.metrics} == {
        "asecretcache.reads": "{read}",
        "asecretcache.calls": "{call}",
        "asecretcache.errors": "{error}",
        "asecretcache.evictions": "{value}",
        "asecretcache.calls_saved": "{call}",
        "rpc.client.call.duration": "s",
    }
    assert all(re.fullmatch(r"[A-Z][a-z, A-Z]+\.", metric.description or "") for metric in scope.metrics)


async def test_several_caches_are_counted_together(source: InMemorySource, telemetry: Telemetry) -> None:
    """Also those that are gone, or observed no more: a counter never falls. None of them is kept alive."""
    one, two = SecretCache(source), SecretCache(source)
    ends = [instrument(cache, **telemetry.providers) for cache in (one, two)]
    await asyncio.gather(one.get(NAME), two.get(NAME))
    assert telemetry.metrics()["asecretcache.calls", "rpc.method=GetSecretValue"] == 2

    ends[0]()
    ends[0]()
    await one.refresh(NAME)
    instrument(one, **telemetry.providers)()
    gone = weakref.ref(two)
    del two, ends
    gc.collect()

    assert gone() is None
    assert telemetry.metrics()["asecretcache.calls", "rpc.method=GetSecretValue"] == 2
    assert telemetry.metrics()["asecretcache.calls", "rpc.method=GetSecretValue"] == 2


async def test_calls_that_had_begun(cache: SecretCache, source: InMemorySource, telemetry: Telemetry) -> None:
    """One that began before has no span; one that hasn't ended when it is over neither."""
    cache.observe(CacheObserver())
    source.pause()
    early = asyncio.create_task(cache.get(NAME))
    await until(lambda: source.calls)
    end = instrument(cache, **telemetry.providers)
    joining = asyncio.create_task(cache.get(NAME))
    await asyncio.sleep(0)
    source.resume()
    await asyncio.gather(early, joining)
    source.pause()
    late = asyncio.create_task(cache.get(OTHER))
    await until(lambda: len(source.calls) == 2)
    end()
    source.resume()
    await late

    assert not telemetry.spans()


async def test_a_cache_that_is_instrumented_twice(cache: SecretCache, telemetry: Telemetry) -> None:
    """Its calls have one span each, and one duration."""
    ends = [instrument(cache, **telemetry.providers) for _ in range(2)]
    await cache.get(NAME)
    assert (len(telemetry.spans()), telemetry.metrics()["rpc.client.call.duration", *RPC]) == (1, 1)
    for end in ends:
        end()
    await cache.refresh(NAME)
    assert len(telemetry.spans()) == 1


async def test_a_call_that_outlives_the_instrumentation(
    cache: SecretCache, source: InMemorySource, telemetry: Telemetry
) -> None:
    """It has no span any more, also where the cache is instrumented again meanwhile."""
    cache.observe(CacheObserver())
    end = instrument(cache, **telemetry.providers)
    source.pause()
    early = asyncio.create_task(cache.get(NAME))
    await until(lambda: source.calls)
    end()
    instrument(cache, **telemetry.providers)
    joining = asyncio.create_task(cache.get(NAME))
    await asyncio.sleep(0)
    source.resume()
    await asyncio.gather(early, joining)

    assert not telemetry.spans()


async def test_no_counter_falls(source: InMemorySource, clock: ManualClock, telemetry: Telemetry) -> None:
    """A miss that waits may turn out to be a stale answer."""
    cache = SecretCache(source, clock=clock, ttl=10.0, jitter=0.0)
    instrument(cache, **telemetry.providers)
    await cache.get(NAME)
    clock.advance(20.0)
    source.pause()
    with source.outage():
        reading = asyncio.create_task(cache.get(NAME))
        await until(lambda: len(source.calls) == 2)
        misses = "asecretcache.reads", "asecretcache.outcome=miss"
        assert telemetry.metrics()[misses] == 2
        source.resume()
        await reading
    assert cache.stats().misses == 1
    assert telemetry.metrics()[misses] == 2


async def test_the_default_cache_and_a_closed_one(cache: SecretCache, telemetry: Telemetry) -> None:
    """Without a cache it is the default one, as for get_secret; a closed one is refused."""
    with use_secrets({NAME: VALUE}):
        instrument(**telemetry.providers)
        await get_secret(NAME)
    assert len(telemetry.spans()) == 1

    with pytest.raises(ConfigurationError, match="cache must be a SecretCache, not InMemorySource"):
        instrument(InMemorySource())  # type: ignore[arg-type]  # what is tested
    await cache.aclose()
    with pytest.raises(CacheClosedError):
        instrument(cache)


async def test_without_an_sdk_it_does_nothing(cache: SecretCache) -> None:
    """The API alone makes spans that aren't recorded."""
    instrument(cache)
    await asyncio.gather(cache.get(NAME), cache.get(NAME))
    assert cache.stats().get_calls == 1


def test_without_the_api_the_import_names_the_extra() -> None:
    """As any module of an extra has it."""
    code = "import sys; sys.modules['opentelemetry'] = None; import asecretcache.otel"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode
    assert ended.stderr.endswith(
        "ImportError: asecretcache.otel needs OpenTelemetry's API: pip install 'asecretcache[otel]'\n"
    )
